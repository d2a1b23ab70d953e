"""LLM-EMF: what its states have read, what an item without text loses, and that it learns."""

import numpy as np
import pytest
import torch
from recommender_contract import RecommenderContract
from two_shops import ITEMS

from llmrec.bench.domains import DomainEvaluationConfig, measure
from llmrec.bench.recommenders import load_recommender
from llmrec.data.domains import Domains
from llmrec.errors import ArtifactError, ConfigError
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.vocabulary import HistoryEncoder
from llmrec.ranking.hybrid.prior import GraphPrior
from llmrec.ranking.hybrid.run import run as hybrid_run
from llmrec.ranking.hybrid.scorer import HybridScorer
from llmrec.ranking.hybrid.settings import HybridConfig
from llmrec.recommender import history_mask
from llmrec.stage import Manifest, run_stage
from llmrec.training.next_item.emf import Emf, EmfShape
from llmrec.training.next_item.emf_run import EmfBatches, EmfRecommender, branch_content
from llmrec.training.next_item.run import run
from llmrec.training.next_item.settings import EmfConfig, TrainConfig, TrainLoopConfig
from llmrec.types import Histories

N = 8
DOMAINS = Domains(("food", "kitchen"), np.arange(N) % 2)  # even items are food


def network(**parts) -> Emf:
    torch.manual_seed(0)
    text = torch.randn(N, 5)
    text[3] = 0
    shape = EmfShape(N, DOMAINS.names, {"id": 0, "text": 5}, 2, 16, 2, 6, 0.0, **parts)
    model = Emf(shape, torch.from_numpy(DOMAINS.of_item), {"text": text})
    with torch.no_grad():
        for weights in model.parameters():
            weights += torch.randn_like(weights) * 0.1
    return model.eval()


class TestEmf(RecommenderContract):
    @pytest.fixture
    def recommender(self):
        return EmfRecommender(network())


class TestEmfWithTimes(RecommenderContract):
    @pytest.fixture
    def recommender(self):
        return EmfRecommender(network(time_fields=("gap", "hour")))


def scores(model: Emf, items: list[int], **times) -> np.ndarray:
    return EmfRecommender(model).score(Histories.from_lists([items], **times))[0]


def test_a_state_has_not_read_what_came_later() -> None:
    model = network()
    item = model.vocabulary.item_offset
    first, second = (
        model.hidden(torch.tensor([[0, 2 + item, 5 + item, last + item]])) for last in (1, 4)
    )
    torch.testing.assert_close(first[:, :3], second[:, :3])
    assert (first[:, 3] - second[:, 3]).abs().max() > 1e-3


def test_attention_within_a_domain_does_not_read_the_other() -> None:
    before, after = (scores(network(inter=False), [0, kitchen, 4]) for kitchen in (1, 7))
    food = DOMAINS.of_item == 0
    np.testing.assert_allclose(before[food], after[food], rtol=1e-4)
    assert np.abs(before[~food] - after[~food]).max() > 1e-3
    before, after = (scores(network(intra=False), [0, kitchen, 4]) for kitchen in (1, 7))
    assert np.abs(before[food] - after[food]).max() > 1e-3


def test_the_time_of_the_request_counts() -> None:
    model = network(time_fields=("hour",))
    one, other, unknown = (
        scores(model, [0, 1], timestamps=[[0.0, 60.0]], now=[now])
        for now in (3600.0, 7200.0, np.nan)
    )
    assert np.abs(one - other).max() > 1e-3
    assert np.abs(one - unknown).max() > 1e-3


def test_an_item_without_text_is_judged_by_its_id_alone() -> None:
    rows = network().rows().view(N, 2, 16)
    norms = rows.norm(dim=-1)
    weights = network().weights.exp()
    assert norms[3, 1] == 0
    torch.testing.assert_close(norms[3, 0], weights.sum() / weights[0])
    torch.testing.assert_close(norms[2], torch.ones(2))


def test_targets_stand_by_domain() -> None:
    model = network()
    encoder = HistoryEncoder(model.vocabulary, ItemIds.atomic(N), [0], 6)
    histories = Histories.from_lists([[0, 1, 4], [3]])
    batches = EmfBatches(histories, encoder, 100, 0, DOMAINS)
    batch = batches.batch(batches.sequences)
    places = model.hidden(batch.tokens).shape[1]
    assert places == 4, "three events, and the request after them"
    # rows of the states: user 0 food, user 0 kitchen, user 1 food, user 1 kitchen
    assert batch.positions[0].tolist() == [0, 2]
    assert batch.positions[1].tolist() == [1 * places + 1, 3 * places]
    assert [codes.tolist() for codes in batch.codes] == [[0, 2], [0, 1]]


@pytest.fixture(scope="module")
def features(two_shops, tmp_path_factory):
    """Text of all items but one: their number, as a person would say it."""
    from safetensors.numpy import save_file

    text = np.tile(np.eye(ITEMS, dtype=np.float32), (2, 1))
    text[0] = 0

    def work(stage):
        present = text.any(axis=1).astype(np.uint8)
        save_file({"text": text, "present": present}, stage.folder / "embeddings.safetensors")

    return run_stage(tmp_path_factory.mktemp("features") / "f", Manifest("embed", {}), work)


@pytest.fixture(scope="module")
def trained(two_shops, features, tmp_path_factory):
    """A small one, trained with sampled negatives."""
    loop = TrainLoopConfig(
        epochs=20, tokens_per_batch=100, learning_rate=4e-3, warmup_steps=20, negatives=8,
        validate_every=20, average_decay=0.9,
    )  # fmt: skip
    config = TrainConfig("emf", base="nano", content={"text": 8}, dropout=0.1, loop=loop)
    out = tmp_path_factory.mktemp("emf") / "model"
    return run(config, two_shops.folder, out, features=features)


def test_it_learns_what_the_other_shop_says(two_shops, trained) -> None:
    found = {}
    for part in ("all", "own"):
        config = DomainEvaluationConfig(negatives=5, history=part)
        ranks, _ = measure(config, two_shops, [str(trained)], None, 0)
        found[part] = np.mean([(one.ranks["sampled"] == 0).mean() for one in ranks.values()])
    assert found["all"] > 0.9
    assert found["own"] < 0.5


def test_a_saved_model_scores_as_it_did(trained) -> None:
    opened = load_recommender(trained)
    assert isinstance(opened, EmfRecommender)
    histories = Histories.from_lists([[0, ITEMS + 3], [], list(range(20)) * 4])
    again = load_recommender(trained)
    np.testing.assert_array_equal(opened.score(histories), again.score(histories))
    assert opened.model.shape.branches == {"id": 0, "text": 8}


def test_the_item_graph_beside_it(two_shops, trained, tmp_path) -> None:
    config = HybridConfig(by_domain=True, weights=[1.0], scales=[0.1], learn=False)
    out = hybrid_run(config, two_shops.folder, trained, tmp_path / "hybrid")
    alone, prior = load_recommender(trained), GraphPrior.load(out, 2 * ITEMS)
    prior.weight = 1.0  # whatever validation chose for a model as small as this
    histories = Histories.from_lists([[0, ITEMS + 3], [5]])
    walk = prior.scorer.combined(prior.scorer.dense_parts(histories))
    expected = alone.score(histories) + prior.weight * np.log1p(walk / prior.scale)
    both = HybridScorer(alone, prior)
    np.testing.assert_allclose(both.score(histories), expected, rtol=1e-5)
    prior.weight = 1e4  # the graph alone decides
    walk[history_mask(histories)] = -1
    assert both.recommend(histories, 1).items[:, 0].tolist() == walk.argmax(axis=1).tolist()

    evaluation = DomainEvaluationConfig(negatives=5)
    found, _ = measure(evaluation, two_shops, [str(trained)], None, 0, [out])
    assert set(found) == {"food", "kitchen"}
    other = run(
        TrainConfig("emf", base="nano", content={}, loop=TrainLoopConfig(epochs=1)),
        two_shops.folder,
        tmp_path / "other",
    )
    with pytest.raises(ArtifactError, match="was weighed against another model"):
        measure(evaluation, two_shops, [str(other)], None, 0, [out])
    with pytest.raises(ConfigError, match="by_domain: true"):
        hybrid_run(HybridConfig(), two_shops.folder, trained, tmp_path / "all")


def test_a_model_of_one_domain_answers_for_it_alone(two_shops, tmp_path) -> None:
    loop = TrainLoopConfig(epochs=1, warmup_steps=2)
    config = TrainConfig("sasrec", domain="food", base="nano", content={}, loop=loop)
    out = run(config, two_shops.folder, tmp_path / "food")
    evaluation = DomainEvaluationConfig(negatives=5, history="own")
    with pytest.raises(ConfigError, match="none is trained for kitchen"):
        measure(evaluation, two_shops, [str(out)], None, 0)
    found, _ = measure(evaluation, two_shops, [str(out), str(trained_twin(out, tmp_path))], None, 0)
    assert len(found["food"].ranks["full"]) == len(found["kitchen"].ranks["full"]) == 1


def trained_twin(folder, tmp_path):
    """The same weights under a manifest that says they are of the kitchen."""
    import shutil

    from edit_manifest import edit_manifest

    twin = tmp_path / "kitchen"
    shutil.copytree(folder, twin)
    edit_manifest(twin, config={"kind": "sasrec", "domain": "kitchen"})
    return twin


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"domain": "garden"}, "domain: 'garden' is not one of food, kitchen"),
        ({"base": "some/model"}, "base: emf takes a size"),
        ({"content": {"id": 4}}, "'id' is a branch already"),
        ({"content": {"image": 4}}, "no features folder"),
    ],
)
def test_settings_that_do_not_fit(two_shops, tmp_path, settings, said) -> None:
    config = TrainConfig("emf", **{"content": {}, "base": "nano", **settings})
    with pytest.raises(ConfigError, match=said):
        run(config, two_shops.folder, tmp_path / "model")


def test_nothing_to_read_is_refused() -> None:
    with pytest.raises(ConfigError, match="without intra and inter"):
        EmfConfig(intra=False, inter=False)


def test_components_come_from_items_that_have_the_block(features) -> None:
    content = branch_content({"text": 3}, [features])["text"]
    assert content.shape == (2 * ITEMS, 3)
    assert not content[0].any()
    assert content[1:].any(1).all()

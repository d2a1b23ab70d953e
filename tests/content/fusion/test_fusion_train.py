"""What is learned: both halves of a world, from whichever half is there."""

from functools import partial

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the train extra")

import torch
from fusion_world import World

from llmrec.content.fusion.behaviour import ItemPairs, split_users, windowed_pairs
from llmrec.content.fusion.embedding import embed
from llmrec.content.fusion.encoder import FusionEncoder
from llmrec.content.fusion.losses import behaviour_loss, contrast_loss
from llmrec.content.fusion.modalities import Modalities, hide
from llmrec.content.fusion.retrieval import RetrievalCases, measure, retrieval_cases
from llmrec.content.fusion.settings import FusionShape, FusionTrainConfig
from llmrec.content.fusion.train import FusionTrainer
from llmrec.content.fusion.validation import contrast_score, retrieval_score
from llmrec.errors import ConfigError, DataError
from llmrec.loop.state import TrainingState
from llmrec.types import Histories

SETTINGS = FusionTrainConfig(
    epochs=6,
    steps_per_epoch=25,
    batch_size=128,
    contrast_batch=64,
    learning_rate=3e-3,
    device="cpu",
)
Parted = tuple[ItemPairs, RetrievalCases, RetrievalCases]


def shape(modalities: Modalities) -> FusionShape:
    return FusionShape(
        modalities=modalities.dims, dim=24, width=32, heads=2, queries=1, input_dropout=0.0
    )


def trained(
    modalities: Modalities,
    pairs: ItemPairs | None,
    score,
    settings: FusionTrainConfig = SETTINGS,
    **more,
) -> tuple[FusionEncoder, TrainingState]:
    torch.manual_seed(0)
    encoder = FusionEncoder(shape(modalities))
    progress = FusionTrainer(encoder, modalities, pairs, score, settings, **more).run()
    return encoder, progress


@pytest.fixture(scope="module")
def parted(world: World) -> Parted:
    """Pairs to learn from, cases to choose the epoch, cases to measure.

    Measured are items that nobody's behaviour tells of: of the others, any modality can be learned
    by heart.
    """
    n_items = len(world.modalities)
    cold = np.arange(n_items) % 4 == 0
    parts = split_users(len(world.histories), (0.2, 0.3), np.random.default_rng(0))
    learning, choosing, measured = (world.histories.select(part) for part in parts)
    pairs = windowed_pairs(without(learning, cold), 5, n_items)
    chosen = retrieval_cases(without(choosing, cold), n_items)
    return pairs, chosen, retrieval_cases(measured, n_items).where(cold)


def without(histories: Histories, items: np.ndarray) -> Histories:
    return Histories.from_lists([row[~items[row]].tolist() for row in histories])


def recall(vectors: np.ndarray, cases: RetrievalCases) -> float:
    return float(measure(vectors, cases).by_query()["recall@10"].mean())


@pytest.fixture(scope="module")
def fused(world: World, parted: Parted) -> FusionEncoder:
    """An encoder of both modalities, trained."""
    score = retrieval_score(world.modalities, parted[1])
    return trained(world.modalities, parted[0], score)[0]


def test_both_halves_together_beat_each_alone_and_their_mean(
    world: World, parted: Parted, fused: FusionEncoder
) -> None:
    pairs, choosing, measured = parted
    together = recall(embed(fused, world.modalities), measured)
    for name in ("text", "image"):
        half = world.modalities.only([name])
        alone, _ = trained(half, pairs, retrieval_score(half, choosing))
        assert together > recall(embed(alone, half), measured) + 0.1
    mean = sum(world.modalities.blocks.values()) / 2
    assert together > recall(mean, measured) + 0.1
    assert together > 0.6


def test_masks_lose_less_than_zeros_where_modalities_are_missing(
    world: World, parted: Parted, fused: FusionEncoder
) -> None:
    both, cases = world.modalities, parted[2]
    present = hide(both.present, 0.5, np.random.default_rng(1))
    filled = {
        name: np.where(present[:, [column]], block, np.float32(0))
        for column, (name, block) in enumerate(both.blocks.items())
    }
    masked = recall(embed(fused, both, present), cases)
    zeros = recall(embed(fused, Modalities(filled, both.present)), cases)
    assert recall(embed(fused, both), cases) > masked > zeros


def test_the_same_seed_gives_the_same_encoder(world: World, parted: Parted) -> None:
    brief = FusionTrainConfig(**{**vars(SETTINGS), "epochs": 1, "steps_per_epoch": 5})
    score = retrieval_score(world.modalities, parted[1])
    train = partial(trained, world.modalities, parted[0], score, brief)
    vectors = [embed(train(seed=seed)[0], world.modalities) for seed in (4, 4, 5)]
    assert (vectors[0] == vectors[1]).all()
    assert (vectors[0] != vectors[2]).any()


def test_the_weights_of_the_best_epoch_are_kept(world: World, parted: Parted) -> None:
    scores = iter([0.1, 0.7, 0.3, 0.2, 0.1])
    seen = []

    def score(encoder: torch.nn.Module) -> float:
        seen.append(encoder.nothing.detach().clone())
        return next(scores)

    settings = FusionTrainConfig(
        **{**vars(SETTINGS), "epochs": 20, "steps_per_epoch": 2, "patience": 3}
    )
    encoder, progress = trained(world.modalities, parted[0], score, settings)
    assert (progress.best_epoch, progress.epoch) == (2, 5)
    assert torch.equal(encoder.nothing, seen[1])
    assert not torch.equal(seen[1], seen[4])


def test_a_killed_training_goes_on_to_the_same_result(
    world: World, parted: Parted, tmp_path
) -> None:
    settings = FusionTrainConfig(**{**vars(SETTINGS), "epochs": 3, "steps_per_epoch": 4})
    score = retrieval_score(world.modalities, parted[1])
    calls = iter(range(9))

    def killed(encoder: torch.nn.Module) -> float:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return score(encoder)

    with pytest.raises(KeyboardInterrupt):
        trained(world.modalities, parted[0], killed, settings, folder=tmp_path)
    again, progress = trained(world.modalities, parted[0], score, settings, folder=tmp_path)
    whole, straight = trained(world.modalities, parted[0], score, settings)
    assert progress.log == straight.log
    assert (embed(again, world.modalities) == embed(whole, world.modalities)).all()


def test_contrast_alone_learns_which_parts_belong_together() -> None:
    rng = np.random.default_rng(0)
    meaning = rng.normal(size=(80, 6))
    blocks = {}
    for name in ("text", "image"):
        block = meaning @ rng.normal(size=(6, 16))
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        blocks[name] = block.astype(np.float32)
    both = Modalities(blocks, np.ones((80, 2), dtype=bool))
    score = contrast_score(both, np.arange(60, 80), 0)
    torch.manual_seed(0)
    before = score(FusionEncoder(shape(both)).eval())
    encoder, progress = trained(both, None, score, contrast_items=np.arange(60))
    assert "behaviour" not in progress.log[0]
    assert score(encoder) == progress.best_score
    assert progress.best_score > before + 0.2


def test_nothing_to_learn_from_is_told_so(world: World) -> None:
    half = world.modalities.only(["text"])
    with pytest.raises(ConfigError, match="there is nothing to learn from"):
        trained(half, None, lambda encoder: 0.0)


def test_an_encoder_of_other_modalities_is_told_so(world: World) -> None:
    half = world.modalities.only(["text"])
    with pytest.raises(DataError, match=r"the encoder reads .*'text': 24.*, the features are"):
        embed(FusionEncoder(shape(half)), world.modalities)


def test_a_device_that_is_not_there_is_told_so(world: World, parted: Parted) -> None:
    settings = FusionTrainConfig(**{**vars(SETTINGS), "device": "meteor"})
    with pytest.raises(ConfigError, match="device: 'meteor' cannot be used here"):
        trained(world.modalities, parted[0], lambda encoder: 0.0, settings)


def test_behaviour_leaves_out_negatives_that_are_the_answer_or_the_question() -> None:
    torch.manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(4, 5), dim=1)
    # pairs 0-1 and 0-1 again, and 2-0: of what is asked by 0, only 0 itself and 1 are there
    left, right = torch.tensor([0, 0, 2]), torch.tensor([1, 1, 0])
    log_q = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    loss = behaviour_loss(rows[left], rows[right], left, right, log_q, 0.5)

    def term(asked: int, answer: int, others: list[int]) -> torch.Tensor:
        logits = rows[asked] @ rows[[answer, *others]].T / 0.5 - log_q[[answer, *others]]
        return torch.logsumexp(logits, 0) - logits[0]

    one_way = (term(0, 1, []) + term(0, 1, []) + term(2, 0, [1, 1])) / 3
    other_way = (term(1, 0, [2]) + term(1, 0, [2]) + term(0, 2, [])) / 3
    torch.testing.assert_close(loss, (one_way + other_way) / 2)


def test_contrast_is_least_where_views_agree() -> None:
    views = torch.eye(4)
    assert contrast_loss(views, views, 0.1) < 1e-3
    assert contrast_loss(views, views.roll(1, 0), 0.1) > 5

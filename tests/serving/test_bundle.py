"""A bundle answers in the shop's own ids, from any folder, or says in one line why it cannot."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ask_bundle import recommend
from edit_manifest import edit_manifest
from tiny_shop import TinyRun

from llmrec.cli import run_command
from llmrec.data.dataset import Dataset
from llmrec.errors import ArtifactError, CatalogError, ConfigError
from llmrec.ranking.hybrid.recommender import with_prior
from llmrec.recommender import top_n
from llmrec.serving.build import run
from llmrec.serving.bundle import Bundle
from llmrec.serving.query_reader import QUERY_CANDIDATES
from llmrec.stage import folder_hash
from llmrec.types import Histories, Recommendation

QUERY = "a warm woolen scarf"


def ids(answer: list[Recommendation]) -> list[str]:
    return [found.item_id for found in answer]


def check_answer(answer: list[Recommendation], bundle: Bundle, n: int) -> None:
    """n different items of the catalogue, with their own titles, ranked, best first."""
    assert len(set(ids(answer))) == len(answer) == n
    assert [found.rank for found in answer] == list(range(1, n + 1))
    scores = [found.score for found in answer]
    assert np.isfinite(scores).all()
    assert scores == sorted(scores, reverse=True)
    for found in answer:
        assert found.title == bundle.titles[bundle.index[found.item_id]] != ""
        assert found.reason


def test_items_after_a_history(bundle: Bundle) -> None:
    history = bundle.item_ids[:5]
    answer = recommend(bundle, history, 7)
    check_answer(answer, bundle, 7)
    assert not set(ids(answer)) & set(history)
    assert repr(bundle.titles[4]) in answer[0].reason
    assert answer != recommend(bundle, bundle.item_ids[40:45], 7)


def test_the_history_can_be_kept(bundle: Bundle) -> None:
    everything = bundle.item_ids
    assert recommend(bundle, everything, 5) == []
    assert recommend(bundle, everything, 5, query=QUERY) == []
    check_answer(recommend(bundle, everything, 5, exclude_history=False), bundle, 5)


def test_without_a_history_the_model_says_what_people_begin_with(bundle: Bundle) -> None:
    answer = recommend(bundle, [], 5)
    check_answer(answer, bundle, 5)
    assert "no history" in answer[0].reason
    expected = bundle.llm.recommend(Histories.from_lists([[]]), 5)
    assert ids(answer) == [bundle.item_ids[i] for i in expected.items[0]]


def test_words_alone_find_the_closest_items(bundle: Bundle) -> None:
    for row in (0, 50, 119):
        answer = recommend(bundle, [], 5, query=bundle.titles[row])
        check_answer(answer, bundle, 5)
        assert answer[0].title == bundle.titles[row]
        assert answer[0].score == pytest.approx(1, abs=1e-4)


def test_words_and_a_history_are_the_models_order_of_the_closest_items(bundle: Bundle) -> None:
    history = bundle.item_ids[10:13]
    answer = recommend(bundle, history, 10, query=QUERY)
    check_answer(answer, bundle, 10)
    assert not set(ids(answer)) & set(history)
    closest = ids(recommend(bundle, [], QUERY_CANDIDATES + 3, query=QUERY))
    closest = [item for item in closest if item not in history][:QUERY_CANDIDATES]
    # The whole catalogue in the model's order: a beam for every item prunes nothing.
    order = recommend(bundle, history, len(bundle.item_ids))
    expected = [found for found in order if found.item_id in closest][:10]
    assert ids(answer) == ids(expected)
    assert [a.score for a in answer] == pytest.approx([e.score for e in expected], abs=1e-4)


def test_a_larger_n_than_the_catalogue_gets_all_of_it(bundle: Bundle) -> None:
    check_answer(recommend(bundle, bundle.item_ids[:4], 5000), bundle, 116)
    check_answer(recommend(bundle, bundle.item_ids[:4], 5000, query=QUERY), bundle, 116)
    check_answer(recommend(bundle, [], 5000, query=QUERY), bundle, 120)


def test_times_reach_a_model_with_time_tokens(atomic: Bundle, tiny_data: Dataset) -> None:
    cases = tiny_data.cases("test").select([3])
    history = [atomic.item_ids[i] for i in cases.histories[0]]
    assert cases.histories.now is not None
    times, now = cases.histories.times(0).tolist(), float(cases.histories.now[0])
    answer = recommend(atomic, history, 120, history_times=times, now=now)
    assert atomic.prior is not None
    expected = with_prior(atomic.llm, atomic.prior).recommend(cases.histories, len(answer))
    assert ids(answer) == [atomic.item_ids[i] for i in expected.items[0]]
    blind = {found.item_id: found.score for found in recommend(atomic, history, 120)}
    assert any(abs(found.score - blind[found.item_id]) > 1e-3 for found in answer)
    with pytest.raises(ConfigError, match="history_times: 1 are given for a history of"):
        recommend(atomic, history, history_times=[1.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"candidates": ["no-such-thing"]}, "candidates: 'no-such-thing' is not in the catalogue"),
        ({"history": [], "n": 0}, "n: 0 items were asked for; ask for at least 1"),
        ({"history": [], "n": -3, "query": QUERY}, "n: -3 items"),
    ],
)
def test_questions_without_an_answer(
    bundle: Bundle, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(CatalogError, match=message):
        recommend(bundle, **arguments)  # type: ignore[arg-type]


def test_many_threads_get_what_one_gets(tiny_run: TinyRun, bundle: Bundle) -> None:
    fresh = Bundle(bundle.folder, beams=30)  # its text model is loaded by the first query
    questions = [
        {"history": bundle.item_ids[i : i + 1 + i % 4], "query": ("", "shoes", QUERY)[i % 3]}
        for i in range(24)
    ]
    expected = [recommend(bundle, **question) for question in questions]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda question: recommend(fresh, **question), questions))
    assert [ids(a) for a in answers] == [ids(e) for e in expected]
    scores = [[found.score for found in answer] for answer in answers]
    assert np.allclose(scores, [[e.score for e in row] for row in expected], atol=1e-5)


@pytest.fixture
def moved(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A copy of the atomic bundle, alone in another place."""
    return Path(shutil.copytree(tiny_run.bundle("atomic"), tmp_path / "moved" / "bundle"))


def test_a_moved_bundle_answers_the_same(
    moved: Path, atomic: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(moved.parent)
    opened = Bundle("bundle")
    history = atomic.item_ids[20:24]
    for query in ("", QUERY):
        assert recommend(opened, history, query=query) == recommend(atomic, history, query=query)
    assert opened.model_name == atomic.model_name
    assert opened.catalog_version == atomic.catalog_version


@pytest.mark.parametrize(
    "damaged",
    [
        "manifest.json",
        "items.parquet",
        "model/manifest.json",
        "model/config.json",
        "model/model.safetensors",
        "model/llmrec.json",
        "model/item_ids",
        "features/embeddings.safetensors",
    ],
)
@pytest.mark.parametrize("how", ["missing", "cut off"])
def test_a_damaged_bundle_says_so_in_one_line(moved: Path, damaged: str, how: str) -> None:
    place = moved / damaged
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    assert files
    for path in files:
        if how == "missing":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ArtifactError) as caught:
        Bundle(moved).recommend([], query=QUERY)
    assert "\n" not in str(caught.value)
    assert str(moved) in str(caught.value)


def test_parts_of_different_bundles_do_not_mix(moved: Path, tiny_run: TinyRun) -> None:
    shutil.rmtree(moved / "model")
    shutil.copytree(tiny_run.bundle("semantic") / "model", moved / "model")
    with pytest.raises(ArtifactError, match="was written with"):
        Bundle(moved)


def test_another_catalogue_than_the_models(moved: Path) -> None:
    import pyarrow.parquet as pq

    items = pq.read_table(moved / "items.parquet")
    pq.write_table(items.slice(0, 100), moved / "items.parquet")
    edit_manifest(moved)
    with pytest.raises(ArtifactError, match=r"knows 120 items, items\.parquet holds 100"):
        Bundle(moved)


def test_other_stages_are_no_bundle(tiny_run: TinyRun) -> None:
    with pytest.raises(ArtifactError, match="holds the 'ingest' stage, expected 'bundle'"):
        Bundle(tiny_run.folder / "dataset")


def test_a_bundle_without_features_cannot_be_asked_in_words(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    argv = ["--dataset", tiny_run.folder / "dataset", "--model", tiny_run.model("semantic")]
    run_command(["bundle", *map(str, argv), "--out", str(out)])
    bundle = Bundle(out)
    check_answer(recommend(bundle, bundle.item_ids[:2], 3), bundle, 3)
    with pytest.raises(ConfigError, match=r"query: .* holds no text features"):
        recommend(bundle, [], query=QUERY)


@pytest.fixture
def other_dataset(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A dataset of the same files with another filter."""
    from llmrec.data import ingest

    raw = tiny_run.folder / "raw"
    config = ingest.IngestConfig(
        raw / "events.jsonl", raw / "items.jsonl", event_types=["purchase"]
    )
    return ingest.run(config, tmp_path / "other")


def test_parts_of_another_dataset_are_refused(
    tiny_run: TinyRun, other_dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match=r"model: was not made from .*run llmrec train again"):
        run(other_dataset, tiny_run.model("atomic"), tmp_path / "out")
    model = Path(shutil.copytree(tiny_run.model("atomic"), tmp_path / "model"))
    edit_manifest(model, inputs={"dataset": folder_hash(other_dataset)})
    features = tiny_run.folder / "features"
    with pytest.raises(ArtifactError, match=r"features: was not made .*run llmrec embed again"):
        run(other_dataset, model, tmp_path / "out", features)
    assert not (tmp_path / "out").exists()


def test_only_language_models_are_bundled(tiny_run: TinyRun, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no language model"):
        run(tiny_run.folder / "dataset", tiny_run.model("sasrec"), tmp_path / "out")


def test_a_query_ranks_with_the_scores_of_the_whole_catalogue(atomic: Bundle) -> None:
    """The few candidates are compared by the same scores as all items."""
    row = atomic.index[atomic.item_ids[7]]
    assert atomic.prior is not None
    hybrid = with_prior(atomic.llm, atomic.prior)
    every = np.arange(hybrid.n_items)[None]
    best = top_n(hybrid.score_items(Histories.from_lists([[row]]), every), 120)
    of_item = dict(zip(best.items[0].tolist(), best.scores[0].tolist(), strict=True))
    for found in recommend(atomic, [atomic.item_ids[7]], 5, query=QUERY):
        assert found.score == pytest.approx(of_item[atomic.index[found.item_id]], abs=1e-5)

"""A bundle carries the adapters of its model, serves each by name, and takes no other's."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ask_bundle import rank, recommend
from edit_manifest import edit_manifest
from tiny_shop import TinyRun
from tiny_tuned import NAMES, Tuned

from llmrec.cli import main
from llmrec.errors import ArtifactError, ConfigError
from llmrec.generation.multi_lora import load_llm_with_adapters
from llmrec.llm.adapters import CONFIG, INFO, WEIGHTS
from llmrec.serving.build import run
from llmrec.serving.bundle import Bundle
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest
from llmrec.stage import read_manifest
from llmrec.types import Histories, Recommendation


def ids(answer: list[Recommendation]) -> list[str]:
    return [found.item_id for found in answer]


def test_each_adapter_ranks_as_it_does_on_its_base(tuned_atomic: Tuned, adapted: Bundle) -> None:
    alone = load_llm_with_adapters(tuned_atomic.base, list(tuned_atomic.adapters.values()))
    assert list(adapted.adapters) == sorted(NAMES)
    history = adapted.item_ids[20:24]
    rows = Histories.from_lists([list(range(20, 24))])
    lists = []
    for name in (None, *NAMES):
        answer = recommend(adapted, history, 20, adapter=name)
        expected = alone.with_adapter(name).recommend(rows, 20)
        assert ids(answer) == [adapted.item_ids[item] for item in expected.items[0]]
        assert [a.score for a in answer] == pytest.approx(expected.scores[0].tolist(), abs=1e-5)
        lists.append(ids(answer))
    assert lists[0] != lists[1] != lists[2] != lists[0]


def test_words_and_candidates_go_to_the_adapter_too(adapted: Bundle) -> None:
    history, few = adapted.item_ids[3:6], adapted.item_ids[30:60]
    for name in NAMES:
        order = ids(recommend(adapted, history, 120, adapter=name))
        assert ids(rank(adapted, history, few, adapter=name)) == [i for i in order if i in few]
        asked = RecommendRequest(history, 8, query="shoes", adapter=name)
        found = ids(Recommender(adapted).answer(asked).recommendations)
        assert found == [item for item in order if item in found]
    assert ids(rank(adapted, history, few, adapter="gifts")) != ids(rank(adapted, history, few))


def test_a_bundle_with_adapters_answers_without_as_it_did(adapted: Bundle, atomic: Bundle) -> None:
    expected = atomic.llm.recommend(Histories.from_lists([list(range(10, 15))]), 10)
    found = recommend(adapted, adapted.item_ids[10:15])
    named = atomic.items.named(expected, 10, f"likely to follow {atomic.titles[14]!r}")
    assert found == [replace(one, sources=("language_model",)) for one in named]
    assert adapted.model_name == atomic.model_name
    assert adapted.catalog_version != atomic.catalog_version


def test_many_threads_ask_different_adapters(tuned_atomic: Tuned, adapted: Bundle) -> None:
    fresh = Bundle(tuned_atomic.bundle, cache_mib=3)
    asked: list[dict[str, Any]] = [
        {"history": adapted.item_ids[i : i + 1 + i % 4], "adapter": (None, *NAMES)[i % 3]}
        for i in range(36)
    ]
    expected = [ids(recommend(adapted, **question)) for question in asked]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda question: ids(recommend(fresh, **question)), asked))
    assert answers == expected
    caches = [fresh.llm_of(name).cache for name in (None, *NAMES)]
    assert [cache.max_bytes for cache in caches if cache is not None] == [2**20] * 3


def test_the_bundle_holds_the_adapters_files_and_no_more(
    tuned_atomic: Tuned, tiny_run: TinyRun, tmp_path: Path
) -> None:
    adapter = Path(shutil.copytree(tuned_atomic.adapters["gifts"], tmp_path / "mine"))
    (adapter / "optimizer.pt").write_bytes(b"much")
    out = run(tiny_run.folder / "dataset", tuned_atomic.base, tmp_path / "out", adapters=[adapter])
    assert [path.name for path in (out / "adapters").iterdir()] == ["gifts"]
    assert {p.name for p in (out / "adapters" / "gifts").iterdir()} == {INFO, CONFIG, WEIGHTS}
    assert f"adapters/gifts/{INFO}" in read_manifest(out).inputs
    moved = Bundle(shutil.move(out, tmp_path / "moved"))
    assert moved.adapters["gifts"].version == "1"
    assert not any(path.name == "adapters" for path in tiny_run.bundle("atomic").iterdir())


def test_an_adapter_of_another_base_is_refused(
    tuned_atomic: Tuned, tuned_semantic: Tuned, tiny_run: TinyRun, tmp_path: Path
) -> None:
    foreign = tuned_semantic.adapters["gifts"]
    with pytest.raises(ArtifactError, match=r"'gifts' was made for the base 'base'.*is another"):
        run(tiny_run.folder / "dataset", tuned_atomic.base, tmp_path / "out", adapters=[foreign])
    assert not (tmp_path / "out").exists()
    moved = Path(shutil.copytree(tuned_atomic.bundle, tmp_path / "moved"))
    shutil.rmtree(moved / "adapters" / "gifts")
    shutil.copytree(foreign, moved / "adapters" / "gifts")
    edit_manifest(moved)
    with pytest.raises(ArtifactError, match="its adapters are not those it was made with"):
        Bundle(moved)


def test_a_model_that_was_exchanged_is_found_out_by_its_adapters(
    tuned_atomic: Tuned, tmp_path: Path
) -> None:
    """The manifest within the model is right, its weights are not."""
    from safetensors.torch import load_file, save_file

    moved = Path(shutil.copytree(tuned_atomic.bundle, tmp_path / "moved"))
    path = moved / "model" / "model.safetensors"
    state = load_file(path)
    state["model.norm.weight"] += 1e-3
    save_file(state, path, metadata={"format": "pt"})
    edit_manifest(moved)
    with pytest.raises(ArtifactError, match="was made for the base"):
        Bundle(moved)


@pytest.mark.parametrize("spoil", ["taken away", "added", "another version", "cut off"])
def test_adapters_that_are_not_the_bundles_are_refused(
    tuned_atomic: Tuned, tmp_path: Path, spoil: str
) -> None:
    moved = Path(shutil.copytree(tuned_atomic.bundle, tmp_path / "moved"))
    adapter = moved / "adapters" / "gifts"
    if spoil == "taken away":
        shutil.rmtree(adapter)
    elif spoil == "added":
        shutil.copytree(adapter, moved / "adapters" / "more")
        info = json.loads((adapter / INFO).read_text()) | {"name": "more"}
        (moved / "adapters" / "more" / INFO).write_text(json.dumps(info))
    elif spoil == "another version":
        info = json.loads((adapter / INFO).read_text()) | {"version": "2"}
        (adapter / INFO).write_text(json.dumps(info))
    else:
        (adapter / WEIGHTS).write_bytes((adapter / WEIGHTS).read_bytes()[:-8])
    edit_manifest(moved)
    with pytest.raises(ArtifactError) as caught:
        Bundle(moved)
    assert str(moved) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["llmrec", "llmrec-12345678"])
def test_an_adapter_cannot_have_the_models_name(
    tuned_atomic: Tuned, tiny_run: TinyRun, tmp_path: Path, name: str
) -> None:
    adapter = Path(shutil.copytree(tuned_atomic.adapters["gifts"], tmp_path / "mine"))
    info = json.loads((adapter / INFO).read_text()) | {"name": name}
    (adapter / INFO).write_text(json.dumps(info))
    with pytest.raises(ConfigError, match=f"'{name}' is what requests call the model itself"):
        run(tiny_run.folder / "dataset", tuned_atomic.base, tmp_path / "out", adapters=[adapter])


def test_an_unknown_adapter_is_named(adapted: Bundle, atomic: Bundle) -> None:
    with pytest.raises(ConfigError, match="adapter: 'x' is not loaded; there is gifts, recommend"):
        recommend(adapted, [], adapter="x")
    with pytest.raises(ConfigError, match="adapter: 'gifts' is not loaded; there is none"):
        rank(atomic, [], atomic.item_ids[:3], adapter="gifts")


def test_the_command_line_names_an_adapter(
    adapted: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, few = str(adapted.folder), adapted.item_ids[:9]
    flags = ["--history", adapted.item_ids[40], "--adapter", "gifts", "--json", "-n", "5"]
    assert main(["recommend", folder, *flags]) == 0
    found = [one["item_id"] for one in json.loads(capsys.readouterr().out)]
    assert found == ids(recommend(adapted, [adapted.item_ids[40]], 5, adapter="gifts"))
    assert main(["recommend", folder, *flags, "--candidates", *few]) == 0
    found = [one["item_id"] for one in json.loads(capsys.readouterr().out)]
    expected = rank(adapted, [adapted.item_ids[40]], adapted.item_ids[:9], adapter="gifts")
    assert found == ids(expected)[:5]
    assert main(["recommend", folder, "--adapter", "gfits"]) == 2
    assert "adapter: 'gfits' is not loaded" in capsys.readouterr().err

"""The section ``media`` of a recipe: order, folders, messages, on stages that note their call."""

import json
from pathlib import Path
from typing import Any

import pytest
from toy_stages import CALLS, ToyConfig, toy_stages

from llmrec.errors import ConfigError
from llmrec.pipeline import report
from llmrec.pipeline.plan import Step, plan
from llmrec.pipeline.recipe import read_recipe
from llmrec.pipeline.run import execute
from llmrec.stages import Stage

RECIPE = """
name: seen
seed: 3
ingest: {}
embed: {}
media:
  root: "${out}/raw"
  leave_out: "${out}/raw/truth.jsonl"
  truth: "${out}/raw/truth.jsonl"
  clip: {}
  temporal: {}
  embed: {}
  multimodal: {}
  caption: {}
  categories: {}
  fusion: {}
  search: {}
"""


def planned(tmp_path: Path, text: str = RECIPE) -> tuple[list[Step], Path]:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    stages = toy_stages()
    recipe, out = read_recipe(path, tmp_path / "run", stages)
    return plan(recipe, out, str(path), stages), out


def calls() -> dict[str, tuple[Any, dict[str, Any]]]:
    return {name: (config, arguments) for name, config, arguments in CALLS}


def test_each_stage_takes_what_the_ones_before_it_made(tmp_path: Path) -> None:
    steps, out = planned(tmp_path)
    assert [step.name for step in steps] == [
        *("ingest", "embed", "media/clip", "media/temporal", "media/embed", "media/multimodal"),
        *("media/caption", "media/categories", "media/fusion", "media/search"),
        *("media/captions-bench", "media/search-bench", "media/sheet"),
    ]
    execute(steps[:-3])
    found, data, media = calls(), out / "dataset", out / "media_features"
    learns = {
        "dataset": data,
        "media_root": out / "raw",
        "leave_out": out / "raw/truth.jsonl",
        "seed": 3,
    }
    clip = str(out / "clip")
    assert found["train clip"] == (ToyConfig(), learns | {"out": out / "clip"})
    assert found["train temporal"] == (
        ToyConfig(image_model=clip),
        learns | {"out": out / "temporal"},
    )
    embedded, arguments = found["embed media"]
    assert embedded == ToyConfig(
        image_model=clip, temporal=str(out / "temporal/temporal.safetensors")
    )
    assert (arguments["media_root"], arguments["out"]) == (out / "raw", media)
    trained, arguments = found["train multimodal"]
    assert trained == ToyConfig(clip=clip)
    assert arguments == learns | {"media": media, "out": out / "multimodal"}
    assert found["caption"][1] == {
        "dataset": data,
        "model": out / "multimodal",
        "media_root": out / "raw",
        "media": media,
        "items": None,
        "out": out / "captions",
    }
    assert found["embed captions"][1] == {
        "captions": out / "captions",
        "out": out / "categorical_features",
    }
    assert found["train fusion"][1] == {
        "dataset": data,
        "features": out / "features",
        "media": media,
        "out": out / "fusion",
        "seed": 3,
    }
    assert found["search index"][1] == {"media": media, "out": out / "search_index"}


def test_questions_are_asked_last_where_there_is_an_index(tmp_path: Path) -> None:
    asked = RECIPE.replace("  search: {}\n", "  search: {}\n  ask: {text: a mug}\n")
    steps, out = planned(tmp_path, asked)
    assert [step.name for step in steps][-2:] == ["media/sheet", "ask"]
    assert steps[-1].run.args[0] == out / "search_index"  # type: ignore[attr-defined]
    assert "ask" not in [step.name for step in planned(tmp_path)[0]]
    with pytest.raises(ConfigError, match=r"ask: unknown key 'txt'"):
        planned(tmp_path, asked.replace("text:", "txt:"))


def test_figures_of_a_benchmark_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "result.json"
    result.write_text(
        json.dumps(
            {"name": "r", "metrics": {"hit": 0.5, "n": 2}, "intervals": {"hit": [0.25, 0.75]}}
        )
    )
    report.measured(lambda out: out, out=result)
    assert capsys.readouterr().out.splitlines() == [
        "   hit                            0.500  (0.250-0.750)",
        "   n                              2.000",
    ]


def test_pretrained_models_are_taken_as_they_are_named(tmp_path: Path) -> None:
    text = """
name: seen
ingest: {}
media: {model: "org/llava", embed: {image_model: "ViT-B-32:tag"}, caption: {}, sheet: 0}
"""
    steps, _ = planned(tmp_path, text)
    assert [step.name for step in steps] == ["ingest", "media/embed", "media/caption"]
    execute(steps)
    assert calls()["embed media"][0] == ToyConfig(image_model="ViT-B-32:tag")
    assert calls()["caption"][1]["model"] == "org/llava"


def test_a_model_may_take_its_content_from_the_fused_vectors(tmp_path: Path) -> None:
    models = "models: {fused: {vectors: fused, index: {}, train: {}}, plain: {train: {}}}\n"
    steps, out = planned(tmp_path, RECIPE + models)
    made = {step.name: step.run.keywords for step in steps}  # type: ignore[attr-defined]
    assert made["fused/index"]["features"] == made["fused/train"]["features"] == out / "fusion"
    assert made["plain/train"]["features"] == out / "features"
    assert made["fused/bundle"]["features"] == out / "features"  # that words are compared with
    with pytest.raises(ConfigError, match=r"models\.fused: vectors: fused needs"):
        planned(tmp_path, f"name: seen\ningest: {{}}\n{models}")


def test_the_click_model_reads_the_models_it_names_and_the_last_one_serves(tmp_path: Path) -> None:
    text = """
name: clicks
ingest: {}
embed: {}
models: {a: {index: {}, train: {}}, b: {index: {}, train: {}}, c: {train: {}}}
ctr: {models: [b, a], bench: true, width: 4}
"""
    steps, out = planned(tmp_path, text)
    names = [step.name for step in steps]
    assert names[names.index("c/train") :] == [
        *("c/train", "ctr", "ctr-bench", "a/bundle", "b/bundle"),
        *("a/evaluate", "b/evaluate", "c/evaluate", "report", "show"),
    ]
    execute([step for step in steps if step.stage in ("ctr", "ctr-bench", "bundle")])
    models = (out / "models/b/model", out / "models/a/model")
    for name in ("ctr", "bench ctr"):
        config, arguments = calls()[name]
        assert (config, arguments["models"]) == (ToyConfig(4), models)
    bundles = {call[2]["out"].parent.name: call[2]["ctr"] for call in CALLS if call[0] == "bundle"}
    assert bundles == {"a": out / "ctr", "b": None}
    with pytest.raises(ConfigError, match=r"ctr\.models: 'c' is no model with item IDs"):
        planned(tmp_path, text.replace("[b, a]", "[c]"))


def test_a_refreshed_model_is_measured_alone_and_scores_nothing(tmp_path: Path) -> None:
    text = """
name: clicks
ingest: {}
models: {a: {index: {}, train: {}}, b: {index: {}, train: {}}}
ctr: {bench: true, refreshed: b}
"""
    steps, out = planned(tmp_path, text)
    execute([step for step in steps if step.stage in ("ctr", "ctr-bench", "bundle")])
    for name in ("ctr", "bench ctr"):
        assert calls()[name][1]["models"] == (out / "models/a/model",)
    assert calls()["bench ctr"][1]["refreshed"] == out / "models/b/model"
    bundles = {call[2]["out"].parent.name: call[2]["ctr"] for call in CALLS if call[0] == "bundle"}
    assert bundles == {"a": out / "ctr", "b": None}
    with pytest.raises(ConfigError, match=r"ctr\.refreshed: 'd' is no model with item IDs"):
        planned(tmp_path, text.replace("refreshed: b", "refreshed: d"))


def test_a_stage_that_takes_a_model_comes_after_it(tmp_path: Path) -> None:
    stages = toy_stages()
    takes = {"dataset": "dataset/", "model": "models/a/model/"}
    late = Stage("toy_stages:stage_index", "toy", "late", "late/", takes)
    stages = {"late": late} | stages
    path = tmp_path / "recipe.yaml"
    path.write_text("name: n\ningest: {}\nmodels: {a: {train: {}}}\nlate: {width: 2}\n")
    recipe, out = read_recipe(path, tmp_path / "run", stages)
    steps = plan(recipe, out, str(path), stages)
    assert [step.name for step in steps] == ["ingest", "a/train", "late", "a/evaluate", "report"]
    execute(steps[:3])
    taken = {"dataset": out / "dataset", "model": out / "models/a/model"}
    assert calls()["index"] == (ToyConfig(2), taken | {"out": out / "late", "seed": 0})


def test_a_section_of_a_stage_that_no_run_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'tune'"):
        planned(tmp_path, "name: n\ningest: {}\ntune: {rank: 4}\n")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{caption: {}}", "media.caption: needs `media.model:` or `media.multimodal:`"),
        ("{categories: {}}", "media.categories: needs `media.caption:`"),
        ("{search: {}}", "media.search: needs `media.embed:`"),
        ("{clip: {size: 1}}", r"recipe.yaml: media.clip: unknown key 'size'"),
        ("{clips: {}}", "did you mean 'clip'"),
    ],
)
def test_a_mistake_names_its_section_before_anything_runs(
    tmp_path: Path, section: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(tmp_path, f"name: seen\ningest: {{}}\nmedia: {section}\n")

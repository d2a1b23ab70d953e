"""The section ``media`` of a recipe: order, folders, messages, on stages that note their call."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmrec.errors import ConfigError
from llmrec.pipeline.recipe import Step, execute, plan, read_recipe

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


@dataclass(frozen=True)
class Config:
    image_model: str | None = None
    temporal: str | None = None
    clip: str | None = None


class Stages:
    """Stage modules that write down how they were called."""

    def __init__(self) -> None:
        self.calls: dict[str, tuple[Config | None, tuple[Any, ...], dict[str, Any]]] = {}

    def load(self, module: str) -> SimpleNamespace:
        name = module.removeprefix("llmrec.")

        def run(*places: Any, **named: Any) -> Path:
            config = places[0] if places and isinstance(places[0], Config) else None
            self.calls[name] = (config, places[1:] if config else places, named)
            return Path(f"{name}.json")

        def write_sheet(
            captions: Path, dataset: Any, root: Path, place: Path, **named: Any
        ) -> Path:
            self.calls[f"{name}.sheet"] = (None, (captions, root, place), named)
            return place

        def read_result(path: Path) -> dict[str, Any]:
            return {"metrics": {path.stem: 0.5}, "intervals": {path.stem: [0.25, 0.75]}}

        return SimpleNamespace(
            Config=Config, run=run, write_sheet=write_sheet, read_result=read_result, Dataset=Path
        )


def planned(tmp_path: Path, text: str = RECIPE) -> tuple[list[Step], Stages, Path]:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    stages = Stages()
    recipe, out = read_recipe(path, tmp_path / "run")
    return plan(recipe, out, str(path), stages.load), stages, out


def test_each_stage_takes_what_the_ones_before_it_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps, stages, out = planned(tmp_path)
    assert [step.name for step in steps] == [
        *("ingest", "embed", "clip", "temporal", "embed-media", "multimodal", "caption", "look"),
        *("categories", "fusion", "search-index", "measure-search"),
    ]
    execute(steps)
    calls, data, media = stages.calls, out / "dataset", out / "media_features"
    learns = {"media_root": out / "raw", "leave_out": out / "raw/truth.jsonl", "seed": 3}
    assert calls["clip.run"] == (Config(), (data, out / "clip"), learns)
    assert calls["clip.temporal"] == (
        Config(image_model=str(out / "clip")),
        (data, out / "temporal"),
        learns,
    )
    embedded, places, _ = calls["features.media"]
    assert embedded == Config(str(out / "clip"), str(out / "temporal/temporal.safetensors"))
    assert places == (data, media)
    trained, places, named = calls["multimodal.run"]
    assert trained == Config(clip=str(out / "clip"))
    assert (places, named["media"]) == ((data, out / "multimodal"), media)
    assert calls["captions.run"][1] == (data, str(out / "multimodal"), out / "captions")
    assert calls["features.categorical"][1] == (out / "captions", out / "categorical_features")
    assert calls["fusion.run"][2] == {"features": out / "features", "media": media, "seed": 3}
    assert calls["search.build"][1] == (data, media, out / "search_index")
    assert calls["captions.sheet.sheet"][1][-1] == out / "report/captions.png"
    said = capsys.readouterr().out
    assert "captions.bench" in said and "search.bench" in said and "(0.250-0.750)" in said


def test_pretrained_models_are_taken_as_they_are_named(tmp_path: Path) -> None:
    text = """
name: seen
ingest: {}
media: {model: "org/llava", embed: {image_model: "ViT-B-32:tag"}, caption: {}, sheet: 0}
"""
    steps, stages, _ = planned(tmp_path, text)
    assert [step.name for step in steps] == ["ingest", "embed-media", "caption", "look"]
    execute(steps)
    assert stages.calls["features.media"][0] == Config(image_model="ViT-B-32:tag")
    assert stages.calls["captions.run"][1][1] == "org/llava"


def test_a_model_may_take_its_content_from_the_fused_vectors(tmp_path: Path) -> None:
    models = "models: {fused: {vectors: fused, index: {}, train: {}}, plain: {train: {}}}\n"
    steps, _, out = planned(tmp_path, RECIPE + models)
    made = {step.name: step.run.keywords for step in steps}  # type: ignore[attr-defined]
    assert made["fused/index"]["features"] == made["fused/train"]["features"] == out / "fusion"
    assert made["plain/train"]["features"] == out / "features"
    assert made["fused/bundle"]["features"] == out / "features"  # that words are compared with
    with pytest.raises(ConfigError, match=r"models\.fused: vectors: fused needs"):
        planned(tmp_path, f"name: seen\ningest: {{}}\n{models}")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{caption: {}}", "needs `multimodal:`, or `model:`"),
        ("{categories: {}}", "categories: needs `caption:`"),
        ("{search: {}}", "search: needs `embed:`"),
        ("{clip: {size: 1}}", r"recipe.yaml: media.clip: unknown key 'size'"),
        ("{clips: {}}", "did you mean 'clip'"),
    ],
)
def test_a_mistake_names_its_section_before_anything_runs(
    tmp_path: Path, section: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        planned(tmp_path, f"name: seen\ningest: {{}}\nmedia: {section}\n")

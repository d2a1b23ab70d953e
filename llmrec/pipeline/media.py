"""The stages of ``llmrec run`` that look and listen: the recipe's section ``media``.

::

    media:
      root: "${out}/raw"                 # where the paths of the catalogue start
      leave_out: held_out.txt            # items that nothing is learned from
      clip: {epochs: 30}                 # a small CLIP from nothing
      temporal: {field: motion}          # what only motion shows
      embed: {}                          # vectors of pictures, videos, speech
      multimodal: {}                     # a LLaVA, trained in two steps
      caption: {}                        # captions and closed fields of every item
      categories: {}                     # captions as integers that a click model embeds
      fusion: {}                         # one vector an item from all of it
      search: {}                         # an index for words, pictures and voice
      truth: truth.jsonl                 # what captions and search are measured on

Each is optional, and takes what the ones before it made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llmrec.config import build
from llmrec.data.item_lists import HELD_OUT
from llmrec.errors import ConfigError
from llmrec.flags import config_class

Settings = dict[str, Any]
Steps = dict[str, Callable[[], object]]

MODULES = {
    "clip": "llmrec.content.clip.run",
    "temporal": "llmrec.content.clip.temporal",
    "embed": "llmrec.content.features.media",
    "multimodal": "llmrec.captions.training.run",
    "caption": "llmrec.captions.run",
    "categories": "llmrec.captions.categorical",
    "fusion": "llmrec.content.fusion.run",
    "search": "llmrec.content.search.build",
    "sheet": "llmrec.captions.sheet",
    "measure_captions": "llmrec.bench.captions",
    "measure_search": "llmrec.bench.search",
    "dataset": "llmrec.data.dataset",
    "results": "llmrec.metrics.results",
}


@dataclass(frozen=True)
class MediaRecipe:
    """The section ``media`` of a recipe; see the module docstring.

    Attributes:
        model: what captions, a folder or hub id, where none is trained here.
        caption_items: file of the items to caption; all of them when None.
        sheet: pictures on the contact sheet of captions; 0 for none.
    """

    root: Path | None = None
    leave_out: Path | None = None
    truth: Path | None = None
    clip: Settings | None = None
    temporal: Settings | None = None
    embed: Settings | None = None
    multimodal: Settings | None = None
    model: str | None = None
    caption_items: Path | None = None
    caption: Settings | None = None
    categories: Settings | None = None
    fusion: Settings | None = None
    search: Settings | None = None
    sheet: int = 24

    def __post_init__(self) -> None:
        needs = (("categories", "caption"), ("search", "embed"))
        for name, needed in needs:
            if getattr(self, name) is not None and getattr(self, needed) is None:
                raise ConfigError(f"{name}: needs `{needed}:` in the same section")
        if self.caption is not None and self.multimodal is None and self.model is None:
            raise ConfigError("caption: needs `multimodal:`, or `model:` to name what captions")


@dataclass(frozen=True)
class _Plan:
    """What all steps share."""

    recipe: MediaRecipe
    name: str
    out: Path
    seed: int
    features: Path | None
    where: str
    load: Callable[[str], Any]

    @property
    def dataset(self) -> Path:
        return self.out / "dataset"

    def settings(self, stage: str, **taken: Any) -> Any:
        """A stage's checked settings; ``taken`` holds where the recipe does not say."""
        section = getattr(self.recipe, stage)
        known = {key: str(value) for key, value in taken.items() if value is not None}
        module = self.load(MODULES[stage])
        return build(config_class(module.run), known | section, f"{self.where}: media.{stage}")

    def run(self, stage: str) -> Any:
        return self.load(MODULES[stage]).run


def media_steps(
    recipe: MediaRecipe,
    *,
    name: str,
    out: Path,
    seed: int,
    features: Path | None,
    where: str,
    load: Callable[[str], Any],
) -> Steps:
    """The steps of the section in order, every setting checked, nothing done yet.

    Args:
        recipe: the section.
        name: of the run.
        out: the run's folder.
        features: folder of the items' text vectors, or None.
        where: the recipe's file, put in front of every message.
        load: imports a module.

    Raises:
        ConfigError: naming the section and the key.
    """
    p = _Plan(recipe, name, out, seed, features, where, load)
    return _looking(p) | _captioning(p) | _using(p)


def _looking(p: _Plan) -> Steps:
    r, steps = p.recipe, Steps()
    learns = {"media_root": r.root, "leave_out": r.leave_out, "seed": p.seed}
    clip = p.out / "clip" if r.clip is not None else None
    temporal = p.out / "temporal" if r.temporal is not None else None
    if clip is not None:
        steps["clip"] = partial(p.run("clip"), p.settings("clip"), p.dataset, clip, **learns)
    if temporal is not None:
        config = p.settings("temporal", image_model=clip)
        steps["temporal"] = partial(p.run("temporal"), config, p.dataset, temporal, **learns)
    if r.embed is not None:
        learned = None if temporal is None else temporal / "temporal.safetensors"
        config = p.settings("embed", image_model=clip, temporal=learned)
        steps["embed-media"] = partial(
            p.run("embed"), config, p.dataset, _media(p), media_root=r.root, seed=p.seed
        )
    return steps


def _captioning(p: _Plan) -> Steps:
    r, steps = p.recipe, Steps()
    seen = {"media_root": r.root, "media": None if r.embed is None else _media(p)}
    if r.multimodal is not None:
        config = p.settings("multimodal", clip=p.out / "clip" if r.clip is not None else None)
        steps["multimodal"] = partial(
            p.run("multimodal"),
            config,
            p.dataset,
            p.out / "multimodal",
            leave_out=r.leave_out,
            seed=p.seed,
            **seen,
        )
    if r.caption is not None:
        model = r.model or str(p.out / "multimodal")
        captions = p.out / "captions"
        steps["caption"] = partial(
            p.run("caption"),
            p.settings("caption"),
            p.dataset,
            model,
            captions,
            items=r.caption_items,
            **seen,
        )
        steps["look"] = partial(_look, p, captions)
        if r.categories is not None:
            config = p.settings("categories")
            place = p.out / "categorical_features"
            steps["categories"] = partial(p.run("categories"), config, captions, place)
    return steps


def _using(p: _Plan) -> Steps:
    r, steps = p.recipe, Steps()
    if r.fusion is not None:
        steps["fusion"] = partial(
            p.run("fusion"),
            p.settings("fusion"),
            p.dataset,
            p.out / "fusion",
            features=p.features,
            media=None if r.embed is None else _media(p),
            seed=p.seed,
        )
    if r.search is not None:
        index = p.out / "search_index"
        steps["search-index"] = partial(
            p.run("search"), p.settings("search"), p.dataset, _media(p), index, seed=p.seed
        )
        if r.truth is not None:
            steps["measure-search"] = partial(_measure_search, p, r.truth)
    return steps


def _media(p: _Plan) -> Path:
    return p.out / "media_features"


def _look(p: _Plan, captions: Path) -> None:
    """Measure captions where the truth is known, and draw them beside pictures."""
    r = p.recipe
    if r.truth is not None:
        place = p.out / "evaluation" / f"captions-{p.name}.json"
        _say(p, p.run("measure_captions")(captions, r.truth, place, seed=p.seed))
    if r.sheet and r.root is not None:
        place = p.out / "report" / "captions.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        dataset = p.load(MODULES["dataset"]).Dataset(p.dataset)
        draw = p.load(MODULES["sheet"]).write_sheet
        known = {"truth": r.truth, "split": HELD_OUT if r.truth else None}
        print(draw(captions, dataset, r.root, place, items=r.sheet, **known), flush=True)


def _measure_search(p: _Plan, truth: Path) -> None:
    place = p.out / "evaluation" / f"search-{p.name}.json"
    _say(p, p.run("measure_search")(p.dataset, _media(p), truth, place, seed=p.seed))


def _say(p: _Plan, path: Path) -> None:
    """The figures of a result file, a line each."""
    result: Mapping[str, Any] = p.load(MODULES["results"]).read_result(path)
    for metric, value in result["metrics"].items():
        low, high = result["intervals"].get(metric, (None, None))
        span = "" if low is None else f"  ({low:.3f}-{high:.3f})"
        print(f"   {metric:<28}{value:8.3f}{span}", flush=True)

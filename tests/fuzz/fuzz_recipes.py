"""Recipes: damaged texts, and odd values where others belong.

A recipe is refused in one line, or its plan has the very values that it says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from damage import BYTE_EDITS, TREE_EDITS, Edit, Place, damaged_bytes, damaged_tree, value_at
from judge import accepted

from llmrec.config import as_dict
from llmrec.pipeline.plan import Step, plan
from llmrec.pipeline.recipe import read_recipe

RECIPE = """
name: shop
seed: 3
demo_shop: {items: 120, users: 150, media: true}
ingest:
  events: "${out}/raw/events.jsonl"
  items: "${out}/raw/items.jsonl"
  event_types: [click]
  type_names: {seen: view}
  split: global-time
  test_share: 0.2
  min_rating: 2
embed: {fields: [title], attributes: true, attribute_dim: 16}
media:
  root: "${out}/raw"
  clip: {epochs: 2, augmentation: {degrees: 4.0}}
  embed: {frames: 4, limits: {timeout: 3.5, networks: [10.1.0.0/16]}}
  multimodal: {tasks: {caption: 1.0}, drop: {image: 0.1}}
  caption: {batch_size: 4}
  categories: {min_count: 1}
  fusion: {encoder: {width: 32}, train: {epochs: 2}}
  search: {text_weight: 0.5}
models:
  atomic: &atomic
    index: {kind: atomic}
    train: {base: nano, content: {text: 16}, loop: &loop {epochs: 2, warmup_steps: 5}}
  semantic:
    <<: *atomic
    index: {kind: semantic, levels: 2, codebook_size: 24, rq_vae: {hidden: [32, 16]}}
  sasrec: {train: {kind: sasrec, base: nano, content: {}, loop: {<<: *loop, epochs: 1}}}
ctr:
  labels: {kind: impressions, file: "${out}/raw/impressions.jsonl"}
  network: {hidden: [16, 8], dropout: 0.2}
  models: [atomic]
baselines: [popularity, item-knn]
evaluate: {list_length: 20, beams: 20, ks: [5, 10]}
"""
TREE: dict[str, Any] = yaml.safe_load(RECIPE)


class _Plain(yaml.SafeDumper):
    """Writes nothing as an alias, so that one value is one place."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def planned(folder: Path, text: str | bytes) -> list[Step] | None:
    """The steps of a recipe; None where it is refused."""
    path = folder / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))

    def read() -> list[Step]:
        recipe, out = read_recipe(path)
        return plan(recipe, out, str(path))

    return accepted(read)


TREES = TREE_EDITS


def check_tree(edits: Sequence[Edit], folder: Path) -> None:
    """A setting has an odd value, another name, or none."""
    tree, touched = damaged_tree(TREE, edits)
    steps = planned(folder, yaml.dump(tree, Dumper=_Plain, allow_unicode=True, sort_keys=False))
    if steps is None:
        return
    configs = {step.name: step.run.args[0] for step in steps if getattr(step.run, "args", ())}
    for place in touched:
        _check_value(tree, place, configs)


def _check_value(tree: Any, place: Place, configs: dict[str, Any]) -> None:
    """A setting of a stage, if the place is one, is in the stage's plan as it was written."""
    names = [str(name) for name in place]
    names = names[1:] if names[0] == "models" else names
    for length in (1, 2):
        config = configs.get("/".join(names[:length]))
        if config is None or len(place) <= length:
            continue
        inside = place[length + (place[0] == "models") :]
        try:
            written, planned = value_at(tree, place), value_at(as_dict(config), inside)
        except (LookupError, TypeError):
            continue  # what was removed, or a key of the recipe itself
        assert _same(written, planned), f"{place}: {written!r} became {planned!r}"


def _same(written: Any, planned: Any) -> bool:
    if isinstance(planned, float) and isinstance(written, str | int | float):
        number = float(written)
        return number == planned or (math.isnan(number) and math.isnan(planned))
    if isinstance(written, dict) and isinstance(planned, dict):
        return all(_same(written[name], planned[name]) for name in written)
    if isinstance(written, list):
        return isinstance(planned, list | tuple) and all(map(_same, written, planned))
    if isinstance(written, str) and "${out}" in written:
        return True
    return bool(written == planned) or str(Path(str(written))) == str(planned)


TEXTS = BYTE_EDITS


def check_text(edits: Sequence[Edit], folder: Path) -> None:
    """The text is damaged somewhere."""
    planned(folder, damaged_bytes(RECIPE.encode(), edits))

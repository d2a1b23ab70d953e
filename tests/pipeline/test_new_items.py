"""A shop that grows: ingested again with new items, its recipe goes on from the earlier models."""

import json
from pathlib import Path

import pytest
from tiny_shop import TinyRun, run_recipe

from llmrec.serving.bundle import Bundle
from llmrec.serving.recommender import Recommender
from llmrec.stage import read_manifest

NEW = {"new-1": "Wide crystal lamp", "new-2": "Narrow crystal lamp"}
RECIPE = """
name: grown
ingest: {events: EVENTS, items: ITEMS, event_types: [click]}
embed: {fields: [title], attributes: true, attribute_dim: 16}
models:
  atomic:
    index: {kind: atomic}
    train:
      base: OLD/models/atomic/model
      time_tokens: [gap, month]
      content: {text: 16, attributes: 16}
      loop: {epochs: 1, warmup_steps: 5}
  semantic:
    index: {kind: semantic, base: OLD/models/semantic/model}
    train:
      base: OLD/models/semantic/model
      content: {text: 16, attributes: 16}
      loop: {epochs: 1, warmup_steps: 5}
show_users: 0
"""


@pytest.fixture(scope="module")
def grown(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, with the new items first in the file, and bought by some after what they bought."""
    home, raw = tmp_path_factory.mktemp("grown"), tiny_run.folder / "raw"
    items = [json.dumps({"item_id": name, "title": title}) for name, title in NEW.items()]
    items += (raw / "items.jsonl").read_text(encoding="utf-8").splitlines()
    events = (raw / "events.jsonl").read_text(encoding="utf-8").splitlines()
    newest = max(json.loads(line)["timestamp"] for line in events)
    for number, user in enumerate(sorted({json.loads(line)["user_id"] for line in events})[:40]):
        for place, item in enumerate(NEW):
            event = {"user_id": user, "item_id": item, "type": "click"}
            events.append(json.dumps(event | {"timestamp": newest + 60 * number + place}))
    (home / "items.jsonl").write_text("\n".join(items) + "\n", encoding="utf-8")
    (home / "events.jsonl").write_text("\n".join(events) + "\n", encoding="utf-8")
    recipe = RECIPE.replace("OLD", str(tiny_run.folder))
    recipe = recipe.replace("EVENTS", str(home / "events.jsonl"))
    recipe = recipe.replace("ITEMS", str(home / "items.jsonl"))
    (home / "grown.yaml").write_text(recipe)
    run_recipe(home / "grown.yaml", home / "run")
    return home / "run"


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
def test_the_models_go_on_and_recommend_the_new_items(
    grown: Path, tiny_run: TinyRun, kind: str
) -> None:
    counts = read_manifest(grown / "models" / kind / "model").counts
    assert (counts["known_items"], counts["new_items"]) == (120, 2)
    bundle = Bundle(grown / "models" / kind / "bundle", beams=30)
    assert bundle.item_ids[:2] == list(NEW)
    before = Bundle(tiny_run.bundle(kind))
    if kind == "semantic":  # codes are kept, whatever the place of an item
        rows = [bundle.index[item] for item in before.item_ids]
        assert (bundle.llm.ids.codes[rows] == before.llm.ids.codes).all()
    found = Recommender(bundle).recommend([*before.item_ids[:3], "new-1"], 118)  # all that is left
    assert found.notes == []
    assert {one.item_id for one in found.recommendations} >= {"new-2", *before.item_ids[3:]}

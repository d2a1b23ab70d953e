"""One tiny real run, shared by all tests that need something trained.

The demo shop with 120 items and 150 people goes through ``llmrec run``: real text vectors, three
models trained for two epochs, bundles, evaluation. About ten seconds, once a test session.
"""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmrec.bundle import Bundle
from llmrec.cli import main
from llmrec.data.dataset import Dataset

RECIPE = """
name: tiny
seed: 3
demo_shop: {items: 120, users: 150}
ingest:
  events: "${out}/raw/events.jsonl"
  items: "${out}/raw/items.jsonl"
  event_types: [click]
embed: {fields: [title], attributes: true, attribute_dim: 16}
models:
  atomic:
    index: {kind: atomic}
    train:
      base: nano
      time_tokens: [gap, month]
      content: {text: 16, attributes: 16}
      dropout: 0.1
      loop: {epochs: 2, warmup_steps: 5}
  semantic:
    index: {kind: semantic, levels: 2, codebook_size: 24}
    train:
      base: nano
      content: {text: 16, attributes: 16}
      dropout: 0.1
      loop: {epochs: 2, warmup_steps: 5}
  sasrec:
    train: {kind: sasrec, base: nano, content: {}, loop: {epochs: 1, warmup_steps: 5}}
baselines: [popularity]
evaluate: {list_length: 20, beams: 20, resamples: 20}
show_users: 2
"""


@dataclass(frozen=True)
class TinyRun:
    """A finished run.

    Attributes:
        recipe: the recipe's file.
        folder: what the run wrote.
        printed: what it printed.
    """

    recipe: Path
    folder: Path
    printed: str

    def model(self, name: str) -> Path:
        return self.folder / "models" / name / "model"

    def bundle(self, name: str) -> Path:
        return self.folder / "models" / name / "bundle"


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """The run, made through the command line."""
    home = tmp_path_factory.mktemp("tiny_shop")
    recipe = home / "tiny.yaml"
    recipe.write_text(RECIPE)
    return TinyRun(recipe, home / "run", run_recipe(recipe, home / "run"))


def run_recipe(recipe: Path, out: Path) -> str:
    """``llmrec run RECIPE --out OUT``; what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = main(["run", str(recipe), "--out", str(out)])
    assert status == 0
    return printed.getvalue()


@pytest.fixture(scope="session")
def tiny_data(tiny_run: TinyRun) -> Dataset:
    """Its dataset."""
    return Dataset(tiny_run.folder / "dataset")


@pytest.fixture(scope="session")
def atomic(tiny_run: TinyRun) -> Bundle:
    """Its bundle with one token an item."""
    return Bundle(tiny_run.bundle("atomic"))


@pytest.fixture(scope="session")
def semantic(tiny_run: TinyRun) -> Bundle:
    """Its bundle with a few codes an item."""
    return Bundle(tiny_run.bundle("semantic"), beams=30)


@pytest.fixture(scope="session", params=["atomic", "semantic"])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    """Each of the two."""
    opened: Bundle = request.getfixturevalue(request.param)
    return opened

"""A model folder opens whole, or says in one line what is wrong with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_shop import TinyRun

from llmrec.bench.recommenders import load_recommender
from llmrec.errors import ArtifactError, ConfigError, LlmrecError
from llmrec.generation.llm import Llm
from llmrec.generation.load import load_llm
from llmrec.types import Histories

HISTORIES = Histories.from_lists([[3, 4], []])
Tensors = dict[str, torch.Tensor]


@pytest.fixture(params=["atomic", "semantic"])
def model(
    request: pytest.FixtureRequest,
    tiny_run: TinyRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A model folder that may be damaged: its files are not compared with those of the manifest."""
    monkeypatch.setattr("llmrec.stage.damaged_files", lambda *_: [])
    return Path(shutil.copytree(tiny_run.model(request.param), tmp_path / "model"))


def change(model: Path, work: Callable[[Tensors], None]) -> None:
    path = model / "model.safetensors"
    tensors = load_file(path)
    work(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_beams_and_cache_are_passed_on(model: Path) -> None:
    opened = load_llm(model, beams=7, cache_bytes=1000)
    assert opened.options.beams == 7
    assert opened.cache is not None and opened.cache.max_bytes == 1000
    plain = load_recommender(model, beams=7)
    assert isinstance(plain, Llm) and plain.options.beams == 7 and plain.cache is None


def test_a_model_without_rows_for_the_item_tokens(model: Path) -> None:
    rows = json.loads((model / "llmrec.json").read_text())["base_size"]

    def cut(tensors: Tensors) -> None:
        for name in tensors:
            if "embed_tokens" in name or "lm_head" in name:
                tensors[name] = tensors[name][:rows].clone()

    change(model, cut)
    with pytest.raises((ArtifactError, ConfigError), match=str(model)):
        load_recommender(model)  # rows as config.json says, fewer in the file
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"vocab_size": rows}))
    with pytest.raises(ArtifactError, match="the model has no rows for its item tokens; train it"):
        load_recommender(model)


def test_weights_that_are_missing_are_not_made_up(model: Path) -> None:
    def lose(tensors: Tensors) -> None:
        del tensors[next(name for name in tensors if "q_proj" in name)]

    change(model, lose)
    with pytest.raises(ArtifactError, match=r"the model's weights lack .*q_proj"):
        load_recommender(model)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", ["embed_tokens", "q_proj"])
def test_weights_that_are_no_numbers_are_found_at_the_first_request(
    model: Path, place: str, value: float
) -> None:
    def damage(tensors: Tensors) -> None:
        tensors[next(name for name in tensors if place in name)][...] = value

    change(model, damage)
    opened = load_recommender(model)
    with pytest.raises(LlmrecError, match="not finite"):
        opened.recommend(HISTORIES, 5)
    assert isinstance(opened, Llm)
    with pytest.raises(LlmrecError, match="not finite"):
        opened.score_items(HISTORIES, torch.arange(6).view(2, 3).numpy())

"""``eval/pretrained_beauty.py``: its recipe, the words it asks for, and the ranks it finds."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tiny_expanded import write_catalogue, write_expanded

from llmrec.config import build, load_yaml
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.generation.load import load_llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.training.next_item.settings import TrainConfig
from llmrec.training.tune.settings import TuneConfig

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "eval/pretrained-beauty.yaml"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "eval"))  # where it finds its neighbour
    import pretrained_beauty

    yield pretrained_beauty
    sys.path.remove(str(ROOT / "eval"))


def test_each_training_of_the_recipe_has_good_settings(script: ModuleType) -> None:
    recipe = build(script.Recipe, load_yaml(RECIPE), str(RECIPE))
    names = [training.name for training in recipe.trainings]
    assert len(set(names)) == len(names)
    measured = [training for training in recipe.trainings if not training.trial]
    for shop, share in {(training.shop, training.users) for training in measured}:
        models = {t.model for t in measured if (t.shop, t.users) == (shop, share)}
        assert next(iter(recipe.models)) in models, "the one from nothing has the same users"
    for training in recipe.trainings:
        model = recipe.models[training.model]
        config = {"train": TrainConfig, "tune": TuneConfig}[model.stage]
        settings = model.settings(training.changes)
        build(config, settings | {"user_share": training.users}, training.name)


def test_a_model_is_trained_or_tuned(script: ModuleType) -> None:
    for section in ({}, {"train": {"base": "micro"}, "tune": {"rank": 2}}, {"tune": {"rank": 2}}):
        with pytest.raises(ConfigError, match="each has train, or else tune and the base"):
            build(script.ModelSettings, section, "models")


def test_ranks_of_words_are_those_of_the_models_own_forward_pass(
    script: ModuleType, tmp_path: Path
) -> None:
    data = Dataset(write_catalogue(tmp_path / "dataset", 40))
    folder = write_expanded(tmp_path / "base", ItemIds.atomic(40, spare=4))
    llm = load_llm(folder)
    asked = script.words(data, 12)
    items, texts = asked["part"]
    titles = data.items["title"].to_pylist()
    assert texts == [" ".join(titles[item].split()[::2]) for item in items]
    assert all(texts) and set(asked) == {"title", "part", "description"}
    found = script.ranks_of_words(llm, folder, texts, items)
    for text, item, rank in zip(texts, items.tolist(), found.tolist(), strict=True):
        scores = _scores(folder, llm, text)[:40]
        assert rank == int((scores > scores[item]).sum())
    assert len(np.unique(found)) > 1


def _scores(folder: Path, llm: Any, text: str) -> torch.Tensor:
    """Logits of the item tokens after the prompt."""
    from llmrec.llm.tokenizer import load_tokenizer
    from llmrec.training.tasks.writer import PromptWriter

    prompt = PromptWriter(load_tokenizer(str(folder)), llm.encoder).prompt(
        "text_to_item", words=text
    )
    with torch.no_grad():
        logits = llm.engine.model(input_ids=torch.from_numpy(prompt)[None]).logits[0, -1]
    return logits[llm.encoder.vocabulary.item_offset :]

"""Semantic IDs that start from a model with atomic IDs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import Folders, random_semantic_ids, semantic_ids, tiny_config, write_item_ids

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.generation.llm import AtomicLlm
from llmrec.generation.load import load_llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.training.next_item import llm_run
from llmrec.training.next_item.next_item import LlamaNextItem
from llmrec.training.next_item.run import run
from llmrec.training.next_item.settings import TrainConfig
from llmrec.training.next_item.validation import validation_cases
from llmrec.types import Histories

N = 40


@pytest.fixture(scope="module")
def atomic(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("from_atomic")
    config = tiny_config({"learning_rate": 3e-3, "epochs": 1})
    return run(config, folders.dataset, home / "atomic", folders.atomic)


def prepared(config: TrainConfig, folders: Folders, ids: Path) -> LlamaNextItem:
    dataset = Dataset(folders.dataset)
    made = llm_run.prepare(config, dataset, ids, None, validation_cases(dataset, 5, 0), 0)
    assert isinstance(made.model, LlamaNextItem)
    return made.model.eval()


def test_before_any_step_it_is_the_earlier_model(
    folders: Folders, atomic: Path, tmp_path: Path
) -> None:
    """Each item has a first code of its own here, so after no event its scores are the same."""
    ids = write_item_ids(tmp_path / "ids", semantic_ids([[n, 0] for n in range(N)], (N, 2)))
    model = prepared(tiny_config(start_from=atomic), folders, ids)
    llm = load_llm(atomic)
    assert isinstance(llm, AtomicLlm)
    prefix = torch.from_numpy(llm.encoder.prefix)[None]
    with torch.no_grad():
        found = (model.hidden(prefix)[0, -1] @ model.heads()[0].T).log_softmax(0)
    expected = llm.score(Histories.from_lists([[]]))[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
    assert expected.std() > 0.05


def test_the_tokens_of_an_id_add_up_to_about_its_row(
    folders: Folders, atomic: Path, tmp_path: Path
) -> None:
    ids = random_semantic_ids(N, (20, 20))
    model = prepared(tiny_config(start_from=atomic), folders, write_item_ids(tmp_path / "ids", ids))
    llm = load_llm(atomic)
    first = llm.encoder.vocabulary.item_offset
    rows = llm.engine.model.get_input_embeddings().weight[first : first + N].detach()
    tokens = torch.from_numpy(np.asarray(ids.tokens(np.arange(N))))
    found = (model.item_rows()[tokens].sum(1) * model.row_scale).detach()
    error = (found - rows).square().sum() / (rows - rows.mean(0)).square().sum()
    assert error < 0.45  # the codes are random


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "micro"}, "has another shape; set the same base"),
        ({"start_from": Path("nowhere")}, "nowhere is no folder of a model of llmrec train"),
        ({"base": "sshleifer/tiny"}, "is for fresh weights; set base to a size"),
    ],
)
def test_what_does_not_fit_is_said(
    folders: Folders, atomic: Path, changes: dict[str, object], message: str
) -> None:
    config = tiny_config(**({"start_from": atomic} | changes))
    with pytest.raises(ConfigError, match=f"train.start_from: .*{message}"):
        prepared(config, folders, folders.semantic)


def test_another_catalogue_is_refused(folders: Folders, atomic: Path, tmp_path: Path) -> None:
    from llmrec.training.next_item.from_atomic import start_from_atomic

    model = prepared(tiny_config(), folders, folders.semantic)
    names = ("new", *(f"i{n}" for n in range(1, N)))
    ids = replace(ItemIds.load(folders.semantic), names=names)
    with pytest.raises(ConfigError, match="does not know 'new'; train it on these items"):
        start_from_atomic(model, ids, atomic)
    with pytest.raises(ConfigError, match="sasrec has no semantic IDs"):
        tiny_config(kind="sasrec", start_from=atomic)

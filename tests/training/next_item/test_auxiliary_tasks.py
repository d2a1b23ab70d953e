"""``llmrec train`` teaches the tasks that ``llmrec tune`` teaches, in the same tokens."""

from pathlib import Path

import pytest
import torch
from tiny_expanded import write_catalogue
from tiny_models import tiny_config, tiny_llama, write_item_ids

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.vocabulary import Vocabulary
from llmrec.training.next_item.auxiliary_tasks import AuxiliaryTasks
from llmrec.training.next_item.next_item import ItemRows, LlamaNextItem
from llmrec.training.next_item.run import run
from llmrec.training.tasks.corpus import TaskCorpus
from llmrec.training.tasks.mixture import IGNORED, Mixture
from llmrec.training.tasks.writer import PromptWriter
from llmrec.training.tune.base import open_base

N_ITEMS = 40
TASKS = {"item_to_text": 1.0, "text_to_item": 0.5, "taste": 0.2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``dataset``, ``ids``, ``plain`` and ``worded``: trained without and with tasks."""
    home = tmp_path_factory.mktemp("word_tasks")
    write_catalogue(home / "dataset", N_ITEMS)
    write_item_ids(home / "ids", ItemIds.atomic(N_ITEMS))
    loop = {"epochs": 1, "learning_rate": 1e-2, "tokens_per_batch": 16}
    for name, tasks in (("plain", {}), ("worded", TASKS)):
        config = tiny_config(loop, tasks=tasks, task_weight=1.0)
        run(config, home / "dataset", home / name, home / "ids")
    return home


def mixture_of(home: Path, model: str, max_length: int = 256) -> Mixture:
    """The examples that ``llmrec tune`` makes for a trained base."""
    base = open_base(home / model)
    corpus = TaskCorpus(Dataset(home / "dataset"), PromptWriter(base.tokenizer, base.encoder))
    return Mixture(corpus, TASKS, 0, max_length)


def loss_of_words(home: Path, model: str) -> float:
    """Mean loss over the completions of 64 examples, by the exported model."""
    from transformers import AutoModelForCausalLM

    exported = AutoModelForCausalLM.from_pretrained(home / model).eval()
    tokens, labels = AuxiliaryTasks(mixture_of(home, model), 64, 1.0).batch(0)
    with torch.no_grad():
        return float(exported(tokens, labels=labels).loss)


def test_a_run_with_tasks_learns_their_words(trained: Path) -> None:
    assert loss_of_words(trained, "worded") < loss_of_words(trained, "plain") - 1


def test_the_examples_are_those_of_tune_token_for_token(trained: Path) -> None:
    mixture = mixture_of(trained, "worded")
    tuned = mixture.dataset(20)
    tokens, labels = AuxiliaryTasks(mixture, 10, 1.0).batch(1)
    for row in range(10):
        example = tuned[10 + row]
        length = len(example["input_ids"])
        assert tokens[row, :length].tolist() == example["input_ids"]
        assert labels[row, :length].tolist() == example["labels"]
        assert set(labels[row, length:].tolist()) <= {IGNORED}


def test_the_steps_go_on_in_the_next_epoch(trained: Path) -> None:
    mixture = mixture_of(trained, "worded")
    words = AuxiliaryTasks(mixture, 16, 1.0)
    step = len(mixture) // 16  # some of its examples are the next epoch's
    ahead = mixture.dataset(16 * (step + 1))[16 * step :]["input_ids"]
    tokens, _ = words.batch(step)
    assert [row[: len(ids)].tolist() for row, ids in zip(tokens, ahead, strict=True)] == ahead


@pytest.mark.parametrize("tied", [True, False])
def test_words_are_scored_as_the_exported_model_scores_them(tied: bool) -> None:
    vocabulary = Vocabulary.of(300, (), ItemIds.atomic(9))
    plain = tiny_llama(vocabulary.size, tied=tied)
    rows = ItemRows(None, vocabulary.n_item_tokens, 32, 0.0, std=0.3, content_std=0.3)
    scale = 32**0.5 if tied else 1.0
    model = LlamaNextItem(plain, vocabulary, rows, row_scale=scale).eval()
    model.logit_scale.data.fill_(1.7)
    exported = tiny_llama(vocabulary.size, tied=tied, seed=1)
    exported.load_state_dict(plain_state(vocabulary.size, tied))
    model.export_to(exported)
    tokens = torch.tensor([[1, 5, 300, 7, 308, 2]])
    with torch.no_grad():
        ours, theirs = model.logits(model.hidden(tokens)), exported(tokens).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def plain_state(vocab_size: int, tied: bool) -> dict[str, torch.Tensor]:
    """The weights that the model was made of, before training took its parts."""
    state: dict[str, torch.Tensor] = tiny_llama(vocab_size, tied=tied).state_dict()
    return state


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": {"next_item": 1.0}}, "next_item is trained on the histories already"),
        ({"tasks": {"instructions": 1.0}}, "instructions are a task of llmrec tune"),
        ({"tasks": {"tsate": 1.0}}, "unknown key 'tsate'; did you mean 'taste'"),
        ({"tasks": {"taste": 0.0}}, "tasks: trains nothing"),
        ({"tasks": {"taste": 1.0}, "task_examples": 0}, "task_examples: must be 1 or more"),
        ({"tasks": {"taste": 1.0}, "task_length": 9}, "task_length: must be 32 or more"),
        ({"tasks": {"taste": 1.0}, "task_weight": 0.0}, "task_weight: must be above 0"),
        ({"tasks": {"taste": 1.0}, "kind": "sasrec"}, "sasrec has no words"),
    ],
)
def test_wrong_tasks_are_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_config(**changes)

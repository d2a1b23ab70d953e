"""``llmrec assistant examples``: chat examples that teach a model to call a shop's tools.

    llmrec assistant examples --dataset DIR --out own.jsonl [--split train] [--count 6400]

Each row has ``messages``: the fixed instruction, what a customer says on some screen, and the right
call. They are made of the catalogue's closed fields and ways to say things (``prompts/dialogues``);
``llmrec tune`` reads them as ``instructions``. With ``--split held_out`` every way is one that no
other split has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrec.config import check_ranges
from llmrec.data.dataset import Dataset
from llmrec.errors import DataError
from llmrec.jsonl import write_jsonl
from llmrec.serving.assistant.calls import messages, render_turn
from llmrec.serving.assistant.dialogues.phrases import Split
from llmrec.serving.assistant.dialogues.turns import Turn, TurnMaker
from llmrec.serving.assistant.vocabulary import ShopVocabulary


@dataclass(frozen=True)
class ExamplesConfig:
    """Settings of the examples.

    Attributes:
        split: whose ways to say things are used.
        count: how many examples, no two with the same prompt.
    """

    split: Split = "train"
    count: int = 6400

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "count")


def run(config: ExamplesConfig, dataset: Path, out: Path, seed: int = 0) -> Path:
    """Write chat examples made from a shop's catalogue.

    Args:
        config: which and how many.
        dataset: folder of llmrec ingest.
        out: JSON lines to write.
        seed: of what is drawn.

    Raises:
        DataError: if the catalogue has no categories.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    turns = made_turns(Dataset(dataset), config.split, config.count, seed)
    write_jsonl(out, map(example, turns))
    print(f"{config.count:,} examples of split {config.split} in {out}")
    return out


def made_turns(dataset: Dataset, split: Split, count: int, seed: int = 0) -> list[Turn]:
    """Turns made from a shop's catalogue, no two alike.

    Raises:
        DataError: if the catalogue has no categories.
    """
    vocabulary = ShopVocabulary.of_items(dataset.items)
    if not vocabulary.categories:
        raise DataError(
            f"--dataset: no item of {dataset.folder} has a category, so nobody could ask for one"
        )
    maker = TurnMaker(vocabulary, dataset.items, split, seed)
    turns: dict[str, Turn] = {}
    while len(turns) < count:
        turn = maker.make()
        turns.setdefault(render_turn(vocabulary, turn.message, turn.view), turn)
    return list(turns.values())


def example(turn: Turn) -> dict[str, Any]:
    """A turn as ``llmrec tune`` reads it."""
    asked = messages(turn.vocabulary, turn.message, turn.view)
    return {"messages": [*asked, {"role": "assistant", "content": turn.call.to_json()}]}

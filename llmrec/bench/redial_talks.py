"""ReDial's dialogues as cases: films named before a turn, and those that it recommends."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmrec.bench.redial_evidence import Films
from llmrec.data import ingest
from llmrec.data.dataset import Dataset
from llmrec.data.formats.redial import Turn, read_dialogues, read_turns
from llmrec.data.settings import IngestConfig
from llmrec.types import Cases, Histories

DIALOGUES, TEST, FILMS = "valid_data.jsonl", "test_data_processed.jsonl", "id2info.json"


@dataclass(frozen=True)
class Talks:
    """Dialogues and their turns.

    Attributes:
        whole: films named in each dialogue, each once; empty for those to be tested on.
        turns: in which a film is recommended.
        histories: films named before each turn.
        dialogue: int64 ``[turns]``, the dialogue that each is of.
        index: item index by number.
    """

    whole: Histories
    turns: Sequence[Turn]
    histories: Histories
    dialogue: np.ndarray
    index: dict[str, int]

    @property
    def cases(self) -> Cases:
        """A case for each film of a turn."""
        row = self.turn_of_case
        films = [self.index[film] for turn in self.turns for film in turn.films]
        targets = np.array(films, dtype=np.int32)
        return Cases(self.dialogue[row].astype(np.int32), self.histories.select(row), targets)

    @property
    def turn_of_case(self) -> np.ndarray:
        """int64 ``[cases]``."""
        return np.repeat(np.arange(len(self.turns)), [len(turn.films) for turn in self.turns])

    def of(self, dialogues: np.ndarray) -> Talks:
        """Some dialogues, a mask."""
        rows = np.flatnonzero(dialogues[self.dialogue])
        turns = [self.turns[row] for row in rows]
        whole = self.whole.select(dialogues)
        return Talks(whole, turns, self.histories.select(rows), self.dialogue[rows], self.index)


def read(folder: Path, seed: int) -> tuple[Films, Talks, Talks]:
    """Films, the dialogues to learn from and the turns to test on."""
    with tempfile.TemporaryDirectory() as work:
        config = IngestConfig(
            folder / DIALOGUES,
            folder / FILMS,
            format="redial",
            duplicates="keep",
            max_dropped=1.0,
        )
        dataset = Dataset(ingest.run(config, Path(work) / "dataset", seed=seed))
        rows = dataset.items.to_pylist()
        named = {
            name: list(dict.fromkeys(dataset.history(user).tolist()))
            for user, name in enumerate(dataset.user_ids)
        }
    titles = {row["item_id"]: row["title"] for row in rows}
    index = {item_id: place for place, item_id in enumerate(titles)}
    numbers = {title: item_id for item_id, title in reversed(titles.items())}
    known = talks(read_dialogues(folder / DIALOGUES, titles), index, named)
    return Films(rows), known, talks(read_turns(folder / TEST, numbers), index, {})


def talks(turns: list[Turn], index: dict[str, int], named: Mapping[str, list[int]]) -> Talks:
    """Turns with the dialogues that they are of.

    Args:
        named: films of whole dialogues, by name.
    """
    names = list(dict.fromkeys([*named, *(turn.dialogue for turn in turns)]))
    place = {name: number for number, name in enumerate(names)}
    return Talks(
        Histories.from_lists([named.get(name, []) for name in names]),
        turns,
        Histories.from_lists([[index[film] for film in turn.named] for turn in turns]),
        np.array([place[turn.dialogue] for turn in turns], dtype=np.int64),
        index,
    )

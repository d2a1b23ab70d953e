"""Sequences split by people: what stands before a held-out target is history, and never learned."""

from pathlib import Path

import pytest

from llmrec.data.dataset import Dataset
from llmrec.data.ingest import run
from llmrec.data.settings import IngestConfig
from llmrec.errors import ConfigError, DataError

FILES = {
    "train_A.txt": "1\t5,7\n2\t6,5,7\n",
    "train_B.txt": "1\t8,9\n",
    "valid.txt": "1\t5,8,7\n",
    "test.txt": "1\t9,6,8\n2\t7,5\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def config(folder: Path, **settings) -> IngestConfig:
    return IngestConfig(folder, format="split-sequences", **{"split": "given", **settings})


def test_targets_are_last_items_of_people_that_nothing_is_learned_from(
    folder: Path, tmp_path: Path
) -> None:
    dataset = Dataset(run(config(folder), tmp_path / "out"))
    names, users = dataset.item_ids, dataset.user_ids

    def found(split):
        cases = dataset.cases(split)
        return {
            users[user]: ([names[i] for i in history], names[target])
            for user, history, target in zip(
                cases.users, cases.histories, cases.targets, strict=True
            )
        }

    assert found("validation") == {"valid/1": (["5", "8"], "7")}
    assert found("test") == {"test/1": (["9", "6"], "8"), "test/2": (["7"], "5")}
    learned = {
        users[user]: [names[i] for i in history]
        for user, history in enumerate(dataset.train_histories())
        if len(history)
    }
    assert learned == {
        "train_A/1": ["5", "7"],
        "train_A/2": ["6", "5", "7"],
        "train_B/1": ["8", "9"],
    }


def test_mistakes_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set split: given"):
        run(config(folder, split="leave-one-out"), tmp_path / "out")
    (folder / "test.txt").write_text("1\t9,6\nanna\n")
    with pytest.raises(DataError, match=r"test.txt: row 2: user 'anna' has no items"):
        run(config(folder), tmp_path / "out")
    (folder / "more.txt").write_text("1\t5\n")
    with pytest.raises(DataError, match=r"more.txt: its name says none of train"):
        run(config(folder), tmp_path / "out")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"empty: holds no \.txt file"):
        run(config(empty), tmp_path / "out")

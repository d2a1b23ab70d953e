"""A new data set is one file with ``open_source`` and one line in ``FORMATS``."""

from pathlib import Path

import pytest

from llmrec.config import build
from llmrec.data.dataset import Dataset
from llmrec.data.fetch import downloads
from llmrec.data.ingest import run
from llmrec.data.settings import FORMATS, IngestConfig
from llmrec.errors import ConfigError

ADAPTER = '''
"""Plays of games: ``user,game,hours,when``; games are known by their name."""

from llmrec.data import raw_files
from llmrec.data.source import Download, RawItem, Source

DOWNLOADS = {"plays": Download("https://example.org", ("{}.txt", "{}-games.txt"), "example.org")}


def open_source(config):
    return Source.of_files(config.items, config.events, items, events, default_type="view")


def items(path):
    for row, line in raw_files.text_lines(path):
        game, title = line.strip().split(",")
        yield RawItem(path, row, {"item_id": game, "title": title})


def events(path):
    return raw_files.packed(path, plays(path), ("user_id", "item_id", "timestamp"))


def plays(path):
    for row, line in raw_files.text_lines(path):
        user, game, when = line.strip().split(",")
        yield row, {"user_id": user, "item_id": game, "timestamp": when}
'''


@pytest.fixture
def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file, and its line in the table."""
    (tmp_path / "plays_format.py").write_text(ADAPTER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(FORMATS, "plays", "plays_format")


@pytest.mark.usefixtures("adapter")
def test_one_file_and_one_line_add_a_format(tmp_path: Path) -> None:
    (tmp_path / "plays.txt").write_text("u,chess,30\nu,go,20\nv,go,10\n")
    (tmp_path / "games.txt").write_text("chess,Chess\ngo,Go\n")
    settings = {
        "format": "plays",
        "events": "plays.txt",
        "items": "games.txt",
        "timestamp_unit": "s",
    }
    settings |= {name: str(tmp_path / settings[name]) for name in ("events", "items")}
    data = Dataset(run(build(IngestConfig, settings, "ingest"), tmp_path / "out"))
    assert [row.tolist() for row in data.train_histories()] == [[1, 0], [1]]
    assert data.item(0).title == "Chess"
    assert data.events["type"].to_pylist() == ["view"] * 3
    assert downloads()["plays"].base_url == "https://example.org"


def test_a_format_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"ingest\.format: 'plays' is not one of table, sequences"
    ):
        build(IngestConfig, {"format": "plays", "events": "plays.txt"}, "ingest")

"""RecBole's atomic files."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from llmrec.data.dataset import Dataset
from llmrec.data.ingest import run
from llmrec.data.settings import IngestConfig
from llmrec.errors import DataError

T = 1_700_000_000
FILES = {
    "toy.inter": (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\tdevice:token\n"
        f"u1\t7\t4\t{T + 5}\tphone\nu1\t8\t3.5\t{T}\t\nu2\t7\t5\t{T}\tdesk\n"
    ),
    "toy.item": (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
        "\tprice:float\tvector:float_seq\n"
        '7\t"The Cup\t1995\tComedy Drama\t2.5\t0.1 0.2\n'
        "8\tBowl\t\t\t\t0.3 0.4\n"
    ),
    "toy.user": (
        "user_id:token\tage:token\tlikes:token_seq\tfeature:float_seq\n"
        "u2\t30\ttea cups\t0.1 0.2\nu3\t40\t\t1 2\n"
    ),
    "other.item": "not:read\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "toy"
    made.mkdir()
    for name, text in FILES.items():
        (made / name).write_text(text)
    return made


def ingest(events: Path, **settings: Any) -> Dataset:
    config = IngestConfig(events=events, format="recbole", **settings)
    return Dataset(run(config, events.parent / "out"))


@pytest.mark.parametrize("given", ["folder", "file", "zip", "file in zip"])
def test_the_three_files_are_one_data_set(folder: Path, given: str) -> None:
    events = folder / "toy.inter" if given == "file" else folder
    if "zip" in given:
        packed = Path(shutil.make_archive(str(folder), "zip", folder.parent, "toy"))
        shutil.rmtree(folder)
        events = packed / "toy" / "toy.inter" if given == "file in zip" else packed
    config = IngestConfig(events=events, format="recbole")
    data = Dataset(run(config, folder.parent / "out"))
    assert data.user_ids == ["u1", "u2"] and data.item_ids == ["7", "8"]
    cup, bowl = data.item(0), data.item(1)
    assert (cup.title, cup.categories, cup.price) == ('"The Cup', ("Comedy", "Drama"), 2.5)
    assert (bowl.title, bowl.categories, bowl.price) == ("Bowl", (), None)
    assert (cup.attributes, bowl.attributes) == ({"release_year": "1995"}, {})
    assert data.user_attributes == [{}, {"age": "30", "likes": "tea cups"}]
    rows = data.events.select(["user", "item", "rating", "timestamp"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [(0, 1, 3.5, T), (0, 0, 4, T + 5), (1, 0, 5, T)]


def test_settings_name_columns_without_their_type(folder: Path) -> None:
    data = ingest(
        folder,
        item_columns={"brand": "release_year", "title": "class"},
        attribute_columns=["vector"],
        user_columns={"years": "age"},
        event_columns={"rating": None, "session": "device"},
        context_columns=["device"],
        default_type="view",
    )
    cup = data.item(0)
    assert (cup.title, cup.brand) == ("Comedy Drama", "1995")
    assert cup.attributes == {"vector": "0.1,0.2"}
    assert data.user_attributes == [{}, {"years": "30"}]
    rows = data.events.select(["session", "context", "rating", "type"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("", "{}", None, "view"),
        ("phone", '{"device": "phone"}', None, "view"),
        ("desk", '{"device": "desk"}', None, "view"),
    ]


def test_an_interaction_file_alone_is_enough(folder: Path) -> None:
    for name in ("toy.item", "toy.user"):
        (folder / name).unlink()
    data = ingest(folder)
    assert sorted(data.item_ids) == ["7", "8"] and data.user_attributes == [{}, {}]


@pytest.mark.parametrize(
    ("name", "text", "settings", "said"),
    [
        ("toy.inter", "user_id\titem_id:token\n", {}, "row 1: 'user_id' is not a column's name"),
        ("toy.inter", "user_id:token\n", {}, "no column 'item_id' .it has 'user_id'."),
        ("toy.inter", "user_id:token\titem_id:token\nu\ti\n", {}, "no column 'timestamp'"),
        ("toy.item", "id:token\n", {}, "toy.item: no column 'item_id'"),
        ("b.inter", "", {}, "holds b.inter, toy.inter of the one .inter file"),
        ("toy.user", "user_id:token\n", {"user_columns": {"a": "b"}}, "no column 'b'"),
    ],
)
def test_what_is_wrong_is_named(
    folder: Path, name: str, text: str, settings: dict[str, Any], said: str
) -> None:
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=said):
        ingest(folder, **settings)

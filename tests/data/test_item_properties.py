"""A long table of properties, joined to the items."""

from pathlib import Path
from typing import Any

import pytest

from llmrec.data.dataset import Dataset
from llmrec.data.ingest import run
from llmrec.data.settings import IngestConfig
from llmrec.errors import DataError

T = 1_700_000_000_000
EVENTS = f"timestamp,visitorid,event,itemid,transactionid\n{T},u,view,1,\n{T + 5000},u,view,2,\n"
# as Retailrocket has it, in two files: the second value of a property is the later one
PARTS = (
    f"timestamp,itemid,property,value\n{T},1,categoryid,10\n{T},2,available,0\n{T},3,888,9 7\n",
    f"timestamp,itemid,property,value\n{T + 1},1,categoryid,11\n{T - 1},2,available,1\n"
    f"{T},2,790,n12\n{T},2,888,5\n",
)
NAMES = {"user_id": "visitorid", "item_id": "itemid", "type": "event"}
TABLE = {"item_id": "itemid"}


def ingest(tmp_path: Path, **settings: Any) -> Dataset:
    (tmp_path / "events.csv").write_text(EVENTS)
    config = IngestConfig(events=tmp_path / "events.csv", event_columns=NAMES, **settings)
    return Dataset(run(config, tmp_path / "out"))


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    folder = tmp_path / "properties"
    folder.mkdir()
    for number, text in enumerate(PARTS, 1):
        (folder / f"item_properties_part{number}.csv").write_text(text)
    return folder


def test_the_latest_values_make_the_items(tmp_path: Path, parts: Path) -> None:
    data = ingest(
        tmp_path,
        properties=parts,
        property_columns=TABLE,
        item_columns={"categories": "categoryid", "in_stock": "available"},
        attribute_columns=["888"],
    )
    assert data.item_ids == ["1", "2", "3"]
    assert [data.item(n).categories for n in range(3)] == [("11",), (), ()]
    assert [data.item(n).in_stock for n in range(3)] == [True, False, True]
    assert [data.item(n).attributes for n in range(3)] == [{}, {"888": "5"}, {"888": "9 7"}]
    names = [str(path) for path in sorted(parts.iterdir())]
    assert [name for name in data.manifest.inputs if "properties" in name] == names


def test_they_are_columns_beside_those_of_the_item_file(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("asin,title\n1,Cup\n2,Bowl\n")
    (tmp_path / "long.csv").write_text(
        "asin,attribute,value\n1,genre,tea\n1,genre,blue\n2,price,3.5\n4,genre,none\n1,brand,Kiln\n"
    )
    data = ingest(
        tmp_path,
        items=tmp_path / "items.csv",
        item_columns={"item_id": "asin", "categories": "genre"},
        properties=tmp_path / "long.csv",
        property_columns={"item_id": "asin", "property": "attribute"},
    )
    cup, bowl = data.item(0), data.item(1)
    assert data.item_ids == ["1", "2"]
    assert (cup.title, cup.categories, cup.brand, cup.price) == (
        "Cup",
        ("tea", "blue"),
        "Kiln",
        None,
    )
    assert (bowl.title, bowl.categories, bowl.price) == ("Bowl", (), 3.5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "no column 'item_id'.*property_columns: {item_id"),
        ({"property_columns": TABLE | {"value": "v"}}, "no column 'v'.*property_columns: {value"),
        (
            {"property_columns": TABLE, "item_columns": {"brand": "maker"}},
            "no property 'maker' .it has '790', '888', 'available'.*; correct item_columns",
        ),
        (
            {"property_columns": TABLE, "attribute_columns": ["7"]},
            "no property '7' .*; correct attribute_columns",
        ),
    ],
)
def test_what_is_not_there_is_named(
    tmp_path: Path, parts: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        ingest(tmp_path, properties=parts, **settings)

"""How often the fields are right, and the sheet that shows it."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from caption_world import write_shop
from PIL import Image

from llmrec.bench.captions import run
from llmrec.captions.sheet import write_sheet
from llmrec.captions.table import columns, empty_row
from llmrec.cli import run_command
from llmrec.content.schema import Field, Schema
from llmrec.data.dataset import Dataset
from llmrec.errors import CatalogError, ConfigError, DataError
from llmrec.metrics.results import read_result
from llmrec.stage import Manifest, writing

SCHEMA = Schema({"colour": Field(["red", "blue"]), "shape": Field(["round", "long"])})
SAID = ["red", "red", "blue", None, "red"]
TRUE = ["red", "blue", "blue", "red", "red"]


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """Five items, of which the model was right about the colour of three."""
    made = [empty_row(f"i{n}", SCHEMA) | {"caption": "a thing"} for n in range(5)]
    for row, colour in zip(made, SAID, strict=True):
        row |= {"colour": colour, "shape": "round"}
    config = {"model": "models/x", "engine": "transformers", "inputs": ["image"]}
    with writing(tmp_path / "captions", Manifest("caption", config, {"model": "abc"})) as stage:
        pq.write_table(
            pa.Table.from_pylist(made, columns(SCHEMA)), stage.folder / "captions.parquet"
        )
        (stage.folder / "schema.json").write_text(json.dumps(SCHEMA.as_dict()))
    return tmp_path / "captions"


def write_truth(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {"item_id": f"i{n}", "colour": colour, "split": "held_out", "weight": 3}
        for n, colour in enumerate(TRUE)
    ]
    rows[0]["shape"] = "long"
    rows[1]["shape"] = None
    rows.append({"item_id": "unseen", "colour": "red", "split": "train"})
    return write_truth(tmp_path / "truth.jsonl", rows)


def test_accuracy_is_over_the_items_whose_truth_is_known(captions: Path, truth: Path) -> None:
    out = captions.parent / "results" / "captions-demo.json"
    flags = ["--captions", str(captions), "--truth", str(truth), "--out", str(out)]
    run_command(["bench", "captions", *flags])
    result = read_result(out)
    assert result["metrics"] == {
        "accuracy_colour": 3 / 5,
        "accuracy_shape": 0.0,
        "floor_colour": 3 / 5,
        "floor_shape": 1.0,
    }
    assert (result["name"], result["items"]) == ("captions-demo", 5)
    assert result["items_by_field"] == {"colour": 5, "shape": 1}
    low, high = result["intervals"]["accuracy_colour"]
    assert 0 <= low < 3 / 5 < high <= 1
    page = out.with_suffix(".md").read_text()
    assert "| blue | red | 1 |" in page
    assert "| red | (no answer) | 1 |" in page


def test_a_truth_that_cannot_be_used_is_told_so(captions: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.json"
    path = tmp_path / "t.jsonl"
    held = {"split": "held_out"}
    for rows, error, said in (
        ([], DataError, "the file is empty"),
        ([{"item_id": "i1", "split": "train"}], DataError, "has no item of the split"),
        ([{"item_id": "i1"} | held], DataError, "has none of the fields colour, shape"),
        ([{"colour": "red"}], DataError, "no column 'item_id'"),
        ([{"item_id": "i9", "colour": "red"} | held], CatalogError, "such as 'i9'"),
    ):
        with pytest.raises(error, match=said):
            run(captions, write_truth(path, rows), out)
    with pytest.raises(DataError, match="no such file"):
        run(captions, tmp_path / "none.jsonl", out)
    with pytest.raises(ConfigError, match=r"give the name of a \.json file"):
        run(captions, path, tmp_path / "x.txt")
    assert not out.exists()


def test_a_sheet_shows_pictures_and_marks_what_is_wrong(
    captions: Path, truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = write_shop(tmp_path / "shop")
    from llmrec.captions import sheet

    drawn: list[list[str]] = []
    draw = sheet.contact_sheet

    def noted(pictures: Any, texts: Any, **more: Any) -> Any:
        drawn.append(texts)
        return draw(pictures, texts, **more)

    monkeypatch.setattr(sheet, "contact_sheet", noted)
    data = Dataset(shop / "dataset")
    path = write_sheet(captions, data, shop / "media", tmp_path / "a" / "sheet.png", truth=truth)
    with Image.open(path) as image:
        assert image.size[0] > 300
    assert drawn[0][1] == "a thing\n0 of 1 right\nWRONG colour: red, not blue"
    assert drawn[0][2] == "a thing\n1 of 1 right"
    write_sheet(captions, data, shop / "media", path, items=2)
    assert drawn[1] == ["a thing\nred / round", "a thing\nblue / round"]
    with pytest.raises(CatalogError, match="no captioned item has a picture to draw"):
        write_sheet(captions, data, None, path)

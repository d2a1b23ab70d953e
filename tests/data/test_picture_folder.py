from pathlib import Path

import pytest
from PIL import Image

from llmrec.data.dataset import Dataset
from llmrec.data.picture_folder import run
from llmrec.errors import DataError


def test_each_picture_is_an_item_of_its_folder(tmp_path: Path) -> None:
    for name in ("train/dress/b.jpg", "train/hat/a.PNG", "loose.png", "train/hat/note.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path, "PNG") if "note" not in name else path.write_text("x")
    dataset = Dataset(run(tmp_path / "photos", tmp_path / "dataset"))
    assert dataset.item_ids == ["loose.png", "train/dress/b.jpg", "train/hat/a.PNG"]
    hat = dataset.item(2)
    assert (hat.title, hat.categories, hat.attributes) == ("hat", ("hat",), {"category": "hat"})
    assert hat.image == "train/hat/a.PNG"
    assert dataset.item(0).categories == ()
    assert (hat.description, hat.brand, hat.domain) == ("", "", "")  # as ingest leaves them
    assert len(dataset.train_histories()) == 0


def test_a_folder_without_pictures_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no pictures"):
        run(tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match="no such folder"):
        run(tmp_path / "nowhere", tmp_path / "out")

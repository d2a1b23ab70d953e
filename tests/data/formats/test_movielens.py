"""MovieLens of every generation as it is shipped: a folder, or the .zip."""

import shutil
from pathlib import Path

import pytest

from llmrec.data.dataset import Dataset
from llmrec.data.ingest import run
from llmrec.data.reading import ReadingOptions
from llmrec.data.settings import IngestConfig
from llmrec.errors import DataError

SHIPPED = {
    "ml-100k": {
        "u.data": "196\t1\t3\t881250949\n186\t2\t5\t891717742\n196\t2\t1\t881250900\n",
        "u.item": (
            "1|Café Society (1995)|01-Jan-1995||http://us.imdb.com/M/1|"
            "0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
            '2|"unknown|||http://us.imdb.com/M/2|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n'
        ),
        "u.user": "196|49|M|writer|55105\n186|39|F|executive|00000\n999|1|F|none|1\n",
        "u1.base": "not|read",
    },
    "ml-1m": {
        "ratings.dat": "196::1::3::881250949\n186::2::5::891717742\n196::2::1::881250900\n",
        "movies.dat": (
            "1::Café Society (1995)::Animation|Children's|Comedy\n"
            '2::"unknown::(no genres listed)\n'
        ),
        "users.dat": "196::M::49::writer::55105\n186::F::39::executive::00000\n",
    },
    "ml-latest": {
        "ratings.csv": (
            "userId,movieId,rating,timestamp\n"
            "196,1,3.0,881250949\n186,2,5.0,891717742\n196,2,1.0,881250900\n"
        ),
        "movies.csv": (
            "movieId,title,genres\n1,Café Society (1995),Animation|Children's|Comedy\n"
            '2,"""unknown",(no genres listed)\n'
        ),
        "tags.csv": "userId,movieId,tag,timestamp\n1,1,Fun,1\n2,1,fun ,1\n2,1,odd,1\n",
    },
}
LATIN_1 = ("u.item", "movies.dat")


def ship(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        encoding = "latin-1" if name in LATIN_1 else "utf-8"
        (folder / name).write_bytes(text.encode(encoding))
    return folder


def ingested(events: Path) -> Dataset:
    return Dataset(run(IngestConfig(events=events, format="movielens"), events.parent / "out"))


@pytest.fixture(params=["folder", "zip"])
def packed(request: pytest.FixtureRequest, tmp_path: Path):
    """Gives the folder of a data set, or a .zip with the folder in it."""

    def pack(name: str) -> Path:
        folder = ship(tmp_path / name, SHIPPED[name])
        if request.param == "folder":
            return folder
        packed = shutil.make_archive(str(folder), "zip", tmp_path, name)
        shutil.rmtree(folder)
        return Path(packed)

    return pack


@pytest.mark.parametrize("name", SHIPPED)
def test_every_generation_is_the_same_data(packed, name: str) -> None:
    events = packed(name)
    data = ingested(events)
    assert data.user_ids == ["196", "186"] and data.item_ids == ["1", "2"]
    film, other = data.item(0), data.item(1)
    assert film.title == "Café Society (1995)" and other.title == '"unknown'
    assert film.categories == ("Animation", "Children's", "Comedy") and other.categories == ()
    assert (film.available_from, other.available_from) == (788_918_400.0, None)
    assert film.attributes["year"] == "1995"
    assert film.attributes.get("tags") == ("fun,odd" if name == "ml-latest" else None)
    rows = data.events.select(["user", "item", "rating", "timestamp", "type"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        (0, 1, 1.0, 881250900.0, "rating"),
        (0, 0, 3.0, 881250949.0, "rating"),
        (1, 1, 5.0, 891717742.0, "rating"),
    ]
    if events.suffix == ".zip":
        assert list(data.manifest.inputs) == [str(events)]


@pytest.mark.parametrize("name", ["ml-100k", "ml-1m"])
def test_users_are_kept_without_their_zip_codes(packed, name: str) -> None:
    data = ingested(packed(name))
    assert data.user_attributes == [
        {"age": "49", "gender": "M", "occupation": "writer"},
        {"age": "39", "gender": "F", "occupation": "executive"},
    ]
    known = {"ml-100k": 1, "ml-1m": 0}  # described, without a rating
    assert data.manifest.counts["users_not_in_log"] == known[name]


def test_rows_of_users_that_are_skipped_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ship(tmp_path / "ml", SHIPPED["ml-1m"])
    with open(folder / "users.dat", "a") as file:
        file.write("7::M\n")
    with pytest.raises(DataError, match=r"users.dat: row 3: has 2 columns"):
        ingested(folder)
    config = IngestConfig(
        events=folder, format="movielens", user_reading=ReadingOptions(skip_bad_rows=1)
    )
    run(config, tmp_path / "out")
    assert "1 rows were skipped, such as" in capsys.readouterr().err


def test_a_file_that_is_not_utf_8_is_latin_1_and_one_that_is_is_not(tmp_path: Path) -> None:
    folder = ship(tmp_path / "ml", SHIPPED["ml-1m"])
    (folder / "movies.dat").write_text(SHIPPED["ml-1m"]["movies.dat"], encoding="utf-8")
    assert ingested(folder).item(0).title == "Café Society (1995)"


def test_a_poster_beside_the_files_is_the_image(tmp_path: Path) -> None:
    folder = ship(tmp_path / "ml", SHIPPED["ml-latest"])
    (folder / "posters").mkdir()
    (folder / "posters" / "2.png").write_bytes(b"")
    data = ingested(folder)
    assert data.item(0).image is None
    assert data.item(1).image == str(folder / "posters" / "2.png")


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("u.data", "holds none of ratings.csv, ratings.dat, u.data; events must name"),
        ("u.item", "holds none of movies.csv, movies.dat, u.item; events must name"),
    ],
)
def test_a_file_that_is_not_there_is_named(packed, missing: str, said: str, monkeypatch) -> None:
    monkeypatch.delitem(SHIPPED["ml-100k"], missing)
    with pytest.raises(DataError, match=said):
        ingested(packed("ml-100k"))


def test_a_row_that_is_cut_short_is_named(tmp_path: Path) -> None:
    folder = ship(tmp_path / "ml", SHIPPED["ml-1m"])
    with open(folder / "ratings.dat", "a") as file:
        file.write("7::1::3\n")
    with pytest.raises(DataError, match=r"ratings.dat: row 4: has 3 columns"):
        ingested(folder)


def test_a_damaged_zip_is_named(tmp_path: Path) -> None:
    folder = ship(tmp_path / "ml", SHIPPED["ml-100k"])
    packed = Path(shutil.make_archive(str(folder), "zip", tmp_path, "ml"))
    data = bytearray(packed.read_bytes())
    at = data.index(b"u.data") + 20
    data[at] ^= 255
    packed.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"ml.zip: cannot be unzipped"):
        ingested(packed)

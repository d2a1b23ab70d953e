"""``llmrec search``: what a person or a program gets, and what a wrong question is told."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("open_clip", reason="needs the media extra")
pytest.importorskip("faiss", reason="needs the media extra")
pytest.importorskip("whisper", reason="needs the media extra")

from PIL import Image
from search_shop import FILMED, PICTURED, Shop
from tiny_media import sound, tiny_whisper

from llmrec.cli import run_command
from llmrec.content.search.build import run
from llmrec.content.search.command import as_table
from llmrec.content.search.query import transcribe
from llmrec.content.search.searcher import FoundItem, SearchIndex
from llmrec.content.search.settings import SearchIndexConfig
from llmrec.errors import ArtifactError, ConfigError, DataError, LlmrecError


@pytest.fixture(scope="module")
def folder(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("asked") / "search_index"
    return run(SearchIndexConfig(device="cpu"), shop.dataset, shop.media, out)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper(tmp_path_factory.mktemp("whisper") / "whisper.pt")


@pytest.fixture(scope="module")
def encoder_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sound half of a Whisper, as ``llmrec embed media`` accepts it."""
    from whisper.model import AudioEncoder

    folder = tmp_path_factory.mktemp("encoder")
    sizes = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 16}
    sizes |= {"n_audio_head": 2, "n_audio_layer": 1}
    (folder / "whisper.cfg").write_text(json.dumps({"audio_encoder_config": sizes}))
    weights = AudioEncoder(80, 1500, 16, 2, 1).state_dict()
    np.savez(folder / "whisper.npz", **{name: value.numpy() for name, value in weights.items()})
    return folder


def searched(capsys: pytest.CaptureFixture[str], folder: Path, *flags: str) -> str:
    run_command(["search", str(folder), *flags, "--device", "cpu"])
    return capsys.readouterr().out


def test_words_give_a_table_in_the_order_of_the_index(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = searched(capsys, folder, "--text", "a red mug", "--n", "3").splitlines()
    index = SearchIndex.load(folder, device="cpu")
    results = index.search(index.embed_text(["a red mug"]), 3)[0]
    assert lines[0].split() == ["rank", "score", "item", "title"]
    assert [line.split()[:3] for line in lines[1:]] == [
        [str(rank), f"{result.score:.4f}", result.item_id]
        for rank, result in enumerate(results, start=1)
    ]


def test_a_picture_finds_its_item_and_programs_read_json(
    folder: Path, shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(shop.picture("i2"))
    told = json.loads(searched(capsys, folder, "--image", place, "--n", "99", "--json"))
    assert told["query"] == {"image": place} and "transcript" not in told
    assert [result["rank"] for result in told["results"]] == list(range(1, 8))
    first = told["results"][0]
    assert (first["item_id"], first["title"]) == ("i2", "blue thing")
    assert first["score"] == pytest.approx(1, abs=1e-5)


def test_a_voice_is_written_down_and_its_words_are_asked(
    folder: Path, whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice = str(sound(tmp_path / "question.wav", 440))
    said = transcribe(voice, str(whisper), "cpu")
    assert said  # a random model hears something in a tone
    flags = ("--voice", voice, "--speech-model", str(whisper))
    by_voice = searched(capsys, folder, *flags)
    assert by_voice == f"transcript: {said}\n" + searched(capsys, folder, "--text", said)
    assert json.loads(searched(capsys, folder, *flags, "--json"))["transcript"] == said


def test_a_sheet_shows_the_pictures_found(
    folder: Path, shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "new" / "sheet.png"
    flags = ["--image", str(shop.picture("i1")), "--n", "7", "--device", "cpu"]
    run_command(
        ["search", str(folder), *flags, "--sheet", str(sheet), "--media-root", str(shop.root)]
    )
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        f"no picture of {FILMED}: the catalogue names no picture",
        f"wrote {sheet}",
    ]
    with Image.open(sheet) as drawn, Image.open(shop.picture("i1")) as picture:
        assert drawn.format == "PNG" and drawn.size == (6 * 136 + 8, 2 * (136 + 28) + 8)
        block = drawn.convert("RGB").getpixel((8 + 16, 8 + 16))  # the middle of its first colour
        own = picture.convert("RGB").getpixel((5, 5))
    np.testing.assert_allclose(block, own, atol=3)
    assert len(captured.out.splitlines()) == 1 + len(PICTURED) + 1


def test_a_table_is_one_line_an_item_whatever_a_title_holds() -> None:
    answers = [
        FoundItem(1, "a", "two\nlines \x1b[31mred", 0.5, None),
        FoundItem(2, "bb", "", -0.1, None),
    ]
    assert as_table(answers).splitlines()[1:] == [
        "   1  0.5000  a     two lines [31mred",
        "   2  -0.1000  bb    -",
    ]


# --- what is refused ------------------------------------------------------------------------


WRONG: list[tuple[list[str], type[LlmrecError], str]] = [
    ([], ConfigError, "give one of --text, --image and --voice; got none"),
    (["--text", "a", "--voice", "b"], ConfigError, "got --text and --voice"),
    (["--text", "  "], ConfigError, "--text: is empty; say what to look for"),
    (["--text", "a", "--n", "0"], ConfigError, "--n: must be 1 or more, got 0"),
    (["--text", "a", "--n", "-3"], ConfigError, "--n: must not be negative, got -3"),
    (["--image", "gone.png"], DataError, "--image gone.png: no such file"),
    (["--image", "http://127.0.0.1:9/a.png"], DataError, "is not a public address"),
    (["--image", "file:///etc/passwd"], DataError, "--image file:///etc/passwd: "),
    (["--voice", "gone.wav"], DataError, "--voice gone.wav: no such file"),
    (["--text", "a", "--sheet", "a.png"], ConfigError, "--sheet: needs --media-root"),
    (["--text", "a", "--sheet", "a.jpg", "--media-root", "."], ConfigError, "end it in .png"),
    (["--text", "a", "--sheet", "a.png", "--media-root", "gone"], ConfigError, "gone is no folder"),
]


@pytest.mark.parametrize(("flags", "kind", "message"), WRONG)
def test_a_wrong_question_is_one_clear_line(
    folder: Path, flags: list[str], kind: type[LlmrecError], message: str
) -> None:
    with pytest.raises(kind) as told:
        run_command(["search", str(folder), *flags])
    assert message in str(told.value) and "\n" not in str(told.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere.manifest.json: not found"):
        run_command(["search", str(tmp_path / "nowhere"), "--text", "a mug"])


def test_a_picture_that_is_none_is_named(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.png"
    page.write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"page.png: not a picture in a format that is read"):
        run_command(["search", str(folder), "--image", str(page)])


def test_silence_is_no_question_and_needs_no_model(folder: Path, tmp_path: Path) -> None:
    silent = str(sound(tmp_path / "silent.wav", 440, volume=0))
    with pytest.raises(DataError, match=r"silent.wav: nothing is said in it; record"):
        run_command(["search", str(folder), "--voice", silent, "--speech-model", "gone.pt"])


def test_an_empty_recording_is_no_question(folder: Path, whisper: Path, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "none.wav"), "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", "none"))
    with pytest.raises(DataError, match=r"--voice .*none.wav: "):
        run_command(
            [
                "search",
                str(folder),
                "--voice",
                str(tmp_path / "none.wav"),
                "--speech-model",
                str(whisper),
            ]
        )


def test_an_encoder_alone_cannot_write_down_a_question(
    folder: Path, encoder_only: Path, tmp_path: Path
) -> None:
    voice = str(sound(tmp_path / "question.wav", 440))
    with pytest.raises(ConfigError, match="give a Whisper with its decoder, a name such as base"):
        run_command(["search", str(folder), "--voice", voice, "--speech-model", str(encoder_only)])

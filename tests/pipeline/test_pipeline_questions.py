"""What a run answers at its end: words, a picture and a voice, each under the command that asks."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("open_clip", reason="needs the media extra")
pytest.importorskip("faiss", reason="needs the media extra")

from search_shop import Shop, make_shop

from llmrec.content.search import query
from llmrec.content.search.build import run
from llmrec.content.search.settings import SearchIndexConfig
from llmrec.pipeline.recipe import Questions
from llmrec.pipeline.report import answers


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return make_shop(tmp_path_factory.mktemp("asked"))


def test_each_question_is_answered_under_its_command(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = run(SearchIndexConfig(device="cpu"), shop.dataset, shop.media, tmp_path / "index")
    heard: list[Any] = []

    def transcribe(place: str, model: str, device: str = "auto") -> str:
        heard.append((place, model))
        return "a green thing"

    monkeypatch.setattr(query, "transcribe", transcribe)  # its Whisper is not of this test
    picture = str(shop.picture("i2"))
    capsys.readouterr()
    answers(index, Questions("red thing", picture, "q.wav", "tiny"))
    said = capsys.readouterr().out
    asked = [line for line in said.splitlines() if line.startswith("llmrec")]
    assert asked == [
        f"llmrec search {index} --text 'red thing'",
        f"llmrec search {index} --image {picture}",
        f"llmrec search {index} --voice q.wav --speech-model tiny",
    ]
    assert heard == [("q.wav", "tiny")] and "  heard: a green thing" in said
    by_picture = said.split("--image")[1].splitlines()
    assert by_picture[2].split()[:3] == ["1", "1.0000", "i2"]
    assert said.count("rank   score") == 3


def test_only_what_is_asked_is_answered(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = run(SearchIndexConfig(device="cpu"), shop.dataset, shop.media, tmp_path / "index")
    capsys.readouterr()
    answers(index, Questions(text="red thing"))
    assert capsys.readouterr().out.count("llmrec search") == 1

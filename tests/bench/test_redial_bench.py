"""Recommending films within dialogues: what was named and said leads to films like these."""

import json
from pathlib import Path

import numpy as np
import pytest

from llmrec.bench import redial, redial_ranker, redial_talks
from llmrec.data.formats.redial import Turn
from llmrec.errors import ConfigError
from llmrec.jsonl import write_jsonl
from llmrec.types import Histories

GENRES = ("horror", "comedy", "western")
PER_GENRE = 12
WORDS = {"horror": "something scary please", "comedy": "make me laugh", "western": "with cowboys"}


def film(number: int) -> dict:
    genre = GENRES[number // PER_GENRE]
    name = f"Film{chr(97 + number % 26)}{number} ({1990 + number % 20})"
    return {"name": name, "genre": [genre], "plot": f"plot {genre}", "star": [f"Star {genre}"]}


def films() -> dict[str, dict]:
    return {str(100 + number): film(number) for number in range(len(GENRES) * PER_GENRE)}


def dialogues(rng: np.random.Generator, count: int) -> list[dict]:
    """Each within one genre; the seeker names a film and says words of it."""
    made = []
    for number in range(count):
        genre = number % len(GENRES)
        first, second, third = rng.choice(PER_GENRE, 3, replace=False) + genre * PER_GENRE + 100
        words = WORDS[GENRES[genre]]
        messages = [(1, f"{words}, like @{first}"), (2, f"see @{second}"), (2, f"or @{third}")]
        made.append(
            {
                "conversationId": str(number),
                "respondentWorkerId": 2,
                "initiatorQuestions": {str(second): {"liked": 1}, str(third): {"liked": 0}},
                "messages": [{"senderWorkerId": who, "text": text} for who, text in messages],
            }
        )
    return made


def turns_to_test(rng: np.random.Generator, count: int) -> list[dict]:
    names = [one["name"] for one in films().values()]
    made = []
    for number in range(count):
        genre = number % len(GENRES)
        first, second = rng.choice(PER_GENRE, 2, replace=False) + genre * PER_GENRE
        named, said = [names[first]], [f"{WORDS[GENRES[genre]]}, like {names[first]}"]
        if number % 2:  # by the words alone
            named, said = [], [WORDS[GENRES[genre]]]
        made.append(
            {"dialog_id": f"t{number}", "context": said, "entity": named, "rec": [names[second]]}
        )
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("redial")
    rng = np.random.default_rng(0)
    (folder / redial_talks.FILMS).write_text(json.dumps(films()))
    write_jsonl(folder / redial_talks.DIALOGUES, dialogues(rng, 90))
    write_jsonl(folder / redial_talks.TEST, turns_to_test(rng, 60))
    return folder


def test_words_and_films_named_lead_to_their_genre(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # of each of 13 trainings: enough for so few films
    monkeypatch.setattr(redial_ranker, "_STEPS", 100)
    out = redial.run(folder, tmp_path / "redial.json", trials=2, resamples=50)
    result = json.loads(out.read_text())
    metrics, spans = result["metrics"], result["intervals"]
    assert result["cases"] == result["dialogues"] == 60
    assert metrics["recall@10"] > 0.7  # ten of the twelve of a genre
    assert spans["recall@10"][0] > spans["popularity_recall@10"][1]
    assert metrics["recall@10"] > metrics["titles_recall@10"] > metrics["popularity_recall@10"]
    gain = result["differences"]["popularity"]["recall@10"]
    assert gain["interval"][0] > 0
    assert gain["difference"] == pytest.approx(
        metrics["recall@10"] - metrics["popularity_recall@10"]
    )
    assert result["validation"]["cases"] == 90  # of two films a dialogue, one was liked
    assert "/" not in result["dataset"]
    assert "| popularity |" in out.with_suffix(".md").read_text()
    assert out.with_suffix(".png").stat().st_size > 0


def test_films_named_already_are_left_out() -> None:
    index = {str(n): n for n in range(6)}
    turn = Turn("1", ("some words",), ("0",), ("2",), (None,))
    known = redial_talks.talks([turn], index, {"1": [0, 2]})

    class First:
        n_items = 6

        def score(self, histories: Histories) -> np.ndarray:
            return np.tile(-np.arange(6, dtype=np.float32), (len(histories), 1))

    assert redial._ranks(First(), known).tolist() == [1]  # after film 1; film 0 was named


def test_a_result_is_a_json_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--results"):
        redial.run(tmp_path, tmp_path / "redial.txt")

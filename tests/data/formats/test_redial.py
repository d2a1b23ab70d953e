"""Dialogues about films: events of a dataset, and turns in which a film is recommended."""

import json
from pathlib import Path

import pytest

from llmrec.data.dataset import Dataset
from llmrec.data.formats.redial import Turn, read_dialogues, read_turns
from llmrec.data.ingest import run
from llmrec.data.settings import IngestConfig
from llmrec.errors import DataError

FILMS = {
    "11": {"name": "Alien (1979)", "genre": ["horror"], "plot": "A ship.", "director": ["Scott"]},
    "12": {"name": "Big  (1988)", "genre": None, "plot": None},
    "13": {"name": "Heat", "genre": ["crime"], "plot": "A chase.", "star": ["A. P.", "R. N."]},
}
SEEKER, RECOMMENDER = 1, 2


def message(sender: int, text: str) -> dict:
    return {"senderWorkerId": sender, "text": text}


DIALOGUE = {
    "conversationId": "7",
    "respondentWorkerId": RECOMMENDER,
    "initiatorWorkerId": SEEKER,
    "initiatorQuestions": {"13": {"suggested": 1, "seen": 0, "liked": 1}},
    "messages": [
        message(SEEKER, "I liked @11"),
        message(RECOMMENDER, "Then @13 and @12, after @11"),
        message(SEEKER, "I know @12. And @99?"),
        message(RECOMMENDER, "Only @13"),
    ],
}
TEST_TURN = {
    "dialog_id": "8",
    "context": ["Like Alien (1979)?"],
    "entity": ["Alien (1979)", "horror", "Alien (1979)"],
    "rec": ["Heat", "Alien (1979)", "Heat"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "id2info.json").write_text(json.dumps(FILMS))
    (tmp_path / "valid.jsonl").write_text(json.dumps(DIALOGUE) + "\n")
    (tmp_path / "test.jsonl").write_text(json.dumps(TEST_TURN) + "\n")
    return tmp_path


def test_a_dialogue_is_a_sequence_of_the_films_named(folder: Path, tmp_path: Path) -> None:
    config = IngestConfig(
        folder / "valid.jsonl", folder / "id2info.json", format="redial", duplicates="keep"
    )
    dataset = Dataset(run(config, tmp_path / "out"))
    named = [dataset.item_ids[item] for item in dataset.history(0)]
    assert named == ["11", "13", "12", "11", "12", "13"]
    first, second, third = (dataset.item(row) for row in range(3))
    assert (first.title, first.categories) == ("Alien (1979)", ("horror",))
    assert first.attributes == {"director": "Scott", "year": "1979"}
    assert (second.title, second.attributes["year"]) == ("Big (1988)", "1988")
    assert third.attributes == {"star": "A. P., R. N."}


def test_a_turn_has_what_was_named_before_and_what_is_new(folder: Path) -> None:
    titles = {number: film["name"] for number, film in FILMS.items()}
    (turn,) = read_dialogues(folder / "valid.jsonl", titles)
    assert turn == Turn("7", ("I liked Alien (1979)",), ("11",), ("13", "12"), (True, None))


def test_a_test_turn_leaves_out_what_was_named_already(folder: Path) -> None:
    numbers = {"Alien (1979)": "11", "Heat": "13"}
    (turn,) = read_turns(folder / "test.jsonl", numbers)
    assert turn == Turn("8", ("Like Alien (1979)?",), ("11",), ("13",), (None,))


def test_files_of_another_form_are_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"test\.jsonl: row 1: .*id2info"):
        read_turns(folder / "test.jsonl", {})
    (folder / "bad.jsonl").write_text('{"conversationId": "7"}\n')
    with pytest.raises(DataError, match="row 1: is not a dialogue of ReDial"):
        read_dialogues(folder / "bad.jsonl", {})
    (folder / "id2info.json").write_text("[]")
    config = IngestConfig(folder / "valid.jsonl", folder / "id2info.json", format="redial")
    with pytest.raises(DataError, match=r"give id2info\.json"):
        run(config, folder / "out")

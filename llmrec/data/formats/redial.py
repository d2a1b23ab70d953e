"""ReDial: people who recommend films to each other in writing (Li et al., NeurIPS 2018).

``events`` is a file of dialogues: every film that is named is an event of that dialogue, in the
order of the messages. ``items`` is ``id2info.json``: films with genres, directors, writers, actors
and plot. :func:`read_turns` reads the test file, which is cut into turns already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llmrec.data import raw_files
from llmrec.data.reading import Reading
from llmrec.data.settings import IngestConfig
from llmrec.data.source import RawItem, Source
from llmrec.errors import DataError
from llmrec.jsonl import read_json

_NAMED = re.compile(r"@(\d+)")
_YEAR = re.compile(r"\s*\((\d{4})\)\s*$")
_PEOPLE = ("director", "writer", "star")


@dataclass(frozen=True)
class Turn:
    """One message of the one who recommends, and what was said before it.

    Attributes:
        dialogue: which it is of.
        said: the messages before it, oldest first, films by their titles.
        named: films before it, oldest first, each once.
        films: those that it names for the first time, each once.
        liked: for each of ``films``, whether the other liked it, or would; None where nobody said.
    """

    dialogue: str
    said: tuple[str, ...]
    named: tuple[str, ...]
    films: tuple[str, ...]
    liked: tuple[bool | None, ...]


def open_source(config: IngestConfig) -> Source:
    """Dialogues and the films that they are about.

    Raises:
        DataError: if a file is missing.
    """
    item_reading, event_reading = Reading(config.item_reading), Reading(config.event_reading)
    return Source.of_files(
        config.items,
        config.events,
        read_films,
        partial(_events, reading=event_reading),
        item_reading=item_reading,
        event_reading=event_reading,
        default_type="view",
        order="file",
    )


def read_films(path: Path) -> Iterator[RawItem]:
    """Every film of ``id2info.json``.

    Raises:
        DataError: if the file is not of that form.
    """
    try:
        films = read_json(path)
        for row, (film_id, film) in enumerate(films.items(), start=1):
            yield RawItem(path, row, {"item_id": film_id, **_fields(film)})
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: is not the films of ReDial by their numbers ({error}); give id2info.json"
        ) from None


def _fields(film: dict[str, Any]) -> dict[str, Any]:
    year = _YEAR.search(film["name"])
    people = {name: ", ".join(film.get(name) or ()) for name in _PEOPLE}
    return {
        "title": " ".join(film["name"].split()),
        "description": film.get("plot") or "",
        "categories": film.get("genre") or [],
        "attributes": {**people, "year": year[1] if year else ""},
    }


def _events(path: Path, reading: Reading) -> Iterator[raw_files.Chunk]:
    return raw_files.packed(path, _mentions(path, reading), ("user_id", "item_id"))


def _mentions(path: Path, reading: Reading) -> Iterator[tuple[int, dict[str, Any]]]:
    for row, dialogue in _dialogues(path, reading):
        for message in dialogue["messages"]:
            for film in _NAMED.findall(message["text"]):
                yield row, {"user_id": dialogue["conversationId"], "item_id": film}


def read_dialogues(path: Path, titles: dict[str, str]) -> list[Turn]:
    """The turns of whole dialogues in which a film is recommended.

    Args:
        titles: of the films, by their numbers; others are passed over.

    Raises:
        DataError: if the file is not of that form.
    """
    turns = []
    for _, dialogue in _dialogues(path, Reading()):
        said: list[str] = []
        named: list[str] = []
        answers = dialogue["initiatorQuestions"] or {}
        for message in dialogue["messages"]:
            found = dict.fromkeys(f for f in _NAMED.findall(message["text"]) if f in titles)
            new = tuple(film for film in found if film not in named)
            if new and message["senderWorkerId"] == dialogue["respondentWorkerId"]:
                liked = tuple(_liked(answers.get(film)) for film in new)
                turns.append(
                    Turn(dialogue["conversationId"], tuple(said), tuple(named), new, liked)
                )
            named += new
            said.append(_NAMED.sub(lambda at: titles.get(at[1], ""), message["text"]))
    return turns


def _liked(answer: dict[str, int] | None) -> bool | None:
    """What somebody answered about a film: 0 did not like it, 1 liked it, 2 did not say."""
    return None if answer is None or answer["liked"] == 2 else answer["liked"] == 1


def read_turns(path: Path, numbers: dict[str, str]) -> list[Turn]:
    """The turns of the test file, where films stand by their titles.

    Args:
        numbers: of the films, by their titles.

    Raises:
        DataError: if the file is not of that form, or a turn recommends a film that is not known.
    """
    turns = []
    for row, turn in raw_files.json_rows(path):
        try:
            known = (numbers[name] for name in turn["entity"] if name in numbers)
            named = tuple(dict.fromkeys(known))
            films = dict.fromkeys(numbers[title] for title in turn["rec"])
            new = tuple(film for film in films if film not in named)
            said = tuple(turn["context"])
            if new:
                turns.append(Turn(turn["dialog_id"], said, named, new, (None,) * len(new)))
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{path}: row {row}: is not a turn of ReDial ({error}); "
                "give test_data_processed.jsonl and the id2info.json that belongs to it"
            ) from None
    return turns


def _dialogues(path: Path, reading: Reading) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each dialogue of a file with its row, those of another form reported."""
    for row, dialogue in raw_files.json_rows(path, reading=reading):
        try:
            dialogue["conversationId"], dialogue["respondentWorkerId"]
            _ = [(one["text"] + "", one["senderWorkerId"]) for one in dialogue["messages"]]
            dialogue.setdefault("initiatorQuestions", {})
        except (KeyError, TypeError) as error:
            reading.skip(DataError(f"{path}: row {row}: is not a dialogue of ReDial ({error})"))
            continue
        yield row, dialogue

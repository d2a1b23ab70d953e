"""What a multimodal model is shown of an item and asked about it: the same in training and use.

A conversation has the shape that chat templates of ``transformers`` and vLLM read: one user turn
with placeholders for pictures and videos in front, then words. Pictures come first so that the
three questions about an item share the costly part of the prompt.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llmrec.content.schema import Schema
from llmrec.prompts import load_template
from llmrec.types import Item

if TYPE_CHECKING:
    from PIL.Image import Image

    from llmrec.content.media.video import Clip

Task = Literal["caption", "attributes", "enhance"]
TASKS: tuple[Task, ...] = ("caption", "attributes", "enhance")
TEXT_SOURCES = ("title", "brand", "categories", "description", "price")
SOURCES = ("image", "video", "speech", *TEXT_SOURCES)
KEY_TERMS, KEY_TERM_CHARS, SUMMARY_CHARS, WANTED_CHARS = 6, 24, 160, 80
SHOWN_CHARS = 300  # of a description, and of a transcript: what follows rarely says what it is


@dataclass(frozen=True)
class Seen:
    """What is shown of one item; anything may be missing.

    Attributes:
        image: RGB picture.
        video: sampled frames with their times.
        transcript: what is said in its recording.
        text: what the catalogue's text fields say, one string.
    """

    image: Image | None = None
    video: Clip | None = None
    transcript: str = ""
    text: str = ""

    @property
    def empty(self) -> bool:
        """Whether nothing at all can be shown."""
        return self.image is None and self.video is None and not (self.transcript or self.text)


def known_text(item: Item, sources: Collection[str] = TEXT_SOURCES) -> str:
    """What the catalogue's text fields say: :attr:`Seen.text`, in the order of ``TEXT_SOURCES``.

    >>> known_text(Item("1", title="Linen shirt", categories=("Shirts",), price=20.0))
    'Linen shirt; Shirts; 20'
    """
    told = {
        "title": item.title,
        "brand": item.brand,
        "categories": " > ".join(item.categories),
        "description": _beginning(item.description),
        "price": "" if item.price is None else f"{item.price:g}",
    }
    return "; ".join(told[name] for name in TEXT_SOURCES if name in sources and told[name])


def question(task: Task, seen: Seen, schema: Schema) -> str:
    """The words of one question, without placeholders."""
    known = "".join(
        f"{label}: {' '.join(words.split())}\n"
        for label, words in (("Known", seen.text), ("Said", _beginning(seen.transcript)))
        if words
    )
    values = {"known": known}
    if task == "attributes":
        values["fields"] = ", ".join(name.replace("_", " ") for name in schema.names)
    return load_template(task).render(**values)


def conversation(task: Task, seen: Seen, schema: Schema) -> list[dict[str, Any]]:
    """One user turn: ``[{"role": "user", "content": [image, video, text parts]}]``.

    The pictures themselves go beside it, in the order of their placeholders.
    """
    parts: list[dict[str, Any]] = []
    if seen.image is not None:
        parts.append({"type": "image"})
    if seen.video is not None:
        parts.append({"type": "video"})
    parts.append({"type": "text", "text": question(task, seen, schema)})
    return [{"role": "user", "content": parts}]


def enhance_schema() -> dict[str, Any]:
    """The JSON schema of the answer to ``enhance``; every text is bounded."""
    return {
        "type": "object",
        "properties": {
            "key_terms": {
                "type": "array",
                "items": {"type": "string", "maxLength": KEY_TERM_CHARS},
                "maxItems": KEY_TERMS,
            },
            "summary": {"type": "string", "maxLength": SUMMARY_CHARS},
            "wanted_by": {"type": "string", "maxLength": WANTED_CHARS},
        },
        "required": ["key_terms", "summary", "wanted_by"],
        "additionalProperties": False,
    }


def answer_schema(task: Task, schema: Schema) -> dict[str, Any] | None:
    """What the answer is held to: a JSON schema, or None for free text."""
    if task == "attributes":
        return schema.json_schema()
    return enhance_schema() if task == "enhance" else None


def target(task: Task, item: Item, schema: Schema) -> str | None:
    """The answer that training learns, from what the catalogue says; None where it says too little.

    JSON is written as constrained decoding writes it: one space after a comma and a colon.
    """
    known = schema.known(item)
    if task == "attributes":
        return json.dumps(known, ensure_ascii=False) if list(known) == schema.names else None
    if task == "caption":
        return _sentence(known, item)
    return json.dumps(_enhanced(known, item), ensure_ascii=False)


def _beginning(words: str) -> str:
    """At most ``SHOWN_CHARS`` characters, cut between words where there are some."""
    if len(words) <= SHOWN_CHARS:
        return words
    return words[: SHOWN_CHARS + 1].rpartition(" ")[0] or words[:SHOWN_CHARS]


def _plain(words: str) -> str:
    """As constrained decoding can write it: a bounded JSON string has no escapes."""
    return " ".join(words.split()).replace("\\", "/").replace('"', "'")


def _sentence(known: dict[str, str], item: Item) -> str | None:
    """A caption from the fields that can be seen; the title where the catalogue has no fields."""
    if "category" not in known:
        return item.title or None
    looks = [known[name] for name in ("colour", "pattern", "material") if name in known]
    words = " ".join([*looks, known["category"]])
    style = f", {known['style']} in style" if "style" in known else ""
    use = f", for {known['occasion']}" if "occasion" in known else ""
    return f"{words}{style}{use}."


def _enhanced(known: dict[str, str], item: Item) -> dict[str, Any]:
    terms = [_plain(value)[:KEY_TERM_CHARS] for value in dict.fromkeys(known.values())]
    summary = _plain((item.description or item.title).split(". ")[0])[:SUMMARY_CHARS]
    season = known.get("season", "")
    wanted = " ".join(
        [
            known.get("audience", "everyone"),
            *([f"for {known['occasion']}"] if "occasion" in known else []),
            *([f"in {season}"] if season and season != "all year" else []),
        ]
    )
    return {
        "key_terms": terms[:KEY_TERMS],
        "summary": summary,
        "wanted_by": _plain(wanted)[:WANTED_CHARS],
    }

"""Prompts of a multimodal model and the responses it learns: the same in training and use.

A prompt has the shape that chat templates of ``transformers`` and vLLM read: one user turn with
placeholders for pictures and videos in front, then words. Pictures come first so that the three
prompts about an item share their costly prefix.
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
MAX_TEXT_CHARS = 300  # of a description, and of a transcript: what follows rarely helps


@dataclass(frozen=True)
class ModelInput:
    """What a multimodal model is given of one item; anything may be missing.

    Attributes:
        image: RGB picture.
        video: sampled frames with their times.
        transcript: of its recording.
        text: the catalogue's text fields, one string.
    """

    image: Image | None = None
    video: Clip | None = None
    transcript: str = ""
    text: str = ""

    @property
    def empty(self) -> bool:
        """Whether there is nothing at all."""
        return self.image is None and self.video is None and not (self.transcript or self.text)

    @property
    def n_frames(self) -> int:
        """Frames of its video: only inputs with as many share a batch."""
        return 0 if self.video is None else len(self.video.frames)


def catalogue_text(item: Item, sources: Collection[str] = TEXT_SOURCES) -> str:
    """The catalogue's text fields: :attr:`ModelInput.text`, in the order of ``TEXT_SOURCES``.

    >>> catalogue_text(Item("1", title="Linen shirt", categories=("Shirts",), price=20.0))
    'Linen shirt; Shirts; 20'
    """
    fields = {
        "title": item.title,
        "brand": item.brand,
        "categories": " > ".join(item.categories),
        "description": _truncated(item.description),
        "price": "" if item.price is None else f"{item.price:g}",
    }
    return "; ".join(fields[name] for name in TEXT_SOURCES if name in sources and fields[name])


def known_words(given: ModelInput) -> str:
    """What is known of an item, a line a source."""
    return "".join(
        f"{label}: {' '.join(words.split())}\n"
        for label, words in (("Known", given.text), ("Said", _truncated(given.transcript)))
        if words
    )


def instruction(task: Task, given: ModelInput, schema: Schema) -> str:
    """The words of one prompt, without placeholders."""
    values = {"known": known_words(given)}
    if task == "attributes":
        values["fields"] = ", ".join(name.replace("_", " ") for name in schema.names)
    return load_template(task).render(**values)


def chat_messages(task: Task, given: ModelInput, schema: Schema) -> list[dict[str, Any]]:
    """One user turn: ``[{"role": "user", "content": [image, video, text parts]}]``.

    The pictures themselves go beside it, in the order of their placeholders.
    """
    parts: list[dict[str, Any]] = []
    if given.image is not None:
        parts.append({"type": "image"})
    if given.video is not None:
        parts.append({"type": "video"})
    parts.append({"type": "text", "text": instruction(task, given, schema)})
    return [{"role": "user", "content": parts}]


def render_prompt(processor: Any, task: Task, given: ModelInput, schema: Schema) -> str:
    """The whole prompt by the model's chat template, one placeholder a picture or video.

    Args:
        processor: of transformers.
        given: as :func:`llmrec.captions.inputs.prepare_input` returns it.
    """
    messages = chat_messages(task, given, schema)
    text: str = processor.apply_chat_template(messages, add_generation_prompt=True)
    return text


def has_bos(processor: Any, prompt: str) -> bool:
    """Whether a prompt already has the start token, so that tokenizing must not add it."""
    start = processor.tokenizer.bos_token
    return bool(start) and prompt.startswith(start)


def enhance_schema() -> dict[str, Any]:
    """The JSON schema of the response to ``enhance``; every text is bounded."""
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


def target_response(task: Task, item: Item, schema: Schema) -> str | None:
    """The response that training learns, from the catalogue; None where that says too little.

    JSON is written as constrained decoding writes it: one space after a comma and a colon.
    """
    known = schema.known(item)
    if task == "attributes":
        return json.dumps(known, ensure_ascii=False) if list(known) == schema.names else None
    if task == "caption":
        return _sentence(known, item)
    return json.dumps(_enhanced(known, item), ensure_ascii=False)


def _truncated(words: str) -> str:
    """At most ``MAX_TEXT_CHARS`` characters, cut between words where there are some."""
    if len(words) <= MAX_TEXT_CHARS:
        return words
    return words[: MAX_TEXT_CHARS + 1].rpartition(" ")[0] or words[:MAX_TEXT_CHARS]


def _plain(words: str) -> str:
    """As constrained decoding can write it: a bounded JSON string has no escapes."""
    return " ".join(words.split()).replace("\\", "/").replace('"', "'")


def _sentence(known: dict[str, str], item: Item) -> str | None:
    """A caption from the fields that pictures show; the title where the catalogue has none."""
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

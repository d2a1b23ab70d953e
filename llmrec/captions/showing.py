"""What a model is shown of each item: fetched and decoded ahead of it, by threads, in order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from llmrec.captions.asking import TASKS, Seen, known_text
from llmrec.captions.engine import Questions
from llmrec.captions.inputs import shown
from llmrec.captions.model import MultimodalModel
from llmrec.captions.settings import CaptionConfig
from llmrec.content.features.media_work import prefetched
from llmrec.content.media.errors import MediaError
from llmrec.content.media.images import decode_image
from llmrec.content.media.source import MediaSource
from llmrec.content.media.video import sample_frames
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.types import Item

T = TypeVar("T")
MEDIA = ("image", "video")


@dataclass(frozen=True)
class Shown:
    """One item as the model takes it.

    Attributes:
        item_id: the shop's own.
        seen: what is shown.
        skipped: field and reason of each file that could not be used.
    """

    item_id: str
    seen: Seen
    skipped: list[tuple[str, str]]


@dataclass(frozen=True)
class Viewer:
    """Opens items.

    Attributes:
        config: what is shown, and within which limits.
        source: where files come from.
        transcripts: what is said in recordings, by item id.
        model: what will see it.
        questions: what it will be asked.
    """

    config: CaptionConfig
    source: MediaSource
    transcripts: dict[str, dict[str, Any]]
    model: MultimodalModel
    questions: Questions

    def show(self, items: Iterable[Item]) -> Iterator[Shown]:
        """The items in order, decoded at most some ahead of the reader."""
        for one in prefetched(self._show, items, self.config.workers):
            assert not isinstance(one, MediaError)  # each file's is kept with the item
            # a tokenizer is not for several threads
            yield replace(one, seen=self._fitted(one.seen, one.skipped))

    def _show(self, item: Item) -> Shown:
        skipped: list[tuple[str, str]] = []
        found: dict[str, Any] = {}
        for field, opened in (("image", self._picture), ("video", self._clip)):
            value = getattr(item, field)
            if value and self.config.wants(field):
                try:
                    found[field] = opened(value)
                except MediaError as error:
                    skipped.append((field, str(error)))
        said = self.transcripts.get(item.item_id, {}).get("text", "")
        seen = Seen(transcript=said, text=known_text(item, self.config.sources), **found)
        return Shown(item.item_id, shown(self.model.processor, seen), skipped)

    def _fitted(self, seen: Seen, skipped: list[tuple[str, str]]) -> Seen:
        """Without what is said, then without what is known, if it is more than can be read.

        Raises:
            ConfigError: if the pictures alone are too many.
        """
        reason = f"more words than fit the {self.model.context} tokens that the model reads"
        for field, lost in (("audio", "transcript"), ("text", "text")):
            if self._fits(seen):
                return seen
            if getattr(seen, lost):
                seen = _without(seen, lost)
                skipped.append((field, reason))
        if not self._fits(seen):
            raise ConfigError(
                f"frames: pictures and answers take more than the {self.model.context} tokens that "
                f"{self.model.base} reads; show fewer --frames, or ask for fewer --enhance-tokens"
            )
        return seen

    def _fits(self, seen: Seen) -> bool:
        schema = self.questions.schema
        return all(
            self.model.fits(
                self.model.prompt(task, seen, schema), seen, self.questions.max_tokens(task)
            )
            for task in TASKS
        )

    def _picture(self, value: Any) -> Any:
        return decode_image(self.source.read(value), max_pixels=self.config.max_pixels)

    def _clip(self, value: Any) -> Any:
        c = self.config
        return sample_frames(
            self.source.read(value), c.frames, choice=c.frame_choice, max_pixels=c.max_pixels
        )


def _without(seen: Seen, lost: str) -> Seen:
    return replace(seen, transcript="") if lost == "transcript" else replace(seen, text="")


def stamp_files(dataset: Dataset, config: CaptionConfig, root: Path | None) -> str:
    """What stands for the contents of the files that are shown: sizes and times of change.

    Raises:
        ConfigError: if files are named and no folder of media was given.
    """
    digest = hashlib.sha256()
    for field in (name for name in MEDIA if config.wants(name)):
        if field not in dataset.items.column_names:
            continue
        for value in dataset.items[field].to_pylist():
            if isinstance(value, str) and value and "://" not in value:
                digest.update(_stamp(field, value, root).encode())
    return digest.hexdigest()


def _stamp(field: str, name: str, root: Path | None) -> str:
    if root is None:
        raise ConfigError(
            f"--media-root: the column {field} names files ({name[:80]!r}); say in which folder "
            "they are, or leave it out of --inputs"
        )
    try:
        status = (root / name).stat()
    except (OSError, ValueError):
        return f"{field} {name} -\n"
    return f"{field} {name} {status.st_size} {status.st_mtime_ns}\n"

"""Batches of an epoch in their order, opened and decoded some steps ahead of the model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.captions.training.batches import Batch, Collator, Shown
from llmrec.captions.training.examples import Corpus, Example
from llmrec.captions.training.pictures import Opener
from llmrec.content.features.media_work import prefetched
from llmrec.content.media.errors import MediaError

_CHUNK = 8  # batches among which examples are sorted by length
_ROUGHLY = 64  # characters: some twenty tokens


@dataclass(frozen=True)
class Feed:
    """Deals the examples of a corpus."""

    corpus: Corpus
    opener: Opener
    collator: Collator

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return math.ceil(len(self.corpus.train) / self.corpus.config.batch_size)

    def groups(self, epoch: int) -> list[list[Example]]:
        """The examples of each batch of an epoch."""
        size = self.corpus.config.batch_size
        examples = self.corpus.epoch(epoch)
        if not self.corpus.config.sort:
            return [examples[at : at + size] for at in range(0, len(examples), size)]
        rng = np.random.default_rng([self.corpus.seed, epoch, 0])
        found: list[list[Example]] = []
        for at in range(0, len(examples), _CHUNK * size):
            chunk = sorted(examples[at : at + _CHUNK * size], key=self._length)
            cut = [chunk[start : start + size] for start in range(0, len(chunk), size)]
            found.extend(cut[int(place)] for place in rng.permutation(len(cut)))
        return found

    def opened(self, groups: Sequence[Sequence[Example]]) -> Iterator[list[Batch]]:
        """The forward passes of each group, in order; none where nothing could be shown."""
        for one in prefetched(self._open, groups, self.corpus.config.workers):
            assert not isinstance(one, MediaError)  # the opener has noted these
            yield one

    def shown(self, example: Example) -> Shown | None:
        """One example, opened."""
        seen = self.opener.open(example)
        if seen is None:
            return None
        return Shown(seen, example.task, self.corpus.targets[example.row][example.task])

    def _open(self, group: Sequence[Example]) -> list[Batch]:
        return self.collator.batches([s for s in map(self.shown, group) if s is not None])

    def _length(self, example: Example) -> tuple[bool, int]:
        """About how many tokens a prompt has: frames first, then words.

        Answers do not count, and words only roughly: else a batch would hold the answers that are
        alike, which is no fair sample to learn from.
        """
        corpus = self.corpus
        words = len(corpus.text(example.row, example.sources))
        if "speech" in example.sources:
            words += len(corpus.transcript(example.row))
        pictured = "image" in example.sources or "video" in example.sources
        return pictured, words // _ROUGHLY

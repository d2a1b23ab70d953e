"""Training batches: histories as token sequences, grouped by length.

Grouping sequences of like length keeps padding to a few percent, so nearly all of the time
goes into real tokens. The batches of an epoch depend on ``(seed, epoch)`` alone, which is
what makes a killed run resume exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from llmrec.generation.engine import right_pad
from llmrec.llm.vocabulary import HistoryEncoder
from llmrec.training.tasks.history_tasks import TIMELESS
from llmrec.types import Histories


@dataclass(frozen=True)
class SequenceBatch:
    """One step's sequences.

    Attributes:
        tokens: int64 ``[sequences, length]``, right-padded with token 0.
        positions: one int64 ``[targets]`` a level, positions in the flattened
            ``[sequences * length]`` hidden states whose next token is an item's code.
        codes: one int64 ``[targets]`` a level, the codes to predict.
    """

    tokens: torch.Tensor
    positions: list[torch.Tensor]
    codes: list[torch.Tensor]

    def to(self, device: torch.device) -> SequenceBatch:
        return SequenceBatch(
            self.tokens.to(device),
            [p.to(device) for p in self.positions],
            [c.to(device) for c in self.codes],
        )


class TrainingBatches:
    """All training sequences and their order in batches.

    Args:
        histories: training histories; those without an event are left out.
        encoder: of histories.
        tokens_per_batch: about so many tokens a batch, padding included.
        seed: decides the order of every epoch.
    """

    def __init__(
        self, histories: Histories, encoder: HistoryEncoder, tokens_per_batch: int, seed: int
    ) -> None:
        self.encoder = encoder
        self.tokens_per_batch = tokens_per_batch
        self.seed = seed
        self.sequences = [
            encoder.events(histories[user], histories.times(user)).ravel()
            for user in np.flatnonzero(histories.lengths())
        ]
        self.lengths = np.array([len(s) for s in self.sequences])

    def targets(self) -> list[torch.Tensor]:
        """The codes of each level that any sequence holds, sorted: all that are ever predicted."""
        encoder, offset = self.encoder, self.encoder.vocabulary.item_offset
        events = np.concatenate([s.reshape(-1, encoder.event_width) for s in self.sequences])
        codes = events[:, encoder.event_width - encoder.levels :] - offset
        return [
            torch.from_numpy(np.unique(column) - encoder.vocabulary.level_range(level)[0])
            for level, column in enumerate(codes.T)
        ]

    def epoch(self, epoch: int) -> Iterator[SequenceBatch]:
        """The batches of one epoch, shuffled."""
        sequences = self._sequences_of(epoch)
        return (self.batch([sequences[i] for i in group]) for group in self.groups(epoch))

    def _sequences_of(self, epoch: int) -> list[np.ndarray]:
        """The sequences, some of them without times where there are time tokens."""
        fields = len(self.encoder.vocabulary.time_fields)
        if fields == 0:
            return self.sequences
        nothing = np.array([np.nan])
        unknown = self.encoder.vocabulary.time_tokens(nothing, nothing)
        sequences = list(self.sequences)
        draws = np.random.default_rng([self.seed, epoch, 1]).random(len(sequences))
        for index in np.flatnonzero(draws < TIMELESS):
            events = sequences[index].reshape(-1, self.encoder.event_width).copy()
            events[:, :fields] = unknown
            sequences[index] = events.ravel()
        return sequences

    def groups(self, epoch: int) -> list[np.ndarray]:
        """Which sequences share a batch, in the epoch's order."""
        rng = np.random.default_rng([self.seed, epoch])
        order = np.argsort(self.lengths + rng.random(len(self.lengths)), kind="stable")
        widths = self.lengths[order] + len(self.encoder.prefix)
        groups, start = [], 0
        while start < len(order):
            # longest sequence so far times their number must stay within the budget
            ahead = widths[start : start + self.tokens_per_batch]
            area = ahead * np.arange(1, len(ahead) + 1)
            count = max(1, int(np.searchsorted(area, self.tokens_per_batch, side="right")))
            groups.append(order[start : start + count])
            start += count
        return [groups[i] for i in rng.permutation(len(groups))]

    def batch(self, sequences: list[np.ndarray]) -> SequenceBatch:
        """Pad sequences and note where each level's targets are."""
        encoder, prefix = self.encoder, self.encoder.prefix
        lengths = np.array([len(s) for s in sequences]) + len(prefix)
        tokens, _ = right_pad([np.append(prefix, sequence) for sequence in sequences])
        width = tokens.shape[1]
        # the first code of event e stands at prefix + e * event_width + time tokens
        events = (lengths - len(prefix)) // encoder.event_width
        rows = np.repeat(np.arange(len(sequences)), events)
        starts = np.concatenate([[0], np.cumsum(events)])[:-1]
        event = np.arange(events.sum()) - np.repeat(starts, events)
        first = len(prefix) + event * encoder.event_width + encoder.event_width - encoder.levels
        offset = encoder.vocabulary.item_offset
        positions, codes = [], []
        for level in range(encoder.levels):
            at = rows * width + first + level
            start, _ = encoder.vocabulary.level_range(level)
            codes.append(tokens.ravel()[at] - offset - start)
            positions.append(torch.from_numpy(at - 1))
        return SequenceBatch(tokens, positions, codes)

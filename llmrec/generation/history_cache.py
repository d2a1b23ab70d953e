"""What the model remembers of histories, kept for people who come back.

A history only grows at its end, so the keys and values of its older part stay true: one more
event costs its own few tokens. The cache finds the longest beginning of a prompt that it
has, whoever it belonged to; the answer is the same with and without it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass

import numpy as np
import torch

from llmrec.errors import ConfigError
from llmrec.generation.engine import Prefix, TorchEngine

BLOCK = 16  # tokens; beginnings are looked up at its multiples
QUESTION = 8  # a prompt that differs from an older one in so few last tokens replaces it


@dataclass
class CacheMetrics:
    """Counts since the cache was made, and what it holds now."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    tokens_read: int = 0
    tokens_reused: int = 0
    entries: int = 0
    bytes: int = 0


@dataclass(frozen=True, eq=False)
class _Entry:
    """A prompt and its keys and values, ``[layers, 2, kv heads, tokens, head width]``."""

    tokens: np.ndarray
    memory: torch.Tensor
    blocks: tuple[int, ...]

    def common(self, tokens: np.ndarray) -> int:
        """How many first tokens are the same."""
        length = min(len(tokens), len(self.tokens))
        different = np.flatnonzero(tokens[:length] != self.tokens[:length])
        return int(different[0]) if len(different) else length


class HistoryCache:
    """Keys and values of the prompts read last, up to a number of bytes.

    Args:
        max_bytes: what all entries may take; the least recently used make room.

    Raises:
        ConfigError: if that is not positive.

    Safe to use from several threads.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes <= 0:
            raise ConfigError(f"history cache: {max_bytes} bytes are not a size")
        self.max_bytes = max_bytes
        self._metrics = CacheMetrics()
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._by_block: dict[int, int] = {}
        self._next = 0
        self._lock = threading.Lock()

    @property
    def metrics(self) -> dict[str, int]:
        """What :class:`CacheMetrics` counts, as it is now."""
        with self._lock:
            return asdict(self._metrics)

    def clear(self) -> None:
        """Forget everything; needed when the model's weights change."""
        with self._lock:
            self._entries.clear()
            self._by_block.clear()
            self._metrics.entries = self._metrics.bytes = 0

    def read(self, engine: TorchEngine, prompts: list[np.ndarray], room: int) -> Prefix:
        """Read prompts, going on from what is remembered of each.

        Args:
            prompts: token ids of each user, at least one.
            room: places to keep free for what will be said.
        """
        with self._lock:
            found = [self._longest(prompt) for prompt in prompts]
        known = np.array([length for _, length in found])
        rest = [prompt[length:] for prompt, length in zip(prompts, known, strict=True)]
        tokens, mask = right_pad(rest)
        prefix = engine.prefill(
            tokens.to(engine.device),
            mask.to(engine.device),
            room=room,
            past=_past(found, engine) if known.any() else None,
        )
        with self._lock:
            self._metrics.tokens_reused += int(known.sum())
            self._metrics.tokens_read += int(mask.sum())
            self._metrics.hits += int((known > 0).sum())
            self._metrics.misses += int((known == 0).sum())
            for user, prompt in enumerate(prompts):
                self._keep(prompt, prefix, user)
        return prefix

    def _longest(self, tokens: np.ndarray) -> tuple[_Entry | None, int]:
        """The entry that shares most first tokens, and how many; the last token is always read,
        for what is predicted after it is not remembered."""
        for block in reversed(_blocks(tokens)):
            if block not in self._by_block:
                continue
            key = self._by_block[block]
            entry = self._entries[key]
            common = min(entry.common(tokens), len(tokens) - 1)
            if common >= BLOCK - 1:
                self._entries.move_to_end(key)
                return entry, common
        return None, 0

    def _keep(self, tokens: np.ndarray, prefix: Prefix, user: int) -> None:
        blocks = _blocks(tokens)
        if not blocks:
            return
        older = self._by_block.get(blocks[-1])
        if older is None and len(blocks) > 1:
            older = self._by_block.get(blocks[-2])
        places = slice(0, prefix.width)
        there = None if prefix.present is None else prefix.present[user]
        memory = torch.stack(
            [
                torch.stack([part[user, :, places] for part in layer])
                for layer in zip(prefix.keys, prefix.values, strict=True)
            ]
        )
        if there is not None and not bool(there.all()):
            memory = memory[:, :, :, there].contiguous()
        if memory.nbytes > self.max_bytes:
            return
        if older is not None:
            entry = self._entries[older]
            if len(entry.tokens) - entry.common(tokens) <= QUESTION:
                self._drop(older)
        while self._metrics.bytes + memory.nbytes > self.max_bytes:
            self._drop(next(iter(self._entries)))
            self._metrics.evictions += 1
        key, self._next = self._next, self._next + 1
        self._entries[key] = _Entry(tokens.copy(), memory, blocks)
        self._by_block.update(dict.fromkeys(blocks, key))
        self._metrics.bytes += memory.nbytes
        self._metrics.entries += 1

    def _drop(self, key: int) -> None:
        entry = self._entries.pop(key)
        for block in entry.blocks:
            if self._by_block.get(block) == key:
                del self._by_block[block]
        self._metrics.bytes -= entry.memory.nbytes
        self._metrics.entries -= 1


def right_pad(rows: list[np.ndarray], multiple: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded int64 ``[rows, width]`` and where it holds real values, bool.

    The width is the longest row's, rounded up to a multiple.
    """
    lengths = torch.tensor([len(row) for row in rows])
    width = -(-int(lengths.max()) // multiple) * multiple
    values = torch.zeros(len(rows), width, dtype=torch.int64)
    for index, row in enumerate(rows):
        values[index, : len(row)] = torch.from_numpy(np.asarray(row, dtype=np.int64))
    return values, torch.arange(values.shape[1]) < lengths[:, None]


def _blocks(tokens: np.ndarray) -> tuple[int, ...]:
    """A hash of each beginning whose length is a multiple of the block, shortest first."""
    raw = np.ascontiguousarray(tokens, dtype=np.int64)
    return tuple(hash(raw[:end].tobytes()) for end in range(BLOCK, len(raw) + 1, BLOCK))


def _past(found: list[tuple[_Entry | None, int]], engine: TorchEngine) -> Prefix:
    """What is remembered of each user, padded on the right."""
    known = torch.tensor([length for _, length in found], device=engine.device)
    width = int(known.max())
    some = next(entry for entry, _ in found if entry is not None)
    layers, _, heads, _, head_width = some.memory.shape
    if len(found) == 1:
        memory = some.memory[:, :, None, :, :width]
    else:
        # Padding must hold numbers: nothing times what is not a number is not nothing.
        memory = some.memory.new_zeros(layers, 2, len(found), heads, width, head_width)
        for user, (entry, length) in enumerate(found):
            if entry is not None:
                memory[:, :, user, :, :length] = entry.memory[:, :, :, :length]
    return Prefix(
        keys=list(memory[:, 0]),
        values=list(memory[:, 1]),
        lengths=known,
        hidden=some.memory.new_zeros(len(found), 0),
        present=torch.arange(width, device=engine.device) < known[:, None],
        width=width,
    )

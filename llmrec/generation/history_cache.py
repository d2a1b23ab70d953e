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
SPARE = 4  # an entry gets a quarter more places than its prompt has tokens
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
    """A prompt and its keys and values, ``[layers, 2, kv heads, places, head width]``; places
    beyond the prompt's tokens are free for what comes next."""

    tokens: np.ndarray
    memory: torch.Tensor
    blocks: tuple[int, ...]

    def common(self, tokens: np.ndarray) -> int:
        """How many first tokens are the same."""
        length = min(len(tokens), len(self.tokens))
        different = np.flatnonzero(tokens[:length] != self.tokens[:length])
        return int(different[0]) if len(different) else length


@dataclass(frozen=True)
class _Known:
    """What is remembered of one prompt: an entry's key, the entry, tokens shared with it."""

    key: int = -1
    entry: _Entry | None = None
    length: int = 0


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
            known = [self._longest(prompt) for prompt in prompts]
            rest = [prompt[k.length :] for prompt, k in zip(prompts, known, strict=True)]
            tokens, mask = right_pad(rest)
            memory = _gather(known, tokens.shape[1] + room)
        past = None if memory is None else _past(memory, known)
        prefix = engine.prefill(
            tokens.to(engine.device), mask.to(engine.device), room=room, past=past
        )
        layers = list(zip(prefix.keys, prefix.values, strict=True))
        hits = sum(k.length > 0 for k in known)
        with self._lock:
            self._metrics.tokens_reused += sum(k.length for k in known)
            self._metrics.tokens_read += int(mask.sum())
            self._metrics.hits += hits
            self._metrics.misses += len(known) - hits
            first = 0 if past is None else past.width
            for user, (prompt, k) in enumerate(zip(prompts, known, strict=True)):
                new = [[part[user, :, first:] for part in layer] for layer in layers]
                self._keep(prompt, k, new)
        return prefix

    def _longest(self, tokens: np.ndarray) -> _Known:
        """The entry that shares most first tokens. The last token is always read: what is
        predicted after it is not remembered."""
        for block in reversed(_blocks(tokens)):
            if block not in self._by_block:
                continue
            key = self._by_block[block]
            entry = self._entries[key]
            common = min(entry.common(tokens), len(tokens) - 1)
            if common >= BLOCK - 1:
                self._entries.move_to_end(key)
                return _Known(key, entry, common)
        return _Known()

    def _keep(self, tokens: np.ndarray, known: _Known, new: list[list[torch.Tensor]]) -> None:
        """Remember a prompt.

        Other requests may have come and gone since it was looked up, so it is looked up again.

        Args:
            new: per layer the keys and values ``[kv heads, places, head width]`` of the tokens that
                were not known.
        """
        blocks = _blocks(tokens)
        now = self._longest(tokens)
        older, length = now.entry, now.length
        if not blocks or length < known.length:  # what it went on from had to make room
            return
        if older is not None and older.common(tokens) == len(tokens) == len(older.tokens):
            return
        replaces = older is not None and len(older.tokens) - length <= QUESTION
        if older is not None and replaces and older.memory.shape[3] >= len(tokens):
            memory = older.memory
        else:
            # Who has come back once will come back again.
            places = len(tokens) + (len(tokens) // SPARE if replaces else 0)
            heads, _, width = new[0][0].shape
            memory = new[0][0].new_empty(len(new), 2, heads, places, width)
            if memory.nbytes > self.max_bytes:
                return
            if older is not None:
                memory[:, :, :, :length] = older.memory[:, :, :, :length]
        if replaces:
            self._drop(now.key)
        fresh = slice(length - known.length, len(tokens) - known.length)
        for layer, parts in enumerate(new):
            for which, part in enumerate(parts):
                memory[layer, which, :, length : len(tokens)] = part[:, fresh]
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


def _gather(known: list[_Known], room: int) -> list[list[torch.Tensor]] | None:
    """What is remembered of each user, padded on the right; None where it is nothing.

    Args:
        room: places to keep free behind it.

    Returns:
        Per layer the keys and the values, ``[users, kv heads, longest + room, head width]``.
    """
    lengths = [k.length for k in known]
    width = max(lengths)
    if width == 0:
        return None
    some = next(k.entry for k in known if k.entry is not None).memory
    layers, _, heads, _, head_width = some.shape
    # Padding must hold numbers: nothing times what is not a number is not nothing.
    make = some.new_empty if min(lengths) == width else some.new_zeros
    shape = (len(known), heads, width + room, head_width)
    # Not one tensor for all: a CPU's allocator gives a large one back at once, and fresh memory
    # for the next request would cost more than filling it.
    memory = [[make(shape), make(shape)] for _ in range(layers)]
    for user, k in enumerate(known):
        if k.entry is not None:
            for whole, layer in zip(memory, k.entry.memory, strict=True):
                for part, remembered in zip(whole, layer, strict=True):
                    part[user, :, : k.length] = remembered[:, : k.length]
    return memory


def _past(memory: list[list[torch.Tensor]], known: list[_Known]) -> Prefix:
    """What :func:`_gather` gave, as the engine goes on from it."""
    device = memory[0][0].device
    lengths = torch.tensor([k.length for k in known], device=device)
    width = max(k.length for k in known)
    return Prefix(
        keys=[layer[0] for layer in memory],
        values=[layer[1] for layer in memory],
        lengths=lengths,
        hidden=memory[0][0].new_zeros(len(known), 0),
        present=torch.arange(width, device=device) < lengths[:, None],
        width=width,
    )

"""A prefix cache: keys and values of histories, kept for users who come back.

A history only grows at its end, so the keys and values of its older part stay valid: one more
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
from llmrec.generation.engine import TorchEngine, right_pad
from llmrec.generation.kv_cache import PrefillState

BLOCK = 16  # tokens; beginnings are looked up at its multiples
SPARE = 4  # an entry gets a quarter more places than its prompt has tokens
REPLACED_TAIL = 8  # a prompt that differs from an older one in so few last tokens replaces it


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
    beyond the prompt's tokens are free for its next events."""

    tokens: np.ndarray
    memory: torch.Tensor
    blocks: tuple[int, ...]

    def common(self, tokens: np.ndarray) -> int:
        """How many first tokens are the same."""
        length = min(len(tokens), len(self.tokens))
        different = np.flatnonzero(tokens[:length] != self.tokens[:length])
        return int(different[0]) if len(different) else length


@dataclass(frozen=True)
class _Match:
    """The cached beginning of a prompt: an entry's key, the entry, tokens shared with it."""

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
        """Forget all histories."""
        with self._lock:
            for key in list(self._entries):
                self._drop(key)

    def reset(self) -> None:
        """Forget all histories, and what was counted."""
        self.clear()
        self._metrics = CacheMetrics()

    def prefill(self, engine: TorchEngine, prompts: list[np.ndarray], slots: int) -> PrefillState:
        """The KV cache of prompts; only what is not cached of them is computed.

        Args:
            prompts: token ids of each user, at least one.
            slots: places to keep free for tokens that beams generate.
        """
        with self._lock:
            matches = [self._longest_match(prompt) for prompt in prompts]
            rest = [prompt[k.length :] for prompt, k in zip(prompts, matches, strict=True)]
            tokens, mask = right_pad(rest)
            past = _cached_prefix(matches, tokens.shape[1] + slots)
        prefix = engine.prefill(
            tokens.to(engine.device), mask.to(engine.device), slots=slots, past=past
        )
        layers = list(zip(prefix.keys, prefix.values, strict=True))
        hits = sum(k.length > 0 for k in matches)
        with self._lock:
            self._metrics.tokens_reused += sum(k.length for k in matches)
            self._metrics.tokens_read += int(mask.sum())
            self._metrics.hits += hits
            self._metrics.misses += len(matches) - hits
            first = 0 if past is None else past.width
            for user, (prompt, k) in enumerate(zip(prompts, matches, strict=True)):
                new = [[part[user, :, first:] for part in layer] for layer in layers]
                self._store(prompt, k, new)
        return prefix

    def _longest_match(self, tokens: np.ndarray) -> _Match:
        """The entry that shares most first tokens. The last token is always computed: what is
        predicted after it is not cached."""
        for block in reversed(_blocks(tokens)):
            if block not in self._by_block:
                continue
            key = self._by_block[block]
            entry = self._entries[key]
            common = min(entry.common(tokens), len(tokens) - 1)
            if common >= BLOCK - 1:
                self._entries.move_to_end(key)
                return _Match(key, entry, common)
        return _Match()

    def _store(self, tokens: np.ndarray, match: _Match, new: list[list[torch.Tensor]]) -> None:
        """Cache a prompt.

        Other requests may have come and gone since it was looked up, so it is looked up again.

        Args:
            new: per layer the keys and values ``[kv heads, places, head width]`` of the tokens that
                were not cached.
        """
        blocks = _blocks(tokens)
        now = self._longest_match(tokens)
        older, length = now.entry, now.length
        if not blocks or length < match.length:  # what it continued had to make room
            return
        if older is not None and older.common(tokens) == len(tokens) == len(older.tokens):
            return
        replaces = older is not None and len(older.tokens) - length <= REPLACED_TAIL
        if older is not None and replaces and older.memory.shape[3] >= len(tokens):
            memory = older.memory
        else:
            # A user who has come back once will come back again.
            places = len(tokens) + (len(tokens) // SPARE if replaces else 0)
            heads, _, width = new[0][0].shape
            memory = new[0][0].new_empty(len(new), 2, heads, places, width)
            if memory.nbytes > self.max_bytes:
                return
            if older is not None:
                memory[:, :, :, :length] = older.memory[:, :, :, :length]
        if replaces:
            self._drop(now.key)
        fresh = slice(length - match.length, len(tokens) - match.length)
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


def _blocks(tokens: np.ndarray) -> tuple[int, ...]:
    """A hash of each beginning whose length is a multiple of the block, shortest first."""
    raw = np.ascontiguousarray(tokens, dtype=np.int64)
    return tuple(hash(raw[:end].tobytes()) for end in range(BLOCK, len(raw) + 1, BLOCK))


def _cached_prefix(matches: list[_Match], slots: int) -> PrefillState | None:
    """What is cached of each user's prompt, as :meth:`TorchEngine.prefill` continues it.

    It is padded on the right; None where nothing is cached.

    Args:
        slots: places to keep free behind it.
    """
    counts = [k.length for k in matches]
    width = max(counts)
    if width == 0:
        return None
    some = next(k.entry for k in matches if k.entry is not None).memory
    layers, _, heads, _, head_width = some.shape
    # Padding must hold numbers: nothing times what is not a number is not nothing.
    make = some.new_empty if min(counts) == width else some.new_zeros
    shape = (len(matches), heads, width + slots, head_width)
    # Not one tensor for all: a CPU's allocator gives a large one back at once, and fresh memory
    # for the next request would cost more than filling it.
    memory = [[make(shape), make(shape)] for _ in range(layers)]
    for user, k in enumerate(matches):
        if k.entry is not None:
            for whole, layer in zip(memory, k.entry.memory, strict=True):
                for part, cached in zip(whole, layer, strict=True):
                    part[user, :, : k.length] = cached[:, : k.length]
    lengths = torch.tensor(counts, device=some.device)
    return PrefillState(
        keys=[layer[0] for layer in memory],
        values=[layer[1] for layer in memory],
        lengths=lengths,
        hidden=some.new_zeros(len(matches), 0),
        present=torch.arange(width, device=some.device) < lengths[:, None],
        width=width,
    )

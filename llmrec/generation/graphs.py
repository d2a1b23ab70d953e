"""Beam search on a GPU as one CUDA graph for each shape of batch.

After the history is read, a search is a fixed number of steps of fixed shape without a question to
the host, some thousand small kernels whose launches would cost more than their work. Recorded
once, they are replayed with one call. Reading stays as it is: its kernels are large.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch

from llmrec.generation.beam_search import Found, SearchOptions, beam_search
from llmrec.generation.constraints import LeafConstraints
from llmrec.generation.engine import Prefix, TorchEngine
from llmrec.generation.trie import ItemTrie

WIDTH = 64  # prompts and exclusions are padded to its multiples, so that shapes come again
GRAPHS = 8  # kept; each holds its own memory

Replay = Callable[[], Found]


@dataclass
class _Recorded:
    prefix: Prefix
    constraints: LeafConstraints
    replay: Replay


class GraphedSearch:
    """:func:`~llmrec.generation.beam_search.beam_search`, recorded for shapes that come again.

    Args:
        engine, trie: what is searched.
        record: turns work on fixed tensors into a call that does it again; the default records a
            CUDA graph.
    """

    def __init__(
        self,
        engine: TorchEngine,
        trie: ItemTrie,
        record: Callable[[Replay], Replay] | None = None,
    ) -> None:
        self.engine, self.trie = engine, trie
        self._record = record or _cuda_graph
        self._graphs: OrderedDict[tuple[object, ...], _Recorded] = OrderedDict()
        self._seen: set[tuple[object, ...]] = set()
        self._lock = threading.Lock()  # a graph's tensors hold one request at a time

    def __call__(
        self, prefix: Prefix, constraints: LeafConstraints, n: int, options: SearchOptions
    ) -> Found:
        """The best n items for every user; arguments as for :func:`beam_search`."""
        if constraints.allowed is not None or constraints.counts is not None:
            return beam_search(self.engine, self.trie, prefix, constraints, n, options)
        constraints = constraints.padded(WIDTH)
        key = (
            len(prefix),
            prefix.keys[0].shape if prefix.keys else None,
            prefix.width,
            constraints.excluded.shape[1],
            n,
            options,
        )
        with self._lock:
            if key not in self._graphs and key in self._seen:
                self._graphs[key] = self._make(prefix, constraints, n, options)
                if len(self._graphs) > GRAPHS:
                    self._graphs.popitem(last=False)
            self._seen.add(key)  # a shape that never comes again is not worth recording
            if key in self._graphs:
                self._graphs.move_to_end(key)
                return self._replay(self._graphs[key], prefix, constraints)
        return beam_search(self.engine, self.trie, prefix, constraints, n, options)

    @staticmethod
    def _replay(recorded: _Recorded, prefix: Prefix, constraints: LeafConstraints) -> Found:
        _copy(prefix, recorded.prefix)
        recorded.constraints.excluded.copy_(constraints.excluded)
        found = recorded.replay()
        return Found(found.items.clone(), found.scores.clone(), found.exact.clone())

    def _make(
        self, prefix: Prefix, constraints: LeafConstraints, n: int, options: SearchOptions
    ) -> _Recorded:
        users = torch.arange(len(prefix), device=prefix.lengths.device)
        room = prefix.keys[0].shape[2] - prefix.width if prefix.keys else 0
        own, limits = prefix.select(users, room), constraints.select(users)

        def work() -> Found:
            return beam_search(self.engine, self.trie, own, limits, n, options)

        return _Recorded(own, limits, self._record(work))


def _copy(source: Prefix, target: Prefix) -> None:
    """Put a prefix in the place of another of the same shape."""
    width = source.width
    for new, old in zip(source.keys + source.values, target.keys + target.values, strict=True):
        old[:, :, :width].copy_(new[:, :, :width])
    target.lengths.copy_(source.lengths)
    target.hidden.copy_(source.hidden)
    target.present.copy_(source.present)


def _cuda_graph(work: Replay) -> Replay:
    """Record a CUDA graph of some work."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # libraries set themselves up before the recording
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = work()

    def replay() -> Found:
        graph.replay()
        return found

    return replay

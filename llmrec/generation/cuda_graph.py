"""Beam search on a GPU as one CUDA graph for each shape of batch.

After prefill, a search is a fixed number of steps of fixed shape without a synchronisation with the
host, some thousand small kernels whose launches would cost more than their work. Captured
once, they are replayed with one call. Prefill stays as it is: its kernels are large.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch

from llmrec.generation.beam_search import SearchOptions, SearchResult, beam_search
from llmrec.generation.constraints import LeafConstraints
from llmrec.generation.engine import TorchEngine
from llmrec.generation.kv_cache import PrefillState
from llmrec.generation.trie import ItemTrie

WIDTH = 64  # prompts and exclusions are padded to its multiples, so that shapes come again
GRAPHS = 8  # kept; each holds its own memory

Replay = Callable[[], SearchResult]


@dataclass
class _Captured:
    prefix: PrefillState
    constraints: LeafConstraints
    replay: Replay


class CudaGraphSearch:
    """:func:`~llmrec.generation.beam_search.beam_search`, captured for shapes that come again.

    Args:
        engine, trie: what is searched.
        capture: turns work on fixed tensors into a call that does it again; the default captures
            a CUDA graph.
    """

    def __init__(
        self,
        engine: TorchEngine,
        trie: ItemTrie,
        capture: Callable[[Replay], Replay] | None = None,
    ) -> None:
        self.engine, self.trie = engine, trie
        self._capture = capture or _cuda_graph
        self._graphs: OrderedDict[tuple[object, ...], _Captured] = OrderedDict()
        self._shapes: set[tuple[object, ...]] = set()
        self._lock = threading.Lock()  # a graph's tensors hold one request at a time

    def __call__(
        self, prefix: PrefillState, constraints: LeafConstraints, n: int, options: SearchOptions
    ) -> SearchResult:
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
            if key not in self._graphs and key in self._shapes:
                self._graphs[key] = self._make(prefix, constraints, n, options)
                if len(self._graphs) > GRAPHS:
                    self._graphs.popitem(last=False)
            self._shapes.add(key)  # a shape that never comes again is not worth a capture
            if key in self._graphs:
                self._graphs.move_to_end(key)
                captured = self._graphs[key]
                _copy(prefix, captured.prefix)
                captured.constraints.excluded.copy_(constraints.excluded)
                found = captured.replay()
                return SearchResult(found.items.clone(), found.scores.clone(), found.exact.clone())
        return beam_search(self.engine, self.trie, prefix, constraints, n, options)

    def _make(
        self, prefix: PrefillState, constraints: LeafConstraints, n: int, options: SearchOptions
    ) -> _Captured:
        users = torch.arange(len(prefix), device=prefix.lengths.device)
        slots = prefix.keys[0].shape[2] - prefix.width if prefix.keys else 0
        own, limits = prefix.select(users, slots), constraints.select(users)

        def work() -> SearchResult:
            return beam_search(self.engine, self.trie, own, limits, n, options)

        return _Captured(own, limits, self._capture(work))


def _copy(source: PrefillState, target: PrefillState) -> None:
    """Put a prefix in the place of another of the same shape."""
    width = source.width
    for new, old in zip(source.keys + source.values, target.keys + target.values, strict=True):
        old[:, :, :width].copy_(new[:, :, :width])
    target.lengths.copy_(source.lengths)
    target.hidden.copy_(source.hidden)
    target.present.copy_(source.present)


def _cuda_graph(work: Replay) -> Replay:
    """Capture some work as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # libraries set themselves up before the capture
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = work()

    def replay() -> SearchResult:
        graph.replay()
        return found

    return replay

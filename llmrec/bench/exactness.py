"""Is the exact search exact? Every item is scored with plain transformers, then sorted.

Nothing of our engine is used for it: the model's own ``forward`` reads the history, then the
prefixes of all items beneath it, many in one row, under a mask that lets each token see the
history and its own ID's beginning.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from llmrec.bench.agreement import largest_difference, overlap, same_order
from llmrec.bench.decode_config import DecodeBenchConfig
from llmrec.bench.decode_engines import LlmrecEngine
from llmrec.bench.worker import use_threads
from llmrec.bench.workload import Workload
from llmrec.generation.beam_search import SearchResult, beam_search, decode_slots
from llmrec.generation.constraints import Constraints, LeafConstraints
from llmrec.generation.engine import right_pad
from llmrec.generation.exact_search import exact_search

TIE = 1e-5
ITEMS_AT_ONCE = 512
USERS_AT_ONCE = 64


@dataclass(frozen=True)
class _Chunk:
    """Some items, and the prefixes of their IDs as one row of tokens.

    Attributes:
        items: slice of the sorted items.
        tokens: int64 ``[prefixes]``; depths: int64 ``[prefixes]``, tokens before each.
        sees: bool ``[prefixes, prefixes]``, each prefix's own beginnings and itself.
        place: per depth from 1 on int64 ``[items]``, where each item's prefix stands.
    """

    items: slice
    tokens: torch.Tensor
    depths: torch.Tensor
    sees: torch.Tensor
    place: list[torch.Tensor]


class BruteForce:
    """Scores every item of a catalogue.

    Args:
        model: a causal LM of transformers.
        workload: the catalogue and its tokens.
        normalise: see :class:`~llmrec.generation.frontier.Scoring`.
    """

    def __init__(self, model: Any, workload: Workload, normalise: str) -> None:
        self.model, self.normalise = model, normalise
        self.device = next(model.parameters()).device
        codes = workload.ids.codes
        self.order = np.lexsort(codes.T[::-1])
        self.codes = codes[self.order]
        offset, vocabulary = workload.vocabulary.item_offset, workload.vocabulary
        ranges = [vocabulary.level_range(level) for level in range(codes.shape[1])]
        self.ranges = [(offset + start, offset + end) for start, end in ranges]
        self.prefixes = _prefixes(self.codes)
        self.follows = [self._follows(depth) for depth in range(codes.shape[1])]
        starts = range(0, len(codes), ITEMS_AT_ONCE)
        self.chunks = [self._chunk(start) for start in starts]

    @torch.inference_mode()
    def scores(self, prompt: np.ndarray) -> np.ndarray:
        """Log-probability of every item after a prompt, float32 ``[items]``."""
        tokens = torch.from_numpy(prompt)[None].to(self.device)
        read = self.model(input_ids=tokens, use_cache=True, logits_to_keep=1)
        first = self._gains(read.logits[0].float(), 0)
        scores = np.empty(len(self.codes), dtype=np.float32)
        for chunk in self.chunks:
            total = self._code_gains(first, chunk, 0)
            if len(chunk.tokens):
                logits = self._forward(chunk, read.past_key_values, tokens.shape[1])
                for depth in range(1, self.codes.shape[1]):
                    here = chunk.place[depth - 1]
                    nodes = torch.from_numpy(self.prefixes[depth][chunk.items]).to(self.device)
                    gains = self._gains(logits[here], depth, nodes)
                    total = total + self._code_gains(gains, chunk, depth)
            scores[self.order[chunk.items]] = total.cpu().numpy()
        return scores

    def _forward(self, chunk: _Chunk, cache: Any, length: int) -> torch.Tensor:
        """float32 ``[prefixes, vocabulary]``; the cache is left as it was."""
        history = chunk.sees.new_ones(len(chunk.tokens), length)
        sees = torch.cat([history, chunk.sees], 1)
        mask = torch.zeros(sees.shape, dtype=self.model.dtype, device=self.device)
        mask.masked_fill_(~sees, float("-inf"))
        output = self.model(
            input_ids=chunk.tokens[None],
            attention_mask=mask[None, None],
            position_ids=(length + chunk.depths)[None],
            past_key_values=cache,
            use_cache=True,
        )
        cache.crop(-len(chunk.tokens))
        logits: torch.Tensor = output.logits[0].float()
        return logits

    def _gains(
        self, logits: torch.Tensor, depth: int, nodes: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Log-probabilities of a level's codes, ``[rows, codes]``, after prefixes ``nodes``."""
        start, end = self.ranges[depth]
        logits = logits[:, start:end]
        if self.normalise == "children":
            follows = self.follows[depth]
            logits = logits.masked_fill(~(follows if nodes is None else follows[nodes]), -torch.inf)
        return logits.log_softmax(-1)

    def _code_gains(self, gains: torch.Tensor, chunk: _Chunk, depth: int) -> torch.Tensor:
        """What each item's code of a level adds to its score; nothing where its ID has ended."""
        codes = torch.from_numpy(self.codes[chunk.items, depth].astype(np.int64)).to(self.device)
        found = gains.expand(len(codes), -1).gather(1, codes.clamp(min=0)[:, None])[:, 0]
        return torch.where(codes >= 0, found, 0.0)

    def _follows(self, depth: int) -> torch.Tensor:
        """bool ``[prefixes, codes]``, which codes go on to an item; all where an ID has ended."""
        start, end = self.ranges[depth]
        table = np.zeros((self.prefixes[depth][-1] + 1, end - start), dtype=bool)
        codes = self.codes[:, depth]
        going = codes >= 0
        table[self.prefixes[depth][going], codes[going]] = True
        table[self.prefixes[depth][~going]] = True
        return torch.from_numpy(table).to(self.device)

    def _chunk(self, start: int) -> _Chunk:
        items = slice(start, min(start + ITEMS_AT_ONCE, len(self.codes)))
        tokens: list[np.ndarray] = []
        depths: list[np.ndarray] = []
        own: list[np.ndarray] = []  # per depth, each item's prefix among the chunk's
        first: list[np.ndarray] = []  # and an item of each prefix
        base = 0
        for depth in range(1, self.codes.shape[1]):
            _, example, place = np.unique(
                self.prefixes[depth][items], return_index=True, return_inverse=True
            )
            code = self.codes[items, depth - 1][example]
            tokens.append(np.maximum(code, 0) + self.ranges[depth - 1][0])
            depths.append(np.full(len(example), depth - 1))
            own.append(base + place)
            first.append(example)
            base += len(example)
        sees = np.zeros((base, base), dtype=bool)
        for depth, examples in enumerate(first):
            for above in range(depth + 1):
                sees[own[depth][examples], own[above][examples]] = True

        def moved(parts: list[np.ndarray]) -> torch.Tensor:
            whole = np.concatenate([*parts, np.zeros(0, np.int64)]).astype(np.int64)
            return torch.from_numpy(whole).to(self.device)

        return _Chunk(
            items,
            moved(tokens),
            moved(depths),
            torch.from_numpy(sees).to(self.device),
            [moved([place]) for place in own],
        )


def check_exactness(config: DecodeBenchConfig, workload: Workload) -> dict[str, float]:
    """Compare the exact search with the brute force on the workload's ``checked`` users.

    Returns:
        the metrics of the result file.
    """
    use_threads(config.threads)
    ours = LlmrecEngine(config, workload)
    brute = BruteForce(ours.model, workload, config.normalise)
    beam, exact, seconds = _search(ours, workload.checked)
    started = time.perf_counter()
    best = np.empty(exact.items.shape, dtype=np.int64)
    best_scores = np.full(exact.scores.shape, -np.inf, dtype=np.float32)
    values = np.full(exact.scores.shape, -np.inf, dtype=np.float32)
    best.fill(-1)
    for user, prompt in enumerate(workload.checked):
        scores = brute.scores(prompt)
        top = np.argsort(-scores, kind="stable")[: config.n]
        best[user, : len(top)], best_scores[user, : len(top)] = top, scores[top]
        found = exact.items[user].numpy()
        values[user, found >= 0] = scores[found[found >= 0]]
        if (user + 1) % 10 == 0 or user + 1 == len(workload.checked):
            print(f"exactness: every item scored for {user + 1} users", flush=True)
    users = len(workload.checked)
    return {
        "exact_users": users,
        "exact_identical": float(same_order(values, best_scores, TIE).mean()),
        "exact_max_score_difference": largest_difference(exact.scores.numpy(), best_scores),
        "beam_certified": float(beam.exact.float().mean()),
        "beam_recall": overlap(beam.items.numpy(), best),
        "exact_ms_per_user": round(1000 * seconds / users, 3),
        "brute_force_ms_per_user": round(1000 * (time.perf_counter() - started) / users, 3),
    }


@torch.inference_mode()
def _search(
    ours: LlmrecEngine, prompts: list[np.ndarray]
) -> tuple[SearchResult, SearchResult, float]:
    """What the beam search and the exact search find, and the seconds of the second."""
    config, seconds = ours.config, 0.0
    beam: list[SearchResult] = []
    exact: list[SearchResult] = []
    free = decode_slots(ours.trie, config.beams)
    for start in range(0, len(prompts), USERS_AT_ONCE):
        some = prompts[start : start + USERS_AT_ONCE]
        tokens, mask = (part.to(config.device) for part in right_pad(some))
        limits = LeafConstraints(ours.trie, [Constraints()] * len(some))
        for search, answers in ((beam_search, beam), (exact_search, exact)):
            started = time.perf_counter()
            prefix = ours.engine.prefill(tokens, mask, slots=free)
            answers.append(search(ours.engine, ours.trie, prefix, limits, config.n, ours.search))
            if search is exact_search:
                seconds += time.perf_counter() - started
    return _joined(beam), _joined(exact), seconds


def _joined(parts: list[SearchResult]) -> SearchResult:
    return SearchResult(
        torch.cat([part.items for part in parts]).cpu(),
        torch.cat([part.scores for part in parts]).cpu(),
        torch.cat([part.exact for part in parts]).cpu(),
    )


def _prefixes(codes: np.ndarray) -> list[np.ndarray]:
    """Per depth int64 ``[items]``, the number of each sorted ID's prefix of that length."""
    found = [np.zeros(len(codes), dtype=np.int64)]
    changed = np.zeros(len(codes), dtype=bool)
    for column in codes.T[:-1]:
        changed[1:] |= column[1:] != column[:-1]
        found.append(np.cumsum(changed))
    return found

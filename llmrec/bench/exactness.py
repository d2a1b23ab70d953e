"""Is the exact search exact? Every item is scored with plain transformers, then sorted.

Nothing of our engine is used for it: the model's own ``forward`` reads the history, then the IDs of
all items behind it, a row an item.
"""

from __future__ import annotations

import copy
import time
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
ITEMS_AT_ONCE = 256
USERS_AT_ONCE = 64


class BruteForce:
    """Scores every item of a catalogue.

    Args:
        model: a causal LM of transformers.
        workload: the catalogue and its tokens.
        normalise: see :class:`~llmrec.generation.frontier.Scoring`.
    """

    def __init__(self, model: Any, workload: Workload, normalise: str) -> None:
        self.model, self.offset = model, workload.vocabulary.item_offset
        self.device = next(model.parameters()).device
        codes = workload.ids.codes.astype(np.int64)
        self.codes = torch.from_numpy(codes).to(self.device)
        self.ranges = [workload.vocabulary.level_range(level) for level in range(codes.shape[1])]
        # per level: the number of each item's prefix, and which codes may follow each prefix
        self.prefixes: list[torch.Tensor] = []
        self.allowed: list[torch.Tensor] = []
        prefix = np.zeros(len(codes), dtype=np.int64)
        for (start, end), column in zip(self.ranges, codes.T, strict=True):
            allowed = np.full((prefix.max() + 1, end - start), normalise == "level")
            going = column >= 0
            allowed[prefix[going], column[going]] = True
            allowed[prefix[~going]] = True
            self.prefixes.append(torch.from_numpy(prefix).to(self.device))
            self.allowed.append(torch.from_numpy(allowed).to(self.device))
            prefix = np.unique(prefix * (end - start + 1) + column + 1, return_inverse=True)[1]

    @torch.inference_mode()
    def scores(self, prompt: np.ndarray) -> np.ndarray:
        """Log-probability of every item after a prompt, float32 ``[items]``."""
        tokens = torch.from_numpy(prompt)[None].to(self.device)
        history = self.model(input_ids=tokens, use_cache=True, logits_to_keep=1)
        items = torch.arange(len(self.codes), device=self.device)
        parts = [self._scores(history, part) for part in items.split(ITEMS_AT_ONCE)]
        return torch.cat(parts).cpu().numpy()

    def _scores(self, history: Any, items: torch.Tensor) -> torch.Tensor:
        """float32 ``[some]``, of some items after a history that was read."""
        codes = self.codes[items]
        logits = history.logits.expand(len(items), -1, -1)
        if codes.shape[1] > 1:
            starts = torch.tensor([start for start, _ in self.ranges[:-1]], device=self.device)
            cache = copy.deepcopy(history.past_key_values)
            cache.batch_repeat_interleave(len(items))
            tokens = codes[:, :-1].clamp(min=0) + starts + self.offset
            read = self.model(input_ids=tokens, past_key_values=cache, use_cache=True)
            logits = torch.cat([logits, read.logits], 1)
        total = torch.zeros(len(items), device=self.device)
        for level, (start, end) in enumerate(self.ranges):
            here = logits[:, level, self.offset + start : self.offset + end].float()
            allowed = self.allowed[level][self.prefixes[level][items]]
            gains = here.masked_fill(~allowed, -torch.inf).log_softmax(-1)
            code = codes[:, level]
            gain = gains.gather(1, code.clamp(min=0)[:, None])[:, 0]
            total = total + torch.where(code >= 0, gain, 0.0)  # nothing where the ID has ended
        return total


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
    best = np.full(exact.items.shape, -1, dtype=np.int64)
    best_scores = np.full(exact.scores.shape, -np.inf, dtype=np.float32)
    values = np.full(exact.scores.shape, -np.inf, dtype=np.float32)
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
    fields = ("items", "scores", "exact")
    return SearchResult(*(torch.cat([getattr(p, name) for p in parts]).cpu() for name in fields))

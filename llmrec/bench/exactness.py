"""Is the exact search exact? Every item is scored with plain transformers, then sorted."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from llmrec.bench.agreement import largest_difference, overlap, same_order
from llmrec.bench.decode_config import DecodeBenchConfig
from llmrec.bench.decode_engines import LlmrecEngine
from llmrec.bench.reference_scores import BruteForce
from llmrec.bench.worker import use_threads
from llmrec.bench.workload import Workload
from llmrec.generation.beam_search import SearchResult, beam_search
from llmrec.generation.exact_search import exact_search

TIE = 1e-5
USERS_AT_ONCE = 64


def check_exactness(config: DecodeBenchConfig, workload: Workload) -> dict[str, float]:
    """Compare the exact search with the brute force on the workload's ``checked`` users.

    Returns:
        the metrics of the result file.
    """
    use_threads(config.threads)
    ours = LlmrecEngine(config, workload)
    brute = BruteForce(ours.model, workload.vocabulary, workload.ids, config.normalise)
    beam, _ = _search(ours, workload.checked, beam_search)
    exact, seconds = _search(ours, workload.checked, exact_search)
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


def _search(
    ours: LlmrecEngine, prompts: list[np.ndarray], search: Callable[..., SearchResult]
) -> tuple[SearchResult, float]:
    """What a search finds for all prompts, and its seconds."""
    started = time.perf_counter()
    parts = [
        ours.find(prompts[start : start + USERS_AT_ONCE], search)
        for start in range(0, len(prompts), USERS_AT_ONCE)
    ]
    fields = ("items", "scores", "exact")
    joined = (torch.cat([getattr(part, name) for part in parts]).cpu() for name in fields)
    return SearchResult(*joined), time.perf_counter() - started

"""``llmrec bench redial``: films recommended from what was named and said so far in a dialogue.

    llmrec bench redial ../shared/data/redial --results eval/results/redial.json

A case is a film that the one who recommends names for the first time, after the films named before
it; those are left out of the ranking, which is over all films. Everything is learned and chosen on
the dialogues of ``valid_data.jsonl``; those of ``test_data_processed.jsonl`` are read for the final
figures alone. They do not say what was liked, so their cases are all films that were recommended;
``validation`` has the same figures for the films that the other liked, or would, each ranked by a
model of other dialogues.

* ``recall@10``, ``recall@50``: our ranking, by films named and words said;
* ``titles_``: the same without the words;
* ``item_to_item_``: co-occurrence in dialogues (item-kNN), its settings tuned;
* ``item_graph_``: the graph of what is named after what, with content, tuned;
* ``popularity_``: dialogues that a film is named in.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.bench.baselines import Content, fit_baseline, tune
from llmrec.bench.checks import result_file
from llmrec.bench.redial_evidence import KINDS, SAID, Evidence, Films
from llmrec.bench.redial_ranker import BATCH, EvidenceRanker, draw_choices, learn_weights
from llmrec.bench.redial_talks import Talks, read
from llmrec.loop.bars import ProgressBar
from llmrec.metrics.bootstrap import compare, intervals
from llmrec.metrics.metrics import recall, target_ranks
from llmrec.metrics.plots import plot_models
from llmrec.metrics.results import write_result
from llmrec.recommender import Scorer, history_mask

KS = (10, 50)
OURS, TITLES = "ours", "titles"
BASELINES = {"popularity": "popularity", "item_to_item": "item-knn", "item_graph": "item-graph"}
FOLDS = 5


def run(
    folder: Path, /, results: Path, *, trials: int = 12, resamples: int = 1000, seed: int = 0
) -> Path:
    """Measure recommendation within dialogues.

    Args:
        folder: of ReDial: dialogues, turns to test on, films.
        results: result file; a page and a plot of the same name are written beside it.
        trials: settings tried for each baseline on validation.
        resamples: of the bootstrap over dialogues.
        seed: of folds, draws and bootstrap.

    Raises:
        ConfigError: if ``results`` is not a ``.json`` file.
        DataError: if a file is missing or of another form.
    """
    result_file(results, "--results")
    started = time.monotonic()
    films, known, test = read(folder, seed)
    fold = np.random.default_rng(seed).integers(0, FOLDS, len(known.whole))
    settings = {
        name: choose(baseline, films, known, fold, trials, seed)
        for name, baseline in BASELINES.items()
    }
    validated, choices = validate(films, known, fold, settings, seed)
    final = Evidence(films, known.whole, known.turns, known.index)
    ranks = rank_all(films, final, known, test, choices, settings, seed)
    values = figures(ranks)
    cases = test.cases
    liked = np.array([one is True for turn in known.turns for one in turn.liked])
    on_liked = {name: found[liked] for name, found in figures(validated).items()}
    metrics = {name: float(found.mean()) for name, found in values.items()}
    spans = intervals(values, cases.users, resamples, seed)
    weights = learn_weights(np.concatenate(choices), films.n_items, seed=seed)[2]
    write_result(
        results,
        dataset="ReDial",
        split="test",
        model="item graph, content and words, weighed on validation",
        metrics=metrics,
        intervals=spans,
        seed=seed,
        seconds=time.monotonic() - started,
        cases=len(cases),
        dialogues=len(np.unique(cases.users)),
        films=films.n_items,
        differences=differences(values, cases.users, resamples, seed),
        validation={
            "cases": int(liked.sum()),
            "metrics": {name: float(found.mean()) for name, found in on_liked.items()},
            "intervals": intervals(on_liked, known.cases.users[liked], resamples, seed),
        },
        settings=settings,
        weights={kind: round(float(w), 3) for kind, w in zip(KINDS, weights, strict=True)},
    )
    write_page(results, metrics, spans)
    return results


def choose(
    baseline: str, films: Films, known: Talks, fold: np.ndarray, trials: int, seed: int
) -> dict[str, Any]:
    """A baseline's best settings: learned from four fifths of the dialogues, tried on the rest."""
    train, valid = known.of(fold != 0), known.of(fold == 0)
    return tune(
        baseline,
        train.whole,
        films.n_items,
        Content(films.vectors),
        valid.cases,
        trials=trials,
        seed=seed,
    )[0]


def validate(
    films: Films,
    known: Talks,
    fold: np.ndarray,
    settings: Mapping[str, dict[str, Any]],
    seed: int,
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Rank each fold's cases by what the others tell.

    Returns:
        Ranks by method in the order of the cases, and each fold's choices to learn from.
    """
    rng = np.random.default_rng(seed)
    parts, choices = [], []
    for number in ProgressBar(range(FOLDS), "evidence", unit="fold"):
        train, held = known.of(fold != number), known.of(fold == number)
        evidence = Evidence(films, train.whole, train.turns, train.index)
        choices.append(draw_choices(evidence, held.turns, held.histories, rng))
        parts.append((train, held, evidence))
    order = np.concatenate([np.flatnonzero(fold[known.cases.users] == n) for n in range(FOLDS)])
    found: dict[str, list[np.ndarray]] = {}
    for number, (train, held, evidence) in enumerate(parts):
        others = [choices[n] for n in range(FOLDS) if n != number]
        for name, ranks in rank_all(films, evidence, train, held, others, settings, seed).items():
            found.setdefault(name, []).append(ranks)
    back = np.argsort(order)
    return {name: np.concatenate(ranks)[back] for name, ranks in found.items()}, choices


def rank_all(
    films: Films,
    evidence: Evidence,
    train: Talks,
    asked: Talks,
    choices: Sequence[np.ndarray],
    settings: Mapping[str, dict[str, Any]],
    seed: int,
) -> dict[str, np.ndarray]:
    """Ranks of all cases by every method, int64 ``[cases]`` each."""
    together = np.concatenate(choices)
    ranks = {}
    for name, without in ((OURS, ()), (TITLES, SAID)):
        learned = learn_weights(together, films.n_items, without, seed)
        ranks[name] = _ranks(EvidenceRanker(evidence, *learned), asked)
    content = Content(films.vectors)
    for name, baseline in BASELINES.items():
        scorer = fit_baseline(baseline, train.whole, films.n_items, content, settings[name])
        ranks[name] = _ranks(scorer, asked)
    return ranks


def _ranks(ranker: EvidenceRanker | Scorer, asked: Talks) -> np.ndarray:
    """Of each case among all films but those named already."""
    found = []
    of_case, targets = asked.turn_of_case, asked.cases.targets
    for start in range(0, len(asked.turns), BATCH):
        rows = np.arange(start, min(start + BATCH, len(asked.turns)))
        histories = asked.histories.select(rows)
        if isinstance(ranker, EvidenceRanker):
            scores = ranker.score(asked.turns[start : start + BATCH], histories)
        else:
            scores = np.array(ranker.score(histories))
        scores[history_mask(histories)] = -np.inf
        some = (of_case >= start) & (of_case <= rows[-1])
        found.append(target_ranks(scores[of_case[some] - start], targets[some]))
    return np.concatenate(found)


def figures(ranks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Metric name to float64 ``[cases]``; ours has no prefix."""
    return {
        f"{'' if name == OURS else f'{name}_'}recall@{k}": recall(found, k)
        for name, found in ranks.items()
        for k in KS
    }


def differences(
    values: Mapping[str, np.ndarray], dialogues: np.ndarray, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Ours minus each other method on the same cases, with 95% intervals."""
    found: dict[str, dict[str, Any]] = {}
    for name in (TITLES, *BASELINES):
        ours = {f"recall@{k}": values[f"recall@{k}"] for k in KS}
        other = {f"recall@{k}": values[f"{name}_recall@{k}"] for k in KS}
        pairs = compare(other, ours, dialogues, resamples, seed=seed)
        found[name] = {
            pair.metric: {"difference": pair.difference, "interval": list(pair.interval)}
            for pair in pairs
        }
    return found


def write_page(path: Path, metrics: dict[str, float], spans: Mapping[str, list[float]]) -> None:
    """A table and a plot of the methods."""
    names = {"": "films named and words said", "titles_": "films named", "item_graph_": "graph"}
    names |= {"item_to_item_": "item to item", "popularity_": "popularity"}
    rows = []
    lines = ["# Films recommended within dialogues (ReDial)", ""]
    lines += ["| | " + " | ".join(f"Recall@{k}" for k in KS) + " |", "| --- | --- | --- |"]
    for prefix, name in names.items():
        own = {f"recall@{k}": metrics[f"{prefix}recall@{k}"] for k in KS}
        span = {f"recall@{k}": spans[f"{prefix}recall@{k}"] for k in KS}
        cells = [f"{own[key]:.4f} [{span[key][0]:.4f}, {span[key][1]:.4f}]" for key in own]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        rows.append({"name": name, "metrics": own, "intervals": span})
    lines += ["", "95% intervals, dialogues resampled. Films named already are left out.", ""]
    plot = plot_models(rows, path.with_suffix(".png"), [f"recall@{k}" for k in KS])
    text = "\n".join([*lines, f"![Recall by method]({plot.name})", ""])
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text, flush=True)

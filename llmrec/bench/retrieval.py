"""How many of the items that users chose next do the sources of candidates find, alone and united.

``retrieval_table`` has a row a source, and one of their union, with 95% intervals over users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmrec.errors import CatalogError, DataError
from llmrec.metrics.bootstrap import intervals
from llmrec.metrics.plots import drawing, interval_bars
from llmrec.ranking.retrieval.source import Limits, Source, blocks, check_sources
from llmrec.types import Cases

UNION = "union"


@dataclass(frozen=True)
class Row:
    """How much one source finds.

    Attributes:
        source: its name, or ``union``.
        recall: share of the cases whose target it proposes.
        interval: 95%, users resampled.
        candidates: items that it proposes to a user, on average.
        only: share of the cases whose target it alone proposes; of the union nothing (0).
    """

    source: str
    recall: float
    interval: tuple[float, float]
    candidates: float
    only: float


def retrieval_table(
    sources: Sequence[Source], cases: Cases, k: int, resamples: int, seed: int = 0
) -> list[Row]:
    """A row for each source, in their order, and one of the union.

    Raises:
        DataError: if there is no case.
        CatalogError, ConfigError: as of :func:`recall`.
    """
    if not len(cases):
        raise DataError("cases: there is none, so nothing can be measured")
    hits, sizes = recall(sources, cases, k)
    spans = intervals(hits, cases.users, resamples, seed)
    found = sum(hits[source.name] for source in sources)
    only = {s.name: float(((hits[s.name] > 0) & (found == 1)).mean()) for s in sources}
    return [
        Row(
            source=name,
            recall=float(values.mean()),
            interval=(spans[name][0], spans[name][1]),
            candidates=float(sizes[name].mean()),
            only=only.get(name, 0.0),
        )
        for name, values in hits.items()
    ]


def flat_metrics(table: Sequence[Row], k: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The table as a result file has it: metrics and their intervals, flat.

    >>> flat_metrics([Row("content", 0.5, (0.4, 0.6), 200.0, 0.1)], 200)[0]
    {'recall@200_content': 0.5, 'candidates_content': 200.0, 'only_content': 0.1}
    """
    metrics: dict[str, float] = {}
    spans: dict[str, list[float]] = {}
    for row in table:
        metrics[f"recall@{k}_{row.source}"] = row.recall
        metrics[f"candidates_{row.source}"] = row.candidates
        spans[f"recall@{k}_{row.source}"] = list(row.interval)
        if row.source != UNION:
            metrics[f"only_{row.source}"] = row.only
    return metrics, spans


def plot_recall(table: Sequence[Row], path: str | Path) -> Path:
    """Draw the recall of each source as a bar with its interval, and in it what it alone finds.

    Args:
        path: the PNG to write.
    """
    names = [row.source for row in table]
    colours = ["tab:grey" if name == UNION else "tab:blue" for name in names]
    with drawing(Path(path), figsize=(max(4.8, 1.1 * len(names)), 4)) as panel:
        interval_bars(
            panel, names, [row.recall for row in table], [row.interval for row in table], colours
        )
        panel.bar(names, [row.only for row in table], color="tab:orange", label="found by it alone")
        for place, row in enumerate(table):
            panel.annotate(
                f"{row.recall:.2f}\n{row.candidates:,.0f} items",
                (place, row.interval[1]),
                textcoords="offset points",
                xytext=(0, 4),
                ha="center",
                fontsize=8,
            )
        panel.set_ylim(0, max(row.interval[1] for row in table) * 1.2 or 1.0)
        panel.set_ylabel("recall of the item chosen next")
        panel.legend(loc="upper left", fontsize=8)
    return Path(path)


def recall(
    sources: Sequence[Source], cases: Cases, k: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Whether each case's target is among a source's best k, and how many it proposes.

    Items of the history, and those that are not in the catalogue yet, are left out.

    Returns:
        source -> float64 ``[cases]`` of 0 and 1, and ``union``, whether any source has it; and the
        numbers of candidates by the same names.

    Raises:
        CatalogError: if an item of a history, or a target, is not in the catalogue.
        ConfigError: if the sources cannot be queried together.
    """
    n_items = check_sources(sources)
    targets = np.asarray(cases.targets, dtype=np.int64)
    if len(targets) and not (targets.min() >= 0 and targets.max() < n_items):
        raise CatalogError(f"cases: a target is not among the {n_items} of the catalogue")
    names = [*(source.name for source in sources), UNION]
    hits = {name: np.zeros(len(cases)) for name in names}
    sizes = {name: np.zeros(len(cases)) for name in names}
    for rows in blocks(len(cases), n_items):
        histories = cases.histories.select(rows)
        limits = Limits.of_requests(histories, sources[0].catalogue)
        proposed = np.zeros((len(rows), n_items + 1), dtype=bool)
        for source in sources:
            items = source.query(histories).best(k, limits).items
            hits[source.name][rows] = (items == targets[rows, None]).any(axis=1)
            sizes[source.name][rows] = (items >= 0).sum(axis=1)
            np.put_along_axis(proposed, items % (n_items + 1), True, axis=1)
        proposed[:, -1] = False  # where padding was written to
        hits[UNION][rows] = proposed[np.arange(len(rows)), targets[rows]]
        sizes[UNION][rows] = proposed.sum(axis=1)
    return hits, sizes

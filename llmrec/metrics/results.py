"""Result files: every figure we claim, with the command and machine it was measured on.

``NAME.json`` holds the figures and ``NAME.cases.parquet`` the rank of every case, which
is what paired comparisons need. :func:`write_result` also serves commands that measure
something else (latency, calibration): they give a name and metrics.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.errors import ArtifactError, DataError
from llmrec.files import write_whole
from llmrec.jsonl import read_json
from llmrec.metrics.machine import command_line, machine, peak_mib, versions
from llmrec.metrics.measure import Evaluation
from llmrec.metrics.metrics import per_case
from llmrec.parsing import parse_json
from llmrec.stage import MANIFEST

CASES_SUFFIX = ".cases.parquet"


def write_result(
    path: str | Path,
    *,
    metrics: Mapping[str, float],
    name: str | None = None,
    dataset: str = "",
    split: str = "",
    model: str | list[str] = "",
    intervals: Mapping[str, list[float]] | None = None,
    seed: int | None = None,
    seconds: float | None = None,
    command: str | None = None,
    **more: Any,
) -> Path:
    """Write a result file; it appears whole or not at all.

    Args:
        path: ends in ``.json``; folders are made.
        metrics: flat, metric name to figure.
        name: None takes the file's.
        model: what was measured, or several trainings of it.
        intervals: 95%, metric name to ``[low, high]``.
        seconds: how long measuring took.
        command: what to type to measure it again; None takes the running command.
        more: further top-level keys.

    Raises:
        DataError: if a figure is NaN or infinite.
    """
    path = Path(path)
    wrong = [key for key, value in metrics.items() if not math.isfinite(value)]
    if wrong:
        raise DataError(f"{path}: {wrong[0]} is {metrics[wrong[0]]}, not a figure; not written")
    result = {
        "name": path.stem if name is None else name,
        "dataset": dataset,
        "split": split,
        "model": model,
        "metrics": dict(metrics),
        "intervals": dict(intervals or {}),
        **more,
        "command": command_line() if command is None else command,
        "seed": seed,
        "seconds": None if seconds is None else round(seconds, 3),
        "peak_mib": peak_mib(),
        "machine": machine(),
        "versions": versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(result, indent=2, allow_nan=False) + "\n")
    return path


def result_files(folder: Path) -> list[Path]:
    """The result files of a folder of ``llmrec evaluate``, by name."""
    return sorted(path for path in folder.glob("*.json") if path.name != MANIFEST)


def read_result(path: str | Path) -> dict[str, Any]:
    """Read a result file.

    Raises:
        ArtifactError: if it is missing or not a result.
    """
    path = Path(path)
    try:
        result = read_json(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such result file; run llmrec evaluate first") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not a result file ({error})") from None
    if not isinstance(result, dict) or not {"name", "metrics"} <= result.keys():
        raise ArtifactError(f"{path}: not a result file: it has no 'name' and 'metrics'")
    return result


def protocols(result: Mapping[str, Any]) -> tuple[str, str]:
    """What ``metrics`` are of, and what the figures beside them: history removed, with history.

    >>> protocols({"history_removed": True})
    ('history removed', 'with history')
    """
    both = ("history removed", "with history")
    return both if result["history_removed"] else (both[1], both[0])


@dataclass(frozen=True)
class CaseRanks:
    """What ``NAME.cases.parquet`` holds.

    Attributes:
        n_items: the catalogue's size; a rank from there on means not found.
        rank_limit: None for exact ranks, else the length of the lists they come from.
        users, targets: int32 ``[targets]``.
        ranks: int64 ``[targets]`` by protocol: ``rank`` and, where measured,
            ``rank_with_history``.
        facts: int64 ``[targets]`` each, what slices the cases
            (:func:`~llmrec.metrics.slices.case_facts`).
        basket: int64 ``[targets]``, the case of each target where cases are baskets; else None.
    """

    name: str
    dataset: str
    split: str
    n_items: int
    rank_limit: int | None
    users: np.ndarray
    targets: np.ndarray
    ranks: dict[str, np.ndarray]
    facts: dict[str, np.ndarray]
    basket: np.ndarray | None = None

    @property
    def case_users(self) -> np.ndarray:
        """int32 ``[cases]``."""
        if self.basket is None:
            return self.users
        return self.users[np.flatnonzero(np.diff(self.basket, prepend=-1))]

    def values(
        self, ks: tuple[int, ...] = (5, 10, 20), protocol: str | None = None
    ) -> dict[str, Any]:
        """Metric name to float64 ``[cases]``.

        Args:
            protocol: by default with the history removed, or of baskets, with it.
        """
        if protocol is None:
            protocol = "rank" if self.basket is None else "rank_with_history"
        return per_case(self.ranks[protocol], self.n_items, ks, self.basket)


def write_cases(path: Path, evaluation: Evaluation, name: str, dataset: str, split: str) -> Path:
    """Save the rank of every target, with what slices it."""
    case = slice(None) if evaluation.basket is None else evaluation.basket
    columns = {
        "user": evaluation.users[case],
        "target": evaluation.targets,
        **evaluation.facts,
        "rank": evaluation.removed.ranks,
    }
    if evaluation.basket is not None:
        columns["basket"] = evaluation.basket
    if evaluation.with_history is not None:
        columns["rank_with_history"] = evaluation.with_history.ranks
    about = {
        "name": name,
        "dataset": dataset,
        "split": split,
        "n_items": evaluation.n_items,
        "rank_limit": evaluation.rank_limit,
    }
    table = pa.table(columns).replace_schema_metadata({"llmrec": json.dumps(about)})
    pq.write_table(table, path)
    return path


def read_cases(path: str | Path) -> CaseRanks:
    """Read what :func:`write_cases` wrote.

    Raises:
        ArtifactError: if it is missing or something else.
    """
    path = Path(path)
    try:
        table = pq.read_table(path)
        about = parse_json(table.schema.metadata[b"llmrec"])
        columns = {name: table[name].to_numpy() for name in table.column_names}
        return CaseRanks(
            **about,
            users=columns["user"],
            targets=columns["target"],
            ranks={name: columns[name] for name in columns if name.startswith("rank")},
            facts={
                name: columns[name]
                for name in columns
                if name not in ("user", "target", "basket") and not name.startswith("rank")
            },
            basket=columns.get("basket"),
        )
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file; run llmrec evaluate first") from None
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        raise ArtifactError(
            f"{path}: not the cases of an evaluation; give a NAME{CASES_SUFFIX} file"
        ) from None


def check_same_cases(a: CaseRanks, b: CaseRanks) -> None:
    """Refuse to pair runs on different cases.

    Raises:
        DataError: naming what differs.
    """
    for what in ("dataset", "split", "n_items"):
        if getattr(a, what) != getattr(b, what):
            raise DataError(
                f"{a.name} and {b.name} cannot be compared: {what} {getattr(a, what)!r} "
                f"against {getattr(b, what)!r}; evaluate both on the same cases"
            )
    same = np.array_equal(a.users, b.users) and np.array_equal(a.targets, b.targets)
    if not same:
        raise DataError(
            f"{a.name} and {b.name} cannot be compared: their cases differ; "
            "evaluate both on the same dataset folder and split"
        )

"""Made logs of served items, and the reference they are held against."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.monitor.reference import Reference

MONDAY = 1_714_953_600  # 2024-05-06
DAY = 86_400


def shown(rows: int = 6000, days: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    """Columns of a log whose probabilities are right."""
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 18, rows)
    return {
        "p_click": p,
        "clicked": (rng.random(rows) < p).astype(int),
        "timestamp": np.sort(MONDAY + rng.random(rows) * days * DAY),
        "price": np.where(rng.random(rows) < 0.1, np.nan, rng.lognormal(3, 1, rows)),
        "category": rng.choice(["bags", "hats", "shoes"], rows, p=[0.5, 0.3, 0.2]),
    }


def reference_of(columns: dict[str, np.ndarray], path: Path) -> Path:
    """The reference of a log's inputs."""
    inputs = {name: columns[name] for name in ("price", "category")}
    return Reference.fit(inputs).save(path)


def records(columns: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Rows; what is missing is left out."""
    lists = {name: values.tolist() for name, values in columns.items()}
    rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    return [{k: v for k, v in row.items() if v is not None and v == v} for row in rows]


def write_jsonl(columns: dict[str, np.ndarray], path: Path) -> Path:
    """A JSON-lines log."""
    path.write_text("".join(json.dumps(row) + "\n" for row in records(columns)))
    return path


def write_parquet(columns: dict[str, np.ndarray], path: Path) -> Path:
    """A Parquet log, NaN as null."""
    arrays = {name: pa.array(values, from_pandas=True) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), path)
    return path

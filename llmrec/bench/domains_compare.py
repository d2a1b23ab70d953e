"""``llmrec evaluate domains-compare``: is one model better than another, domain by domain?

The figures are MRR against sampled negatives and in the full ranking, paired by case, and the same
for people with few events in the target's domain, whom the other domain should help most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.bench.domains import PROTOCOLS, RANKS_SUFFIX
from llmrec.bench.evaluation_compare import differences_table
from llmrec.errors import ArtifactError, DataError
from llmrec.metrics.bootstrap import PairedDifference, compare

FEW = 5  # events in the target's domain


@dataclass(frozen=True)
class Measured:
    """What ``NAME.domains.parquet`` holds.

    Attributes:
        about: the dataset's hash and the split.
        columns: a row a case; ranks are lists, one entry a training.
    """

    name: str
    about: dict[bytes, bytes]
    columns: pa.Table

    def reciprocal(self, protocol: str) -> np.ndarray:
        """float64 ``[cases]``, the mean over trainings."""
        ranks = np.array(self.columns[protocol].to_pylist())
        sizes = self.columns[f"{protocol}_size"].to_numpy()[:, None]
        return np.where(ranks < sizes, 1 / (np.minimum(ranks, sizes) + 1.0), 0.0).mean(axis=1)


def run(a: Path, b: Path, /, *, seed: int = 0) -> str:
    """Is model B better than model A on each target domain? Paired by case; Markdown.

    Args:
        a: A.domains.parquet of ``llmrec evaluate domains``.
        b: B.domains.parquet.
        seed: of bootstrap and permutations.

    Raises:
        DataError: if they are not of the same cases.
    """
    first, second = _read(a), _read(b)
    same = first.about == second.about and all(
        first.columns[name].equals(second.columns[name]) for name in ("user", "target")
    )
    if not same:
        raise DataError(f"{a} and {b} are of other cases; evaluate both on the same dataset folder")
    parts = list(_tables(first, second, seed))
    text = "\n\n".join(parts)
    print(text, flush=True)
    return text


def _tables(a: Measured, b: Measured, seed: int) -> Iterator[str]:
    domains = np.array(a.columns["domain"].to_pylist())
    few = a.columns["target_domain_events"].to_numpy() <= FEW
    for domain in np.unique(domains):
        for mask, people in ((domains == domain, ""), ((domains == domain) & few, "few")):
            if not mask.any():
                continue
            title = f"{domain}, at most {FEW} events there" if people else str(domain)
            rows = _differences(a, b, np.flatnonzero(mask), seed)
            yield f"### {title} ({mask.sum()} cases)\n\n{differences_table(a.name, b.name, rows)}"


def _differences(a: Measured, b: Measured, rows: np.ndarray, seed: int) -> list[PairedDifference]:
    users = a.columns["user"].to_numpy()[rows]
    first, second = (
        {f"mrr, {protocol}": one.reciprocal(protocol)[rows] for protocol in PROTOCOLS}
        for one in (a, b)
    )
    return compare(first, second, users, seed=seed)


def _read(path: Path) -> Measured:
    try:
        columns = pq.read_table(path)
    except (OSError, pa.ArrowException):
        columns = None
    if columns is None or not path.name.endswith(RANKS_SUFFIX):
        raise ArtifactError(f"{path}: give a NAME{RANKS_SUFFIX} file of llmrec evaluate domains")
    return Measured(path.name.removesuffix(RANKS_SUFFIX), columns.schema.metadata or {}, columns)

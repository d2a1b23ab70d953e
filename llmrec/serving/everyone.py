"""Recommendations to every user of a dataset, in a file: ``llmrec recommend --all --out FILE``.

A row is one item of one user's list: ``user_id``, and the fields of a
:class:`~llmrec.types.Recommendation`. Users are answered some at a time and written at once, so
memory does not grow with their number; the file appears whole or not at all.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.files import locked, whole_file
from llmrec.loop.bars import ProgressBar
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest

USERS_AT_ONCE = 256
SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("rank", pa.int32()),
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("score", pa.float64()),
        ("reason", pa.string()),
        ("p_click", pa.float64()),
        ("p_purchase", pa.float64()),
        ("expected_rating", pa.float64()),
        ("llm_logp", pa.float64()),
        ("sources", pa.list_(pa.string())),
    ]
)

Rows = list[dict[str, Any]]


def recommend_all(
    recommender: Recommender, dataset: Dataset, request: RecommendRequest, out: Path
) -> None:
    """Write the list of every user of a dataset.

    Args:
        recommender: knows the histories of the dataset's users.
        dataset: its users.
        request: what everybody asks for.
        out: the file; its name decides the form, ``.jsonl`` or ``.parquet``.

    Raises:
        ConfigError: for another name, or a dataset of other items than the bundle's.
        ArtifactError: if another run writes there.
    """
    if out.suffix not in _WRITERS:
        raise ConfigError(f"--out: {out} names no known form; call it .jsonl or .parquet")
    _check_items(recommender, dataset)
    users, rows, short = dataset.user_ids, 0, 0
    with locked(out), whole_file(out) as part, _WRITERS[out.suffix](part) as write:
        bar = ProgressBar(total=len(users), unit="user", desc="recommend")
        for start in range(0, len(users), USERS_AT_ONCE):
            some = users[start : start + USERS_AT_ONCE]
            found = _rows(recommender, request, some)
            write(found)
            lengths = Counter(row["user_id"] for row in found)
            rows += len(found)
            short += sum(lengths[user] < request.n for user in some)
            bar.update(len(some))
        bar.close()
    print(f"recommend: wrote {out}: {rows:,} items for {len(users):,} users")
    if short:
        print(f"recommend: {short:,} users have fewer than {request.n}: no more are left for them")


def _rows(recommender: Recommender, request: RecommendRequest, users: list[str]) -> Rows:
    responses = recommender.answer_all(request, users)
    return [
        {"user_id": user} | one.as_dict()
        for user, response in zip(users, responses, strict=True)
        for one in response.recommendations
    ]


def _check_items(recommender: Recommender, dataset: Dataset) -> None:
    """Say how much of the dataset the bundle does not know.

    Raises:
        ConfigError: if that is all of it.
    """
    known = recommender.bundle.index
    unknown = sum(item_id not in known for item_id in dataset.item_ids)
    if unknown == dataset.n_items:
        raise ConfigError(
            f"--dataset: none of the items of {dataset.folder} is in the bundle "
            f"({dataset.item_ids[0]!r} there, {recommender.bundle.item_ids[0]!r} here)"
        )
    if unknown:
        print(
            f"recommend: {unknown:,} of {dataset.n_items:,} items of {dataset.folder} are not in "
            "the bundle and left out of histories; llmrec items add adds items"
        )


@contextmanager
def _jsonl(path: Path) -> Iterator[Callable[[Rows], None]]:
    with open(path, "w", encoding="utf-8") as file:
        yield lambda rows: file.writelines(
            f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows
        )


@contextmanager
def _parquet(path: Path) -> Iterator[Callable[[Rows], None]]:
    with pq.ParquetWriter(path, SCHEMA) as writer:
        yield lambda rows: writer.write_table(pa.Table.from_pylist(rows, SCHEMA))


_WRITERS = {".jsonl": _jsonl, ".parquet": _parquet}

"""Texts come back in the order asked for, however many buckets that takes."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llmrec.data.external_sort import ExternalSort


@pytest.mark.parametrize("bucket_bytes", [1 << 20, 400, 1])
def test_any_order_any_bucket_size(tmp_path: Path, bucket_bytes: int) -> None:
    spill = ExternalSort(tmp_path, bucket_bytes)
    n, rng = 1000, np.random.default_rng(0)
    spill.add(100, {"text": None, "session": None, "context": None})
    for start in range(100, n, 300):
        texts = pa.array([f"text {i}" for i in range(start, start + 300)])
        spill.add(300, {"text": texts, "session": None, "context": None})
    rows = rng.permutation(n)[:777]
    table = pa.concat_tables(list(spill.ordered(rows, 100)))
    assert table["text"].to_pylist() == [f"text {i}" if i >= 100 else "" for i in rows]
    assert set(table["context"].to_pylist()) == {"{}"}
    assert list(tmp_path.iterdir()) == []  # nothing stays behind


def test_without_texts_nothing_is_written(tmp_path: Path) -> None:
    spill = ExternalSort(tmp_path)
    spill.add(10, {"text": None, "session": None, "context": None})
    assert list(tmp_path.iterdir()) == []
    tables = list(spill.ordered(np.arange(7), part=3))
    assert [t.num_rows for t in tables] == [3, 3, 1]

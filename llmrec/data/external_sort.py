"""External sort of the events' texts: they wait on disk and come back in another order.

Texts come in file order and leave sorted by user and time. They are dealt into buckets by the
position they will have, then each bucket is sorted on its own, so memory holds one bucket.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

DEFAULTS = {"text": "", "session": "", "context": "{}"}
SCHEMA = pa.schema([(name, pa.string()) for name in DEFAULTS])
_WITH_POSITION = SCHEMA.append(pa.field("position", pa.int64()))
_BUCKET_BYTES = 64 << 20
_MOST_BUCKETS = 512  # each is an open file
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


class ExternalSort:
    """The texts of events, by the number of the event."""

    def __init__(self, folder: Path, bucket_bytes: int = _BUCKET_BYTES) -> None:
        self._folder, self._bucket_bytes = folder, bucket_bytes
        self._writer: Any = None
        self._rows = self._bytes = 0

    def add(self, n: int, columns: dict[str, pa.Array | None]) -> None:
        """Take the texts of the next ``n`` events; None: all have the default."""
        if self._writer is None:
            if all(columns[name] is None for name in DEFAULTS):
                self._rows += n
                return
            self._writer = pa.ipc.new_stream(str(self._folder / "texts"), SCHEMA, options=_OPTIONS)
            if self._rows:
                self._write(self._rows, dict.fromkeys(DEFAULTS))
        self._write(n, columns)
        self._rows += n

    def ordered(self, rows: np.ndarray, part: int) -> Iterator[pa.Table]:
        """Texts of the events ``rows``, in that order, in tables of any size.

        Args:
            rows: ``[m]`` event numbers, each at most once.
            part: rows a table where there are no texts at all.
        """
        if self._writer is None:
            for start in range(0, len(rows), part):
                yield _table(min(part, len(rows) - start), dict.fromkeys(DEFAULTS))
            return
        self._writer.close()
        wanted = -(-self._bytes // self._bucket_bytes)
        size = max(1, -(-len(rows) // max(1, min(wanted, _MOST_BUCKETS))))
        buckets = self._deal(rows, size)
        (self._folder / "texts").unlink()
        for bucket in buckets:
            with pa.memory_map(str(bucket)) as file:
                table = pa.ipc.open_stream(file).read_all()
            yield table.take(np.argsort(table["position"].to_numpy())).drop_columns("position")
            bucket.unlink()

    def _write(self, n: int, columns: dict[str, pa.Array | None]) -> None:
        table = _table(n, columns)
        self._bytes += table.nbytes
        self._writer.write_table(table)

    def _deal(self, rows: np.ndarray, size: int) -> list[Path]:
        position = np.full(self._rows, -1, dtype=np.int64)
        position[rows] = np.arange(len(rows))
        paths = [self._folder / f"texts-{i:03d}" for i in range(-(-len(rows) // size))]
        start = 0
        with ExitStack() as stack:
            writers = [
                stack.enter_context(pa.ipc.new_stream(str(p), _WITH_POSITION, options=_OPTIONS))
                for p in paths
            ]
            file = stack.enter_context(pa.memory_map(str(self._folder / "texts")))
            for batch in pa.ipc.open_stream(file):
                positions = position[start : start + batch.num_rows]
                start += batch.num_rows
                table = pa.Table.from_batches([batch]).append_column(
                    "position", pa.array(positions)
                )
                order = np.argsort(positions, kind="stable")
                edges = np.searchsorted(positions[order], np.arange(len(paths) + 1) * size)
                for i in np.flatnonzero(np.diff(edges)):
                    writers[i].write_table(table.take(order[edges[i] : edges[i + 1]]))
        return paths


def _table(n: int, columns: dict[str, pa.Array | None]) -> pa.Table:
    arrays = []
    for name, default in DEFAULTS.items():
        values = columns[name]
        arrays.append(
            pa.repeat(pa.scalar(default), n) if values is None else values.fill_null(default)
        )
    return pa.table(arrays, schema=SCHEMA)

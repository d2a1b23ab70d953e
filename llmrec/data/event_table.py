"""All events while ``ingest`` runs: small columns in memory, then ``events.parquet``.

An event takes 34 bytes of memory; its texts wait on disk (:mod:`llmrec.data.external_sort`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.data.external_sort import ExternalSort

SCHEMA = pa.schema(
    [
        ("user", pa.int32()),
        ("item", pa.int32()),
        ("type", pa.string()),
        ("timestamp", pa.float64()),
        ("rating", pa.float64()),
        ("text", pa.string()),
        ("session", pa.string()),
        ("context", pa.string()),
        ("split", pa.int8()),
    ]
)
_PART = 500_000  # rows a row group


@dataclass
class EventTable:
    """The numbers of all events, ``[n]`` each.

    Attributes:
        user, item: int32 codes.
        kind: int8, position in the types of the settings.
        time, rating: float64, NaN unknown.
        split: int8, the split that the data itself gives it.
        row: int64, number of the event among those that were read and kept.
    """

    user: np.ndarray
    item: np.ndarray
    kind: np.ndarray
    time: np.ndarray
    rating: np.ndarray
    split: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def take(self, index: np.ndarray) -> None:
        """Keep or reorder, in place, one column at a time so that memory holds no second table."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[index])

    def remove(self, mask: np.ndarray) -> EventTable:
        """Take the events of a bool mask out, into a table of their own."""
        removed = []
        for field in fields(self):
            column = getattr(self, field.name)
            removed.append(column[mask])
            setattr(self, field.name, column[~mask])
        return EventTable(*removed)

    def append(self, more: EventTable) -> None:
        """Add the events of another table at the end."""
        for field in fields(self):
            columns = getattr(self, field.name), getattr(more, field.name)
            setattr(self, field.name, np.concatenate(columns))

    def write(
        self, path: Path, split: np.ndarray, texts: ExternalSort, types: Sequence[str]
    ) -> None:
        """Write ``events.parquet``: the events in their order, joined with their texts.

        Args:
            split: int8 ``[n]``.
            types: names by ``kind``.
        """
        names = pa.array(types)
        start = 0
        with pq.ParquetWriter(path, SCHEMA) as writer:
            for table in texts.ordered(self.row, _PART):
                part = slice(start, start + table.num_rows)
                start += table.num_rows
                columns = [
                    pa.array(self.user[part]),
                    pa.array(self.item[part]),
                    names.take(pa.array(self.kind[part])),
                    pa.array(self.time[part], from_pandas=True),  # NaN becomes null
                    pa.array(self.rating[part], from_pandas=True),
                    *table.columns,
                    pa.array(split[part]),
                ]
                writer.write_table(pa.table(columns, schema=SCHEMA))

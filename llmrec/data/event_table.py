"""All events while ``ingest`` runs: small columns in memory, then ``events.parquet``.

An event takes 34 bytes of memory, 38 with baskets; its texts wait on disk
(:mod:`llmrec.data.external_sort`).
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
_BASKET = pa.field("basket", pa.int32())
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
        basket: int32, the events that are one basket; where events are not split by baskets, None.
            While events are read, the code of its session, -1 for none.
    """

    user: np.ndarray
    item: np.ndarray
    kind: np.ndarray
    time: np.ndarray
    rating: np.ndarray
    split: np.ndarray
    row: np.ndarray
    basket: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.user)

    def take(self, index: np.ndarray) -> None:
        """Keep or reorder, in place, one column at a time so that memory holds no second table."""
        for name in self._columns():
            setattr(self, name, getattr(self, name)[index])

    def remove(self, mask: np.ndarray) -> EventTable:
        """Take the events of a bool mask out, into a table of their own."""
        removed = {}
        for name in self._columns():
            column = getattr(self, name)
            removed[name] = column[mask]
            setattr(self, name, column[~mask])
        return EventTable(**removed)

    def append(self, more: EventTable) -> None:
        """Add the events of another table at the end."""
        for name in self._columns():
            setattr(self, name, np.concatenate([getattr(self, name), getattr(more, name)]))

    def _columns(self) -> list[str]:
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

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
        schema = SCHEMA if self.basket is None else SCHEMA.append(_BASKET)
        with pq.ParquetWriter(path, schema) as writer:
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
                if self.basket is not None:
                    columns.append(pa.array(self.basket[part]))
                writer.write_table(pa.table(columns, schema=schema))

"""Logs of shown items in the form of the Open Bandit Dataset, and policies to ask them about.

A log is a CSV file with the columns ``item_id``, ``click`` (0 or 1) and ``propensity_score`` (the
probability with which the item was shown at its position), and, where there are several,
``position``; ``timestamp`` and any further columns may be there. A policy is a CSV file with
``item_id``, ``probability`` and, where the log has it, ``position``: what it shows at a position
does not depend on who is there.

The data set: Saito, Aihara, Matsutani & Narita, *Open Bandit Dataset and Pipeline*, NeurIPS 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from llmrec.errors import ConfigError, DataError, one_line
from llmrec.experiments.off_policy import BanditLog

UNIFORM = "uniform"
_TOLERANCE = 1e-3  # of the sum of a policy's probabilities


@dataclass(frozen=True)
class ShownItems:
    """A log as it was read; a row is one item at one position.

    Attributes:
        items: item ids, in the order of their numbers.
        item: int ``[n]``, their numbers.
        positions: of the rows, in rising order; one for a log without the column.
        position: int ``[n]``, row of ``positions``.
        click, propensity: float ``[n]``.
    """

    items: list[str]
    item: np.ndarray
    positions: list[str]
    position: np.ndarray
    click: np.ndarray
    propensity: np.ndarray

    def asked_for(self, policy: np.ndarray) -> BanditLog:
        """The log with the probabilities of a target.

        Args:
            policy: float ``[positions, items]``, as :func:`read_policy` gives it.
        """
        places, items = policy.shape
        groups = np.zeros((places, places * items))
        for row in range(places):
            groups[row, row * items : (row + 1) * items] = policy[row]
        return BanditLog(
            self.click,
            self.propensity,
            policy[self.position, self.item],
            self.position * items + self.item,
            groups,
            self.position,
        )


def read_log(path: Path) -> ShownItems:
    """Read a log.

    Raises:
        DataError: naming the file and the column or row.
    """
    table = _read(path, ("item_id", "click", "propensity_score"), ("position",))
    click = _numbers(path, table, "click")
    propensity = _numbers(path, table, "propensity_score")
    _check(path, "click", (click == 0) | (click == 1), click, "is neither 0 nor 1")
    good = (propensity > 0) & (propensity <= 1)
    _check(path, "propensity_score", good, propensity, "is not in (0, 1]")
    items, item = _numbered(path, table, "item_id")
    positions, position = ["1"], np.zeros(len(click), dtype=np.int64)
    if "position" in table.column_names:
        positions, position = _numbered(path, table, "position")
    return ShownItems(items, item, positions, position, click, propensity)


def read_policy(policy: str, log: ShownItems) -> np.ndarray:
    """What a policy would show, float ``[positions, items]``.

    Args:
        policy: ``uniform``, over the items of the log, or a CSV file.

    Raises:
        ConfigError: if there is no such file.
        DataError: if its probabilities do not make 1 at each position of the log, or it may show
            an item that the log never did.
    """
    shape = len(log.positions), len(log.items)
    if policy == UNIFORM:
        return np.full(shape, 1 / shape[1])
    path = Path(policy)
    if not path.is_file():
        raise ConfigError(f"--policy: {policy!r} is neither {UNIFORM!r} nor a CSV file")
    table = _read(path, ("item_id", "probability"), ("position",))
    probability = _numbers(path, table, "probability")
    good = (probability >= 0) & (probability <= 1)
    _check(path, "probability", good, probability, "is not in [0, 1]")
    item = _known(path, table, "item_id", log.items)
    if "position" in table.column_names:
        position = _known(path, table, "position", log.positions)
    elif shape[0] == 1:
        position = np.zeros(len(item), dtype=np.int64)
    else:
        raise DataError(f"{path}: has no column 'position', and the log has {shape[0]} positions")
    cell = position * shape[1] + item
    if len(np.unique(cell)) < len(cell):
        raise DataError(f"{path}: an item occurs twice at one position")
    found = np.zeros(shape)
    found[position, item] = probability
    for name, total in zip(log.positions, found.sum(axis=1).tolist(), strict=True):
        if not math.isclose(total, 1, abs_tol=_TOLERANCE):
            raise DataError(f"{path}: the probabilities of position {name} make {total:g}, not 1")
    return found


def _read(path: Path, needed: tuple[str, ...], optional: tuple[str, ...]) -> pa.Table:
    texts = pa_csv.ConvertOptions(column_types={name: pa.string() for name in (*needed, *optional)})
    try:
        table = pa_csv.read_csv(path, convert_options=texts)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as CSV ({one_line(error)})") from None
    for name in needed:
        if name not in table.column_names:
            raise DataError(f"{path}: has no column {name!r}; it needs {', '.join(needed)}")
    if not len(table):
        raise DataError(f"{path}: has no rows")
    return table.select([name for name in (*needed, *optional) if name in table.column_names])


def _numbers(path: Path, table: pa.Table, column: str) -> np.ndarray:
    found = np.full(len(table), np.nan)
    for row, text in enumerate(table[column].to_pylist()):
        try:
            found[row] = float(text)
        except (TypeError, ValueError):
            raise DataError(f"{path}: row {row + 2}: {column} {text!r} is not a number") from None
    return found


def _numbered(path: Path, table: pa.Table, column: str) -> tuple[list[str], np.ndarray]:
    """Names in order, whole numbers by size, and the number of each row's name."""
    texts = _texts(path, table, column)
    names = sorted(set(texts), key=lambda name: (not name.isdigit(), len(name), name))
    number = {name: at for at, name in enumerate(names)}
    return names, np.array([number[text] for text in texts], dtype=np.int64)


def _known(path: Path, table: pa.Table, column: str, names: list[str]) -> np.ndarray:
    number = {name: at for at, name in enumerate(names)}
    texts = _texts(path, table, column)
    for row, text in enumerate(texts):
        if text not in number:
            raise DataError(
                f"{path}: row {row + 2}: {column} {text!r} is not in the log, which says nothing "
                "of it"
            )
    return np.array([number[text] for text in texts], dtype=np.int64)


def _texts(path: Path, table: pa.Table, column: str) -> list[str]:
    texts: list[Any] = table[column].to_pylist()
    for row, text in enumerate(texts):
        if not text:
            raise DataError(f"{path}: row {row + 2}: {column} is empty")
    return texts


def _check(path: Path, column: str, good: np.ndarray, values: np.ndarray, problem: str) -> None:
    wrong = np.flatnonzero(~good)
    if len(wrong):
        row = int(wrong[0])
        raise DataError(f"{path}: row {row + 2}: {column} {values[row]:g} {problem}")

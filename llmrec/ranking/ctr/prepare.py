"""From folders to what a head is trained on: lists, their split by time, the shelf, the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from llmrec.captions.categorical import CategoricalFeatures, load_categorical
from llmrec.content.features.fused import load_fused
from llmrec.data.dataset import SPLIT_CODES, Dataset
from llmrec.errors import ConfigError, DataError
from llmrec.ranking.ctr.features import Assembler, Inputs, Signals
from llmrec.ranking.ctr.lists import Lists
from llmrec.ranking.ctr.log import Log
from llmrec.ranking.ctr.moments import Moments, moments_of
from llmrec.ranking.ctr.settings import Past
from llmrec.ranking.ctr.shelf import COUNTS, Happenings, Shelf, first_seen

_CHUNK = 4096  # moments whose inputs are made at once


@dataclass(frozen=True)
class Boundaries:
    """Where the parts of a log meet, seconds since 1970 UTC.

    Attributes:
        validation: what is not earlier is not learned from.
        test: what is not earlier is only measured on.
    """

    validation: float
    test: float

    def parts(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """Rows of each part: int64 arrays by ``train``, ``validation`` and ``test``."""
        part = (times >= self.validation).astype(int) + (times >= self.test)
        return {name: np.flatnonzero(part == code) for name, code in SPLIT_CODES.items()}


def boundaries(dataset: Dataset) -> Boundaries:
    """Where a dataset that was split by time has its boundaries.

    Raises:
        ConfigError: if it was not.
    """
    table = dataset.events.select(["timestamp", "split"])
    time = table["timestamp"].to_numpy(zero_copy_only=False).astype(np.float64)
    split = table["split"].to_numpy()
    first, last = {}, {}
    for name, code in SPLIT_CODES.items():
        of_part = time[split == code]
        if not len(of_part) or np.isnan(of_part).any():
            raise ConfigError(
                f"{dataset.folder}: has no {name} events with times; click probabilities need "
                "`ingest: {split: global-time}`"
            )
        first[name], last[name] = float(of_part.min()), float(of_part.max())
    if last["train"] >= first["validation"] or last["validation"] >= first["test"]:
        raise ConfigError(
            f"{dataset.folder}: is not split by time, so what a model learned from lies after what "
            "it is measured on; set `ingest: {split: global-time}`"
        )
    return Boundaries(first["validation"], first["test"])


def make_shelf(
    dataset: Dataset, fused: np.ndarray, said: CategoricalFeatures | None,
    lists: Lists, log: Log, happened: Happenings,
) -> Shelf:  # fmt: skip
    """The items as a head sees them.

    Args:
        fused: float32 ``[items, dim]``.
        said: captions as integers, or None.
        lists, log, happened: what arrival and totals come from.

    Raises:
        DataError: if a part is of another catalogue.
    """
    n = dataset.n_items
    for name, count in (
        ("fused vectors", len(fused)),
        ("captions", n if said is None else said.n_items),
    ):
        if count != n:
            raise DataError(f"the {name} are of {count} items, {dataset.folder} has {n}")
    names = () if said is None else tuple(said.fields)
    categories = dataset.items["categories"].to_pylist()
    last = [row[-1] if row else "" for row in categories]
    known = tuple(sorted({name for name in last if name}))
    place = {name: code for code, name in enumerate(known)}
    price = dataset.items["price"].to_numpy(zero_copy_only=False).astype(np.float32)
    return Shelf(
        fused=fused.astype(np.float32),
        fields=np.zeros((n, 0), np.int32)
        if said is None
        else np.stack([said.fields[name] for name in names], axis=1).astype(np.int32),
        field_names=names,
        field_sizes=() if said is None else tuple(said.sizes[name] for name in names),
        token_ids=np.zeros(0, np.int32) if said is None else said.token_ids,
        token_offsets=np.zeros(n + 1, np.int64) if said is None else said.token_offsets,
        token_size=0 if said is None else said.sizes["tokens"],
        price=price,
        arrived=first_seen(lists, log, n),
        category=np.array([place.get(name, -1) for name in last], dtype=np.int32),
        categories=known,
        totals=happened.totals(n),
    )


def read_said(folder: Path | None) -> CategoricalFeatures | None:
    """What ``llmrec embed captions`` wrote, or None."""
    return None if folder is None else load_categorical(folder)


def read_fused(folder: Path | None, n_items: int) -> np.ndarray:
    """What ``llmrec train fusion`` wrote; a column of zeros where there is nothing."""
    return np.zeros((n_items, 1), np.float32) if folder is None else load_fused(folder)


def assemble(
    assembler: Assembler,
    lists: Lists,
    log: Log,
    happened: Happenings,
    signals: Signals | None,
    past: Past,
    desc: str = "features",
) -> Inputs:
    """The inputs of lists, each as of its own time.

    Args:
        signals: what the sources say of the items shown, in the order of ``lists``; its counts
            are not read. None for no sources.
    """
    codes = assembler.context.encode(lists.contexts)
    parts = []
    for start in tqdm(range(0, len(lists), _CHUNK), desc=desc, unit="chunk", mininterval=2):
        rows = slice(start, start + _CHUNK)
        items, times = lists.items[rows], lists.time[rows]
        moments: Moments = moments_of(
            log, lists.user[rows], times, codes[lists.context_of[rows]], past.events
        )
        asked = np.repeat(times, items.shape[1])
        counts = happened.before(np.maximum(items, 0).ravel(), asked)
        shape = items.shape
        found = Signals(
            () if signals is None else signals.names,
            np.zeros((*shape, 0), np.int32) if signals is None else signals.rank[rows],
            np.zeros((*shape, 0), np.float32) if signals is None else signals.score[rows],
            counts.reshape(*shape, len(COUNTS)),
        )
        parts.append(assembler(moments, items, lists.position[rows], found))
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in parts[0].__dataclass_fields__
        if name != "names"
    }
    return Inputs(parts[0].names, **arrays)

"""Events and impressions of a dataset, split by time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from llmrec.content.features.blocks import load_fused
from llmrec.data import raw_files
from llmrec.data.dataset import SPLIT_CODES, Dataset
from llmrec.data.event_store import EventStore
from llmrec.errors import ConfigError, DataError
from llmrec.ranking.ctr.impressions import Impressions, read_impressions
from llmrec.ranking.ctr.item_features import ItemFeatures, available_from
from llmrec.ranking.ctr.settings import CtrConfig
from llmrec.ranking.retrieval.catalogue import Catalogue
from llmrec.stage import input_hashes


@dataclass(frozen=True)
class Folders:
    """Where everything comes from.

    Attributes:
        dataset: of ``llmrec ingest``, split by time, with every type of event.
        fusion: of ``llmrec train fusion``, or None.
        captions: of ``llmrec embed captions``, or None.
        engagement: of ``llmrec train engagement``, or None.
        models: of ``llmrec train``, the one that serves and earlier ones.
    """

    dataset: Path
    fusion: Path | None = None
    captions: Path | None = None
    engagement: Path | None = None
    models: tuple[Path, ...] = ()

    def inputs(self, config: CtrConfig) -> dict[str, str]:
        """What stands for each, and for the file of labels, among a stage's inputs."""
        models = {f"model/{number}": folder for number, folder in enumerate(self.models)}
        labels = config.labels.file
        return {
            **input_hashes(
                dataset=self.dataset,
                fusion=self.fusion,
                captions=self.captions,
                engagement=self.engagement,
                **models,
            ),
            **({} if labels is None else raw_files.input_hashes("labels", labels)),
        }

    def fused(self, n_items: int) -> np.ndarray:
        """The fused vectors; a column of zeros where there are none."""
        if self.fusion is None:
            return np.zeros((n_items, 1), np.float32)
        return load_fused(self.fusion)


@dataclass(frozen=True)
class TimeSplit:
    """Where the parts of a log meet, seconds since 1970 UTC.

    Attributes:
        validation: what is not earlier is not trained on.
        test: what is not earlier is only measured on.
    """

    validation: float
    test: float

    @classmethod
    def of(cls, dataset: Dataset) -> TimeSplit:
        """The boundaries of a dataset that was split by time.

        Raises:
            ConfigError: if it was not.
        """
        table = dataset.sequence_events.select(["timestamp", "split"])
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
                f"{dataset.folder}: is not split by time, so a model is trained on what lies after "
                "what it is measured on; set `ingest: {split: global-time}`"
            )
        return cls(first["validation"], first["test"])

    def parts(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """Rows of each part: int64 arrays by ``train``, ``validation`` and ``test``."""
        part = (times >= self.validation).astype(int) + (times >= self.test)
        return {name: np.flatnonzero(part == code) for name, code in SPLIT_CODES.items()}


@dataclass(frozen=True, eq=False)
class ImpressionLog:
    """Events and impressions of a dataset.

    Attributes:
        dataset: the items and the events.
        events: all of them.
        impressions: by time.
        split: where training, validation and test meet.
    """

    dataset: Dataset
    events: EventStore
    impressions: Impressions
    split: TimeSplit

    @classmethod
    def open(cls, config: CtrConfig, folders: Folders, seed: int) -> ImpressionLog:
        """Read events and impressions.

        Raises:
            ConfigError: if the dataset is not split by time.
            DataError: naming file, row and field; if a part has no impression, or the training or
                validation part not both clicks and others.
        """
        dataset = Dataset(folders.dataset)
        split = TimeSplit.of(dataset)
        events = EventStore.open(dataset)
        contexts = dataset.events["context"].to_pylist()
        impressions = read_impressions(config.labels, events, contexts, dataset.item_index, seed)
        impressions = impressions.with_user_attributes(dataset.user_attributes)
        for name, rows in split.parts(impressions.time).items():
            _check_part(name, impressions.select(rows), impressions.time, folders.dataset)
        return cls(dataset, events, impressions, split)

    def catalogue(self, config: CtrConfig, folders: Folders) -> Catalogue:
        """The items as candidate sources read them, without a language model."""
        fused = folders.fused(self.dataset.n_items)
        return Catalogue(fused, config.retrieval, available_from=available_from(self.dataset))


def _check_part(name: str, part: Impressions, times: np.ndarray, dataset: Path) -> None:
    """Refuse a part that nothing can be learned from, or measured on.

    Args:
        times: of the impressions of all parts.

    Raises:
        DataError: naming the part.
    """
    if not len(part):
        days = [_day(time) for time in (times.min(), times.max())]
        raise DataError(
            f"labels: there is no impression in the {name} part of {dataset}; they are from "
            f"{days[0]} to {days[1]}, and impressions and events must be of the same time"
        )
    click = part.click[part.mask]
    if name == "test" or len(np.unique(click)) > 1:
        return
    what = "no click" if not click.any() else "nothing that was not clicked"
    raise DataError(
        f"labels: the {name} part of {dataset} has {what} among {click.size:,} shown items, and a "
        "probability is learned from both; give a log with both, or change the shares of "
        "`ingest: {split: global-time}`"
    )


def _day(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).date().isoformat()


@dataclass(frozen=True, eq=False)
class ImpressionRows:
    """The impressions of one part, a row an item.

    Attributes:
        impression, column: int64 ``[rows]``, where the item is in all impressions.
        item, user: int64 ``[rows]``; each unknown user has a number of their own below -1.
        click: float64 ``[rows]``.
        fields: ``category`` and ``position``, int64 ``[rows]``, -1 unknown.
    """

    impression: np.ndarray
    column: np.ndarray
    item: np.ndarray
    user: np.ndarray
    click: np.ndarray
    fields: dict[str, np.ndarray]

    @classmethod
    def of(
        cls, impressions: Impressions, rows: np.ndarray, item_features: ItemFeatures
    ) -> ImpressionRows:
        where, column = np.nonzero(impressions.mask[rows])
        at = rows[where]
        item = impressions.items[at, column].astype(np.int64)
        user = np.where(impressions.user[at] >= 0, impressions.user[at].astype(np.int64), -2 - at)
        fields = {
            "category": item_features.category[item].astype(np.int64),
            "position": impressions.position[at, column].astype(np.int64),
        }
        click = impressions.click[at, column].astype(np.float64)
        return cls(at, column, item, user, click, fields)

    @property
    def people(self) -> np.ndarray:
        """int64 ``[rows]``, users numbered from 0 on."""
        return np.unique(self.user, return_inverse=True)[1]

    def take(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Values ``[impressions of the part, positions, ...]`` as rows.

        Args:
            rows: the part's rows of all impressions.
        """
        return values[np.searchsorted(rows, self.impression), self.column]

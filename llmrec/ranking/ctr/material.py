"""Everything a click model is trained and measured on, gathered once from the stages' folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llmrec.config import as_dict
from llmrec.data.dataset import Dataset
from llmrec.errors import ArtifactError, ConfigError, DataError
from llmrec.ranking.ctr.features import Assembler, Inputs, Signals, shrunk_rates
from llmrec.ranking.ctr.lists import Lists, read_lists
from llmrec.ranking.ctr.log import Log, open_log
from llmrec.ranking.ctr.loss import Targets
from llmrec.ranking.ctr.moments import ContextIds
from llmrec.ranking.ctr.prepare import (
    Boundaries,
    assemble,
    boundaries,
    make_shelf,
    read_fused,
    read_said,
)
from llmrec.ranking.ctr.settings import CtrConfig
from llmrec.ranking.ctr.shelf import Happenings, Shelf, happenings
from llmrec.ranking.ctr.signals import Ranked, describe_lists, open_models, snapshots_of
from llmrec.ranking.retrieval.snapshot import Snapshots
from llmrec.ranking.retrieval.standard import StandardSources
from llmrec.stage import Manifest, StageRun, file_hash, folder_hash, read_manifest, run_stage

SIGNALS_STAGE = "ctr-signals"
_SIGNALS, _SNAPSHOTS = "signals.safetensors", "snapshots"


@dataclass(frozen=True)
class Folders:
    """Where everything comes from.

    Attributes:
        dataset: of ``llmrec ingest``, split by time, that the models have learned from.
        log: of ``llmrec ingest`` with every type of event and the same items; None for ``dataset``.
        fusion: of ``llmrec train fusion``, or None.
        captions: of ``llmrec embed captions``, or None.
        models: of ``llmrec train``, the one that serves and earlier ones.
    """

    dataset: Path
    log: Path | None = None
    fusion: Path | None = None
    captions: Path | None = None
    models: tuple[Path, ...] = ()

    def hashes(self) -> dict[str, str]:
        """What stands for each among a stage's inputs."""
        named = {"dataset": self.dataset, "log": self.log, "fusion": self.fusion,
                 "captions": self.captions}  # fmt: skip
        named |= {f"model/{number}": folder for number, folder in enumerate(self.models)}
        return {name: folder_hash(folder) for name, folder in named.items() if folder is not None}


@dataclass(frozen=True, eq=False)
class Shop:
    """The log of a shop and what was shown in it.

    Attributes:
        dataset: the items, and the events that the models have learned from.
        log: all events.
        lists: what was shown, by time.
        bounds: where training, validation and test meet.
    """

    dataset: Dataset
    log: Log
    lists: Lists
    bounds: Boundaries


@dataclass(frozen=True, eq=False)
class Material:
    """What heads are trained and measured on.

    Attributes:
        parts: rows of ``lists`` by ``train``, ``validation`` and ``test``.
        signals: what the sources say of all lists.
        inputs, targets: of all lists.
        rates: of all items in the training part.
    """

    shop: Shop
    parts: dict[str, np.ndarray]
    shelf: Shelf
    happened: Happenings
    context: ContextIds
    rates: tuple[float, float, float, float]
    assembler: Assembler
    signals: Signals
    snapshots: Snapshots
    inputs: Inputs
    targets: Targets

    def part(self, name: str, inputs: Inputs | None = None) -> tuple[Inputs, Targets]:
        """Inputs and targets of one part; ``inputs`` instead of all of them."""
        rows = self.parts[name]
        return (self.inputs if inputs is None else inputs).select(rows), self.targets.select(rows)


@dataclass(frozen=True, eq=False)
class Rows:
    """What was shown in one part, a row an item.

    Attributes:
        lists: int64 ``[rows]``, row of all lists; place: int64 ``[rows]``.
        item, user: int64 ``[rows]``; somebody unknown has a number of their own below -1.
        click: float64 ``[rows]``.
        fields: ``category`` and ``position``, int64 ``[rows]``, -1 unknown.
    """

    lists: np.ndarray
    place: np.ndarray
    item: np.ndarray
    user: np.ndarray
    click: np.ndarray
    fields: dict[str, np.ndarray]

    @classmethod
    def of(cls, lists: Lists, rows: np.ndarray, shelf: Shelf) -> Rows:
        where, place = np.nonzero(lists.mask[rows])
        at = rows[where]
        item = lists.items[at, place].astype(np.int64)
        user = np.where(lists.user[at] >= 0, lists.user[at].astype(np.int64), -2 - at)
        fields = {
            "category": shelf.category[item].astype(np.int64),
            "position": lists.position[at, place].astype(np.int64),
        }
        click = lists.click[at, place].astype(np.float64)
        return cls(at, place, item, user, click, fields)

    @property
    def people(self) -> np.ndarray:
        """int64 ``[rows]``, from 0 on."""
        return np.unique(self.user, return_inverse=True)[1]

    def take(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Values ``[lists of the part, places, ...]`` as rows.

        Args:
            rows: the part's rows of all lists.
        """
        return values[np.searchsorted(rows, self.lists), self.place]


def open_shop(config: CtrConfig, folders: Folders, seed: int) -> Shop:
    """Read the log and what was shown.

    Raises:
        ConfigError: if the dataset is not split by time, or the log is of other items.
        DataError: naming file, row and field.
    """
    dataset = Dataset(folders.dataset)
    bounds = boundaries(dataset)
    logged = dataset if folders.log is None else Dataset(folders.log)
    if logged.item_ids != dataset.item_ids:
        raise ConfigError(
            f"{folders.log}: its items are not those of {folders.dataset}; ingest both from the "
            "same item file"
        )
    log = open_log(logged)
    contexts = logged.events["context"].to_pylist()
    lists = read_lists(config.labels, log, contexts, dataset.item_index, seed)
    for name, rows in bounds.parts(lists.time).items():
        if not len(rows):
            raise DataError(
                f"labels: nothing was shown in the {name} part of {folders.dataset}; the lists and "
                "the events must be of the same time"
            )
    return Shop(dataset, log, lists, bounds)


def run_signals(
    config: CtrConfig,
    folders: Folders,
    out: Path,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> Path:
    """Ask every source about everything that was shown, or find it done."""
    settings = {name: as_dict(getattr(config, name)) for name in ("labels", "past", "retrieval")}
    settings["snapshots"] = {"count": config.snapshots}
    inputs = {k: v for k, v in folders.hashes().items() if k != "captions"}
    if config.labels.file is not None:
        inputs["labels"] = file_hash(config.labels.file)

    def work(stage: StageRun) -> None:
        shop = open_shop(config, folders, seed)
        models = open_models(folders.models, shop.dataset.n_items)
        sources = make_sources(config, folders, shop)
        snapshots = snapshots_of(
            shop.log, config.past, config.retrieval, shop.dataset.n_items, config.snapshots
        )
        signals = describe_lists(shop.lists, shop.log, sources, snapshots, models, config)
        save_file(
            {"rank": signals.rank, "score": signals.score},
            stage.folder / _SIGNALS,
            metadata={"names": ",".join(signals.names)},
        )
        snapshots.save(stage.folder / _SNAPSHOTS)
        stage.counts.update(lists=len(shop.lists), sources=list(signals.names))

    manifest = Manifest(SIGNALS_STAGE, settings, inputs, seed=seed)
    return run_stage(out, manifest, work, log=log)


def make_sources(
    config: CtrConfig, folders: Folders, shop: Shop, model: Ranked | None = None
) -> StandardSources:
    """The sources of candidates of a shop."""
    from llmrec.ranking.ctr.shelf import first_seen

    n = shop.dataset.n_items
    seen = first_seen(shop.lists, shop.log, n)
    return StandardSources(
        read_fused(folders.fusion, n),
        config.retrieval,
        model=None if model is None else model.model,
        first_seen=np.where(np.isfinite(seen), seen, np.nan),
    )


def read_signals(folder: Path) -> tuple[Signals, Snapshots]:
    """Read what :func:`run_signals` wrote.

    Raises:
        ArtifactError: if it is missing or damaged.
    """
    names = tuple(read_manifest(folder, SIGNALS_STAGE).counts["sources"])
    try:
        arrays = load_file(folder / _SIGNALS)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"{folder / _SIGNALS}: cannot be read ({error}); remove {folder} and run it again"
        ) from None
    rank, score = arrays["rank"], arrays["score"]
    return Signals(names, rank, score, np.zeros((*rank.shape[:2], 0))), Snapshots.load(
        folder / _SNAPSHOTS
    )


def gather(config: CtrConfig, folders: Folders, signals: Path, seed: int = 0) -> Material:
    """Put together what heads are trained and measured on.

    Args:
        signals: folder of :func:`run_signals`.

    Raises:
        ConfigError, DataError, ArtifactError: where folders and settings do not fit together.
    """
    shop = open_shop(config, folders, seed)
    said_by, snapshots = read_signals(signals)
    lists, log = shop.lists, shop.log
    parts = shop.bounds.parts(lists.time)
    happened = happenings(lists, log)
    n = shop.dataset.n_items
    shelf = make_shelf(
        shop.dataset, read_fused(folders.fusion, n), read_said(folders.captions), lists, log,
        happened,
    )  # fmt: skip
    learned = lists.select(parts["train"])
    context = ContextIds.learn([learned.contexts[row] for row in learned.context_of])
    known = happened.before(np.arange(n), np.full(n, shop.bounds.validation))
    rates = shrunk_rates(known)
    assembler = Assembler(shelf, config.past, context, rates, config.holidays)
    inputs = assemble(assembler, lists, log, happened, said_by, config.past)
    return Material(
        shop, parts, shelf, happened, context, rates, assembler, said_by, snapshots, inputs,
        Targets.of(lists),
    )  # fmt: skip

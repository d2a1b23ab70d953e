"""``llmrec train engagement``: what share of a video customers will watch, from how it moves.

    llmrec train engagement --dataset runs/shop/dataset --media runs/shop/media_features \\
        --watches data/watches.jsonl --out runs/shop/engagement

A ridge regression from the vectors of ``llmrec embed media`` to the mean share that was watched of
each video, as a player logs it. An item's own views have no part in what is predicted of it: videos
are predicted in folds, each by what was learned from the others. Of a log that was split by time,
what comes after the training part is left out.

The folder holds ``engagement.safetensors``: ``watched``, float32 ``[n_items]``, the predicted
share, NaN where there is no video, which ``llmrec ctr --engagement`` takes as a feature of an item.
Its manifest says how much of the variance between videos is explained (R2), from the video's vector
and, beside it, from that of the item's picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from llmrec.config import as_dict, check_keys, check_ranges
from llmrec.content.features.media import load_media_features
from llmrec.data import raw_files
from llmrec.data.columns import identifiers, times
from llmrec.data.dataset import Dataset
from llmrec.errors import ArtifactError, DataError, require
from llmrec.ranking.ctr.impression_log import TimeSplit
from llmrec.stage import Manifest, StageRun, input_hashes, read_manifest, reading, run_stage

STAGE = "engagement"
_FILE, _WATCHED = "engagement.safetensors", "watched"
_FIELDS = ("item_id", "timestamp", "watched")
_PENALTIES = np.logspace(-3, 3, 13)


@dataclass(frozen=True)
class EngagementConfig:
    """Settings of ``llmrec train engagement``.

    Attributes:
        watches: file of views: the item, the time, and the share of its video that was watched.
        columns: our field -> their column, where the names differ.
        min_views: videos with fewer are not learned from.
        folds: parts of the videos, each predicted by what was learned from the others.
    """

    watches: Path
    columns: dict[str, str] = field(default_factory=dict)
    min_views: int = 3
    folds: int = 5

    def __post_init__(self) -> None:
        check_keys(self.columns, _FIELDS, "columns")
        check_ranges(self, "[1, inf)", "min_views", prefix="engagement.")
        check_ranges(self, "[2, inf)", "folds", prefix="engagement.")


def run(config: EngagementConfig, dataset: Path, media: Path, out: Path, seed: int = 0) -> Path:
    """Learn what is watched and predict it of every video.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``, split by time.
        media: folder of ``llmrec embed media``.
        out: folder to write.
        seed: of the folds.

    Raises:
        ArtifactError: if a folder is not what it must be.
        ConfigError: if the dataset is not split by time.
        DataError: naming file and row; if there is too little to learn from.
    """
    inputs = input_hashes(dataset=dataset, media=media)
    inputs |= raw_files.input_hashes("watches", config.watches)

    def work(stage: StageRun) -> None:
        selection = require("sklearn.model_selection", "train")
        metrics = require("sklearn.metrics", "train")
        shop, blocks = Dataset(dataset), load_media_features(media)
        if "video" not in blocks or len(blocks["video"]) != shop.n_items:
            raise ArtifactError(
                f"{media}: has no vectors of the videos of {dataset}; run llmrec embed media on "
                "this dataset with the modality video"
            )
        views, watched = _sums(config, shop, stage)
        filmed = blocks["video_present"].astype(bool)
        known = np.flatnonzero(filmed & (views >= config.min_views))
        if len(known) < 2 * config.folds:
            raise DataError(
                f"{config.watches}: {len(known)} videos have {config.min_views} views or more "
                f"before the validation part; at least {2 * config.folds} are needed"
            )
        mean = watched[known] / views[known]
        predicted = np.full(shop.n_items, np.nan, np.float32)
        vectors, weights = blocks["video"].astype(np.float64), views[known]  # many views count more
        learned = _ridge().fit(vectors[known], mean, sample_weight=weights)
        predicted[filmed] = learned.predict(vectors[filmed])
        folds = selection.KFold(config.folds, shuffle=True, random_state=seed)
        for name in ("image", "video"):
            if name in blocks:
                of_others = selection.cross_val_predict(
                    _ridge(),
                    blocks[name][known].astype(np.float64),
                    mean,
                    cv=folds,
                    params={"sample_weight": weights},
                )
                r2 = metrics.r2_score(mean, of_others, sample_weight=weights)
                stage.counts[f"r2_{name}"] = float(r2)
        predicted[known] = of_others  # of the video, the last one
        stage.counts |= {"videos": int(filmed.sum()), "learned_from": len(known)}
        save_file({_WATCHED: np.clip(predicted, 0, 1)}, stage.folder / _FILE)
        print(_summary(stage.counts))

    return run_stage(out, Manifest(STAGE, as_dict(config), inputs, seed=seed), work)


def load_engagement(folder: Path) -> np.ndarray:
    """The predicted shares: float32 ``[n_items]``, NaN where there is no video.

    Raises:
        ArtifactError: if the folder is missing, damaged or of another stage.
    """
    read_manifest(folder, STAGE)
    with reading(folder / _FILE, "llmrec train engagement"):
        return load_file(folder / _FILE)[_WATCHED]


def _sums(
    config: EngagementConfig, shop: Dataset, stage: StageRun
) -> tuple[np.ndarray, np.ndarray]:
    """Views of each item's video and the sum of their shares, float64 ``[n_items]`` each."""
    until = TimeSplit.of(shop).validation
    views, watched, unknown, later = np.zeros(shop.n_items), np.zeros(shop.n_items), 0, 0
    for items, when, shares in _rows(config, shop):
        late = ~(when < until)
        unknown, later = unknown + int((items < 0).sum()), later + int(late.sum())
        used = (items >= 0) & ~late
        np.add.at(views, items[used], 1)
        np.add.at(watched, items[used], shares[used])
    stage.counts |= {"views": int(views.sum()), "views_later": later, "views_unknown": unknown}
    return views, watched


def _rows(
    config: EngagementConfig, shop: Dataset
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Item indices (-1 unknown), times and shares, chunk by chunk."""
    theirs = {name: config.columns.get(name, name) for name in _FIELDS}
    required = {theirs[name]: f"name the column in columns: {{{name}: ...}}" for name in _FIELDS}
    for path in raw_files.files_at(config.watches):
        for chunk in raw_files.chunks(path, list(theirs.values()), required):
            named = chunk.named(theirs)
            names = identifiers(named.columns["item_id"]).to_pylist()
            shares = np.array([_share(value) for value in named.columns["watched"].to_pylist()])
            wrong = np.flatnonzero(~((shares >= 0) & (shares <= 1)))
            if len(wrong):
                raise DataError(
                    f"{path}: row {chunk.rows[wrong[0]]}: {theirs['watched']} is not a share of a "
                    "video, from 0 to 1; divide by its length, and leave out rows without one"
                )
            items = np.array([shop.item_index.get(name, -1) for name in names], np.int64)
            yield items, times(named, "timestamp"), shares


def _share(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def _ridge() -> Any:
    """Ridge regression; the penalty is cross-validated."""
    return require("sklearn.linear_model", "train").RidgeCV(_PENALTIES)


def _summary(counts: dict[str, Any]) -> str:
    picture = f", {counts['r2_image']:.2f} from pictures" if "r2_image" in counts else ""
    return (
        f"engagement: {counts['views']:,} views of {counts['learned_from']} of "
        f"{counts['videos']} videos; of videos not learned from, R2 of the share watched is "
        f"{counts['r2_video']:.2f} from how they move{picture}"
    )

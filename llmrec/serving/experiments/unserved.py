"""``llmrec experiment off-policy``: what a variant that was never shown would have earned.

    llmrec experiment off-policy --store URL --experiments FILE --variant semantic --bundle BUNDLE
    llmrec experiment off-policy --log all.csv --policy uniform

The first form reads lists whose first place was explored (``exploration:`` of the file): for each,
the variant ranks the items among which the first place was drawn, for the same person, with the
history of that moment; it would have shown its best one first, and the rest as it was. Item graphs
are those of the bundles, which know nothing of what came after. The context of the request (device,
place) is not kept, so a click model goes by the person's profile.
The second form reads logs in the form of the Open Bandit Dataset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.config import check_range
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError, DataError
from llmrec.experiments.bandit_log import UNIFORM, read_log, read_policy
from llmrec.experiments.off_policy import BanditLog, OffPolicy, estimate
from llmrec.metrics.plots import drawing, interval_bars
from llmrec.metrics.results import write_result
from llmrec.serving.bundle import Bundle
from llmrec.serving.catalogue.live import LiveCatalogue
from llmrec.serving.experiments.live import stored_config
from llmrec.serving.experiments.outcomes import by_metric
from llmrec.serving.experiments.settings import METRICS, find_experiment, read_experiments
from llmrec.serving.experiments.variants import Variants, open_others, with_variant
from llmrec.serving.history import dataset_attributes, dataset_histories
from llmrec.serving.live import LiveHistories
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest
from llmrec.serving.store import exposures
from llmrec.serving.store.database import Store
from llmrec.serving.store.tables import EXPLORED_LISTS

ESTIMATORS = ("logged", "ips", "snips", "doubly_robust")
_AT_ONCE = 64  # lists that are ranked together


def run(
    store: str | None = None,
    experiments: Path | None = None,
    experiment: str | None = None,
    variant: str | None = None,
    bundle: Path | None = None,
    dataset: Path | None = None,
    log: Path | None = None,
    policy: str = UNIFORM,
    clip: float | None = None,
    out: Path | None = None,
    seed: int = 0,
) -> None:
    """Estimate what a variant would have earned that was never shown (IPS, SNIPS, doubly robust).

    Args:
        store: URL of the service's database, with explored lists.
        experiments: file of llmrec serve --experiments that has the variant; without one it is of
            an experiment of /v1/experiments.
        experiment: its name; not needed where there is one.
        variant: which one; its share may be 0.
        bundle: that the service served.
        dataset: that the service was given, if any.
        log: a CSV file in the form of the Open Bandit Dataset, instead of all these.
        policy: of --log: uniform, or a CSV file of item_id, position and probability.
        clip: the largest weight; by default the square root of the number of rows.
        out: result file to write; a plot of the same name comes beside it.
        seed: draws the folds of the reward model.
    """
    if clip is not None:
        check_range(clip, "(0, inf)", "--clip")
    if log is not None:
        if store is not None:
            raise ConfigError("--log: is a log of its own; leave out --store")
        shown = read_log(log)
        logs = {METRICS[0]: shown.asked_for(read_policy(policy, shown))}
        name = policy if policy == UNIFORM else Path(policy).name
        source = log.name
    else:
        if store is None or variant is None or bundle is None:
            raise ConfigError("off-policy: needs --log, or --store, --variant and --bundle")
        logs = explored_logs(store, experiments, experiment, variant, bundle, dataset)
        name, source = variant, "explored lists of the store"
    found = {metric: estimate(one, clip, seed) for metric, one in logs.items()}
    print(as_text(name, found), end="")
    if out is not None:
        write_result(out, **_as_result(name, source, found), seed=seed)
        plot = _plot(found, out.with_suffix(".png"))
        print(f"experiment off-policy: wrote {out} and {plot}")


def explored_logs(
    store: str,
    experiments: Path | None,
    experiment: str | None,
    variant: str,
    bundle: Path,
    dataset: Path | None,
) -> dict[str, BanditLog]:
    """The explored lists of a store with what a variant would have put first, by metric.

    Raises:
        ConfigError: for a variant that there is not.
        DataError: if no list was explored.
    """
    if experiments is None:
        with Store(store) as database:
            config = stored_config(database)
    else:
        config = read_experiments(experiments)
    variants = find_experiment(config, experiment).variants
    if variant not in variants:
        raise ConfigError(f"--variant: {variant!r} is not one of {', '.join(variants)}")
    if variants[variant].sources is not None:
        raise ConfigError("--variant: one that sets sources proposes items that no list has")
    opened_bundle = Bundle(bundle)
    others = open_others(config, opened_bundle, Bundle)
    opened = None if dataset is None else Dataset(dataset)
    with Store(store) as database:
        live = LiveHistories(
            database,
            opened_bundle,
            None if opened is None else dataset_histories(opened),
            None if opened is None else dataset_attributes(opened),
            counts=False,  # a graph that knew the clicks would find them
        )
        loaded = {
            name: Recommender.load(one, attributes=live.attributes) for name, one in others.items()
        }
        recommender = Recommender.load(opened_bundle, attributes=live.attributes)
        for one in (recommender, *loaded.values()):
            LiveCatalogue(database, live, one)  # with the items that came since
        chosen = Variants(config, recommender, loaded).recommender_of(variants[variant])
        lists, rankings, results = _read(database)
        plain = [_request(live, row, items) for row, items in zip(lists, rankings, strict=True)]
        first = _first_choices(chosen, [with_variant(one, variants[variant]) for one in plain])
    return _logs(lists, rankings, first, by_metric(results))


def as_text(name: str, found: dict[str, OffPolicy]) -> str:
    """A table in Markdown."""
    lines = ["| metric | as logged | IPS | SNIPS | doubly robust |", "| --- " * 5 + "|"]
    for metric, one in found.items():
        figures = (getattr(one, estimator) for estimator in ESTIMATORS)
        cells = [f"{f.value:.4g} ({f.interval[0]:.4g} to {f.interval[1]:.4g})" for f in figures]
        lines.append(f"| {metric} | " + " | ".join(cells) + " |")
    one = next(iter(found.values()))
    lines += [
        "",
        f"{name}: {one.rows:,} rows, worth {one.effective:,.0f} of its own; weights above "
        f"{one.clip:.4g} are clipped ({one.clipped:.2%} of them); 95% intervals",
    ]
    return "\n".join(lines) + "\n"


def _read(store: Store) -> tuple[list[Any], list[list[str]], list[tuple[int, int, float, int]]]:
    """Explored lists, the items of each that the first place was drawn from as they ranked, and
    what came of it."""
    with store.read() as connection:
        rows = exposures.explored_lists(connection)
        most = max((row.places for row in rows), default=0)
        items = exposures.first_items(connection, most)
        found = exposures.outcomes(connection, EXPLORED_LISTS)
    if not rows:
        raise DataError(
            "--store: no first place was explored; serve with `exploration: {share: 0.02}`"
        )
    rankings = [_as_ranked(items[row.recommendation_id], row) for row in rows]
    results = [found.get(row.recommendation_id, (0, 0, 0.0, 0)) for row in rows]
    return rows, rankings, results


def _as_ranked(shown: Sequence[str], row: Any) -> list[str]:
    """The items before the first one was drawn."""
    items = list(shown[: row.places])
    items[0], items[row.chosen - 1] = items[row.chosen - 1], items[0]
    return items


def _request(live: LiveHistories, row: Any, items: list[str]) -> RecommendRequest:
    return RecommendRequest(
        _history_before(live, row),
        len(items),
        user=row.user_id,
        candidates=items,
        exclude_history=False,
        now=row.timestamp,
    )


def _history_before(live: LiveHistories, row: Any) -> list[Any]:
    """The history of a list's person when it was shown."""
    known = (live.history(row.user_id) or ()) if row.user_id is not None else ()
    return [
        event
        for event in known
        if not isinstance(event, dict)
        or event["timestamp"] is None
        or event["timestamp"] < row.timestamp
    ]


def _first_choices(recommender: Recommender, requests: list[RecommendRequest]) -> Iterator[str]:
    """The item that a variant puts first, of each request."""
    for start in range(0, len(requests), _AT_ONCE):
        for answer in recommender.answer_each(requests[start : start + _AT_ONCE]):
            if isinstance(answer, Exception):
                raise answer
            yield answer.recommendations[0].item_id


def _logs(
    lists: list[Any],
    rankings: list[list[str]],
    first: Iterator[str],
    rewards: dict[str, np.ndarray],
) -> dict[str, BanditLog]:
    places = max(len(items) for items in rankings)
    target_groups = np.zeros((len(lists), places))
    for row, (items, item) in enumerate(zip(rankings, first, strict=True)):
        target_groups[row, items.index(item)] = 1.0
    chosen = np.array([row.chosen - 1 for row in lists])
    target = target_groups[np.arange(len(lists)), chosen]
    propensity = np.array([row.propensity for row in lists])
    return {
        metric: BanditLog(reward, propensity, target, chosen, target_groups)
        for metric, reward in rewards.items()
    }


def _as_result(name: str, source: str, found: dict[str, OffPolicy]) -> dict[str, Any]:
    metrics: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    for metric, one in found.items():
        for estimator in ESTIMATORS:
            figure = getattr(one, estimator)
            if np.isfinite(figure.interval).all():
                intervals[f"{metric}_{estimator}"] = list(figure.interval)
            metrics[f"{metric}_{estimator}"] = figure.value
    one = next(iter(found.values()))
    metrics |= {
        "rows": one.rows,
        "effective_rows": one.effective,
        "clip": one.clip,
        "clipped_share": one.clipped,
    }
    return {"metrics": metrics, "intervals": intervals, "dataset": source, "model": name}


def _plot(found: dict[str, OffPolicy], path: Path) -> Path:
    with drawing(path, 1, len(found), figsize=(4.2 * len(found), 4), squeeze=False) as panels:
        for panel, (metric, one) in zip(panels[0], found.items(), strict=True):
            figures = [getattr(one, name) for name in ESTIMATORS]
            spans = [f.interval if np.isfinite(f.interval).all() else None for f in figures]
            names = [name.replace("_", " ") for name in ESTIMATORS]
            interval_bars(panel, names, [f.value for f in figures], spans)
            panel.set_title(metric)
            panel.tick_params(axis="x", rotation=30)
    return path

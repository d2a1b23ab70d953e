"""``llmrec experiment report FILE``: what each variant of an experiment has earned so far.

    llmrec experiment report experiments.yaml --store URL --out runs/summer
    llmrec experiment report --store URL                 # of /v1/experiments, as its own report

It may be read every day, and the experiment be stopped on what it says: intervals and p values are
those of :mod:`llmrec.experiments.sequential`, valid at all looks together.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.errors import DataError
from llmrec.experiments.sample_ratio import SampleRatio, sample_ratio
from llmrec.experiments.sequential import (
    METHOD,
    Comparison,
    ListMean,
    compare,
    list_mean,
    mean_interval,
)
from llmrec.files import write_whole
from llmrec.metrics.plots import drawing
from llmrec.metrics.results import write_result
from llmrec.serving.experiments.live import stored_config
from llmrec.serving.experiments.outcomes import ShownLists, read_lists
from llmrec.serving.experiments.settings import (
    METRICS,
    Experiment,
    find_experiment,
    read_experiments,
)
from llmrec.serving.store.database import Store

LOOKS = 40  # of a plot
_WHAT = {
    "click": "lists with a click",
    "purchase": "lists with a purchase",
    "revenue": "paid a list",
}
Interval = tuple[float, float] | None


@dataclass(frozen=True)
class VariantResult:
    """What one variant has earned.

    Attributes:
        persons, lists: who saw how many.
        means: by metric.
        intervals: of the means, by metric.
        comparisons: with the control, by metric; none for the control itself.
    """

    name: str
    share: float
    persons: int
    lists: int
    means: dict[str, ListMean]
    intervals: dict[str, Interval]
    comparisons: dict[str, Comparison | None]


@dataclass(frozen=True)
class ExperimentReport:
    """All of an experiment.

    Attributes:
        ratio: did each variant get its share of the people?
        notes: what to know about it, a sentence each.
    """

    experiment: Experiment
    results: list[VariantResult]
    ratio: SampleRatio
    notes: list[str]


def run(
    file: Path | None = None,
    /,
    *,
    store: str,
    experiment: str | None = None,
    alpha: float = 0.05,
    out: Path | None = None,
) -> None:
    """Print what each variant of an experiment has earned so far. It may be looked at any time.

    Args:
        file: of llmrec serve --experiments; without one it is an experiment of /v1/experiments.
        store: URL of the service's database, as of llmrec serve.
        experiment: its name; not needed where there is one.
        alpha: probability that a difference is ever reported where there is none.
        out: folder for report.json, report.md and report.png.
    """
    with Store(store) as opened:
        config = stored_config(opened) if file is None else read_experiments(file)
        found = find_experiment(config, experiment)
        lists = read_lists(opened, found)
    report = make_report(found, lists, alpha)
    text = as_text(report)
    print(text, end="")
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        notes = "".join(f"* {note}\n" for note in report.notes)
        write_whole(out / "report.md", f"# {found.name}\n\n{text}\n{notes}")
        write_result(out / "report.json", **_as_result(report, alpha))
        plot(report, lists, alpha, out / "report.png")
        print(f"experiment report: wrote {out}")


def make_report(experiment: Experiment, lists: ShownLists, alpha: float = 0.05) -> ExperimentReport:
    """Work out what an experiment says.

    Raises:
        DataError: if nothing was shown, or with other shares than the experiment's.
    """
    _check_shares(experiment, lists)
    shares = experiment.shares
    persons = [lists.persons(number) for number in range(len(shares))]
    ratio = sample_ratio(persons, shares)
    results = variant_results(experiment, lists, alpha)
    return ExperimentReport(experiment, results, ratio, _notes(lists, ratio))


def variant_results(experiment: Experiment, lists: ShownLists, alpha: float) -> list[VariantResult]:
    """Of each variant, the control first; alpha is divided among those it is compared with."""
    order = sorted(experiment.variants, key=lambda name: name != experiment.control)
    shown = sum(variant.share > 0 for variant in experiment.variants.values())
    among, tuned_for = max(1, shown - 1), experiment.tuned_for
    means = {name: _means(lists, lists.variants.index(name)) for name in order}
    control = means[experiment.control]
    return [
        VariantResult(
            name,
            experiment.variants[name].share,
            means[name][METRICS[0]].persons,
            means[name][METRICS[0]].lists,
            means[name],
            {metric: mean_interval(means[name][metric], alpha, tuned_for) for metric in METRICS},
            {
                metric: compare(control[metric], means[name][metric], alpha / among, tuned_for)
                for metric in METRICS
                if name != experiment.control
            },
        )
        for name in order
    ]


def as_text(report: ExperimentReport) -> str:
    """Two tables in Markdown: the variants, and their differences from the control."""
    deciding, control = report.experiment.metric, report.experiment.control
    heads = " | ".join(_WHAT[metric] for metric in METRICS)
    lines = [f"| variant | share | people | lists | {heads} |", "| --- " * 7 + "|"]
    lines += [
        f"| {one.name} | {one.share:g} | {one.persons:,} | {one.lists:,} | "
        + " | ".join(_figure(one.means[name].value, one.intervals[name]) for name in METRICS)
        + " |"
        for one in report.results
    ]
    lines += ["", f"| against {control} | metric | difference | p |", "| --- " * 4 + "|"]
    for one in report.results[1:]:
        for metric in METRICS:
            name = f"**{metric}**" if metric == deciding else metric
            found = one.comparisons[metric]
            if found is None:
                lines.append(f"| {one.name} | {name} | too few people yet | |")
            else:
                figure = _figure(found.difference, found.interval, sign="+")
                lines.append(f"| {one.name} | {name} | {figure} | {found.p_value:.3g} |")
    people = " + ".join(f"{count:,}" for count in report.ratio.counts)
    verdict = "NOT AS SHARED" if report.ratio.is_mismatch else "as shared"
    lines += ["", f"people: {people}, {verdict} (p {report.ratio.p_value:.3g}); method: {METHOD}"]
    return "\n".join(lines) + "\n"


def plot(report: ExperimentReport, lists: ShownLists, alpha: float, path: Path) -> Path:
    """The difference of the deciding metric, as each look in the past would have shown it."""
    metric, looks = report.experiment.metric, np.linspace(0, len(lists), LOOKS + 1)[1:].astype(int)
    past = [variant_results(report.experiment, lists.first(look), alpha) for look in looks]
    with drawing(path, figsize=(6.8, 4)) as panel:
        for at, one in enumerate(report.results[1:], start=1):
            found = [
                (look, results[at].comparisons[metric])
                for look, results in zip(looks, past, strict=True)
            ]
            known = [(look, each) for look, each in found if each is not None]
            if not known:
                continue
            xs = [look for look, _ in known]
            line = panel.plot(xs, [each.difference for _, each in known], label=one.name)[0]
            low, high = ([each.interval[end] for _, each in known] for end in (0, 1))
            panel.fill_between(xs, low, high, alpha=0.2, color=line.get_color())
            panel.legend()
        panel.axhline(0, color="black", linewidth=0.8)
        panel.set_xlabel("lists shown")
        panel.set_ylabel(f"{metric}: difference from {report.experiment.control}")
    return path


def _means(lists: ShownLists, variant: int) -> dict[str, ListMean]:
    own = lists.variant == variant
    return {name: list_mean(lists.outcome[name][own], lists.person[own]) for name in METRICS}


def _check_shares(experiment: Experiment, lists: ShownLists) -> None:
    if not len(lists):
        raise DataError(f"experiment {experiment.name}: nothing of it was shown to anybody yet")
    for number, name in enumerate(lists.variants):
        own = lists.share[lists.variant == number]
        now = experiment.variants[name].share if name in experiment.variants else 0.0
        other = own[~np.isclose(own, now)]
        if len(other):
            raise DataError(
                f"experiment {experiment.name}: {len(other):,} lists of {name!r} were shown with a "
                f"share of {other[0]:g}, and it says {now:g} now; changed shares need a new name"
            )


def _notes(lists: ShownLists, ratio: SampleRatio) -> list[str]:
    notes = []
    if ratio.is_mismatch:
        notes.append(
            "the people are not split as the shares say (sample ratio mismatch): something keeps "
            "lists of some variants out of the log, and no difference here can be believed"
        )
    if lists.moved:
        notes.append(f"{lists.moved:,} people saw several variants and are left out")
    if lists.unpriced:
        notes.append(f"{lists.unpriced:,} purchases came without revenue and count as 0")
    return notes


def _figure(value: float, interval: Interval, sign: str = "") -> str:
    if interval is None:
        return f"{value:{sign}.4g}"
    return f"{value:{sign}.4g} ({interval[0]:{sign}.4g} to {interval[1]:{sign}.4g})"


def as_json(report: ExperimentReport, alpha: float) -> dict[str, Any]:
    """As ``/v1/experiments/NAME/report`` answers."""
    return {
        "experiment": report.experiment.name,
        "metric": report.experiment.metric,
        "control": report.experiment.control,
        "method": METHOD,
        "alpha": alpha,
        "sample_ratio": {"p_value": report.ratio.p_value, "mismatch": report.ratio.is_mismatch},
        "variants": [_variant_json(one) for one in report.results],
        "notes": report.notes,
    }


def _variant_json(one: VariantResult) -> dict[str, Any]:
    against = {
        metric: None if found is None else vars(found) for metric, found in one.comparisons.items()
    }
    means = {
        metric: {"mean": one.means[metric].value, "interval": one.intervals[metric]}
        for metric in METRICS
    }
    own = {"name": one.name, "share": one.share, "people": one.persons, "lists": one.lists}
    return own | means | {"against_control": against or None}


def _as_result(report: ExperimentReport, alpha: float) -> dict[str, Any]:
    metrics: dict[str, float] = {"sample_ratio_p": report.ratio.p_value}
    intervals: dict[str, list[float]] = {}
    for one in report.results:
        metrics |= {f"people@{one.name}": one.persons, f"lists@{one.name}": one.lists}
        for metric in METRICS:
            _put(
                metrics,
                intervals,
                f"{metric}@{one.name}",
                one.means[metric].value,
                one.intervals[metric],
            )
        for metric, found in one.comparisons.items():
            if found is not None:
                name = f"{metric}_difference@{one.name}"
                _put(metrics, intervals, name, found.difference, found.interval)
                metrics[f"{metric}_p@{one.name}"] = found.p_value
    experiment = report.experiment
    return {
        "name": experiment.name,
        "metrics": metrics,
        "intervals": intervals,
        "model": list(experiment.variants),
        "method": METHOD,
        "alpha": alpha,
        "control": experiment.control,
        "decides": experiment.metric,
        "sample_ratio_mismatch": report.ratio.is_mismatch,
        "notes": report.notes,
    }


def _put(
    metrics: dict[str, float],
    intervals: dict[str, list[float]],
    name: str,
    value: float,
    interval: Interval,
) -> None:
    metrics[name] = value
    if interval is not None:
        intervals[name] = list(interval)

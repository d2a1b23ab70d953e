"""``llmrec experiment simulate``: how often an experiment is wrong when it is looked at every day.

    llmrec experiment simulate --out eval/results/experiments.json

Each simulated experiment has people who come back, differ in how much they click, and buy things of
very different prices; they are assigned by the same hash as in the service. Without an effect (an
A/A experiment) whatever is found is a false alarm. Beside the sequential test stands the ordinary
z test at 5%, stopped at the first day on which it is significant.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from llmrec.config import check_ranges
from llmrec.experiments.assignment import assign
from llmrec.experiments.sample_ratio import sample_ratio
from llmrec.experiments.sequential import METHOD, MIN_PERSONS, ListMean, compare, mean_by_person
from llmrec.metrics.plots import drawing
from llmrec.metrics.results import write_result

METRICS = ("click", "purchase", "revenue")
Z_FIXED = 1.959964
_SHARES = [0.5, 0.5]


@dataclass(frozen=True)
class SimulationConfig:
    """Settings of ``llmrec experiment simulate``.

    Attributes:
        experiments: that are simulated.
        days: of each; it is looked at after every one.
        new_people: a day, on average.
        return_rate: probability that somebody who was there before comes on a day.
        click_rate: of lists, on average over people.
        spread: how alike people are: the two parameters of the beta distribution of their click
            rates make this number.
        purchase_rate: of clicks.
        effect: by which part the second variant's click rate is higher.
        alpha: false alarms that are allowed.
    """

    experiments: int = 1000
    days: int = 28
    new_people: float = 60.0
    return_rate: float = 0.15
    click_rate: float = 0.1
    spread: float = 5.0
    purchase_rate: float = 0.2
    effect: float = 0.0
    alpha: float = 0.05

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "experiments", "days", "new_people")
        check_ranges(self, "[0, 1]", "return_rate", "purchase_rate")
        check_ranges(self, "(0, 1)", "click_rate", "alpha")
        check_ranges(self, "(0, inf)", "spread")
        check_ranges(self, "[0, 1]", "effect")


@dataclass(frozen=True)
class Alarms:
    """What was found in one experiment: the first day, from 1, on which a difference was
    significant, 0 for none.

    Attributes:
        sequential: of each metric, by the sequential test.
        fixed: likewise, by the z test.
        ratio: by the check of the sample ratio.
        missed: whether the intervals of clicks ever left the true difference.
        lists, persons: at the end.
    """

    sequential: dict[str, int]
    fixed: dict[str, int]
    ratio: int
    missed: bool
    lists: int
    persons: int


USUAL = SimulationConfig()


def run(config: SimulationConfig = USUAL, out: Path | None = None, seed: int = 0) -> None:
    """Simulate experiments that are looked at every day, and count the false alarms.

    Args:
        config: settings.
        out: result file to write; a plot of the same name comes beside it.
        seed: of all random draws.
    """
    started = time.monotonic()
    found = simulate(config, seed)
    metrics = shares(config, found)
    for name, value in metrics.items():
        print(f"{name:32} {value:.4f}")
    if out is None:
        return
    result = write_result(
        out,
        metrics=metrics,
        dataset="simulated",
        model=METHOD,
        config=asdict(config),
        seed=seed,
        seconds=time.monotonic() - started,
    )
    plot = _plot(config, found, out.with_suffix(".png"))
    print(f"experiment simulate: wrote {result} and {plot}")


def aa_false_alarms(
    experiments: int = 1000, seed: int = 0, config: SimulationConfig = USUAL
) -> float:
    """Share of A/A experiments in which a daily look at clicks ever finds a difference at 5%."""
    config = replace(config, experiments=experiments, effect=0.0)
    return shares(config, simulate(config, seed))["aa_false_alarms"]


def simulate(config: SimulationConfig, seed: int = 0) -> list[Alarms]:
    """Each experiment's alarms."""
    return [
        _experiment(config, f"simulated-{seed}-{number}", np.random.default_rng([seed, number]))
        for number in range(config.experiments)
    ]


def shares(config: SimulationConfig, found: list[Alarms]) -> dict[str, float]:
    """Metric name to the share of experiments."""
    start = "aa_false_alarms" if config.effect == 0 else "found"

    def share(hits: list[bool]) -> float:
        return float(np.mean(hits))

    metrics = {start: share([one.sequential["click"] > 0 for one in found])}
    for name in METRICS[1:]:
        metrics[f"{start}_{name}"] = share([one.sequential[name] > 0 for one in found])
    metrics[f"{start}_any"] = share([any(one.sequential.values()) for one in found])
    metrics[f"{start}_z_test"] = share([one.fixed["click"] > 0 for one in found])
    metrics[f"{start}_z_test_any"] = share([any(one.fixed.values()) for one in found])
    metrics["true_difference_left"] = share([one.missed for one in found])
    metrics["sample_ratio_alarms"] = share([one.ratio > 0 for one in found])
    metrics["lists"] = float(np.mean([one.lists for one in found]))
    metrics["persons"] = float(np.mean([one.persons for one in found]))
    return metrics


class _People:
    """Sums of the outcomes of everybody who came so far.

    Args:
        variant: int ``[persons]``.
    """

    def __init__(self, variant: np.ndarray) -> None:
        self.variant = variant
        self.seen = np.zeros(len(variant), dtype=np.int64)
        self.total = {name: np.zeros(len(variant)) for name in METRICS}
        self.squares = {name: np.zeros(2) for name in METRICS}

    def add(self, person: np.ndarray, outcomes: dict[str, np.ndarray]) -> None:
        """One day; everybody at most once."""
        self.seen[person] += 1
        for name, outcome in outcomes.items():
            self.total[name][person] += outcome
            self.squares[name] += np.bincount(self.variant[person], outcome**2, 2)

    def means(self, name: str) -> tuple[ListMean, ListMean]:
        """Of both variants."""
        control, variant = (self._mean(name, number) for number in (0, 1))
        return control, variant

    def _mean(self, name: str, number: int) -> ListMean:
        own = (self.variant == number) & (self.seen > 0)
        squares = float(self.squares[name][number])
        return mean_by_person(self.total[name][own], self.seen[own], squares)


def _experiment(config: SimulationConfig, salt: str, rng: np.random.Generator) -> Alarms:
    arrivals = np.maximum(1, rng.poisson(config.new_people, config.days))
    persons = int(arrivals.sum())
    variant = np.array([assign(salt, f"person-{one}", _SHARES) for one in range(persons)])
    likes = rng.beta(
        config.click_rate * config.spread, (1 - config.click_rate) * config.spread, persons
    )
    rate = np.minimum(1.0, likes * np.where(variant == 1, 1 + config.effect, 1.0))
    people, known = _People(variant), 0
    sequential, fixed = dict.fromkeys(METRICS, 0), dict.fromkeys(METRICS, 0)
    ratio, missed = 0, False
    for day, new in enumerate(arrivals.tolist(), start=1):
        again = np.flatnonzero(rng.random(known) < config.return_rate)
        person = np.concatenate([again, np.arange(known, known + new)])
        known += new
        people.add(person, _outcomes(config, rate[person], rng))
        for name in METRICS:
            control, other = people.means(name)
            found = compare(control, other, config.alpha)
            if found is None:
                continue
            low, high = found.interval
            if not sequential[name] and not low <= 0 <= high:
                sequential[name] = day
            error = np.sqrt(control.variance + other.variance)
            if not fixed[name] and abs(found.difference) > Z_FIXED * error:
                fixed[name] = day
            if name == "click":
                missed |= not low <= config.click_rate * config.effect <= high
        counts = np.bincount(variant[:known], minlength=2).tolist()
        if not ratio and known >= MIN_PERSONS and sample_ratio(counts, _SHARES).is_mismatch:
            ratio = day
    return Alarms(sequential, fixed, ratio, bool(missed), int(people.seen.sum()), persons)


def _outcomes(
    config: SimulationConfig, rate: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Of lists, by the click rates of those who see them."""
    click = rng.random(len(rate)) < rate
    purchase = click & (rng.random(len(rate)) < config.purchase_rate)
    revenue = purchase * rng.lognormal(3.0, 1.0, len(rate))
    return {"click": click.astype(float), "purchase": purchase.astype(float), "revenue": revenue}


def _plot(config: SimulationConfig, found: list[Alarms], path: Path) -> Path:
    days = np.arange(1, config.days + 1)
    with drawing(path, figsize=(6.4, 4)) as panel:
        for label, first in (
            ("z test, stopped when significant", [one.fixed["click"] for one in found]),
            ("sequential", [one.sequential["click"] for one in found]),
        ):
            day = np.array(first)
            panel.plot(days, [np.mean((day > 0) & (day <= at)) for at in days], label=label)
        panel.axhline(config.alpha, color="black", linewidth=0.8, linestyle=":")
        panel.set_xlabel("day")
        panel.set_ylabel("experiments with an alarm on clicks so far")
        panel.set_ylim(bottom=0)
        panel.legend()
    return path

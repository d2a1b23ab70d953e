"""The estimators find the truth of simulated logs, and their intervals hold it as often as said."""

from pathlib import Path

import numpy as np
import pytest

from llmrec.errors import ConfigError, DataError
from llmrec.experiments.bandit_log import read_log, read_policy
from llmrec.experiments.off_policy import BanditLog, OffPolicy, estimate

CONTEXTS, ITEMS = 4, 6
_RNG = np.random.default_rng(7)
LOGGING = _RNG.dirichlet(np.full(ITEMS, 2.0), CONTEXTS)
TARGET = _RNG.dirichlet(np.full(ITEMS, 2.0), CONTEXTS)
RATE = _RNG.uniform(0.02, 0.3, (CONTEXTS, ITEMS))
TRUTH = float((TARGET * RATE).sum(axis=1).mean())
LOGGED = float((LOGGING * RATE).sum(axis=1).mean())


def a_log(
    seed: int, rows: int = 3000, grouped: bool = True, propensity_error: float = 1.0
) -> BanditLog:
    """A log whose truth is known.

    Args:
        grouped: False lets the reward model know nothing.
        propensity_error: as which power of the true one a propensity is logged.
    """
    rng = np.random.default_rng(seed)
    context = rng.integers(0, CONTEXTS, rows)
    item = (rng.random((rows, 1)) > LOGGING[context].cumsum(axis=1)).sum(axis=1)
    reward = (rng.random(rows) < RATE[context, item]).astype(float)
    groups = np.zeros((CONTEXTS, CONTEXTS * ITEMS))
    for row in range(CONTEXTS):
        groups[row, row * ITEMS : (row + 1) * ITEMS] = TARGET[row]
    group = context * ITEMS + item
    if not grouped:
        groups, group = np.ones((CONTEXTS, 1)), np.zeros(rows, dtype=int)
    propensity = LOGGING[context, item] ** propensity_error
    return BanditLog(reward, propensity, TARGET[context, item], group, groups, context)


@pytest.fixture(scope="module")
def estimates() -> list[OffPolicy]:
    return [estimate(a_log(seed)) for seed in range(300)]


@pytest.mark.parametrize("name", ["ips", "snips", "doubly_robust"])
def test_they_find_the_truth(estimates: list[OffPolicy], name: str) -> None:
    values = np.array([getattr(one, name).value for one in estimates])
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - TRUTH) < 4 * error
    assert abs(LOGGED - TRUTH) > 10 * error  # which is not that of the log
    inside = [
        getattr(one, name).interval[0] <= TRUTH <= getattr(one, name).interval[1]
        for one in estimates
    ]
    assert 0.91 <= np.mean(inside) <= 0.985


def test_which_varies_least(estimates: list[OffPolicy]) -> None:
    ips, snips, robust = (
        np.std([getattr(one, name).value for one in estimates])
        for name in ("ips", "snips", "doubly_robust")
    )
    assert max(snips, robust) < ips
    logged = [one.logged.value for one in estimates]
    assert np.mean(logged) == pytest.approx(LOGGED, abs=0.002)
    assert all(one.clipped == 0 for one in estimates)
    assert 0 < np.mean([one.effective for one in estimates]) < 3000


def test_doubly_robust_needs_one_of_the_two() -> None:
    def off(**options: object) -> dict[str, float]:
        found = [estimate(a_log(seed, 20_000, **options)) for seed in range(20)]  # type: ignore[arg-type]
        return {
            name: abs(float(np.mean([getattr(one, name).value for one in found])) - TRUTH)
            for name in ("ips", "doubly_robust")
        }

    wrong = off(propensity_error=0.7)
    assert wrong["ips"] > 0.02
    assert wrong["doubly_robust"] < 0.1 * wrong["ips"]  # the model is right
    assert off(grouped=False)["doubly_robust"] < 0.003  # the propensities are


def test_clipping() -> None:
    log = a_log(0)
    raw = log.target / log.propensity
    clipped = estimate(log, clip=1.5)
    assert clipped.clip == 1.5
    assert clipped.clipped == pytest.approx((raw > 1.5).mean())
    assert clipped.ips.value == pytest.approx((np.minimum(raw, 1.5) * log.reward).mean())
    assert clipped.ips.value < estimate(log).ips.value
    assert estimate(log).clip == pytest.approx(np.sqrt(3000))


def test_a_target_that_the_log_never_showed() -> None:
    nothing = np.zeros(50)
    log = BanditLog(nothing, nothing + 0.5, nothing, np.zeros(50, dtype=int), np.ones((50, 1)))
    found = estimate(log)
    assert (found.snips.value, found.effective) == (0.0, 0.0)
    assert found.snips.interval == (-np.inf, np.inf)
    for change in ({"propensity": nothing}, {"target": nothing + 2}):
        with pytest.raises(DataError, match="is not in"):
            BanditLog(**vars(log) | change)


HEADER = ",timestamp,item_id,position,click,propensity_score,user_feature_0\n"


@pytest.fixture(scope="module")
def csv_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the Open Bandit Dataset has it: three positions, items shown with known probabilities."""
    rng = np.random.default_rng(3)
    shown = {"1": [0.5, 0.3, 0.2], "2": [0.2, 0.2, 0.6], "3": [0.4, 0.4, 0.2]}
    lines = [HEADER]
    for row in range(30_000):
        position = str(rng.integers(1, 4))
        item = int(rng.choice(3, p=shown[position]))
        click = int(rng.random() < 0.05 * (item + 1) / int(position))
        chance = shown[position][item]
        lines.append(
            f"{row},2019-11-24 00:00:{row % 60},{item * 5},{position},{click},{chance},a\n"
        )
    path = tmp_path_factory.mktemp("bandit") / "log.csv"
    path.write_text("".join(lines))
    return path


def test_a_log_of_open_bandit(csv_log: Path, tmp_path: Path) -> None:
    log = read_log(csv_log)
    assert (log.items, log.positions) == (["0", "5", "10"], ["1", "2", "3"])
    uniform = estimate(log.asked_for(read_policy("uniform", log)))
    truth = np.mean([0.05 * (item + 1) / place for item in range(3) for place in (1, 2, 3)])
    path = tmp_path / "policy.csv"
    path.write_text(
        "item_id,position,probability\n"
        + "".join(f"{item},{place},{chance}\n" for place in (1, 2, 3)
                  for item, chance in ((10, 0.9), (0, 0.1)))
    )  # fmt: skip
    greedy = estimate(log.asked_for(read_policy(str(path), log)))
    best = np.mean([0.05 * (0.9 * 3 + 0.1) / place for place in (1, 2, 3)])
    for found, true in ((uniform, truth), (greedy, best)):
        for name in ("ips", "snips", "doubly_robust"):
            one = getattr(found, name)
            half = (one.interval[1] - one.interval[0]) / 2
            assert abs(one.value - true) < 1.8 * half < 0.2 * true


def test_a_log_without_positions(tmp_path: Path) -> None:
    path, policy = tmp_path / "log.csv", tmp_path / "policy.csv"
    path.write_text("item_id,click,propensity_score\na,1,0.5\nb,0,0.5\n")
    policy.write_text("item_id,probability\na,1\n")
    log = read_log(path)
    assert estimate(log.asked_for(read_policy(str(policy), log)), clip=9).ips.value == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id,click\na,1\n", "has no column 'propensity_score'"),
        ("item_id,click,propensity_score\n", "has no rows"),
        ("item_id,click,propensity_score\na,1,0.5\na,2,0.5\n", "row 3: click 2 is neither 0 nor 1"),
        (
            "item_id,click,propensity_score\na,1,0\n",
            r"row 2: propensity_score 0 is not in \(0, 1\]",
        ),
        ("item_id,click,propensity_score\na,1,\n", "row 2: propensity_score '' is not a number"),
        ("item_id,click,propensity_score\na,1,nan\n", "row 2: propensity_score nan"),
        ("item_id,click,propensity_score\n,1,0.5\n", "row 2: item_id is empty"),
        ("item_id,click,propensity_score\na,1\n", "cannot be read as CSV"),
    ],
)
def test_a_wrong_log(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_log(path)
    assert str(path) in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        read_log(tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id,probability\n0,1\n", "has no column 'position', and the log has 3"),
        ("item_id,position,probability\n0,1,0.7\n", "of position 1 make 0.7, not 1"),
        ("item_id,position,probability\n7,1,1\n", "row 2: item_id '7' is not in the log"),
        ("item_id,position,probability\n0,4,1\n", "row 2: position '4' is not in the log"),
        ("item_id,position,probability\n0,1,0.5\n0,1,0.5\n", "twice"),
        ("item_id,position,probability\n0,1,-1\n", r"probability -1 is not in \[0, 1\]"),
    ],
)
def test_a_wrong_policy(csv_log: Path, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "policy.csv"
    path.write_text(text)
    log = read_log(csv_log)
    with pytest.raises(DataError, match=message):
        read_policy(str(path), log)
    with pytest.raises(ConfigError, match="neither 'uniform' nor a CSV file"):
        read_policy("greedy", log)

"""The file of experiments is read whole or refused by name."""

from pathlib import Path

import pytest

from llmrec.errors import ConfigError
from llmrec.serving.experiments.settings import find_experiment, read_experiments

GOOD = """
exploration: {share: 0.1, places: 3}
experiments:
  summer:
    metric: purchase
    variants:
      today: {share: 0.5}
      diverse: {share: 0.5, rerank: {diversity: mmr}}
      never: {share: 0, calibrated: false}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "experiments.yaml"
    path.write_text(text)
    return path


def test_a_good_file(tmp_path: Path) -> None:
    config = read_experiments(written(tmp_path, GOOD))
    summer = find_experiment(config, None)
    assert (summer.name, summer.control, summer.metric) == ("summer", "today", "purchase")
    assert summer.shares == [0.5, 0.5, 0.0]
    assert summer.fields == {"rerank", "calibrated"}
    assert (config.exploration.share, config.exploration.places) == (0.1, 3)
    assert read_experiments(written(tmp_path, "experiments: {}")).exploration.share == 0
    with pytest.raises(ConfigError, match="'winter' is not among them; there is summer"):
        find_experiment(config, "winter")


def variants(text: str, more: str = "") -> str:
    return f"experiments: {{summer: {{variants: {{{text}}}{more}}}}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (variants("a: {share: 0.5}, b: {share: 0.6}"), "variants: the shares make 0.5 + 0.6 = 1.1"),
        (variants("a: {share: 0.5}, b: {share: 0.4}"), "they must make 1"),
        (variants("a: {share: -1}, b: {share: 2}"), "variants.a.share: "),
        (variants("a: {share: 1}"), "two variants at least"),
        (variants("a: {share: 1}, b: {}"), "variants.b: missing key 'share'"),
        (variants("a: {share: 1}, b: {share: 0, colour: x}"), "unknown key 'colour'"),
        (variants("a: {share: 1}, b: {share: 0, rerank: {diversity: x}}"), "diversity"),
        (variants("a: {share: 1}, b: {share: 0, rerank: {x: 1}}"), "unknown key 'x'"),
        (variants("a: {share: 1}, b: {share: 0, sources: []}"), "sources: is empty"),
        (
            variants("a: {share: 1}, b: {share: 0}", ", control: c"),
            "control: 'c' is not one of a, b",
        ),
        (variants("a: {share: 1}, b: {share: 0}", ", metric: love"), "metric"),
        (variants("a: {share: 1}, b: {share: 0}", ", tuned_for: 0"), "tuned_for: "),
        (variants("a/b: {share: 1}, b: {share: 0}"), "'a/b' is no name"),
        (variants("'': {share: 1}, b: {share: 0}"), "'' is no name"),
        ("exploration: {share: 2}", "exploration.share: "),
        ("exploration: {places: 1}", "exploration.places: "),
        ("experimnets: {}", "did you mean 'experiments'"),
        ("experiments: {summer: 3}", "experiments.summer: expected settings"),
    ],
)
def test_a_wrong_file(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_experiments(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other", "problem"),
    [
        ("rerank: {diversity: mmr}", "rerank: {per_category: 2}", "both set rerank"),
        ("bundle: x", "adapter: y", "one of them sets bundle"),
        ("calibrated: false", "sources: [popular]", "what a click model does"),
        ("rerank: {diversity: mmr}", "sources: [popular]", ""),
    ],
)
def test_two_experiments(tmp_path: Path, one: str, other: str, problem: str) -> None:
    text = "experiments:\n" + "".join(
        f"  {name}: {{variants: {{a: {{share: 0.5}}, b: {{share: 0.5, {fields}}}}}}}\n"
        for name, fields in (("summer", one), ("winter", other))
    )
    path = written(tmp_path, text)
    if not problem:
        assert list(read_experiments(path).experiments) == ["summer", "winter"]
        with pytest.raises(ConfigError, match="name one; there is summer, winter"):
            find_experiment(read_experiments(path), None)
        return
    with pytest.raises(ConfigError, match=f"summer and winter cannot run together: .*{problem}"):
        read_experiments(path)

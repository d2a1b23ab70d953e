"""Flags from signatures: what a command line says reaches the function, and mistakes are named."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from llmrec.config import Signed
from llmrec.errors import ConfigError
from llmrec.flags import call
from llmrec.stage import Manifest, run_stage


@dataclass(frozen=True)
class Loop:
    """A loop.

    Attributes:
        epochs: passes over the data.
        rate: of learning.
        threshold: below which nothing counts.
    """

    epochs: int = 3
    rate: float = 0.1
    threshold: Signed | None = None


@dataclass(frozen=True)
class ToyConfig:
    """Settings.

    Attributes:
        source: where from.
        kind: what sort.
        columns: names by field.
        loop: of training.
    """

    source: Path
    kind: Literal["a", "b"] = "a"
    columns: dict[str, str] = field(default_factory=dict)
    loop: Loop = Loop()

    def __post_init__(self) -> None:
        if self.loop.epochs > 99:
            raise ConfigError(f"loop.epochs: {self.loop.epochs} is too many")


def stage(config: ToyConfig, *, out: Path, parts: Sequence[Path] = (), seed: int = 0) -> Any:
    """Do it.

    Args:
        out: the folder to write.
        parts: further folders.
    """
    return config, out, list(parts), seed


def show(bundle: Path, /, *, n: int = 10, exact: bool = False) -> Any:
    """Show it."""
    return bundle, n, exact


def write(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return str(path)


def test_every_setting_and_every_argument_is_a_flag() -> None:
    words = "--source x --kind b --loop.epochs 5 --columns item sku --out o --parts p q --seed 4"
    assert call(stage, words.split(), "llmrec toy", "toy") == (
        ToyConfig(Path("x"), "b", {"item": "sku"}, Loop(5)),
        Path("o"),
        [Path("p"), Path("q")],
        4,
    )
    assert call(show, ["b", "--n", "3", "--exact"], "llmrec show") == (Path("b"), 3, True)


def test_a_recipe_gives_the_defaults_and_flags_go_before_it(tmp_path: Path) -> None:
    recipe = write(tmp_path, "seed: 9\ntoy: {source: y, loop: {epochs: 7}}\n")
    expected = ToyConfig(Path("y"), "a", {}, Loop(7))
    assert call(stage, [recipe, "--out", "o"], "llmrec toy", "toy") == (expected, Path("o"), [], 9)
    words = [recipe, "--out", "o", "--kind", "b", "--seed", "1"]
    expected = ToyConfig(Path("y"), "b", {}, Loop(7))
    assert call(stage, words, "llmrec toy", "toy") == (expected, Path("o"), [], 1)


def test_a_flag_may_complete_what_the_recipe_lacks(tmp_path: Path) -> None:
    recipe = write(tmp_path, "toy: {kind: b}\n")
    words = [recipe, "--source", "z", "--out", "o"]
    assert call(stage, words, "llmrec toy", "toy")[0] == ToyConfig(Path("z"), "b")


def test_the_section_of_a_whole_recipe_or_of_one_for_the_stage_alone(tmp_path: Path) -> None:
    for text in ("media: {toy: {source: y}}\n", "toy: {source: y}\n"):
        found = call(stage, [write(tmp_path, text), "--out", "o"], "llmrec toy", "media.toy")
        assert found[0] == ToyConfig(Path("y"))


def test_options_of_the_section_that_are_not_the_command_s_are_left_out(tmp_path: Path) -> None:
    recipe = write(tmp_path, "toy: {source: y, bench: true}\n")
    found = call(stage, [recipe, "--out", "o"], "llmrec toy", "toy", ["bench"])
    assert found[0] == ToyConfig(Path("y"))


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("toy: {sorce: y}\n", "", r"recipe\.yaml: toy: unknown key 'sorce'; did you mean 'source'"),
        ("toy: {kind: c}\n", "", r"recipe\.yaml: toy\.kind: 'c' is not one of a, b"),
        ("other: {}\n", "", r"recipe\.yaml: has no `toy:` section"),
        ("toy: 3\n", "", r"recipe\.yaml: has no `toy:` section"),
        ("toy: {source: y}\n", "--loop.epochs 100", r"loop\.epochs: 100 is too many"),
        ("toy: {source: y, loop: {epochs: 100}}\n", "", r"^loop\.epochs: 100 is too many"),
        ("toy: {source: y}\n", "--loop.epochs -1", r"^loop\.epochs: must not be negative, got -1$"),
        ("toy: {source: y, loop: {epochs: -1}}\n", "", r"toy\.loop\.epochs: must not be neg"),
        (
            "toy: {source: y}\n",
            "--loop.rate nan",
            r"^loop\.rate: must be a number up to .*, got nan",
        ),
        ("toy: {source: y, loop: {rate: .nan}}\n", "", r"toy\.loop\.rate: must be a number up to"),
        ("toy: {source: y, loop: {rate: .inf}}\n", "", r"toy\.loop\.rate: must be a number up to"),
        ("toy: {source: y, loop: {threshold: .nan}}\n", "", r"toy\.loop\.threshold: must be"),
        ("toy: {source: y}\n", "--seed -1", r"^--seed: must not be negative, got -1$"),
        ("toy: {source: y}\n", "--seed 2147483648", r"^--seed: must be in \[0, 2147483648\)"),
        ("seed: -1\ntoy: {source: y}\n", "", r"recipe\.yaml: seed: must not be negative, got -1$"),
        ("seed: one\ntoy: {source: y}\n", "", r"recipe\.yaml: seed: expected int, got 'one'$"),
    ],
)
def test_mistakes_in_a_recipe_are_one_line(
    tmp_path: Path, text: str, words: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        call(stage, [write(tmp_path, text), "--out", "o", *words.split()], "llmrec toy", "toy")
    assert "\n" not in str(caught.value)


def test_a_number_that_may_be_negative_says_so_in_its_type(tmp_path: Path) -> None:
    recipe = write(tmp_path, "toy: {source: y, loop: {threshold: -2}}\n")
    assert call(stage, [recipe, "--out", "o"], "llmrec toy", "toy")[0].loop.threshold == -2.0
    words = [recipe, "--loop.threshold", "-0.5", "--out", "o"]
    assert call(stage, words, "llmrec toy", "toy")[0].loop.threshold == -0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--source x --out o --sed 3", "--sed"),
        ("--source x", "--out"),
        ("--out o", "--source"),
        ("--source x --out o --kind c", "--kind"),
        ("--source x --out o --seed one", "--seed"),
    ],
)
def test_flags_that_cannot_be_read_end_with_status_2_and_name_the_flag(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        call(stage, words.split(), "llmrec toy", "toy")
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert message in captured.err + captured.out


def test_help_is_the_docstrings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        call(stage, ["--help"], "llmrec toy", "toy")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for words in ("llmrec toy [RECIPE.yaml]", "Do it.", "the folder to write.", "where from."):
        assert words in text
    assert "passes over the data. (default: 3)" in text


def test_a_command_that_writes_checks_hashes_where_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def write_a(out: Path, text: str = "a") -> None:
        """Write it."""
        run_stage(out, Manifest("toy", {}), lambda run: write(run.folder, text))

    for words in ("", "", "--verify", "--verify"):
        call(write_a, ["--out", str(tmp_path / "toy"), *words.split()], "llmrec toy")
        if not words:
            (tmp_path / "toy" / "recipe.yaml").write_text("b")  # of the same size
    printed = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert printed == ["wrote", "up", "wrote", "up"]
    with pytest.raises(SystemExit):
        call(show, ["b", "--verify"], "llmrec show")

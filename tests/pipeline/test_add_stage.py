"""What CONTRIBUTING says of a new stage, done for real: one module, one line of the table."""

import sys
from pathlib import Path

import pytest

from llmrec import stages
from llmrec.cli import main, run_command
from llmrec.errors import ConfigError
from llmrec.stages import Stage

MODULE = '''
"""``llmrec longest``: the longest histories of a dataset."""

from dataclasses import dataclass
from pathlib import Path

from llmrec.config import as_dict
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.stage import Manifest, StageRun, folder_hash, run_stage


@dataclass(frozen=True)
class LongestConfig:
    """Settings of ``llmrec longest``.

    Attributes:
        most: how many histories to keep.
    """

    most: int = 3

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ConfigError(f"most: must be 1 or more, got {self.most}")


def run(config: LongestConfig, dataset: Path, out: Path, seed: int = 0) -> Path:
    """Write the lengths of the longest histories.

    Args:
        dataset: folder of the ingest stage.
        out: the folder to write.
    """
    manifest = Manifest("longest", as_dict(config), {"dataset": folder_hash(dataset)}, seed=seed)

    def work(stage: StageRun) -> None:
        histories = Dataset(dataset).train_histories()
        lengths = sorted((len(history) for history in histories), reverse=True)
        text = " ".join(str(length) for length in lengths[: config.most])
        (stage.folder / "lengths.txt").write_text(text)

    return run_stage(out, manifest, work)
'''
LINE = Stage(
    "longest_stage:run", "dataset -> lengths", "longest", "longest/", {"dataset": "dataset/"}
)
RECIPE = """
name: tiny
ingest: {events: EVENTS, format: sequences}
longest: {most: 2}
"""


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the module, a log of three people and a recipe; the line is in the table."""
    (tmp_path / "longest_stage.py").write_text(MODULE)
    (tmp_path / "log.txt").write_text("u1 1 2 3\nu2 1 2 3 4 5 6\nu3 2 1 4 3 6\n")
    (tmp_path / "tiny.yaml").write_text(RECIPE.replace("EVENTS", str(tmp_path / "log.txt")))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(stages.STAGES, "longest", LINE)
    monkeypatch.delitem(sys.modules, "longest_stage", raising=False)
    return tmp_path


def test_a_recipe_runs_it_after_what_it_takes(
    added: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", str(added / "tiny.yaml"), "--out", str(added / "run")]
    assert main(arguments) == 0
    # histories to learn from: those without the last two events
    assert (added / "run/longest/lengths.txt").read_text() == "4 3"
    assert "longest" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "longest: up to date" in capsys.readouterr().out


def test_the_command_line_has_it_with_a_flag_for_each_setting(
    added: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(added / "tiny.yaml"), "--out", str(added / "run")]) == 0
    dataset, recipe = str(added / "run/dataset"), str(added / "tiny.yaml")
    run_command(["longest", recipe, "--dataset", dataset, "--out", str(added / "a")])
    assert (added / "a/lengths.txt").read_text() == "4 3"
    run_command(["longest", recipe, "--most", "1", "--dataset", dataset, "--out", str(added / "b")])
    assert (added / "b/lengths.txt").read_text() == "4"
    with pytest.raises(ConfigError, match="most: must be 1 or more, got 0"):
        run_command(["longest", "--most", "0", "--dataset", dataset, "--out", str(added / "c")])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run_command(["longest", "--help"])
    assert "how many histories to keep. (default: 3)" in capsys.readouterr().out


def test_a_wrong_setting_is_found_before_anything_runs(added: Path) -> None:
    recipe = added / "tiny.yaml"
    recipe.write_text(recipe.read_text().replace("most: 2", "moost: 2"))
    with pytest.raises(ConfigError, match="longest: unknown key 'moost'; did you mean 'most'"):
        run_command(["run", str(recipe), "--out", str(added / "run")])
    assert not (added / "run").exists()

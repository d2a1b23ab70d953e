"""The command line: what it lists, how it ends, and what a mistake looks like."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import llmrec
from llmrec import cli
from llmrec.errors import DataError
from llmrec.stages import STAGES, Stage


def llmrec_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llmrec", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_command_in_a_line_of_its_own(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, stage in STAGES.items():
        assert lines.count(f"  {name:<20} {stage.summary}") == 1
    assert max(map(len, lines)) <= 100


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"llmrec {llmrec.__version__}\n"


@pytest.mark.parametrize("name", STAGES)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([*name.split(), "--help"])
    assert caught.value.code == 0
    assert f"usage: llmrec {name}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "no command 'trian'; there is run, "),
        (["data"], "no command 'data'; there is data fetch, data demo"),
        (["data", "fetsh"], "no command 'data fetsh'; there is data fetch, data demo"),
        (["run", "nowhere.yaml"], "nowhere.yaml: no such recipe"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(arguments: list[str], message: str) -> None:
    done = llmrec_command(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"llmrec: error: {message}")
    assert len(done.stderr.splitlines()) == 1


def test_debug_shows_the_traceback() -> None:
    for done in (
        llmrec_command("--debug", "run", "nowhere.yaml"),
        llmrec_command("run", "nowhere.yaml", LLMREC_DEBUG="1"),
    ):
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert "ConfigError: nowhere.yaml: no such recipe" in done.stderr


def use(monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any]) -> None:
    """Let ``llmrec serve`` call ``function``."""
    monkeypatch.setattr(Stage, "load", lambda self: function)


def test_a_command_gets_the_arguments_after_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = []

    def serve(*, port: int) -> None:
        ports.append(port)

    use(monkeypatch, serve)
    assert cli.main(["serve", "--port", "1"]) == 0
    assert cli.main(["serve", "--debug", "--port", "2"]) == 0
    assert ports == [1, 2]


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (DataError("a.csv:3: no user"), 2, "llmrec: error: a.csv:3: no user"),
        (KeyboardInterrupt(), 130, "llmrec: interrupted"),
        (
            FileNotFoundError(2, "No such file or directory", "x.png"),
            2,
            "llmrec: error: x.png: No such file or directory",
        ),
        (
            ModuleNotFoundError("No module named 'faiss'", name="faiss"),
            2,
            "llmrec: error: faiss is not installed: run  pip install 'llmrec[all]'",
        ),
    ],
)
def test_how_errors_end(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    line: str,
) -> None:
    def fail() -> None:
        raise error

    use(monkeypatch, fail)
    assert cli.main(["serve"]) == status
    assert capsys.readouterr().err == line + "\n"
    with pytest.raises(type(error)):
        cli.main(["--debug", "serve"])


@pytest.mark.parametrize(
    "bug", [KeyError("k"), ModuleNotFoundError("No module named 'llmrec.x'", name="llmrec.x")]
)
def test_a_bug_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch, bug: Exception) -> None:
    def fail() -> None:
        raise bug

    use(monkeypatch, fail)
    with pytest.raises(type(bug)):
        cli.main(["serve"])


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = """
import sys
from llmrec import cli
from llmrec.stages import Stage
def serve() -> None:
    for i in range(100_000):
        print("line", i)
Stage.load = lambda self: serve
sys.exit(cli.main(["serve"]))
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stderr is not None
    assert child.stdout.readline() == "line 0\n"
    child.stdout.close()
    with child.stderr:
        assert child.stderr.read() == ""
    assert child.wait(timeout=20) == 141


def test_ctrl_c_ends_a_real_command_with_one_line(tmp_path: Path) -> None:
    """The interrupt arrives while ``llmrec run`` reads its recipe from a pipe nobody fills."""
    recipe = tmp_path / "recipe.yaml"
    os.mkfifo(recipe)
    child = subprocess.Popen(
        [sys.executable, "-m", "llmrec", "run", str(recipe)], stderr=subprocess.PIPE, text=True
    )
    writer = os.open(recipe, os.O_WRONLY)  # returns once the child has opened the other end
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=20)
    os.close(writer)
    assert (child.returncode, stderr) == (130, "llmrec: interrupted\n")


@pytest.mark.skipif(sys.platform != "linux", reason="GCC's OpenMP, which torch has on Linux")
@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, cli.SPIN_COUNT), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "0")],
)
def test_threads_that_wait_give_way_soon(given: dict[str, str], spins: str) -> None:
    """As torch's own OpenMP says when it is loaded; what a user has set stays."""
    code = "from llmrec.cli import main; main(['--version']); import torch"
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    environment = kept | {"OMP_DISPLAY_ENV": "VERBOSE"} | given
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr

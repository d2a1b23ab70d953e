"""What ``make`` would run, without running it."""

import inspect
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from llmrec.serving.server import serve

ROOT = Path(__file__).parents[1]


def dry_run(*words: str) -> str:
    """The commands of a target."""
    command = ["make", "--dry-run", "--always-make", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_demo_ends_by_serving_its_shop() -> None:
    printed = dry_run("demo", "PORT=8123")
    assert "open http://127.0.0.1:8123/ui" in printed
    [command] = re.findall(r"llmrec (serve .*)", printed.replace("\\\n", " "))
    flags = [word for word in shlex.split(command) if word.startswith("--")]
    known = inspect.signature(serve).parameters
    assert {"--assistant", "--port", "--dataset"} <= set(flags)
    assert all(flag[2:].replace("-", "_") in {*known, "speech_model"} for flag in flags)


@pytest.mark.parametrize("words", [("demo", "SERVE=0"), ("test",)])
def test_nothing_else_serves(words: tuple[str, ...]) -> None:
    assert "llmrec serve" not in dry_run(*words)

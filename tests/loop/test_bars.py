"""Bars in a file: a line from time to time, none of what ends sooner."""

import io
import sys
import time

import pytest

from llmrec.loop.bars import ProgressBar

Capture = pytest.CaptureFixture[str]


def test_a_loop_that_takes_long_gets_a_line_from_time_to_time(capsys: Capture) -> None:
    with ProgressBar(total=6, desc="embed", seconds=0.05) as bar:
        for number in range(6):
            bar.set_postfix(loss=f"{number}")
            time.sleep(0.03)
            bar.update()
    *lines, end = capsys.readouterr().err.split("\n")
    assert 2 <= len(lines) <= 6 and end == ""
    assert lines[0].startswith("embed: ") and "/6, " in lines[0] and "left, loss=" in lines[0]
    assert lines[-1].startswith("embed: 6/6")
    assert all(line and "\r" not in line for line in lines)


def test_a_loop_over_things_says_how_many_there_are(capsys: Capture) -> None:
    for _ in ProgressBar(range(4), "epochs", seconds=0.02):
        time.sleep(0.03)
    assert "epochs: 2/4, " in capsys.readouterr().err


def test_a_loop_of_unknown_length_says_how_long_it_runs(capsys: Capture) -> None:
    for _ in ProgressBar(iter(range(3)), "rows", seconds=0.02):
        time.sleep(0.03)
    assert "rows: 2 in 00:00" in capsys.readouterr().err


def test_a_short_loop_writes_nothing(capsys: Capture) -> None:
    with ProgressBar(total=3, desc="quick") as bar:
        bar.update(3)
        bar.set_postfix(loss="1")
    list(ProgressBar(range(3), "quick"))
    list(ProgressBar(range(3), "off", seconds=0.0, disable=True))
    assert capsys.readouterr().err == ""


def test_on_a_terminal_it_is_tqdms(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    list(ProgressBar(range(3), "seen", mininterval=0))
    assert screen.getvalue().count("\rseen") >= 3 and "3/3" in screen.getvalue()

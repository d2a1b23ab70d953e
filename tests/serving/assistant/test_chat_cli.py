"""``llmrec chat``: what is printed for what is typed or piped."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from remote_llm import calls, remote_llm, words
from searchable_shop import WHISPER, picture
from tiny_shop import TinyRun

from llmrec.cli import main

NOBODY = ["--assistant", "none"]  # in place of the endpoint
MUG = calls("search_catalog", json.dumps({"category": "mug"}))


def chat(
    monkeypatch: pytest.MonkeyPatch, run: TinyRun, typed: str, *answers: list[str], more: str = ""
) -> int:
    """The exit status of a chat with an endpoint that answers so."""
    with remote_llm(*answers) as endpoint:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
        bundle = str(run.bundle("atomic"))
        return main(["chat", bundle, *NOBODY, "--assistant-url", endpoint.url, *more.split()])


def test_a_conversation_through_a_pipe(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = "a mug please\n\n/nonsense\n/photo x.png\n/voice\nhow many?\n"
    assert chat(monkeypatch, tiny_run, typed, MUG, words("Look."), words("Few.")) == 0
    printed = capsys.readouterr()
    assert "1. " in printed.out and " USD" in printed.out and "Few." in printed.out
    assert "/nonsense: is no command" in printed.err and "Traceback" not in printed.err
    assert "x.png: No such file" in printed.err and "/voice: name a file" in printed.err


def test_a_photo_is_a_message(
    tiny_run: TinyRun,
    searchable: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture(7).save(tmp_path / "some.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    typed = f"/photo {tmp_path}/some.png\n/photo {tmp_path}/broken.png\n/quit\nnever read\n"
    status = chat(monkeypatch, tiny_run, typed, more=f"--search-index {searchable}")
    printed = capsys.readouterr()
    assert status == 0 and "like your picture" in printed.out and "1. " in printed.out
    assert printed.err.count("/photo: ") == 1


def test_a_recording_is_a_message(
    tiny_run: TinyRun,
    spoken: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    typed, more = f"/voice {spoken}\n", f"--speech-model {WHISPER}"
    assert chat(monkeypatch, tiny_run, typed, MUG, words("Look."), more=more) == 0
    printed = capsys.readouterr().out
    assert "(heard: " in printed and "coat" in printed.lower() and "1. " in printed


def test_nobody_of_that_name(tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = str(tiny_run.bundle("atomic"))
    url = ["--assistant-url", "http://127.0.0.1:9"]
    status = main(["chat", bundle, *NOBODY, *url, "--user", "nobody"])
    assert status != 0 and "--user: nothing is known of 'nobody'" in capsys.readouterr().err
    assert main(["chat", bundle, *NOBODY]) != 0
    assert "--assistant none: nobody talks then" in capsys.readouterr().err

"""A short name of a toy package, and a cache of its own."""

from pathlib import Path

import pytest
import toy_weights

from llmrec.weights.known import WEIGHTS


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of ``sys.path`` where packages may be put; the toy is known and not yet there."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setitem(WEIGHTS, "toy", toy_weights.toy())
    return tmp_path / "site"

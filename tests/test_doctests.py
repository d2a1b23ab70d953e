"""Every example in a docstring of llmrec gives what it says."""

import doctest
import importlib
from pathlib import Path

import pytest

import llmrec

PACKAGE = Path(llmrec.__file__).parent
FILES = [f for f in sorted(PACKAGE.rglob("*.py")) if ">>> " in f.read_text(encoding="utf-8")]
PATHS = [f.relative_to(PACKAGE.parent).with_suffix("") for f in FILES]
MODULES = [".".join(path.parts).removesuffix(".__init__") for path in PATHS]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0

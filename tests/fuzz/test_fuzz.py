"""A short look at every kind of input; ``make fuzz`` looks for longer."""

from typing import Any

import pytest
from found import FOUND
from properties import PROPERTIES, fuzz, in_empty_folder


@pytest.mark.parametrize("name", PROPERTIES)
def test_an_input_works_or_is_refused_in_one_line(name: str) -> None:
    tried = fuzz(PROPERTIES[name], PROPERTIES[name].examples)
    assert tried >= 0.9 * PROPERTIES[name].examples


@pytest.mark.parametrize(("name", "value"), FOUND)
def test_what_was_found_once_stays_mended(name: str, value: Any) -> None:
    in_empty_folder(PROPERTIES[name].check, value)

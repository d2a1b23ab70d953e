"""How large what comes in may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from llmrec.errors import ConfigError

MAX_EVENTS = 1000  # of a batch
MAX_NAME = 256  # characters of an identifier
MAX_TEXT = 10_000  # characters of words
MAX_FIELDS = 50  # names of a context or a profile
MAX_LIST = 10_000  # entries of a list of a request
MAX_DEPTH = 16  # lists and objects within each other
MAX_VALUE = 1000  # characters of a value of those


def check_context(values: Mapping[str, Any], field: str = "context") -> None:
    """Check that names and values are few, short and plain.

    Raises:
        ConfigError: beginning with the field that is wrong.
    """
    if len(values) > MAX_FIELDS:
        raise ConfigError(f"{field}: has {len(values)} names; at most {MAX_FIELDS} are kept")
    for name, value in values.items():
        if len(name) > MAX_NAME:
            raise ConfigError(f"{field}: a name has more than {MAX_NAME} characters")
        if not isinstance(value, str | int | float | None):
            raise ConfigError(f"{field}.{name}: is neither text nor number")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{field}.{name}: {value} is no number")
        if len(str(value)) > MAX_VALUE:
            raise ConfigError(f"{field}.{name}: has more than {MAX_VALUE} characters")


def check_nesting(value: Any, most: int = MAX_DEPTH) -> None:
    """Check that lists and objects do not stand too deep within each other.

    Raises:
        ConfigError: if they do.
    """
    if not isinstance(value, list | dict):
        return
    if most == 0:
        raise ConfigError(f"body: has more than {MAX_DEPTH} lists and objects within each other")
    for one in value.values() if isinstance(value, dict) else value:
        check_nesting(one, most - 1)

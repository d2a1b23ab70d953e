"""The settings of all commands: none takes a number that is no number, endless or negative."""

import dataclasses
import inspect
import math
import re
import typing
from collections.abc import Iterator
from typing import Any, Literal

from llmrec.config import Signed, as_dict, build
from llmrec.errors import ConfigError
from llmrec.flags import config_class
from llmrec.stages import STAGES


def settings_classes() -> set[type]:
    """The settings of every command, and the classes of nested ones."""
    found: set[type] = set()
    waiting: list[Any] = [
        config_class(function)
        for function in (stage.load() for stage in STAGES.values())
        if "config" in inspect.signature(function).parameters
    ]
    while waiting:
        hint = waiting.pop()
        waiting += typing.get_args(hint)
        if dataclasses.is_dataclass(hint) and hint not in found:
            found.add(typing.cast(type, hint))
            waiting += typing.get_type_hints(hint).values()
    return found


ASKED_FOR = {"TemporalConfig": {"image_model": "clip/"}}  # by a check in ``__post_init__``


def required(cls: type) -> dict[str, Any]:
    """Values of the settings that have no default."""
    hints = typing.get_type_hints(cls)
    return ASKED_FOR.get(cls.__name__, {}) | {
        field.name: some_value(hints[field.name])
        for field in dataclasses.fields(cls)
        if field.default is field.default_factory is dataclasses.MISSING
    }


def some_value(hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return required(typing.cast(type, hint))
    return typing.get_args(hint)[-1] if typing.get_origin(hint) is Literal else "somewhere"


def numbers(hint: Any, value: Any) -> Iterator[Any]:
    """``value`` wherever an annotation has a number: in itself, or in a list or a mapping."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is int or hint is float:
        yield value
    elif origin in (list, tuple) and (int in args or float in args):
        yield [value]
    elif origin is dict and (int in args or float in args):
        yield {"a": value}
    elif hint not in (Signed, Signed | None):
        for inner in args if origin not in (list, tuple, dict, Literal) else ():
            yield from numbers(inner, value)


def test_no_setting_of_any_command_takes_a_number_that_is_none_or_negative() -> None:
    taken, tried = [], 0
    for cls in settings_classes():
        for name, hint in typing.get_type_hints(cls, include_extras=True).items():
            for bad in (math.nan, math.inf, -math.inf, -1):
                for value in numbers(hint, bad):
                    tried += 1
                    try:
                        build(cls, required(cls) | {name: value}, "r.yaml")
                    except ConfigError as error:
                        said = str(error).replace("-", "_")  # a flag's name, as it is typed
                        assert re.search(rf"r\.yaml(\.|: ).*\b_*{name}\b", said), said
                    else:
                        taken.append(f"{cls.__name__}.{name}: {value}")
    assert not taken
    assert tried > 500


def test_settings_say_their_own_values_again() -> None:
    for cls in settings_classes():
        settings = build(cls, required(cls), "r.yaml")
        assert build(cls, as_dict(settings), "r.yaml") == settings, cls

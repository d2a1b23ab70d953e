"""Recipes: a YAML file is a saved call, checked against small dataclasses.

Each stage has one frozen dataclass of settings. Unknown keys, missing keys and
wrong types are errors that name the file and the key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import os
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from llmrec.errors import ConfigError

T = TypeVar("T")

_NEGATIVE = object()
# A number of a settings class that may be below 0; any other may not, and none may be infinite.
Signed = Annotated[float, _NEGATIVE]
# Every number type on the way still holds such an integer exactly, and such a float at all.
_LARGEST: dict[Any, float] = {int: 1 << 53, float: 1e30}
SEEDS = "[0, 2147483648)"  # that every library takes


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: if the file is missing, not YAML or not a mapping.
    """
    from llmrec.bounded_yaml import MAX_YAML_CHARS, parse_yaml  # doctor may lack yaml

    path = Path(path)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(MAX_YAML_CHARS + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    try:
        loaded = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected a mapping of settings at the top level")
    return loaded


def load_recipe(path: Path, out: Path | None = None) -> tuple[dict[str, Any], Path]:
    """Read a recipe, its ``${NAME}`` replaced, and decide its run's folder.

    A recipe may begin with another one, ``extends: OTHER.yaml`` (beside it), and say only what
    differs: mappings are merged, anything else is replaced.

    Args:
        path: the YAML file.
        out: the run's folder; None takes the recipe's ``out``, or else ``runs/NAME``.

    Raises:
        ConfigError: if the file is no YAML mapping, extends itself, or a variable is not set.
    """
    raw = _extended(path, ())
    folder = str(out or raw.get("out") or Path("runs") / str(raw.get("name", path.stem)))
    folder = expand_variables(folder, {}, f"{path}: out")
    return expand_variables(raw, {"out": folder}, str(path)), Path(folder)


def _extended(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """A recipe with what it extends; ``above`` are the recipes that extend it."""
    raw = load_yaml(path)
    other = raw.pop("extends", None)
    if other is None:
        return raw
    if not isinstance(other, str):
        raise ConfigError(f"{path}: extends: expected the path of a recipe, got {shown(other)}")
    base, chain = path.parent / other, (*above, path.resolve())
    if base.resolve() in chain:
        raise ConfigError(f"{path}: extends: {other} extends this recipe in turn; remove one")
    return _merged(_extended(base, chain), raw)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Settings of two recipes, those of ``over`` first.

    >>> _merged({"a": {"x": 1, "y": 2}, "b": [1]}, {"a": {"y": 3}, "b": [2]})
    {'a': {'x': 1, 'y': 3}, 'b': [2]}
    """
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def build_section(
    cls: type[T], path: str | Path, section: str, given: dict[str, Any] | None = None
) -> T:
    """Make a settings dataclass from one section of a recipe's file.

    Args:
        given: settings that count instead of the section's.

    Raises:
        ConfigError: as for :func:`load_yaml` and :func:`build`, or if there is no such section.
    """
    values = load_yaml(path).get(section)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: has no `{section}:` section of settings")
    return build(cls, values | (given or {}), f"{path}: {section}")


def build(cls: type[T], values: dict[str, Any], where: str) -> T:
    """Make a settings dataclass from a mapping.

    Args:
        cls: a dataclass; nested dataclasses are built from nested mappings.
        values: the mapping, as YAML gives it.
        where: file and section, put in front of every message; may be empty.

    Raises:
        ConfigError: for an unknown or missing key or a value of the wrong type.
    """
    arguments = _arguments(cls, values, where, bounded=False)
    try:
        settings = cls(**arguments)
    except ConfigError as error:  # of the class's own checks, which know more than the bounds
        name = re.split(r"[.:\[]", str(error), maxsplit=1)[0]
        between = "." if name in arguments else ": "
        raise ConfigError(f"{where}{between if where else ''}{error}") from None
    except (ValueError, OverflowError) as error:
        _arguments(cls, values, where)
        raise ConfigError(f"{where}: {error}") from None
    _arguments(cls, values, where)
    return settings


def build_partial(cls: type[T], values: dict[str, Any], where: str, missing: Any) -> T:
    """Settings that are still to be completed: as :func:`build`, without the cross-checks.

    Args:
        missing: stands for what has neither a value nor a default.

    Raises:
        ConfigError: for an unknown key or a value of the wrong type.
    """
    settings = object.__new__(cls)
    for name, value in _arguments(cls, values, where, missing).items():
        object.__setattr__(settings, name, value)  # also of a frozen class
    return settings


def check_keys(
    values: dict[str, Any], known: Sequence[str], where: str, inner: Sequence[str] = ()
) -> None:
    """Refuse a key that is not known, with the one that was probably meant.

    Args:
        inner: keys of sections within, such as ``loop.epochs``.

    Raises:
        ConfigError: naming it.
    """
    for key in values:
        if key not in known:
            meant = [name for name in inner if name.split(".")[-1] == key]
            meant = meant or difflib.get_close_matches(str(key), known, n=1)
            close = " or ".join(map(repr, meant))
            hint = f"did you mean {close}?" if close else f"known keys: {', '.join(known)}"
            raise ConfigError(f"{where}: unknown key {shown(key)}; {hint}")


def check_ranges(settings: Any, interval: str, *names: str, prefix: str = "") -> None:
    """Refuse settings outside an interval, in a ``__post_init__``; what is None is left alone.

    Args:
        settings: the dataclass.
        interval: such as ``[1, inf)`` or ``[0, 1)``.
        names: of the settings.
        prefix: put before a name in the message, such as ``loop.``.

    Raises:
        ConfigError: for the first one outside, NaN included.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None:
            check_range(value, interval, prefix + name)


def check_range(value: float, interval: str, where: str) -> None:
    """Refuse a number outside an interval, as :func:`check_ranges` does.

    Raises:
        ConfigError: naming ``where``.
    """
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value > low if interval[0] == "(" else value >= low
    below = value < high if interval[-1] == ")" else value <= high
    if above and below:
        return
    allowed = f"in {interval}"
    if high == math.inf:
        allowed = f"above {low:g}" if interval[0] == "(" else f"{low:g} or more"
    raise ConfigError(f"{where}: must be {allowed}, got {value}")


def as_dict(settings: Any) -> dict[str, Any]:
    """A settings dataclass as plain JSON-able values."""
    return dataclasses.asdict(settings, dict_factory=_plain)


def _plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in pairs}


_REQUIRED = object()  # no stand-in: a missing key is an error


def _arguments(
    cls: type,
    values: dict[str, Any],
    where: str,
    missing: Any = _REQUIRED,
    *,
    bounded: bool = True,
) -> dict[str, Any]:
    """Every field's value, from the mapping or its default."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected settings ({', '.join(fields)}), got {shown(values)}")
    nested = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    inner = [f"{name}.{f.name}" for name, hint in nested.items() for f in dataclasses.fields(hint)]
    check_keys(values, list(fields), where, inner)
    arguments = {}
    for name, spec in fields.items():
        place = f"{where}.{name}" if where else name
        if name in values:
            arguments[name] = convert(values[name], hints[name], place, bounded=bounded)
        elif spec.default is not dataclasses.MISSING:
            arguments[name] = spec.default
        elif spec.default_factory is not dataclasses.MISSING:
            arguments[name] = spec.default_factory()
        elif missing is not _REQUIRED:
            arguments[name] = missing
        else:
            raise ConfigError(f"{where}: missing key {name!r}")
    return arguments


def convert(value: Any, hint: Any, where: str, *, bounded: bool = True) -> Any:
    """``value`` as an annotated type.

    Args:
        bounded: refuse numbers that no setting may have.

    Raises:
        ConfigError: naming ``where``, for another type, or a number that is beyond what
            :data:`_LARGEST` allows, NaN, or negative and not :data:`Signed`.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        options = [a for a in args if a is not type(None)]
        for option in options:
            try:
                return convert(value, option, where, bounded=bounded)
            except ConfigError:
                if option is options[-1]:
                    raise
    if origin is Annotated:
        if _NEGATIVE in args and isinstance(value, int | float) and value < 0:
            return -convert(-value, args[0], where, bounded=bounded)
        return convert(value, args[0], where, bounded=bounded)
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{where}: {shown(value)} is not one of {', '.join(map(str, args))}")
        return value
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, got {shown(value)}")
        hints = [args[0]] * len(value) if origin is list or args[-1] is ... else list(args)
        if len(hints) != len(value):
            raise ConfigError(f"{where}: expected {len(hints)} values, got {shown(value)}")
        pairs = enumerate(zip(value, hints, strict=True))
        return origin(convert(v, h, f"{where}[{i}]", bounded=bounded) for i, (v, h) in pairs)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a mapping, got {shown(value)}")
        return {
            key: convert(one, args[1], f"{where}.{str(key)[:100]}", bounded=bounded)
            for key, one in value.items()
        }
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    return _scalar(value, hint, where, bounded)


def _scalar(value: Any, hint: Any, where: str, bounded: bool) -> Any:
    if hint is Any:
        return value
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string
        with contextlib.suppress(ValueError):
            value = float(value)
    accepted = (int, float) if hint is float else hint
    if not isinstance(value, accepted) or (hint in (int, float) and isinstance(value, bool)):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {shown(value)}")
    huge = isinstance(value, int) and abs(value) > _LARGEST[float]  # float() of it would fail
    if (bounded or huge) and hint in _LARGEST and not 0 <= value <= _LARGEST[hint]:
        bound = "not be negative" if value < 0 else f"be a number up to {_LARGEST[hint]}"
        raise ConfigError(f"{where}: must {bound}, got {value}")
    return float(value) if hint is float else value


def shown(value: Any) -> str:
    """A value in a message: whole where it is short."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def settings_of(pairs: Sequence[str], flag: str) -> dict[str, Any]:
    """``NAME=VALUE`` of a repeated flag; a value is read as YAML has it.

    Raises:
        ConfigError: for one that is not so written.

    >>> settings_of(["per_category=3", "diversity=mmr"], "--rerank")
    {'per_category': 3, 'diversity': 'mmr'}
    """
    from llmrec.bounded_yaml import parse_yaml

    found: dict[str, Any] = {}
    for pair in pairs:
        name, is_pair, value = pair.partition("=")
        if not (is_pair and name.strip()):
            raise ConfigError(f"{flag}: {shown(pair)} is not NAME=VALUE")
        try:
            found[name.strip()] = parse_yaml(value)
        except ValueError:
            raise ConfigError(f"{flag}: {shown(value)} of {name} cannot be read") from None
    return found


def expand_variables(value: Any, names: dict[str, str], where: str) -> Any:
    """``value`` with every ``${NAME}`` replaced, in nested lists and mappings too."""
    if isinstance(value, dict):
        return {k: expand_variables(v, names, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list):
        return [expand_variables(v, names, f"{where}[{i}]") for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name in names:
            return names[name]
        if name in os.environ:
            return os.environ[name]
        raise ConfigError(f"{where}: ${{{name}}} is not set; run  export {name}=...  first")

    return re.sub(r"\$\{(\w+)\}", replace, value)

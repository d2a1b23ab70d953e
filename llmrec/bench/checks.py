"""Checks of a benchmark's settings; every message names the flag."""

from __future__ import annotations

from pathlib import Path

from llmrec.errors import ConfigError

MOST_IDS = 2**62  # distinct IDs that a random catalogue can be drawn from


def check_at_least(config: object, least: int, *names: str) -> None:
    """Check numbers of a settings class.

    Raises:
        ConfigError: for the first that is smaller.
    """
    for name in names:
        value = getattr(config, name)
        if value < least:
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag}: {value} is too small; give at least {least}")


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Check a word.

    Raises:
        ConfigError: naming its flag and the words there are.
    """
    if value not in known:
        raise ConfigError(f"--{name}: {value!r} is not one of {', '.join(known)}")


def check_catalogue(items: int, levels: int, codes: int) -> None:
    """Check that so many items can have distinct IDs of ``levels`` tokens.

    Raises:
        ConfigError: if not.
    """
    for name, value in (("items", items), ("levels", levels), ("codes", codes)):
        if value < 1:
            raise ConfigError(f"--{name}: {value} is too small; give at least 1")
    if levels > 26:
        raise ConfigError(f"--levels: {levels} is more than 26")
    if codes**levels > MOST_IDS:
        raise ConfigError(f"--codes: {codes} at {levels} levels are more IDs than fit 62 bits")
    if items > codes**levels:
        raise ConfigError(
            f"--items: {items} items need more than the {codes**levels} IDs of "
            f"--levels {levels} --codes {codes}; raise one of them"
        )


def result_file(path: Path | None, default: Path, flag: str = "--results") -> Path:
    """Where a result file goes.

    Raises:
        ConfigError: if it is no ``.json``.
    """
    path = default if path is None else path
    if path.suffix != ".json":
        raise ConfigError(f"{flag} {path}: give the name of a .json file")
    return path

"""Checks of a benchmark's settings; every message names the flag."""

from __future__ import annotations

from pathlib import Path

from llmrec.errors import ConfigError

MOST_IDS = 2**62  # distinct IDs that a random catalogue can be drawn from


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
    if items < 1:
        raise ConfigError(f"--items: must be 1 or more, got {items}")
    if codes**levels > MOST_IDS:
        raise ConfigError(f"--codes: {codes} at {levels} levels are more IDs than fit 62 bits")
    if items > codes**levels:
        raise ConfigError(
            f"--items: {items} items need more than the {codes**levels} IDs of "
            f"--levels {levels} --codes {codes}; raise one of them"
        )


def result_file(path: Path, flag: str = "--out") -> Path:
    """Where a result file goes.

    Raises:
        ConfigError: if it is no ``.json``.
    """
    if path.suffix != ".json":
        raise ConfigError(f"{flag} {path}: give the name of a .json file")
    return path

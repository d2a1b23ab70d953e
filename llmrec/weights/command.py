"""``llmrec models``: the pretrained weights that have short names.

llmrec models list
llmrec models get smollm2-135m     # converts it now rather than at its first use
llmrec models path smollm2-135m    # where it is, for other programs
"""

from __future__ import annotations

from pathlib import Path

from llmrec.errors import ArtifactError, ConfigError, MissingExtraError
from llmrec.weights.known import WEIGHTS, Weights
from llmrec.weights.locate import folder_of, get, is_whole

_COLUMNS = ("name", "kind", "parameters", "size", "licence", "source", "where")


def list_models() -> None:
    """Show every short name: what it is, its licence, its source and where it is."""
    rows = [_COLUMNS, *(_row(name, weights) for name, weights in WEIGHTS.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join((*cells, row[-1])), flush=True)


def get_model(name: str, /) -> None:
    """Find, check and convert the weights of a short name, and print where they are.

    Args:
        name: one that `llmrec models list` shows.

    Raises:
        ArtifactError: if the weights are not the known ones, or the cache cannot be written.
        ConfigError: for another name.
        MissingExtraError: if the package is not installed, naming the install command.
    """
    _weights(name)
    print(get(name), flush=True)


def show_path(name: str, /) -> None:
    """Print where the weights of a short name are, without making them.

    Args:
        name: one that `llmrec models list` shows.

    Raises:
        ArtifactError: if they were not converted yet, or are damaged.
        ConfigError: for another name.
        MissingExtraError: if the package is not installed, naming the install command.
    """
    place = _place(name, _weights(name))
    if place is None:
        raise ArtifactError(
            f"{folder_of(name)}: not there, or damaged; run llmrec models get {name}"
        )
    print(place, flush=True)


def _weights(name: str) -> Weights:
    if name not in WEIGHTS:
        raise ConfigError(f"{name!r} is no short name of a model; there is {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def _row(name: str, weights: Weights) -> tuple[str, ...]:
    try:
        place = _place(name, weights)
        where = str(place) if place else f"installed; converted by llmrec models get {name}"
    except MissingExtraError:
        where = f"missing: {weights.remedy().removeprefix('run  ')}"
    size = f"{weights.mib} MiB"
    return (
        name,
        weights.kind,
        weights.parameters,
        size,
        weights.licence,
        weights.origin,
        where,
    )


def _place(name: str, weights: Weights) -> Path | None:
    """Where whole weights are; None where they still are to be converted."""
    if not weights.converter:
        return weights.sources(name)[0].parent
    folder = folder_of(name)
    if is_whole(folder, weights):
        return folder / weights.result
    weights.sources(name)
    return None

"""From the name of a model to where it is: a short name is found, converted once and checked.

What a package holds in a form of its own is converted into a folder below ``$LLMREC_CACHE`` (by
default ``llmrec`` in the user's cache folder), as an ordinary model of transformers, openai-whisper
or timm. ``source.json`` there says what it was made of, with size and sha256 of every file. Of
processes that need the same weights at once, one converts and the others wait.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrec.errors import ArtifactError, ConfigError, LlmrecError
from llmrec.files import (
    damaged_files,
    file_hash,
    list_files,
    locked,
    replacing,
    write_whole,
)
from llmrec.jsonl import read_json
from llmrec.weights.known import WEIGHTS, Kind, PackageFile, Weights

SOURCE = "source.json"
SCHEMA_VERSION = 1
# parts of what safetensors and torch say of a file that cannot be written, with no OSError
_NOT_WRITTEN = ("os error", "No space left", "inline_container", "PytorchStreamWriter")
CONVERSION_SECONDS = 1800.0  # that others wait for the one that converts


def cache_folder() -> Path:
    """Where converted weights are kept."""
    own = os.environ.get("LLMREC_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "llmrec"


def locate(model: str, kind: Kind, setting: str) -> str:
    """The folder or file of a short name; any other name comes back as it is.

    A short name wins over a folder of that name here: write ``./NAME`` for the folder.

    Args:
        model: a short name, a folder or file, or a hub id.
        kind: what the caller can load.
        setting: where the name was given, for messages.

    Raises:
        ArtifactError: if the package's file is not the known one, or the cache cannot be written.
        ConfigError: for a short name of another kind of model.
        MissingExtraError: if its package is not installed, naming the install command.
    """
    weights = WEIGHTS.get(model)
    if weights is None:
        return model
    if weights.kind != kind:
        names = [name for name, other in WEIGHTS.items() if other.kind == kind]
        raise ConfigError(
            f"{setting}: {model!r} is the short name of a {weights.kind}, and a {kind} is needed; "
            f"give {', '.join((*names, 'a folder'))} or a hub id"
        )
    return str(get(model))


def get(name: str) -> Path:
    """What a loader takes for a short name, converted and checked.

    Raises:
        ArtifactError, MissingExtraError: as for :func:`locate`.
    """
    weights = WEIGHTS[name]
    if not weights.converter:
        return _checked_sources(name, weights)[0].parent
    folder = folder_of(name)
    if not is_whole(folder, weights):
        _convert_once(name, weights, folder)
    return folder / weights.result


def folder_of(name: str) -> Path:
    """Where the converted weights of a short name lie, or would."""
    return cache_folder() / "models" / name


def is_whole(folder: Path, weights: Weights) -> bool:
    """Whether a folder holds the converted weights, as they were written."""
    try:
        source = read_json(folder / SOURCE)
        if (source["schema_version"], source["identity"]) != (SCHEMA_VERSION, weights.identity):
            return False
        listed = {str(name): (int(size), str(sha)) for name, (size, sha) in source["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    if damaged_files(folder, listed):
        return False
    return all(_hash(folder / name) == sha for name, (_, sha) in listed.items())


def _convert_once(name: str, weights: Weights, folder: Path) -> None:
    """Convert, unless another process does just now: then wait for it."""
    weights.sources(name)  # before a folder is made
    room = _Room.of(folder, weights)
    try:
        with locked(folder.with_name(f"{name}.conversion"), wait=CONVERSION_SECONDS):
            if is_whole(folder, weights):
                return
            sources = _checked_sources(name, weights)
            room.check()
            said = f"{name}: converting {sources[0].name}, once, into {folder}"
            print(said, file=sys.stderr, flush=True)  # what a command prints may be read
            with replacing(folder) as part:
                weights.load_converter()(sources, part)
                _write_source(name, weights, part)
    except LlmrecError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not any(word in str(error) for word in _NOT_WRITTEN):
            raise
        raise room.failure(error) from error


def _checked_sources(name: str, weights: Weights) -> list[Path]:
    """The packages' files, whose hashes are the known ones.

    Raises:
        ArtifactError: if one is not, naming what is installed and the fix.
        MissingExtraError: if a package is not installed.
    """
    paths = weights.sources(name)
    for file, path in zip(weights.files, paths, strict=True):
        if _hash(path) != file.sha256:
            why = _altered(name, file)
            raise ArtifactError(f"{path}: {why}; {weights.remedy(again=True)}")
    return paths


def _altered(name: str, file: PackageFile) -> str:
    """Why a package's file is not the known one."""
    from importlib.metadata import version

    if not file.version:
        return f"was altered or cut short: its sha256 is not that of {name}"
    found = version(file.package)
    if found != file.version:
        return f"is of {file.package} {found}, and {name} is known in {file.version}"
    return f"was altered or cut short: its sha256 is not that of {file.package} {file.version}"


def _write_source(name: str, weights: Weights, folder: Path) -> None:
    """Say what a converted folder was made of; no times in it, so that it is always the same."""
    source: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "identity": weights.identity,
        "origin": weights.origin,
        "licence": weights.licence,
        "made_of": {file.path: file.sha256 for file in weights.files},
        "files": list_files(folder),
    }
    write_whole(folder / SOURCE, json.dumps(source, indent=1) + "\n")


def _hash(path: Path) -> str:
    """sha256 of a file, computed once while the file stays the same."""
    status = path.stat()
    return _hash_of(path, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _hash_of(path: Path, *_unchanged: int) -> str:
    return file_hash(path)


@dataclass(frozen=True)
class _Room:
    """The disk space that a conversion needs, and what to say where it is not there."""

    folder: Path
    mib: int

    @classmethod
    def of(cls, folder: Path, weights: Weights) -> _Room:
        return cls(folder, weights.mib + 10)

    def check(self) -> None:
        """Refuse before the work.

        Raises:
            ArtifactError: where the disk has less.
        """
        free = shutil.disk_usage(self.folder.parent).free >> 20
        if free < self.mib:
            raise ArtifactError(
                f"{self.folder}: needs {self.mib} MiB, {free} are free; {self._fix}"
            )

    def failure(self, error: Exception) -> ArtifactError:
        """An error of the conversion as the user's."""
        said = getattr(error, "strerror", None) or " ".join(str(error).split())[:300]
        return ArtifactError(f"{self.folder}: cannot be written ({said}); {self._fix}")

    @property
    def _fix(self) -> str:
        return f"set LLMREC_CACHE to a folder that can be written, with {self.mib} MiB free"

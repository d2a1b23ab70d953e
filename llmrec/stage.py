"""A stage's folder: its data, its manifest, and the promise that it appears whole or not at all.

``manifest.json`` holds the schema version, the stage, its settings, a hash of every
input, counts, the seed and library versions. A stage is skipped when a finished
folder was made from the same settings and inputs. While it runs, a stage writes to
a sibling ``.NAME.part`` folder, which is renamed into place at the end; a stage that
can resume finds its own earlier work there.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrec.errors import ArtifactError, LlmrecError
from llmrec.version import __version__

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
MODEL_STAGES = ("train", "expand", "merge", "tune")  # stages whose folder is a model
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LIBRARIES = ("numpy", "pyarrow", "torch", "transformers", "sentence-transformers", "faiss-cpu")


@dataclass
class Manifest:
    """What a finished stage says of itself."""

    stage: str
    config: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    schema_version: int = SCHEMA_VERSION
    llmrec_version: str = __version__
    libraries: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def fingerprint(self) -> str:
        """Hash of what decides a stage's result: stage, settings, inputs, seed."""
        decisive = [self.schema_version, self.stage, self.config, self.inputs, self.seed]
        text = json.dumps(decisive, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(folder: str | Path, stage: str | None = None) -> Manifest:
    """Read and check a stage's manifest.

    Args:
        folder: a finished stage's folder.
        stage: the stage it must come from, or None for any.

    Raises:
        ArtifactError: if it is missing, damaged, from another stage or from a newer llmrec.
    """
    path = Path(folder) / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path}: not found; run the stage that writes {folder}") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not a readable manifest ({error})") from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if not isinstance(version, int):
        raise ArtifactError(f"{path}: has no schema_version; it is not an llmrec manifest")
    if version > SCHEMA_VERSION:
        raise ArtifactError(
            f"{path}: written with schema version {version}, this llmrec reads up to "
            f"{SCHEMA_VERSION}; upgrade llmrec or run the stage again"
        )
    known = {k: v for k, v in raw.items() if k in Manifest.__dataclass_fields__}
    try:
        manifest = Manifest(**known)
    except TypeError as error:
        raise ArtifactError(f"{path}: a manifest field is missing ({error})") from None
    if stage is not None and manifest.stage != stage:
        raise ArtifactError(f"{folder}: holds the {manifest.stage!r} stage, expected {stage!r}")
    return manifest


def folder_hash(folder: str | Path) -> str:
    """What stands for a folder among a stage's inputs: its manifest's fingerprint and counts."""
    manifest = read_manifest(folder)
    text = manifest.fingerprint + json.dumps(manifest.counts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: str | Path) -> str:
    """sha256 of a file's bytes, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass
class StageRun:
    """A stage at work: write to ``folder``, note ``counts``; both end in the finished folder."""

    folder: Path
    counts: dict[str, Any]


def is_current(out: str | Path, manifest: Manifest) -> bool:
    """Whether ``out`` is a finished folder made from the same settings and inputs."""
    try:
        return read_manifest(out).fingerprint == manifest.fingerprint
    except ArtifactError:
        return False


@contextmanager
def writing(out: str | Path, manifest: Manifest, *, resume: bool = False) -> Iterator[StageRun]:
    """Write a stage's folder beside its place, then rename it there.

    On an error or Ctrl-C nothing appears at ``out`` and what stood there before stays.
    A resumable stage keeps its part folder for the next try, but only if that try has the
    same fingerprint; otherwise the part folder is removed.

    Raises:
        ArtifactError: if the disk is full or the folder cannot be written.
        LlmrecError: if ``out`` holds something that llmrec did not write.
    """
    out = Path(out)
    _check_replaceable(out)
    part = out.parent / f".{out.name}.part"
    started = time.monotonic()
    try:
        stamp = _open_part(part, manifest.fingerprint, resume)
        yield StageRun(part, manifest.counts)
        manifest.seconds = round(time.monotonic() - started, 3)
        manifest.libraries = library_versions()
        text = json.dumps(manifest.__dict__, indent=2, default=str)
        (part / MANIFEST).write_text(text + "\n", encoding="utf-8")
        _replace(part, out)
        # after that: without it a part folder that was whole would be begun again
        (out / stamp.name).unlink()
    except BaseException as error:
        message = _write_failure(error, part, out)
        if not resume:
            shutil.rmtree(part, ignore_errors=True)
        if message is None:
            raise
        raise ArtifactError(f"{manifest.stage}: {message}, then run it again") from error


def run_stage(
    out: str | Path,
    manifest: Manifest,
    work: Callable[[StageRun], None],
    *,
    resume: bool = False,
    log: Callable[[str], None] = print,
) -> Path:
    """Run ``work`` unless ``out`` is already current; the whole life of a stage."""
    out = Path(out)
    if is_current(out, manifest):
        log(f"{manifest.stage}: up to date in {out}")
        return out
    with writing(out, manifest, resume=resume) as run:
        work(run)
    log(f"{manifest.stage}: wrote {out} in {manifest.seconds:.1f} s")
    return out


def library_versions() -> dict[str, str]:
    """Versions of the libraries whose results end up in artefacts, without importing them."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _open_part(part: Path, fingerprint: str, resume: bool) -> Path:
    """Make the part folder, or find the one to go on with; the path of its stamp."""
    stamp = part / ".fingerprint"
    same_try = stamp.is_file() and stamp.read_text() == fingerprint
    if part.exists() and not (resume and same_try):
        shutil.rmtree(part)
    part.mkdir(parents=True, exist_ok=True)
    stamp.write_text(fingerprint)
    return stamp


def _write_failure(error: BaseException, part: Path, out: Path) -> str | None:
    """What to tell the user if ``error`` came from writing ``part``; None for all other errors.

    Libraries report a full disk in their own ways (numpy: an OSError without a number,
    safetensors and torch: no OSError at all), so the file system is asked as well.
    """
    if not isinstance(error, Exception) or isinstance(error, LlmrecError):
        return None
    disk_full = part.exists() and shutil.disk_usage(part).free < 1 << 16
    if getattr(error, "errno", None) in _FULL or "No space left" in str(error) or disk_full:
        return f"{out}: no space left to write to; free some space or choose another output folder"
    if isinstance(error, OSError) and error.filename is not None:
        place = str(error.filename)
        if place.startswith((str(part), str(out))) or str(part).startswith(place):
            return f"{place}: {error.strerror}; choose another output folder"
    return None


def _check_replaceable(out: Path) -> None:
    """Only a folder that llmrec wrote, or an empty one, is ever replaced.

    Raises:
        LlmrecError: if ``out`` is anything else.
    """
    if out.is_dir() and ((out / MANIFEST).is_file() or not any(out.iterdir())):
        return
    if out.exists():
        raise LlmrecError(
            f"{out}: exists and was not written by llmrec; choose another output folder"
        )


def _replace(part: Path, out: Path) -> None:
    """Put ``part`` where ``out`` is."""
    _check_replaceable(out)
    if out.exists():
        old = out.parent / f".{out.name}.old"
        shutil.rmtree(old, ignore_errors=True)
        os.replace(out, old)
        os.replace(part, out)
        shutil.rmtree(old)
    else:
        os.replace(part, out)

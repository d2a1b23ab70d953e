"""A stage's folder: its data, its manifest, and the promise that it appears whole or not at all.

``manifest.json`` holds the schema version, the stage, its settings, a hash of every
input, size and sha256 of every file, counts, the seed and library versions. A stage is skipped
when a finished and whole folder was made from the same settings and inputs. While it runs, a
stage is the only one to write there (:func:`llmrec.files.locked`), into a sibling ``.NAME.part``
folder, which is renamed into place at the end; a stage that can resume finds its own earlier work
there. What another stage or somebody else wrote is never replaced.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrec.errors import ArtifactError, LlmrecError, one_line
from llmrec.files import locked, put_in_place, read_versioned, recover, write_whole
from llmrec.version import __version__

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
MODEL_STAGES = ("train", "expand", "merge", "tune")  # stages whose folder is a model
_STAMP = ".fingerprint"  # in a part folder: of the run that it belongs to
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LIBRARIES = ("numpy", "pyarrow", "torch", "transformers", "sentence-transformers", "faiss-cpu")


@dataclass
class Manifest:
    """What a finished stage says of itself.

    Attributes:
        files: size in bytes and sha256 of every other file of the folder, by its path there.
    """

    stage: str
    config: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    schema_version: int = SCHEMA_VERSION
    llmrec_version: str = __version__
    libraries: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    files: dict[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Hash of what decides a stage's result: stage, settings, inputs, seed."""
        decisive = [self.schema_version, self.stage, self.config, self.inputs, self.seed]
        text = json.dumps(decisive, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(folder: str | Path, stage: str | None = None) -> Manifest:
    """Read and check a stage's manifest, and that its files are there in their sizes.

    Args:
        folder: a finished stage's folder.
        stage: the stage it must come from, or None for any.

    Raises:
        ArtifactError: if it is missing, damaged, from another stage or another llmrec.
    """
    path = Path(folder) / MANIFEST
    raw = read_versioned(path, "manifest", SCHEMA_VERSION, f"run the stage that writes {folder}")
    if (version := raw["schema_version"]) < SCHEMA_VERSION:
        raise ArtifactError(
            f"{path}: written by an earlier llmrec (schema version {version}, this one writes "
            f"{SCHEMA_VERSION}); run the stage that writes {folder} again"
        )
    known = {k: v for k, v in raw.items() if k in Manifest.__dataclass_fields__}
    try:
        manifest = Manifest(**known)
    except TypeError as error:
        raise ArtifactError(f"{path}: a manifest field is missing ({error})") from None
    if stage is not None and manifest.stage != stage:
        raise ArtifactError(f"{folder}: holds the {manifest.stage!r} stage, expected {stage!r}")
    damage = next(_damaged_files(Path(folder), manifest, hashes=False), None)
    if damage is not None:
        raise ArtifactError(f"{damage}; run the stage that writes {folder} again")
    return manifest


def verify(folder: Path, /) -> None:
    """Check every file of a finished folder, and of those in it, against size and sha256.

    Args:
        folder: what a stage wrote, such as a dataset, a model or a bundle.

    Raises:
        ArtifactError: naming the first file that is missing or of another size, else every one
            whose content differs.
    """
    checked, damaged = 0, list[str]()
    read_manifest(folder)
    for path in sorted(folder.rglob(MANIFEST)):
        manifest = read_manifest(path.parent)
        damaged += _damaged_files(path.parent, manifest, hashes=True)
        checked += len(manifest.files)
    if damaged:
        raise ArtifactError(f"{'; '.join(damaged)}; run the stage that writes {folder} again")
    print(f"{folder}: {checked} files as they were written")


def _damaged_files(folder: Path, manifest: Manifest, hashes: bool) -> Iterator[str]:
    """What is wrong with the files that a manifest lists."""
    for name, (size, digest) in manifest.files.items():
        path = folder / name
        try:
            found = path.stat().st_size
        except OSError:
            yield f"{path}: is missing"
            continue
        if found != size:
            yield f"{path}: has {found:,} bytes, was written with {size:,}"
        elif hashes and file_hash(path) != digest:
            yield f"{path}: is not what was written (its sha256 differs)"


def folder_hash(folder: str | Path) -> str:
    """What stands for a folder among a stage's inputs: its fingerprint, counts and files."""
    manifest = read_manifest(folder)
    content = [manifest.counts, manifest.files]
    text = manifest.fingerprint + json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: str | Path) -> str:
    """sha256 of a file's bytes, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def input_hashes(**given: str | Path | None) -> dict[str, str]:
    """What stands for the folders and files that a stage reads, by name; None is left out."""
    return {
        name: file_hash(path) if Path(path).is_file() else folder_hash(path)
        for name, path in given.items()
        if path is not None
    }


@contextmanager
def reading(path: str | Path, command: str) -> Iterator[None]:
    """Turn what fails while a stage's file is read into an ArtifactError that says the fix.

    Args:
        path: of the file.
        command: that writes it, such as ``llmrec embed``.
    """
    try:
        yield
    except LlmrecError:
        raise
    except Exception as error:  # safetensors, pyarrow, JSON and a missing key all raise their own
        raise ArtifactError(
            f"{path}: cannot be read ({one_line(error)}); run {command} again"
        ) from None


@dataclass
class StageRun:
    """A stage at work: write to ``folder``, note ``counts``; both end in the finished folder."""

    folder: Path
    counts: dict[str, Any]


def is_current(out: str | Path, manifest: Manifest) -> bool:
    """Whether ``out`` is a finished, whole folder made from the same settings and inputs."""
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
        ArtifactError: if the disk is full, the folder cannot be written, or another run writes it.
        LlmrecError: if ``out`` holds something that this stage did not write.
    """
    out = Path(out)
    _check_replaceable(out, manifest.stage)
    part = out.parent / f".{out.name}.part"
    started = time.monotonic()
    try:
        with locked(out):
            recover(out)
            _check_replaceable(out, manifest.stage)
            with _removed_on_error(part, manifest.stage, out, keep=resume):
                _open_part(part, manifest.fingerprint, resume)
                yield StageRun(part, manifest.counts)
                manifest.seconds = round(time.monotonic() - started, 3)
                _finish(part, manifest)
                _check_replaceable(out, manifest.stage)
                put_in_place(part, out)
                # after that: without it a part folder that was whole would be begun again
                (out / _STAMP).unlink()
    except OSError as error:  # of the lock's own folder
        message = _write_failure(error, part, out)
        if message is None:
            raise
        raise ArtifactError(f"{manifest.stage}: {message}, then run it again") from error


@contextmanager
def _removed_on_error(part: Path, stage: str, out: Path, keep: bool) -> Iterator[None]:
    """Remove the part folder after an error, unless it is kept; say what a failed write means."""
    try:
        yield
    except BaseException as error:
        message = _write_failure(error, part, out)
        if not keep:
            shutil.rmtree(part, ignore_errors=True)
        if message is None:
            raise
        raise ArtifactError(f"{stage}: {message}, then run it again") from error


def _finish(part: Path, manifest: Manifest) -> None:
    """Give all files one mode, and write the manifest that lists them."""
    umask = os.umask(0)
    os.umask(umask)
    manifest.libraries = library_versions()
    for path in sorted(part.rglob("*")):
        if not path.is_symlink():  # what a link leads to is not ours to change
            path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
        name = path.relative_to(part).as_posix()
        if path.is_file() and name not in (_STAMP, MANIFEST):
            manifest.files[name] = (path.stat().st_size, file_hash(path))
    text = json.dumps(manifest.__dict__, indent=2, default=str)
    write_whole(part / MANIFEST, text + "\n")


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


def library_versions(names: Sequence[str] = _LIBRARIES) -> dict[str, str]:
    """Versions of the libraries whose results end up in artefacts, without importing them."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _open_part(part: Path, fingerprint: str, resume: bool) -> None:
    """Make the part folder, or find the one to go on with."""
    if part.is_symlink():
        raise LlmrecError(f"{part}: is a link, and not what llmrec writes there; remove it")
    stamp = part / _STAMP
    same_try = stamp.is_file() and stamp.read_text() == fingerprint
    if part.exists() and not (resume and same_try):
        shutil.rmtree(part)
    part.mkdir(parents=True, exist_ok=True)
    stamp.write_text(fingerprint)


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


def _check_replaceable(out: Path, stage: str) -> None:
    """Only an earlier result of the same stage, or an empty folder, is ever replaced.

    Raises:
        LlmrecError: if ``out`` is anything else.
    """
    if out.is_symlink():
        raise LlmrecError(f"{out}: is a symbolic link; give the folder itself")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        found = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        written = found["stage"] if isinstance(found["schema_version"], int) else None
    except (OSError, ValueError, KeyError, TypeError):
        written = None
    if written != stage:
        what = f"holds the {written!r} stage" if isinstance(written, str) else "exists"
        raise LlmrecError(
            f"{out}: {what} and was not written by llmrec {stage}; choose another output "
            "folder, or remove this one"
        )

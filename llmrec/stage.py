"""A stage's folder: its data, its manifest, and the promise that it appears whole or not at all.

``manifest.json`` holds the schema version, the stage, its settings, a hash of every
input, size and sha256 of every file, counts, the seed and library versions, and a checksum of
itself. A stage is skipped when a finished and whole folder was made from the same settings and
inputs: whoever reads the manifest checks the sizes of the files, ``--verify`` and ``llmrec
verify`` their hashes too. While it runs, a stage is the only one to write there
(:func:`llmrec.files.locked`), into a sibling ``.NAME.part`` folder, which is renamed into place at
the end; a stage that can resume finds its own earlier work there. What another stage or somebody
else wrote is never replaced.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import importlib.metadata
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrec.config import build
from llmrec.errors import ArtifactError, ConfigError, LlmrecError, one_line
from llmrec.files import (
    damaged_files,
    file_hash,
    list_files,
    locked,
    put_in_place,
    read_versioned,
    recover,
    unlisted_files,
    write_whole,
)
from llmrec.jsonl import read_json
from llmrec.version import __version__

SCHEMA_VERSION = 3
MANIFEST = "manifest.json"
MODEL_STAGES = ("train", "expand", "merge", "tune")  # stages whose folder is a model
_STAMP = ".fingerprint"  # in a part folder: of the run that it belongs to
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LIBRARIES = ("numpy", "pyarrow", "torch", "transformers", "sentence-transformers", "faiss-cpu")
_check_hashes = ContextVar("check_hashes", default=False)


@dataclass
class Manifest:
    """What a finished stage says of itself.

    Attributes:
        files: size in bytes and sha256 of every other file of the folder, by its path there.
        command: of llmrec that writes the folder; empty where it has the stage's name.
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
    command: str = ""

    @property
    def remedy(self) -> str:
        """What makes a damaged folder whole again."""
        return f"run llmrec {self.command or self.stage.replace('-', ' ')} again with --verify"

    @property
    def fingerprint(self) -> str:
        """Hash of what decides a stage's result: stage, settings, inputs, seed."""
        decisive = [self.schema_version, self.stage, self.config, self.inputs, self.seed]
        text = json.dumps(decisive, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(
    folder: str | Path, stage: str | None = None, *, hashes: bool = False
) -> Manifest:
    """Read and check a stage's manifest, and that its files are there in their sizes.

    Args:
        folder: a finished stage's folder.
        stage: the stage it must come from, or None for any.
        hashes: check the content of the files too.

    Raises:
        ArtifactError: if it is missing, damaged, from another stage or another llmrec.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder)
    if stage is not None and manifest.stage != stage:
        raise ArtifactError(
            f"{folder}: holds the {manifest.stage[:80]!r} stage, expected {stage!r}"
        )
    damage = damaged_files(folder, manifest.files, hashes)
    if damage:
        raise ArtifactError(f"{damage[0]}; {manifest.remedy}")
    return manifest


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    fix = f"run the stage that writes {folder}"
    if folder.is_dir() and any(folder.iterdir()):
        # without a manifest nothing says that llmrec wrote what is there
        fix = f"remove {folder} and run the stage that writes it again"
    raw = read_versioned(path, "manifest", SCHEMA_VERSION, fix)
    if (version := raw["schema_version"]) < SCHEMA_VERSION and "stage" in raw:
        raise ArtifactError(
            f"{path}: written by an earlier llmrec (schema version {version}, this one writes "
            f"{SCHEMA_VERSION}); run the stage that writes {folder} again"
        )
    raw.pop("checksum", None)
    if path.read_text(encoding="utf-8") != _manifest_text(raw):
        raise ArtifactError(f"{path}: is not what was written (its checksum differs); {fix}")
    known = {k: v for k, v in raw.items() if k in Manifest.__dataclass_fields__}
    try:
        return build(Manifest, known, str(path))
    except ConfigError as error:
        raise ArtifactError(f"{error}; {fix}") from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder, with all files that are there."""
    manifest.libraries = library_versions()
    manifest.files = list_files(folder, besides=(MANIFEST, _STAMP))
    content = json.loads(json.dumps(manifest.__dict__, default=str))
    write_whole(folder / MANIFEST, _manifest_text(content))


def _manifest_text(content: Mapping[str, Any]) -> str:
    """The one way in which a manifest is written, its checksum at the end."""
    checksum = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps({**content, "checksum": checksum}, indent=2) + "\n"


def verify(folder: Path, /) -> None:
    """Check every file of a finished folder, or of all in a run's folder, against its sha256.

    Args:
        folder: what a stage wrote, such as a dataset, a model or a bundle, or llmrec run.

    Raises:
        ArtifactError: naming every file that is missing, or of another size or content.
    """
    manifests = sorted(folder.rglob(MANIFEST), key=lambda path: len(path.parts))
    finished = list[Path]()
    for path in manifests:
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and not any(path.is_relative_to(outer) for outer in finished):
            finished.append(path.parent)
    checked, damaged = 0, list[str]()
    for one in finished or [folder]:
        manifest = _read_manifest(one)
        found = damaged_files(one, manifest.files, hashes=True)
        damaged += [*found, manifest.remedy] if found else []
        checked += len(manifest.files)
    if damaged:
        raise ArtifactError("; ".join(damaged))
    print(f"{folder}: {checked} files as they were written")


def folder_hash(folder: str | Path) -> str:
    """What stands for a folder among a stage's inputs: its fingerprint, counts and files."""
    manifest = read_manifest(folder, hashes=_check_hashes.get())
    content = [manifest.counts, manifest.files]
    text = manifest.fingerprint + json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


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
            f"{path}: cannot be read ({one_line(error)}); run {command} again with --verify"
        ) from None


@dataclass
class StageRun:
    """A stage at work: write to ``folder``, note ``counts``; both end in the finished folder."""

    folder: Path
    counts: dict[str, Any]


@contextmanager
def checking_hashes(on: bool = True) -> Iterator[None]:
    """Take folders in this block, as inputs or as current, only with the content they had."""
    token = _check_hashes.set(on)
    try:
        yield
    finally:
        _check_hashes.reset(token)


def is_current(out: str | Path, manifest: Manifest) -> bool:
    """Whether ``out`` is a finished, whole folder made from the same settings and inputs."""
    try:
        found = read_manifest(out, hashes=_check_hashes.get())
        return found.fingerprint == manifest.fingerprint
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
                write_manifest(part, manifest)
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


def run_stage(
    out: str | Path,
    manifest: Manifest,
    work: Callable[[StageRun], None],
    *,
    reads: Iterable[Path | None] = (),
    resume: bool = False,
    log: Callable[[str], None] = print,
) -> Path:
    """Run ``work`` unless ``out`` is already current; the whole life of a stage.

    Args:
        reads: folders of other stages among the inputs, which must be the same when it is done.

    Raises:
        ArtifactError: if one was replaced meanwhile, so that nothing says which was read; and as
            for :func:`writing`.
    """
    out = Path(out)
    if is_current(out, manifest):
        log(f"{manifest.stage}: up to date in {out}")
        return out
    with writing(out, manifest, resume=resume) as run:
        work(run)
        for folder in reads:
            if folder is not None and folder_hash(folder) not in manifest.inputs.values():
                raise ArtifactError(
                    f"{folder}: another run replaced it while llmrec {manifest.stage} read it; run "
                    "it again"
                )
    log(f"{manifest.stage}: wrote {out} in {manifest.seconds:.1f} s")
    return out


def library_versions(names: Sequence[str] = _LIBRARIES) -> dict[str, str]:
    """Versions of the libraries whose results end up in artefacts, without importing them."""
    found = {name: _version(name) for name in names}
    return {name: version for name, version in found.items() if version is not None}


@functools.cache  # finding it takes longer than a small stage
def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


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
        LlmrecError: if ``out`` is anything else, or somebody has put files of his own there.
    """
    if out.is_symlink():
        raise LlmrecError(f"{out}: is a symbolic link; give the folder itself")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        found = read_json(out / MANIFEST)
        written = found["stage"] if isinstance(found["schema_version"], int) else None
    except (OSError, ValueError, KeyError, TypeError):
        written = None
    if written != stage:
        what = f"holds the {written[:80]!r} stage" if isinstance(written, str) else "exists"
        raise LlmrecError(
            f"{out}: {what} and was not written by llmrec {stage}; choose another output "
            "folder, or remove this one"
        )
    listed = found.get("files")
    strangers = unlisted_files(out, {MANIFEST, *listed}) if isinstance(listed, dict) else []
    if strangers:
        raise LlmrecError(
            f"{out / strangers[0]}: was not written by llmrec {stage}, which would remove it; move "
            "it away, or choose another output folder"
        )

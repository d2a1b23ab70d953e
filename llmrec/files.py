"""Files and folders that are whole or not there, whoever else writes and whenever power fails.

* :func:`write_whole`, :func:`whole_file`: one file, written beside its place and renamed there.
* :func:`read_versioned`: a JSON file of ours, read and checked.
* :func:`put_in_place`, :func:`replacing`: a folder takes another's place in one step.
* :func:`list_files`, :func:`damaged_files`: whether a folder holds what was written there.
* :func:`locked`: one writer at a time.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from llmrec.errors import ArtifactError
from llmrec.jsonl import read_json

_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_AT_FDCWD = -100
_LOCK_POLL = 0.1  # seconds between two tries for a lock


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file so that a reader, also after a crash, sees the old one or the new one."""
    data = content.encode() if isinstance(content, str) else content
    with whole_file(path) as part:
        part.write_bytes(data)


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Where to write a file that takes its place, durably, when the block ends without an error."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        sync(part)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync(path.parent)


def read_versioned(path: Path, kind: str, newest: int, fix: str) -> dict[str, Any]:
    """Read a JSON object that says its ``schema_version``.

    Args:
        kind: what it is, for messages.
        newest: the version that this llmrec writes.
        fix: how to make the file again.

    Raises:
        ArtifactError: if it is missing, not JSON, something else or from a newer llmrec.
    """
    try:
        raw = read_json(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: not found; {fix}") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not a readable {kind} ({error}); {fix}") from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if not isinstance(version, int):
        raise ArtifactError(f"{path}: has no schema_version; it is not a {kind}; {fix}")
    if version > newest:
        raise ArtifactError(
            f"{path}: written with schema version {version}, this llmrec reads up to {newest}; "
            f"upgrade llmrec, or {fix}"
        )
    return raw


def file_hash(path: str | Path) -> str:
    """sha256 of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        # larger than those of hashlib.file_digest: between two, a busy thread may hold the GIL
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def hash_files(paths: Sequence[Path]) -> list[str]:
    """sha256 of each file, in order; threads read and hash side by side."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(file_hash, paths))


def list_files(folder: Path, besides: Collection[str] = ()) -> dict[str, tuple[int, str]]:
    """Size in bytes and sha256 of every file, by its path in the folder.

    Args:
        besides: paths to leave out.
    """
    paths = {name: path for name, path in _files(folder).items() if name not in besides}
    sizes = [path.stat().st_size for path in paths.values()]
    hashes = hash_files(list(paths.values()))
    return dict(zip(paths, zip(sizes, hashes, strict=True), strict=True))


def damaged_files(
    folder: Path, listed: Mapping[str, tuple[int, str]], hashes: bool = False
) -> list[str]:
    """What is wrong with the files that :func:`list_files` gave, a line each.

    Args:
        hashes: check the content of files too, where all have their sizes.
    """
    found = list[str]()
    for name, (size, _) in listed.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{path}: is missing")
        elif (there := path.stat().st_size) != size:
            found.append(f"{path}: has {there:,} bytes, was written with {size:,}")
    if found or not hashes:
        return found
    paths = [folder / name for name in listed]
    expected = (digest for _, digest in listed.values())
    return [
        f"{path}: is not what was written (its sha256 differs)"
        for path, digest, was in zip(paths, hash_files(paths), expected, strict=True)
        if digest != was
    ]


def unlisted_files(folder: Path, listed: Collection[str]) -> list[str]:
    """Paths of files that were added to a folder; hidden files do not count."""
    found = _files(folder).items()
    return [name for name, path in found if name not in listed and not path.name.startswith(".")]


def _files(folder: Path) -> dict[str, Path]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def put_in_place(part: Path, out: Path) -> None:
    """Make a finished folder appear at ``out``, in the place of what is there, and durably.

    All its files get the mode that the user's mask gives, which some libraries do not ask. Where
    the file system can exchange two names, there is no moment without a folder at ``out``.
    Elsewhere there is one; :func:`recover` ends a replacement that was cut off in it.
    """
    umask = os.umask(0)
    os.umask(umask)
    for folder, _, names in os.walk(part):
        for path in [*(Path(folder) / name for name in names), Path(folder)]:
            if not path.is_symlink():  # what a link leads to is not ours to change
                path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
                sync(path)
    if not out.exists():
        os.replace(part, out)
    elif _exchange(part, out):
        shutil.rmtree(part)
    else:
        old = _old(out)
        shutil.rmtree(old, ignore_errors=True)
        os.replace(out, old)
        os.replace(part, out)
        shutil.rmtree(old)
    sync(out.parent)


@contextlib.contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A new folder beside ``out`` that takes its place at the end; after an error nothing changed.

    Raises:
        ArtifactError: if another run writes there.
    """
    part = out.parent / f".{out.name}.part"
    with locked(out):
        recover(out)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            yield part
            put_in_place(part, out)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def recover(out: Path) -> None:
    """End a replacement that was cut off between its two renames: what stood there comes back."""
    old = _old(out)
    if old.is_dir() and not old.is_symlink() and not out.exists():
        os.replace(old, out)


@contextlib.contextmanager
def locked(out: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Be the only one who writes ``out``, in any process of this machine.

    Args:
        wait: seconds to wait for another run to end.

    Raises:
        ArtifactError: if another run still writes there then.
    """
    path = out.parent / f".{out.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _lock(path, out, time.monotonic() + wait)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held, so that nobody waits for a removed file
        os.close(descriptor)


def _lock(path: Path, out: Path, deadline: float) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = os.stat(path).st_ino == os.fstat(descriptor).st_ino
        except BlockingIOError:
            writer = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            if time.monotonic() < deadline:
                time.sleep(_LOCK_POLL)
                continue
            process = f" (process {writer})" if writer else ""
            raise ArtifactError(
                f"{out}: another run writes here{process}; wait for it or choose another output "
                "folder"
            ) from None
        except FileNotFoundError:
            same = False
        except BaseException:
            os.close(descriptor)
            raise
        if same:
            os.truncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            return descriptor
        os.close(descriptor)  # its owner removed it between our opening and locking it


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _old(out: Path) -> Path:
    return out.parent / f".{out.name}.old"


def sync(path: Path) -> None:
    """Bring a file's bytes or a folder's names to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that does not sync folders
            raise
    finally:
        os.close(descriptor)

"""Files and folders that are whole or not there, whoever else writes and whenever power fails.

* :func:`write_whole`: one file, written beside its place and renamed there.
* :func:`read_versioned`: a JSON file of ours, read and checked.
* :func:`put_in_place`: a folder takes another's place in one step.
* :func:`locked`: one writer at a time.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmrec.errors import ArtifactError

_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_AT_FDCWD = -100


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file so that a reader, also after a crash, sees the old one or the new one."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    data = content.encode() if isinstance(content, str) else content
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync(path.parent)


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
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path}: not found; {fix}") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not a readable {kind} ({error}); {fix}") from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if not isinstance(version, int):
        raise ArtifactError(f"{path}: has no schema_version; it is not a {kind}")
    if version > newest:
        raise ArtifactError(
            f"{path}: written with schema version {version}, this llmrec reads up to {newest}; "
            f"upgrade llmrec, or {fix}"
        )
    return raw


def put_in_place(part: Path, out: Path) -> None:
    """Make a finished folder appear at ``out``, in the place of what is there, and durably.

    Where the file system can exchange two names, there is no moment without a folder at
    ``out``. Elsewhere there is one; :func:`recover` ends a replacement that was cut off in it.
    """
    for folder, _, names in os.walk(part):
        for name in names:
            _sync(Path(folder) / name)
        _sync(Path(folder))
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
    _sync(out.parent)


def recover(out: Path) -> None:
    """End a replacement that was cut off between its two renames: what stood there comes back."""
    old = _old(out)
    if old.is_dir() and not old.is_symlink() and not out.exists():
        os.replace(old, out)


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Be the only one who writes ``out``, in any process of this machine.

    Raises:
        ArtifactError: if another run writes there now.
    """
    path = out.parent / f".{out.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _lock(path, out)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held, so that nobody waits for a removed file
        os.close(descriptor)


def _lock(path: Path, out: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = os.stat(path).st_ino == os.fstat(descriptor).st_ino
        except BlockingIOError:
            writer = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
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


def _sync(path: Path) -> None:
    """Bring a file or a folder's names to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that does not sync folders
            raise
    finally:
        os.close(descriptor)

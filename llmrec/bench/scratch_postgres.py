"""A PostgreSQL of one's own, for as long as a measurement or a test takes."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 120  # that a command may take
USERS = ("postgres", "nobody")  # who may run it where root asks: it refuses root


def why_no_postgres() -> str:
    """Why none can be started here; nothing where one can."""
    if shutil.which("pg_ctl") is None:
        return "there is no pg_ctl on the PATH"
    if os.geteuid() == 0 and (shutil.which("setpriv") is None or _user() is None):
        return "PostgreSQL does not run as root, and there is no other user to run it as"
    return ""


@contextmanager
def scratch_postgres(folder: Path) -> Iterator[str]:
    """The URL of a server that runs while the block does.

    Args:
        folder: an empty one, on a short path: a socket's path has at most 107 bytes.
    """
    as_user: list[str] = []
    if os.geteuid() == 0:
        user = _user()
        assert user is not None
        os.chown(folder, user.pw_uid, user.pw_gid)
        ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        as_user = ["setpriv", *ids]
    pg_ctl = [*as_user, str(shutil.which("pg_ctl"))]
    data = ["-s", "-D", f"{folder}/data"]
    options = f"-k {folder} -c listen_addresses="
    _run([*pg_ctl, "init", *data, "-o", "--auth=trust --username=llmrec"], folder)
    _run([*pg_ctl, "start", "-w", *data, "-o", options, "-l", f"{folder}/log"], folder)
    try:
        yield f"postgresql://llmrec@/postgres?host={folder}"
    finally:
        _run([*pg_ctl, "stop", "-m", "fast", *data], folder)


def _user() -> pwd.struct_passwd | None:
    known = {one.pw_name: one for one in pwd.getpwall()}
    return next((known[name] for name in USERS if name in known), None)


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, check=True, timeout=SECONDS, cwd=folder)

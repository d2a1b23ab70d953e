"""``llmrec serve`` as a process of its own, to be measured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from llmrec.errors import LlmrecError

START_SECONDS = 600.0
STOP_SECONDS = 60.0


@dataclass(frozen=True)
class ServiceProcess:
    """A service that is ready.

    Attributes:
        url: its address.
        pid: of its process.
    """

    url: str
    pid: int

    def rss_mib(self) -> float:
        """Memory of the process and of those that it started."""
        process = psutil.Process(self.pid)
        every = [process, *process.children(recursive=True)]
        return sum(one.memory_info().rss for one in every) / 2**20


@contextmanager
def service_process(
    bundle: Path, folder: Path, flags: Sequence[str] = (), name: str = "service"
) -> Iterator[ServiceProcess]:
    """A service on a free port while the block runs.

    Args:
        bundle: that it serves.
        folder: for its log, and its store where the flags name none.
        flags: further ones of ``llmrec serve``.

    Raises:
        LlmrecError: if it does not start, with the end of its log.
    """
    log = folder / f"{name}.log"
    command = [sys.executable, "-m", "llmrec", "serve", str(bundle), "--port", "0", "--no-verify"]
    if "--store" not in flags:
        command += ["--store", f"sqlite:///{folder}/{name}.sqlite"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with (
        open(log, "w") as file,
        subprocess.Popen(
            [*command, *flags], stdout=file, stderr=subprocess.STDOUT, env=environment
        ) as process,
    ):
        try:
            yield ServiceProcess(_address(process, log), process.pid)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if found := re.search(r"running on (http://[\w.:-]+)", log.read_text()):
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise LlmrecError(f"llmrec serve did not start: {log.read_text()[-1000:]}")

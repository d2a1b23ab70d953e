"""Runs of ``llmrec tune`` in processes of their own, without the seconds that imports take.

Started as ``python fork_server.py``; reads one request per line, a JSON object, and answers each
with one. Every process of a run is forked from this one, which has imported everything and never
used a thread. A request holds ``argv`` of llmrec, ``processes``, ``environment``, ``first``, which
is added to it in the first process, and ``kill``, the place at which the run kills itself with
SIGKILL; an answer the exit statuses, negative for a signal, and what each printed.
"""

import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_step(stage: str, step: int) -> None:
    """Before the weights of a step are changed."""
    from llmrec.tune.callbacks import Finite

    def dying(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.folder.name == stage and state.global_step + 1 == step:
            die()

    Finite.on_pre_optimizer_step = dying  # type: ignore[method-assign]


def half_a_file(module: Any, name: str, which: str) -> None:
    """While a file is written: half of it is there."""
    real = getattr(module, name)

    def dying(*arguments: Any) -> None:
        real(*arguments)
        path = Path(arguments[-1])
        if which in path.name:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            die()

    setattr(module, name, dying)


def at(place: str) -> None:
    """Prepare to die at a place."""
    import torch
    from transformers import TrainerState

    from llmrec import stage
    from llmrec.tune import base, run, work

    name, _, detail = place.partition(" ")
    places: dict[str, Callable[[], None]] = {
        "align": lambda: in_step("align", int(detail)),
        "tune": lambda: in_step("tune", int(detail)),
        "optimizer": lambda: half_a_file(torch, "save", "optimizer"),
        "random": lambda: half_a_file(torch, "save", "rng_state"),
        "state": lambda: half_a_file(TrainerState, "save_to_json", "trainer_state"),
        "baking": lambda: setattr(base, "copy_beside", die),
        "validating": lambda: setattr(work, "validation_metrics", die),
        "saving": lambda: setattr(work, "save_adapter", die),
        "plotting": lambda: setattr(run, "plot_log", die),
        "cleaning": lambda: setattr(run.shutil, "rmtree", die),
        "renaming": lambda: setattr(stage, "_replace", die),
    }
    places[name]()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


PATIENCE = 240  # seconds after which a run that hangs is ended


def child(request: dict[str, Any], rank: int, port: int, printed: str) -> None:
    """What a forked process does; it does not return."""
    signal.alarm(PATIENCE)
    count = request["processes"]
    os.environ |= request["environment"] | (request["first"] if rank == 0 else {})
    if count > 1:
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        os.environ |= {name: str(value) for name, value in places.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    handle = os.open(printed, os.O_WRONLY | os.O_CREAT)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    status = 1
    try:
        if request["kill"]:
            at(request["kill"])
        from llmrec.cli import main

        status = main(request["argv"])
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        ranks = range(request["processes"])
        files = [f"{folder}/{rank}" for rank in ranks]
        pids = []
        for rank in ranks:
            pids.append(os.fork())
            if pids[-1] == 0:
                child(request, rank, port, files[rank])
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        return {"statuses": statuses, "printed": [Path(file).read_text() for file in files]}


def serve() -> None:
    import torch

    import llmrec.tune.work  # noqa: F401  with all it needs

    torch.set_num_threads(1)
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print; answers stand alone
    for line in sys.stdin:
        channel.write(json.dumps(answer(json.loads(line))) + "\n")
        channel.flush()


if __name__ == "__main__":
    serve()

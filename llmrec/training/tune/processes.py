"""The processes of one training run, started by ``accelerate launch`` or alone.

All of them train; the first alone validates, prints and writes folders, and broadcasts results.
A process that fails ends, and the launcher then ends the rest.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from llmrec.loop.process import die_with_parent

_PATIENCE = timedelta(days=30)  # the others wait as long as the first one validates


@dataclass(frozen=True)
class Processes:
    """Which process this is, and of how many.

    Attributes:
        rank: 0 for the first.
        count: how many there are.
        sharded: whether each holds a part of the model only (FSDP, DeepSpeed ZeRO).
    """

    rank: int = 0
    count: int = 1
    sharded: bool = False

    @classmethod
    def join(cls) -> Processes:
        """Join the process group of the launcher, if any."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls(sharded=_sharded())
        # be killed when the launcher is: it starts every process in a session of its own
        launcher = os.getppid()
        die_with_parent()
        if os.getppid() != launcher:
            os.kill(os.getpid(), signal.SIGKILL)
        from accelerate import PartialState

        if not torch.cuda.is_available():  # by itself it is "cpu:0", which torch.load knows not
            os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
        return cls(state.process_index, state.num_processes, _sharded())

    @property
    def first(self) -> bool:
        """Whether this one validates, prints and writes."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self.broadcast(None)

    def broadcast(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        if self.count == 1:
            return value
        holder = [value]
        torch.distributed.broadcast_object_list(holder, src=0)
        return holder[0]

    def any(self, flag: bool) -> bool:
        """Whether it is true in one of them."""
        if self.count == 1:
            return flag
        device = "cuda" if torch.cuda.is_available() else "cpu"
        raised = torch.tensor(int(flag), device=device)
        torch.distributed.all_reduce(raised, op=torch.distributed.ReduceOp.MAX)
        return bool(raised.item())

    def allow_cpu_sharding(self) -> None:
        """Have accelerate shard the model on a CPU as well.

        By itself it shards among GPUs only, and would silently train whole copies. Call it after
        the arguments of a trainer are made, which reset it.
        """
        if self.sharded and self.count > 1 and not torch.cuda.is_available():
            from accelerate import DistributedType, PartialState

            PartialState().distributed_type = DistributedType.MULTI_GPU

    def leave(self) -> None:
        """Leave the process group."""
        if self.count > 1:
            torch.distributed.destroy_process_group()


def _sharded() -> bool:
    used = (os.environ.get(f"ACCELERATE_USE_{name}", "") for name in ("FSDP", "DEEPSPEED"))
    return any(value.lower() == "true" for value in used)

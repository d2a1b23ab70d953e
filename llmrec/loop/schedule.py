"""Learning-rate schedules: those of transformers, as functions of the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

Shape = Literal["constant", "linear", "cosine"]
_NAMES: dict[str, str] = {
    "constant": "constant_with_warmup",
    "linear": "linear",
    "cosine": "cosine_with_min_lr",
}  # as transformers names them


def learning_rate_schedule(
    shape: Shape, warmup: int, total: int, floor: float = 0.0
) -> Callable[[int], float]:
    """The learning rate as a share of its peak, given the number of steps done.

    It is a function of the step alone, so a resumed run needs nothing of it in its checkpoint.
    The first step is made with ``1 / warmup`` of the peak, where transformers' trainer would
    make it with none.

    Args:
        shape: what follows the warm-up: ``constant``, ``linear`` to 0, or ``cosine`` to ``floor``.
        warmup: steps of linear warm-up.
        total: steps of the run, warm-up included.
        floor: share of the peak at which a cosine ends.

    >>> schedule = learning_rate_schedule("cosine", 2, 6, floor=0.1)
    >>> [round(schedule(step), 3) for step in range(7)]
    [0.5, 1.0, 1.0, 0.868, 0.55, 0.232, 0.1]
    """
    import torch
    from transformers import get_scheduler

    # transformers ties a schedule to an optimizer; wanted here is its function alone
    optimizer = torch.optim.SGD([torch.zeros(())])
    options = {"min_lr_rate": floor} if shape == "cosine" else None
    scheduler = get_scheduler(_NAMES[shape], optimizer, warmup, total, options)
    share: Callable[[int], float] = scheduler.lr_lambdas[0]
    last = max(total, warmup)
    return lambda step: share(step + 1 if step < warmup else min(step, last))


def set_learning_rate(optimizer: Any, share: float) -> None:
    """Give every parameter group this share of the learning rate that it was made with."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * share

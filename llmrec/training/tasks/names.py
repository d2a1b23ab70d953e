"""The names of the tasks, and whether weights of them make sense. Light: nothing loads torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from llmrec.config import check_keys
from llmrec.errors import ConfigError

TASK_NAMES = (
    "next_item",
    "history",
    "text_to_item",
    "item_to_text",
    "taste",
    "search",
    "rank",
    "tool_call",
    "instructions",
)


def check_tasks(tasks: Mapping[str, float]) -> None:
    """Check the weights of a mixture.

    Raises:
        ConfigError: for an unknown task, a weight that is none, or if none is above 0.
    """
    check_keys(dict(tasks), TASK_NAMES, "tasks")
    for name, weight in tasks.items():
        if not (weight >= 0 and math.isfinite(weight)):
            raise ConfigError(f"tasks.{name}: a weight must be 0 or above, not {weight}")
    if not any(tasks.values()):
        raise ConfigError("tasks: trains nothing; give at least one task a weight above 0")

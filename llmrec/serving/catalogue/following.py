"""Looks for what other services over the store took in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from llmrec.errors import LlmrecError

LOG = logging.getLogger(__name__)
EVERY_SECONDS = 1.0


@asynccontextmanager
async def following(looks: Sequence[Callable[[], object]]) -> AsyncIterator[None]:
    """While the block runs, what others changed is in force within about a second.

    Args:
        looks: each takes in what there is.
    """
    task = asyncio.create_task(_again_and_again(looks))
    try:
        yield
    finally:
        task.cancel()


async def _again_and_again(looks: Sequence[Callable[[], object]]) -> None:
    while looks:
        await asyncio.sleep(EVERY_SECONDS)
        for look in looks:
            try:
                await asyncio.to_thread(look)
            except LlmrecError as error:
                LOG.error("%s", error)

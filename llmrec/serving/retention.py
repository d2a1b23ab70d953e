"""Forgets what is too old, while the service runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llmrec.serving.live import LiveHistories
from llmrec.serving.store.database import StoreError

LOG = logging.getLogger(__name__)
EVERY_SECONDS = 3600.0
DAY = 86400.0


@asynccontextmanager
async def forgetting(live: LiveHistories | None, keep_days: float | None) -> AsyncIterator[None]:
    """While the block runs, and before it begins, events and recommendations that are too old are
    removed.

    Args:
        live: knows them; None for nothing.
        keep_days: how old they may be; None for any age.
    """
    if live is None or keep_days is None:
        yield
        return
    seconds = keep_days * DAY
    await asyncio.to_thread(live.forget_before, time.time() - seconds)
    task = asyncio.create_task(_again_and_again(live, seconds))
    try:
        yield
    finally:
        task.cancel()


async def _again_and_again(live: LiveHistories, seconds: float) -> None:
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        try:
            await asyncio.to_thread(live.forget_before, time.time() - seconds)
        except StoreError as error:
            LOG.error("%s", error)

"""Looks for changes of the catalogue that other services over the store took in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llmrec.errors import LlmrecError
from llmrec.serving.catalogue.live import LiveCatalogue

LOG = logging.getLogger(__name__)
EVERY_SECONDS = 1.0


@asynccontextmanager
async def following(catalogue: LiveCatalogue | None) -> AsyncIterator[None]:
    """While the block runs, changes of others are in force within about a second."""
    if catalogue is None:
        yield
        return
    task = asyncio.create_task(_again_and_again(catalogue))
    try:
        yield
    finally:
        task.cancel()


async def _again_and_again(catalogue: LiveCatalogue) -> None:
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        try:
            await asyncio.to_thread(catalogue.sync)
        except LlmrecError as error:
            LOG.error("%s", error)

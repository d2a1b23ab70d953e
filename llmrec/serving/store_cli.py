"""``llmrec store prune``: forget what is too old, while no service runs.

    llmrec store prune --store sqlite:////shop/store.sqlite --keep-days 365

A running service does it itself with ``llmrec serve --keep-days``, and takes what it forgets out of
its item graph, too; beside one, this command would leave that to the next start.
"""

from __future__ import annotations

import time

from llmrec.config import check_range
from llmrec.serving.retention import DAY
from llmrec.serving.store import events, recommendations
from llmrec.serving.store.database import Store


def prune(store: str, keep_days: float) -> None:
    """Remove events and recommendations, with their exposures, that are too old.

    Args:
        store: URL of the service's database, as of llmrec serve.
        keep_days: how old they may be.
    """
    check_range(keep_days, "(0, inf)", "--keep-days")
    before = time.time() - keep_days * DAY
    with Store(store) as opened:
        with opened.write() as connection:
            removed = events.remove_before(connection, before)
            lists = recommendations.remove_before(connection, before)
        opened.compact()
    print(f"store prune: removed {removed:,} events and {lists:,} recommendations")

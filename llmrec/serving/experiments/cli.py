"""``llmrec experiment end``: for an experiment of ``/v1/experiments`` while no service runs.

    llmrec experiment end summer --store sqlite:////shop/store.sqlite

A running service notices it within a second.
"""

from __future__ import annotations

from llmrec.serving.experiments.live import end
from llmrec.serving.store.database import Store


def run(name: str, /, store: str) -> None:
    """Let an experiment end that began over the API; what was shown of it stays.

    Args:
        name: of the experiment.
        store: URL of the service's database, as of llmrec serve.
    """
    with Store(store) as opened:
        end(opened, name)
    print(f"experiment end: {name}")

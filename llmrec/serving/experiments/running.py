"""The experiments of a service as they stand, for its page."""

from __future__ import annotations

from typing import Any

from llmrec.serving.experiments.settings import ExperimentsConfig
from llmrec.serving.store import exposures
from llmrec.serving.store.database import Store


def running(config: ExperimentsConfig, store: Store) -> list[dict[str, Any]]:
    """Name, variants with their shares, and how many lists of each were shown.

    Raises:
        StoreError: if the store cannot be read.
    """
    with store.read() as connection:
        shown = exposures.counts(connection)
    return [
        {
            "name": experiment.name,
            "variants": [
                {
                    "name": name,
                    "share": one.share,
                    "exposures": shown.get((experiment.name, name), 0),
                }
                for name, one in experiment.variants.items()
            ],
        }
        for experiment in config.experiments.values()
    ]

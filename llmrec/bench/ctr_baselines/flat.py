"""The features of a click network as flat columns, a row a candidate."""

from __future__ import annotations

import numpy as np

from llmrec.bench.ctr_baselines.table import Table
from llmrec.ranking.ctr.features import ClickFeatures
from llmrec.ranking.ctr.item_features import ItemFeatures


def flatten(inputs: ClickFeatures, item_features: ItemFeatures, captions: bool = True) -> Table:
    """A row for each item that was shown: the numbers and categories of the head, its fused vector,
    the item itself, its captions, the position, and the type and item of the last event.

    Args:
        captions: whether captions are among them.
    """
    where, place = np.nonzero(inputs.items >= 0)
    item = inputs.items[where, place]
    names = inputs.names
    categories = {
        name: inputs.categories[where, at] for at, (name, _, _) in enumerate(names.categories)
    }
    sizes = {name: size for name, _, size in names.categories}
    position = inputs.position[where, place].astype(np.int64) + 1
    more = {
        "item": (item + 1, item_features.n_items + 1),
        "position": (position, int(position.max(initial=0)) + 1),
        "last_kind": (inputs.history_types[where, 0].astype(np.int64) + 1, 9),
    }
    if captions:
        last = np.maximum(inputs.history_items[where, 0], 0)
        there = inputs.history_items[where, 0] >= 0
        for at, (name, size) in enumerate(
            zip(item_features.field_names, item_features.field_sizes, strict=True)
        ):
            more[f"said_{name}"] = (item_features.fields[item, at], size)
            more[f"last_{name}"] = (np.where(there, item_features.fields[last, at], 0), size)
    for name, (values, size) in more.items():
        categories[name], sizes[name] = values, size
    offsets = (
        item_features.token_offsets if captions else np.zeros(item_features.n_items + 1, np.int64)
    )
    fused = tuple(f"fused_{number}" for number in range(item_features.fused.shape[1]))
    return Table(
        dense=np.concatenate(
            [inputs.candidate[where, place], inputs.request[where], item_features.fused[item]],
            axis=1,
        ).astype(np.float32),
        dense_names=(*(n for n, _ in names.candidate), *(n for n, _ in names.request), *fused),
        categorical=np.stack(list(categories.values()), axis=1).astype(np.int32),
        categorical_names=tuple(categories),
        sizes=tuple(sizes.values()),
        bag_ids=item_features.token_ids if captions else np.zeros(0, np.int32),
        bag_offsets=offsets,
        item=item.astype(np.int32),
    )

"""What a model with atomic IDs has learned of items, as vectors to make semantic IDs of.

Its item rows hold content and behaviour: items that the same histories lead to lie together, and so
get codes alike, which are easier to predict than those of content alone (LETTER, arXiv 2405.07314,
aligns codes with a collaborative model to the same end). An item that comes later has no row; a
ridge regression of the rows on content stands in front of the quantizer for those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from llmrec.errors import ConfigError, require
from llmrec.item_ids.continued import known_rows
from llmrec.item_ids.item_ids import ItemIds, id_files
from llmrec.item_ids.quantizer import FittedQuantizer
from llmrec.stage import reading

PENALTIES = np.logspace(-3, 3, 7)  # of which leave-one-out validation chooses


def learned_rows(folder: Path, names: Sequence[str]) -> np.ndarray:
    """Input rows of items.

    Args:
        folder: of a model with atomic IDs; its vocabulary ends with the item tokens.
        names: the shop's identifiers of the items.

    Returns:
        float32 ``[items, width]``.

    Raises:
        ConfigError: if the model has other IDs, or does not know an item.
        ArtifactError: if its weights cannot be read.
    """
    from safetensors import safe_open

    ids = ItemIds.load(id_files(folder)[0].parent)
    if ids.kind != "atomic":
        raise ConfigError(f"rows_of: the IDs of {folder} are {ids.kind}; give a model with atomic")
    known = known_rows(ids, names, str(folder))
    if (known < 0).any():
        unknown = names[int(np.argmin(known))]
        raise ConfigError(f"rows_of: {folder} does not know {unknown!r}; train it on these items")
    path = folder / "model.safetensors"
    with reading(path, "llmrec train"), safe_open(path, "pt") as file:
        table = file.get_tensor("model.embed_tokens.weight").float().numpy()
    return table[len(table) - ids.n_tokens :][known]


def with_content(fitted: FittedQuantizer, content: np.ndarray) -> FittedQuantizer:
    """The same codes by a quantizer that takes content vectors, as those of new items.

    Args:
        fitted: to learned rows, without layers.
        content: float32 ``[items, dim]``.
    """
    latents = fitted.latents
    mean = latents.mean(axis=0, dtype=np.float64)
    linear = require("sklearn.linear_model", "train")
    model = linear.RidgeCV(alphas=PENALTIES).fit(content.astype(np.float64), latents - mean)
    # shrunk, all new items would get the codes around the mean
    usual, found = (
        np.linalg.norm(part, axis=1).mean() for part in (latents - mean, model.predict(content))
    )
    scale = usual / max(found, 1e-12)
    weight, bias = scale * model.coef_.T, mean + scale * model.intercept_
    layer = (weight.astype(np.float32), bias.astype(np.float32))
    return replace(fitted, quantizer=replace(fitted.quantizer, layers=(layer,)))

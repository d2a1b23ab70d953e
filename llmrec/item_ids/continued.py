"""The IDs of a catalogue that has changed: known items keep what names them, new ones get theirs.

Items are matched by the shop's identifiers, whatever their order. Semantic IDs keep their codes,
and those of items that are gone are free again. An item's own token is its place in the catalogue,
so there the token changes and its row goes with the item.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from llmrec.errors import ConfigError
from llmrec.item_ids.item_ids import ItemIds

FARTHEST = 0.8  # of what content is from the other items' first codewords, from its own item's


def usual_spare(n_items: int) -> int:
    """Tokens of items that are kept free where no setting says how many."""
    return max(64, math.ceil(n_items / 20))


def continued_ids(
    old: ItemIds,
    names: Sequence[str],
    features: Mapping[str, np.ndarray] | None,
    where: str,
    domains: Sequence[str] = (),
) -> ItemIds:
    """IDs of the items of another catalogue.

    Args:
        old: the IDs so far, with names.
        names: the items now.
        features: their feature blocks, made as those that the IDs were made of; None without.
        where: the folder of ``old``, for messages.
        domains: of the items, needed for domain IDs alone.

    Returns:
        as many tokens as ``old`` has, or more where items with tokens of their own need them.

    Raises:
        ConfigError: if no item is known, or the features are missing or of another kind.
        CatalogError: if no ID is left for an item.
    """
    known = known_rows(old, names, where)
    if old.has_item_tokens:
        return _with_tokens(old, names, known, features, domains)
    new, kept = np.flatnonzero(known < 0), np.flatnonzero(known >= 0)
    ids = replace(old, codes=old.codes[known[kept]], names=())
    if len(new):
        if features is None:
            raise ConfigError(
                f"--features: {len(new)} items are not among those of {where}, and their IDs are "
                "made of features"
            )
        vectors = old.content(features, len(names))
        _check_same_space(old, known[kept], vectors[kept], where)
        ids = ids.assign_new(vectors[new])
    order = np.argsort(np.concatenate([kept, new]))
    return replace(old, codes=ids.codes[order], names=tuple(names))


def known_rows(old: ItemIds, names: Sequence[str], where: str) -> np.ndarray:
    """Each item's index in ``old``: int64 ``[items]``, -1 for new ones.

    Raises:
        ConfigError: if the names of ``old`` are not known, or none is the same.
    """
    if not old.names:
        raise ConfigError(
            f"{where}: does not say which item has which ID; make it again with llmrec index"
        )
    index = {name: row for row, name in enumerate(old.names)}
    rows = np.array([index.get(name, -1) for name in names], dtype=np.int64)
    if (rows < 0).all():
        raise ConfigError(
            f"{where}: knows none of the {len(names)} items ({old.names[0]!r} there, {names[0]!r} "
            "here); it is of another shop"
        )
    return rows


def _with_tokens(
    old: ItemIds,
    names: Sequence[str],
    known: np.ndarray,
    features: Mapping[str, np.ndarray] | None,
    domains: Sequence[str],
) -> ItemIds:
    n_items = len(names)
    vectors = np.zeros((n_items, old.token_vectors.shape[1]), np.float32)
    if features is not None and all(name in features for name in old.blocks):
        vectors = old.content(features, n_items)
    else:
        own = old.token_vectors[old.token_offset(old.levels - 1) :]
        vectors[known >= 0] = own[known[known >= 0]]
    enough = old.capacity >= n_items  # its spare tokens are trained with, so keep what there is
    spare = old.capacity - n_items if enough else usual_spare(n_items)
    ids = ItemIds.atomic(n_items, spare, vectors, old.blocks)
    if old.kind == "domain":
        codes = old.domain_codes(domains)
        ids = ItemIds.by_domain(codes, old.domains, spare, vectors, old.blocks)
    return replace(ids, names=tuple(names))


def _check_same_space(old: ItemIds, rows: np.ndarray, vectors: np.ndarray, where: str) -> None:
    """Check that content is nearer to the codes that known items have than to others.

    Raises:
        ConfigError: if it does not.
    """
    assert old.quantizer is not None
    latents = old.quantizer.latents(vectors)
    words = old.quantizer.codebooks[0][old.codes[rows, 0]]
    own = float(np.square(latents - words).sum(axis=1).mean())
    # the mean over all pairs of an item and a codeword
    apart = np.square(latents - latents.mean(axis=0)).sum(axis=1).mean()
    apart += np.square(words - words.mean(axis=0)).sum(axis=1).mean()
    apart += np.square(latents.mean(axis=0) - words.mean(axis=0)).sum()
    if own > FARTHEST * apart and apart > 0:
        raise ConfigError(
            f"--features: are no nearer to the first codes of the known items in {where} than to "
            "those of others; embed the dataset as that one was (model, fields)"
        )

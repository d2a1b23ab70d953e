"""Versions of what ranks a catalogue, each made from the one before; none of them changes.

A new item gets the vectors that ``llmrec embed`` would give it, an item ID, a row of the language
model where the ID is a token of its own, neighbours in the item graph, features of the click model,
and a place in the trie and among the candidates of each source. What was learned of the items that
the bundle brought stays as it is; their words, prices and stock are those of the change.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from llmrec.serving.catalogue.learned import Blocks, LearnedByContent
from llmrec.serving.catalogue.rows import Row
from llmrec.serving.recommender import Version

if TYPE_CHECKING:
    from llmrec.generation.multi_lora import MultiLoraLlm
    from llmrec.item_ids.item_ids import ItemIds
    from llmrec.ranking.ctr.model import ClickModel
    from llmrec.serving.item_table import ItemTable


@dataclass(frozen=True)
class ItemUpdate:
    """A row as it is to be.

    Attributes:
        row: of a catalogue, whole.
        content: whether its vectors are others than before; they are for a new item.
        codes: the item ID of a new item; None to make one.
    """

    row: Row
    content: bool = True
    codes: Sequence[int] | None = None


@dataclass(frozen=True, eq=False)
class Draft:
    """A version that is not in force yet.

    Attributes:
        version: complete but for the item graph.
        neighbours: by content, of the item graph.
        tokens: int64, token ids; rows: of each in each matrix of the language model.
        known_token: whether a request that is under way may read one of these.
    """

    version: Version
    neighbours: Any
    tokens: np.ndarray
    rows: list[np.ndarray]
    known_token: bool

    def codes_of(self, item_id: str) -> list[int]:
        """The item ID of an item."""
        bundle = self.version.bundle
        found: list[int] = bundle.llm.ids.codes[bundle.items.index[item_id]].tolist()
        return found


class Versions:
    """Makes versions.

    Args:
        first: of the bundle as it was opened.

    Attributes:
        current: the newest that is in force.
    """

    def __init__(self, first: Version) -> None:
        self._first = self.current = first
        ranker = first.click_ranker
        self.learned = LearnedByContent(first.bundle, None if ranker is None else ranker.model)

    def draft(
        self, updates: Sequence[ItemUpdate], removed: Collection[str], revision: int
    ) -> Draft:
        """The next version; nothing of it is in force.

        Args:
            updates: of different items; unknown ones are new, in this order.
            removed: identifiers of all items that are not there then.
            revision: that it will have.

        Raises:
            CatalogError: if no item ID is left for a new one, or no item at all.
            ConfigError: if item IDs are made of features that are not there.
        """
        bundle = self.current.bundle
        items = bundle.items.changed([update.row for update in updates], removed)
        known = len(bundle.items)
        places = np.array([items.index[update.row["item_id"]] for update in updates], np.int64)
        content = np.array([update.content for update in updates], dtype=bool)
        fresh = np.flatnonzero(content | (places >= known))
        blocks = self._encode([updates[at].row for at in fresh])
        new = places[fresh] >= known
        new_blocks = {name: block[new] for name, block in blocks.items()}
        ids = self._ids([updates[at] for at in fresh[new]], new_blocks)
        multi_lora = self._multi_lora(ids, items)
        texts = bundle.texts
        if texts is not None and len(fresh):
            vectors = np.pad(texts.vectors, ((0, len(items) - known), (0, 0)))
            vectors[places[fresh]] = blocks["text"]
            texts = texts.with_vectors(vectors)
        changed = bundle.changed(items, multi_lora, None, texts, revision)
        ranker = self._first.click_ranker
        if ranker is not None:
            ranker = ranker.changed(changed, self._click_model(updates, places, fresh, blocks))
        neighbours = self._neighbours(texts, places[fresh[~new]].tolist(), len(items))
        tokens, rows = self._token_rows(places[fresh], blocks)
        known_token = bool((tokens < bundle.llm.encoder.vocabulary.own_offset + known).any())
        return Draft(Version(changed, ranker), neighbours, tokens, rows, known_token)

    def publish(self, draft: Draft) -> Version:
        """Finish a draft of the current version, which it replaces. Events must not be counted
        meanwhile, nor a request be under way that reads a token whose row changes."""
        before, after = self.current.bundle, draft.version.bundle
        if before.prior is not None:
            after.prior = before.prior.grown(draft.neighbours, len(after.items))
        _write_rows(after.multi_lora.base.engine.model, draft.tokens, draft.rows)
        if draft.known_token:
            for cache in after.history_caches():
                cache.clear()
        self.current = draft.version
        return draft.version

    def _encode(self, rows: Sequence[Row]) -> Blocks:
        """Feature blocks of items; none without text features."""
        texts = self.current.bundle.texts
        return {} if texts is None or not rows else texts.encode(rows)

    def _ids(self, new: Sequence[ItemUpdate], blocks: Blocks) -> ItemIds:
        from llmrec.llm.new_items import new_ids

        ids = self.current.bundle.llm.ids
        if not new:
            return ids
        names, codes = [update.row["item_id"] for update in new], [u.codes for u in new]
        if ids.kind == "semantic" and None not in codes:
            named = (*ids.names, *names) if ids.names else ()
            given = np.array(codes, dtype=ids.codes.dtype)
            return replace(ids, codes=np.concatenate([ids.codes, given]), names=named)
        domains = [update.row.get("domain") or "" for update in new]
        return new_ids(ids, names, domains, blocks)

    def _multi_lora(self, ids: ItemIds, items: ItemTable) -> MultiLoraLlm:
        bundle = self.current.bundle
        if ids is bundle.llm.ids and items.removed == bundle.items.removed:
            return bundle.multi_lora
        available = np.array([item_id not in items.removed for item_id in items.item_ids])
        return bundle.multi_lora.with_items(ids, available)

    def _click_model(
        self, updates: Sequence[ItemUpdate], places: np.ndarray, fresh: np.ndarray, blocks: Blocks
    ) -> ClickModel:
        """Over the changed items; a fused vector that was learned stays."""
        ranker = self.current.click_ranker
        assert ranker is not None
        features = ranker.model.item_features
        fused = self.learned.fused(blocks, len(fresh))
        new = places[fresh] >= features.n_items
        features = features.with_items([updates[at].row for at in fresh[new]], fused[new])
        features = features.with_rows(places, [update.row for update in updates])
        came_since = places[fresh] >= len(self._first.bundle.items)
        later = came_since & ~new
        if later.any():
            vectors = features.fused.copy()
            vectors[places[fresh[later]]] = fused[later]
            features = replace(features, fused=vectors)
        return ranker.model.with_items(features, places[fresh[came_since]])

    def _neighbours(self, texts: Any, changed: Sequence[int], n_items: int) -> Any:
        prior = self.current.bundle.prior
        if prior is None:
            return None
        if not len(changed) and n_items == prior.n_items:
            return prior.scorer.content
        return prior.content_with(None if texts is None else texts.vectors, n_items, changed)

    def _token_rows(
        self, places: np.ndarray, blocks: Blocks
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Tokens of items that came since the bundle was made, and their rows."""
        llm = self._first.bundle.llm
        came_since = places >= llm.n_items
        if not (llm.ids.has_item_tokens and came_since.any()):
            return np.zeros(0, np.int64), []
        own = {name: block[came_since] for name, block in blocks.items()}
        rows = self.learned.token_rows(own, int(came_since.sum()))
        return llm.encoder.vocabulary.own_offset + places[came_since], rows


@torch.no_grad()
def _write_rows(model: Any, tokens: np.ndarray, rows: Sequence[np.ndarray]) -> None:
    from llmrec.llm.new_items import token_tables

    if not len(tokens):
        return
    where = torch.from_numpy(tokens)
    for table, values in zip(token_tables(model), rows, strict=True):
        table[where.to(table.device)] = torch.from_numpy(values).to(table)

"""The LLM as a recommender, for both kinds of item ID.

Both read histories through the :class:`~llmrec.llm.vocabulary.HistoryEncoder` that training
used and search the same trie; atomic IDs are a trie of one level, so there the search looks at
every item.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch

from llmrec.errors import CatalogError, ConfigError
from llmrec.generation.beam_search import (
    SearchOptions,
    SearchResult,
    beam_search,
    check_scores,
    decode_slots,
)
from llmrec.generation.candidates import score_candidates
from llmrec.generation.constraints import Constraints, LeafConstraints
from llmrec.generation.cuda_graph import WIDTH, CudaGraphSearch
from llmrec.generation.engine import TorchEngine
from llmrec.generation.exact_search import exact_search
from llmrec.generation.history_cache import HistoryCache
from llmrec.generation.kv_cache import PrefillState
from llmrec.generation.trie import ItemTrie
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.vocabulary import HistoryEncoder, Vocabulary
from llmrec.types import Histories, Ranking

CANDIDATE_TOKENS = 8192  # candidates of a batch that are scored at once, over all its users


class Llm:
    """A language model that recommends.

    Args:
        model: a causal LM with the expanded vocabulary.
        encoder: turns histories into its prompts, and knows where its item tokens are; one with
            more events than the model can read is cut to what fits.
        ids: the item IDs.
        batch_size: users answered at once.
        options: how to search, where a request does not say.
        cache: keeps the keys and values of histories for the next request; None for none.

    Attributes:
        trie: the catalogue as it is now; :meth:`with_items` makes another recommender with a
            changed one, and requests under way finish on the one they began with.
    """

    def __init__(
        self,
        model: Any,
        encoder: HistoryEncoder,
        ids: ItemIds,
        batch_size: int = 128,
        options: SearchOptions | None = None,
        cache: HistoryCache | None = None,
    ) -> None:
        self.engine = TorchEngine(model, encoder.vocabulary)
        self.encoder = encoder.limited(self.engine.max_tokens)
        self.ids, self.batch_size, self.cache = ids, batch_size, cache
        self.options = options or SearchOptions()
        self.device = self.engine.device
        self._use(ItemTrie(ids.codes))

    @property
    def n_items(self) -> int:
        """Items that exist or once did; the length of the catalogue table."""
        return self.ids.n_items

    @property
    def max_events(self) -> int:
        """How many of a history's newest events the model reads."""
        return self.encoder.max_items

    def with_items(self, ids: ItemIds, available: np.ndarray | None = None) -> Self:
        """The same model over a changed catalogue.

        Args:
            ids: the IDs of all items, old ones unchanged; the model must have their tokens.
            available: bool ``[items]``, False for items that are no longer there: they may stand in
                histories but are never returned. None when all are there.

        Raises:
            CatalogError: if an old item's ID has changed, no item is left, or ``available`` is of
                another length.
            ConfigError: if the model has no rows for the new items.
        """
        same = self.ids.codes
        if ids.kind != self.ids.kind or not np.array_equal(ids.codes[: len(same)], same):
            raise CatalogError("the new item IDs change those of items the model knows")
        layout = self.encoder.vocabulary
        vocabulary = Vocabulary.of(layout.base_size, layout.time_fields, ids)
        if vocabulary.level_sizes != layout.level_sizes:
            raise ConfigError("the new item IDs have tokens that the model has no rows for")
        changed = copy.copy(self)
        changed.ids = ids
        changed.engine = self.engine.with_vocabulary(vocabulary)
        changed.encoder = HistoryEncoder(
            vocabulary, ids, self.encoder.prefix.tolist(), self.encoder.max_items
        )
        if available is None:
            available = np.ones(ids.n_items, dtype=bool)
        if available.shape != (ids.n_items,) or available.dtype != bool:
            raise CatalogError(f"available: must be a mask of the {ids.n_items} items")
        items = np.flatnonzero(available)
        changed._use(ItemTrie(ids.codes[items], items, ids.n_items))
        return changed

    def _use(self, trie: ItemTrie) -> None:
        self.trie = trie.to(self.device)
        on_gpu = self.device.type == "cuda"
        self._graphed = CudaGraphSearch(self.engine, self.trie) if on_gpu else None

    def prompts(self, histories: Histories) -> list[np.ndarray]:
        """Token ids of every history.

        Raises:
            CatalogError: for an item index outside the catalogue.
        """
        return self.encoder.encode_all(histories)

    def recommend(
        self,
        histories: Histories,
        n: int,
        *,
        exclude_history: bool = True,
        constraints: Sequence[Constraints] | None = None,
        options: SearchOptions | None = None,
    ) -> Ranking:
        """The n best items that the search finds.

        Args:
            constraints: one a user, beside the exclusion of the history.
            options: how to search.

        Raises:
            CatalogError: for an item index outside the catalogue, or n below 1.
            ConfigError: if there are not as many constraints as users.
            LlmrecError: if the model's scores are not finite.
        """
        requests = constraints_of(histories, n, exclude_history, constraints)
        prompts = self.prompts(histories)
        options = options or self.options
        items = np.full((len(prompts), n), -1, dtype=np.int64)
        scores = np.full((len(prompts), n), -np.inf, dtype=np.float32)
        slots = decode_slots(self.trie, max(options.beams, n))
        for users in self._batches(prompts, self.batch_size):
            prefix = self.prefill([prompts[u] for u in users], slots)
            limits = LeafConstraints(self.trie, [requests[u] for u in users])
            found = self._search(prefix, limits, n, options)
            check_scores(found.scores)
            items[users], scores[users] = found.items.cpu().numpy(), found.scores.cpu().numpy()
        return Ranking(items, scores)

    def score_items(
        self, histories: Histories, items: np.ndarray, *, options: SearchOptions | None = None
    ) -> np.ndarray:
        """Log-likelihood of given items: the LLM as a ranker.

        Args:
            items: int ``[users, candidates]`` item indices, each at most once a user; -1 pads.
            options: how to score.

        Returns:
            float32 ``[users, candidates]``; -inf where padded and for items no longer there.

        Raises:
            CatalogError: for an item index outside the catalogue.
            LlmrecError: if the model's scores are not finite.
        """
        items = np.asarray(items, dtype=np.int64)
        if items.size and not (items.min() >= -1 and items.max() < self.n_items):
            raise CatalogError(f"a candidate is not among the {self.n_items} items")
        prompts = self.prompts(histories)
        scores = np.full(items.shape, -np.inf, dtype=np.float32)
        if items.shape[1] == 0:
            return scores
        at_once = min(self.batch_size, max(1, CANDIDATE_TOKENS // items.shape[1]))
        for users in self._batches(prompts, at_once):
            prefix = self.prefill(
                [prompts[u] for u in users], decode_slots(self.trie, items.shape[1])
            )
            candidates = torch.from_numpy(items[users]).to(self.device)
            scoring = (options or self.options).scoring
            found = score_candidates(self.engine, self.trie, prefix, candidates, scoring)
            check_scores(found)
            scores[users] = found.cpu().numpy()
        return scores

    def _search(
        self, prefix: PrefillState, limits: LeafConstraints, n: int, options: SearchOptions
    ) -> SearchResult:
        if options.exact:
            return exact_search(self.engine, self.trie, prefix, limits, n, options)
        if self._graphed is not None:
            return self._graphed(prefix, limits, n, options)
        return beam_search(self.engine, self.trie, prefix, limits, n, options)

    def prefill(self, prompts: list[np.ndarray], slots: int) -> PrefillState:
        """The KV cache of prompts, from the history cache as far as it has them.

        Args:
            slots: places to keep free for tokens that beams generate.
        """
        if self.cache is not None:
            return self.cache.prefill(self.engine, prompts, slots)
        # On a GPU, shapes that come again are worth more than the padding they cost.
        return self.engine.prefill_prompts(prompts, slots, WIDTH if self._graphed else 1)

    def _batches(self, prompts: list[np.ndarray], size: int) -> list[np.ndarray]:
        """Users grouped into batches of like prompt length."""
        order = np.argsort([len(p) for p in prompts], kind="stable")
        return [order[i : i + size] for i in range(0, len(order), size)]


class AtomicLlm(Llm):
    """One token an item: a :class:`~llmrec.recommender.Scorer` as well."""

    @torch.inference_mode()
    def score(self, histories: Histories) -> np.ndarray:
        """Log-probability of every item, float32 ``[users, n_items]``.

        Raises:
            LlmrecError: if the model gives anything but finite numbers.
        """
        prompts = self.prompts(histories)
        scores = np.empty((len(prompts), self.n_items), dtype=np.float32)
        for users in self._batches(prompts, self.batch_size):
            prefix = self.prefill([prompts[u] for u in users], 0)
            values = self.engine.logits(prefix.hidden, 0).log_softmax(-1)
            check_scores(values)
            scores[users] = values.cpu().numpy()
        return scores


def make_llm(
    model: Any,
    encoder: HistoryEncoder,
    ids: ItemIds,
    *,
    batch_size: int = 128,
    beams: int = 50,
    options: SearchOptions | None = None,
    cache: HistoryCache | None = None,
) -> Llm:
    """The recommender that fits the item IDs; ``beams`` replaces that of ``options``."""
    kind = AtomicLlm if ids.kind == "atomic" else Llm
    options = replace(options or SearchOptions(), beams=beams)
    return kind(model, encoder, ids, batch_size, options, cache)


def constraints_of(
    histories: Histories,
    n: int,
    exclude_history: bool,
    constraints: Sequence[Constraints] | None,
) -> list[Constraints]:
    """Each user's own constraints and the exclusion of the history.

    Raises:
        CatalogError: for n below 1.
        ConfigError: if there are not as many constraints as users.
    """
    if n < 1:
        raise CatalogError(f"n: {n} items were asked for; ask for at least 1")
    if constraints is None:
        constraints = [Constraints()] * len(histories)
    if len(constraints) != len(histories):
        raise ConfigError(f"{len(constraints)} constraints are given for {len(histories)} users")
    if not exclude_history:
        return list(constraints)
    return [own.excluding(history) for own, history in zip(constraints, histories, strict=True)]

"""The LLM as a recommender, for both kinds of item ID.

``load_llm`` opens what ``llmrec train`` wrote. Atomic IDs take one step, so the whole
catalogue is scored; semantic IDs take a beam search. Both read histories through the
:class:`~llmrec.models.vocabulary.HistoryEncoder` that training used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from llmrec.errors import CatalogError, LlmrecError
from llmrec.generation.beam_search import beam_search
from llmrec.generation.engine import TorchEngine
from llmrec.generation.trie import ItemTrie
from llmrec.item_ids.item_ids import ItemIds
from llmrec.models.vocabulary import HistoryEncoder, Vocabulary
from llmrec.recommender import recommend_from_scores
from llmrec.types import Histories, Ranking


class _Llm:
    """What both kinds share: prompts in batches of like length."""

    def __init__(
        self,
        model: Any,
        vocabulary: Vocabulary,
        encoder: HistoryEncoder,
        ids: ItemIds,
        batch_size: int,
    ) -> None:
        self.engine = TorchEngine(model, vocabulary)
        self.encoder, self.ids, self.batch_size = encoder, ids, batch_size
        self.n_items = ids.n_items
        self.device = model.get_output_embeddings().weight.device

    def prompts(self, histories: Histories) -> list[np.ndarray]:
        """Token ids of every history.

        Raises:
            CatalogError: for an item index outside the catalogue.
        """
        check_known(histories, self.n_items)
        now = histories.now
        return [
            self.encoder.encode(
                histories[user],
                histories.times(user),
                None if now is None or np.isnan(now[user]) else float(now[user]),
            )
            for user in range(len(histories))
        ]

    def by_length(self, prompts: list[np.ndarray]) -> list[np.ndarray]:
        """Users grouped into batches of like prompt length."""
        order = np.argsort([len(p) for p in prompts], kind="stable")
        return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]


class AtomicLlm(_Llm):
    """One token an item: a :class:`~llmrec.recommender.Scorer` and a Recommender."""

    @torch.inference_mode()
    def score(self, histories: Histories) -> np.ndarray:
        """Log-probability of every item, float32 ``[users, n_items]``.

        Raises:
            LlmrecError: if the model gives anything but finite numbers.
        """
        prompts = self.prompts(histories)
        scores = np.empty((len(prompts), self.n_items), dtype=np.float32)
        for users in self.by_length(prompts):
            lengths = torch.tensor([len(prompts[u]) for u in users])
            tokens = torch.zeros(len(users), int(lengths.max()), dtype=torch.int64)
            for row, user in enumerate(users):
                tokens[row, : lengths[row]] = torch.from_numpy(prompts[user])
            hidden = self.engine.last_hidden(tokens.to(self.device), lengths.to(self.device))
            values = self.engine.log_probs(hidden, 0)
            scores[users] = values.cpu().numpy()
        check_finite(scores)
        return scores

    def recommend(self, histories: Histories, n: int, *, exclude_history: bool = True) -> Ranking:
        """The n most probable items."""
        return recommend_from_scores(self, histories, n, exclude_history=exclude_history)


class SemanticLlm(_Llm):
    """A few tokens an item: a :class:`~llmrec.recommender.Recommender` by beam search.

    Args:
        beams: beam width; a request for more items than that widens it.
    """

    def __init__(self, *args: Any, beams: int = 50) -> None:
        super().__init__(*args)
        self.beams = beams
        self.trie = ItemTrie(self.ids.codes).to(self.device)

    def recommend(self, histories: Histories, n: int, *, exclude_history: bool = True) -> Ranking:
        """The n best items the search finds."""
        prompts = self.prompts(histories)
        items = np.full((len(prompts), n), -1, dtype=np.int64)
        scores = np.full((len(prompts), n), -np.inf, dtype=np.float32)
        for users in self.by_length(prompts):
            tokens, mask = left_pad([prompts[u] for u in users])
            seen = [
                np.unique(histories[u]) if exclude_history else histories.items[:0] for u in users
            ]
            excluded, present = left_pad(seen)
            found, values = beam_search(
                self.engine,
                self.trie,
                tokens.to(self.device),
                mask.to(self.device),
                excluded.masked_fill(~present, -1).to(self.device),
                max(self.beams, n),
            )
            items[users] = found[:, :n].cpu().numpy()
            scores[users] = values[:, :n].cpu().numpy()
        if np.isnan(scores).any():
            raise LlmrecError("the model's scores are not finite; its weights are damaged")
        return Ranking(items, scores)


def make_llm(
    model: Any,
    vocabulary: Vocabulary,
    encoder: HistoryEncoder,
    ids: ItemIds,
    *,
    batch_size: int = 128,
    beams: int = 50,
) -> AtomicLlm | SemanticLlm:
    """The recommender that fits the item IDs."""
    if ids.kind == "atomic":
        return AtomicLlm(model, vocabulary, encoder, ids, batch_size)
    return SemanticLlm(model, vocabulary, encoder, ids, batch_size, beams=beams)


def check_known(histories: Histories, n_items: int) -> None:
    """Check that every item of the histories is in the catalogue.

    Raises:
        CatalogError: if one is not.
    """
    items = histories.items
    if len(items) and not (items.min() >= 0 and items.max() < n_items):
        raise CatalogError(
            f"a history holds an item that is not among the {n_items} of the catalogue"
        )


def check_finite(scores: np.ndarray) -> None:
    """Check that every score is a number.

    Raises:
        LlmrecError: if one is not.
    """
    if not np.isfinite(scores).all():
        raise LlmrecError("the model's scores are not finite; its weights are damaged")


def left_pad(rows: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Left-padded int64 ``[rows, longest]`` and where it holds real values, bool."""
    longest = max((len(row) for row in rows), default=0)
    values = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for index, row in enumerate(rows):
        if len(row):
            values[index, longest - len(row) :] = torch.from_numpy(np.asarray(row, dtype=np.int64))
            mask[index, longest - len(row) :] = True
    return values, mask

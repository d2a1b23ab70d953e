"""Item generation on vLLM: the same search over the same trie, another engine beneath it.

    with VllmLlm("runs/demo/models/atomic/bundle") as llm:
        llm.recommend(histories, 10, adapter="gifts")

One request to vLLM is one step: a prompt and the codes generated so far go in, the best codes that
may follow come out with their log-probabilities, masked and normalised inside vLLM by
:class:`~llmrec.generation.vllm_constraint.ItemConstraint`. All users and beams of a level go in at
once, whatever adapters they want, and vLLM's prefix cache keeps the keys of a history. Which beams
are kept, :mod:`~llmrec.generation.beam_search` decides, as it does for our own engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch

from llmrec.errors import CatalogError, ConfigError, require
from llmrec.generation.beam_search import SearchOptions, beam_search, check_scores
from llmrec.generation.candidates import score_candidates
from llmrec.generation.constraints import Constraints, LeafConstraints
from llmrec.generation.engine import context_of
from llmrec.generation.exact_search import exact_search
from llmrec.generation.llm import constraints_of
from llmrec.generation.trie import ItemTrie
from llmrec.generation.vllm_engine import VllmDecodingEngine
from llmrec.generation.vllm_server import ServerTokens, check_constraint, served_name
from llmrec.generation.vllm_start import (
    VllmSettings,
    model_and_adapters,
    read_config,
    start_vllm,
)
from llmrec.generation.vllm_tokens import EngineTokens, NextTokens
from llmrec.llm.adapters import check_adapters
from llmrec.llm.layout import read_layout
from llmrec.types import Histories, Ranking


class VllmLlm:
    """A :class:`~llmrec.recommender.ListRecommender` on vLLM, for atomic and semantic item IDs.

    Args:
        folder: a bundle, served with the adapters it holds, or the folder of a model.
        adapters: folders of adapters for a model.
        beams: beam width for semantic IDs.
        settings: how vLLM is started.
        server: address of a vLLM that ``llmrec vllm`` started on the same bundle, to use instead
            of one of our own.

    Attributes:
        adapters: the folder of each adapter, by name.
        llm: the ``vllm.LLM``, None with a server.

    Raises:
        ArtifactError: for a folder that cannot be used, or an adapter made for another base.
        ConfigError: if adapters are given beside those of a bundle, or two have one name.
        MissingExtraError: if vLLM is not installed.

    It starts a process of vLLM, which :meth:`close` or the end of a ``with`` block ends.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        adapters: Sequence[str | Path] = (),
        beams: int = 50,
        settings: VllmSettings | None = None,
        server: str | None = None,
    ) -> None:
        self.settings = settings or VllmSettings()
        self.options = SearchOptions(beams=beams)
        model, adapters = model_and_adapters(Path(folder), adapters)
        self.adapters = check_adapters(model, adapters) if adapters else {}
        self.ids, encoder = read_layout(model)
        self.encoder = encoder.limited(context_of(read_config(model)))
        self.trie = ItemTrie(self.ids.codes)
        self.llm = None
        if server is None:
            require("vllm", "vllm")
            self.llm = start_vllm(model, self.encoder.max_tokens(), self.adapters, self.settings)
            self.tokens: NextTokens = EngineTokens(self.llm, self.adapters)
        else:
            self.tokens = ServerTokens(server, served_name(model), self.adapters)
            check_constraint(self.tokens, self.encoder.vocabulary, self.ids.codes[0])

    def close(self) -> None:
        """End vLLM's process, where there is one."""
        self.tokens.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self.ids.n_items

    def recommend(
        self,
        histories: Histories,
        n: int,
        *,
        exclude_history: bool = True,
        adapter: str | Sequence[str | None] | None = None,
        constraints: Sequence[Constraints] | None = None,
        options: SearchOptions | None = None,
    ) -> Ranking:
        """The n best items the search finds.

        Args:
            adapter: name of the adapter to ask, None for the base; or one a user.
            constraints: one a user, beside the exclusion of the history.
            options: how to search.

        Raises:
            CatalogError: for an item index outside the catalogue, or n below 1.
            ConfigError: for an adapter that is not loaded, a wrong number of adapters or
                constraints, or a way of scoring that vLLM does not have.
            LlmrecError: if the model's scores are not finite.
        """
        options = self._checked(options)
        requests = constraints_of(histories, n, exclude_history, constraints)
        adapters = self._adapters_of(adapter, len(histories))
        prompts = self.encoder.encode_all(histories)
        items = np.full((len(prompts), n), -1, dtype=np.int64)
        scores = np.full((len(prompts), n), -np.inf, dtype=np.float32)
        search = exact_search if options.exact else beam_search
        for users in self._batches(len(prompts)):
            limits = LeafConstraints(self.trie, requests[users])
            engine = self._engine(prompts[users], adapters[users], _needed(limits, n, options))
            found = search(engine, self.trie, engine.prefill(), limits, n, options)
            check_scores(found.scores)
            items[users], scores[users] = found.items.numpy(), found.scores.numpy()
        return Ranking(items, scores)

    def score_items(
        self,
        histories: Histories,
        items: np.ndarray,
        *,
        adapter: str | Sequence[str | None] | None = None,
        options: SearchOptions | None = None,
    ) -> np.ndarray:
        """Log-likelihood of given items; see :meth:`~llmrec.generation.llm.Llm.score_items`.

        vLLM is asked for all tokens of a level, so this costs more the larger the levels are.
        """
        scoring = self._checked(options).scoring
        items = np.asarray(items, dtype=np.int64)
        if items.size and not (items.min() >= -1 and items.max() < self.n_items):
            raise CatalogError(f"a candidate is not among the {self.n_items} items")
        adapters = self._adapters_of(adapter, len(histories))
        prompts = self.encoder.encode_all(histories)
        scores = np.full(items.shape, -np.inf, dtype=np.float32)
        for users in self._batches(len(prompts) if items.shape[1] else 0):
            engine = self._engine(prompts[users], adapters[users], None)
            wanted = torch.from_numpy(items[users])
            found = score_candidates(engine, self.trie, engine.prefill(), wanted, scoring)
            check_scores(found)
            scores[users] = found.numpy()
        return scores

    def _checked(self, options: SearchOptions | None) -> SearchOptions:
        options = options or self.options
        if options.normalise != "children":
            raise ConfigError("normalise: vLLM scores over 'children' only")
        return options

    def _batches(self, users: int) -> list[slice]:
        size = self.settings.batch_size
        return [slice(start, start + size) for start in range(0, users, size)]

    def _engine(
        self, prompts: list[np.ndarray], adapters: list[str | None], keep: int | None
    ) -> VllmDecodingEngine:
        vocabulary = self.encoder.vocabulary
        return VllmDecodingEngine(self.tokens, vocabulary, self.trie, prompts, adapters, keep)

    def _adapters_of(
        self, adapter: str | Sequence[str | None] | None, users: int
    ) -> list[str | None]:
        """The name of each user's adapter."""
        names: list[str | None]
        names = [adapter] * users if adapter is None or isinstance(adapter, str) else [*adapter]
        if len(names) != users:
            raise ConfigError(f"adapter: {len(names)} are given for {users} users")
        for name in {*names} - {None, *self.adapters}:
            known = ", ".join(self.adapters) or "none"
            raise ConfigError(f"adapter: {name!r} is not loaded; there is {known}")
        return names


def _needed(limits: LeafConstraints, n: int, options: SearchOptions) -> int | None:
    """How many children of a prefix the search may look at; None for all.

    A beam search keeps ``beams`` and looks at one more. Each excluded item can take the place of
    one of these. A filter's items may rank anywhere, and at another temperature all codes count
    in what adds up to one.
    """
    if options.exact or options.groups > 1 or options.temperature != 1:
        return None
    if limits.allowed is not None or limits.counts is not None:
        return None
    return max(options.beams, n) + 1 + limits.excluded.shape[1]

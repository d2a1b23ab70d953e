"""A model and its adapters on vLLM, each with the methods of :class:`~llmrec.generation.llm.Llm`.

``llmrec serve --engine vllm`` and ``--vllm-url`` put them in the place of
:class:`~llmrec.generation.multi_lora.MultiLoraLlm`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec.errors import ConfigError
from llmrec.generation.beam_search import SearchOptions
from llmrec.generation.constraints import Constraints
from llmrec.generation.vllm_llm import VllmLlm
from llmrec.llm.adapters import AdapterInfo, read_adapter
from llmrec.types import Histories, Ranking


class VllmAdapters:
    """The base and its adapters.

    Attributes:
        base: the recommender without adapter.
        adapters: each adapter's ``llmrec_adapter.json``, by name.
    """

    def __init__(self, vllm: VllmLlm) -> None:
        self._vllm = vllm
        self.base = AdaptedVllm(vllm, None)
        self.adapters: dict[str, AdapterInfo] = {
            name: read_adapter(folder) for name, folder in vllm.adapters.items()
        }

    def with_adapter(self, name: str | None) -> AdaptedVllm:
        """The recommender of an adapter, or of the base for None.

        Raises:
            ConfigError: for a name that is not loaded.
        """
        if name is not None and name not in self.adapters:
            known = ", ".join(self.adapters) or "none"
            raise ConfigError(f"adapter: {name!r} is not loaded; there is {known}")
        return AdaptedVllm(self._vllm, name)

    def close(self) -> None:
        """End vLLM."""
        self._vllm.close()


class AdaptedVllm:
    """One adapter of a vLLM, or its base."""

    cache = None  # vLLM keeps histories itself

    def __init__(self, vllm: VllmLlm, adapter: str | None) -> None:
        self._vllm, self.adapter = vllm, adapter
        self.options = vllm.options
        self.ids, self.encoder, self.trie = vllm.ids, vllm.encoder, vllm.trie

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self.ids.n_items

    @property
    def max_events(self) -> int:
        """How many of a history's newest events the model reads."""
        return self.encoder.max_items

    def prompts(self, histories: Histories) -> list[np.ndarray]:
        """Token ids of every history."""
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
        """See :meth:`~llmrec.generation.llm.Llm.recommend`."""
        return self._vllm.recommend(
            histories,
            n,
            exclude_history=exclude_history,
            adapter=self.adapter,
            constraints=constraints,
            options=options or self.options,
        )

    def score_items(
        self, histories: Histories, items: np.ndarray, *, options: SearchOptions | None = None
    ) -> np.ndarray:
        """See :meth:`~llmrec.generation.llm.Llm.score_items`."""
        return self._vllm.score_items(
            histories, items, adapter=self.adapter, options=options or self.options
        )

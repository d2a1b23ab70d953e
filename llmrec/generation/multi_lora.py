"""Multi-LoRA serving: one base in memory and its adapters side by side.

llm = load_llm_with_adapters(base, [recommend, gifts])
llm.with_adapter("gifts").recommend(histories, 10)
llm.with_adapter(None).recommend(histories, 10)      # the base itself
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from llmrec.errors import ConfigError
from llmrec.generation.history_cache import HistoryCache
from llmrec.generation.llm import Llm, make_llm
from llmrec.generation.load import load_llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.adapters import AdapterInfo, attach, check_adapters, read_adapter, read_json


class MultiLoraLlm:
    """One base in memory and a recommender for each of its adapters.

    Each adapter has modules of its own over the base's weights, which they share as memory. So
    there is nothing to switch: requests for different adapters may run side by side, each with a
    history cache of its own, since their keys and values differ.

    Attributes:
        base: the base's own recommender.
        adapters: each adapter's ``llmrec_adapter.json``, by name.
    """

    def __init__(
        self, base: Llm, adapted: Mapping[str, Llm], adapters: Mapping[str, AdapterInfo]
    ) -> None:
        self.base, self.adapters = base, dict(adapters)
        self._adapted = dict(adapted)

    def with_adapter(self, name: str | None) -> Llm:
        """The recommender of an adapter, or of the base for None.

        Raises:
            ConfigError: for a name that is not loaded.
        """
        if name is None:
            return self.base
        if name not in self._adapted:
            known = ", ".join(self._adapted) or "none"
            raise ConfigError(f"adapter: {name!r} is not loaded; there is {known}")
        return self._adapted[name]

    def with_items(self, ids: ItemIds, available: np.ndarray | None = None) -> MultiLoraLlm:
        """The same over a changed catalogue; see :meth:`llmrec.generation.llm.Llm.with_items`."""
        adapted = {name: llm.with_items(ids, available) for name, llm in self._adapted.items()}
        return MultiLoraLlm(self.base.with_items(ids, available), adapted, self.adapters)

    def close(self) -> None:
        """Nothing to end: the model is in this process."""


def load_llm_with_adapters(
    base: str | Path,
    adapters: Sequence[str | Path],
    *,
    beams: int = 50,
    cache_bytes: int = 0,
) -> MultiLoraLlm:
    """Open a base and adapters of it as recommenders.

    Args:
        base: folder of the base.
        adapters: folders of :func:`~llmrec.llm.adapters.save_adapter`; none for the base alone.
        beams: as for :func:`~llmrec.generation.load.load_llm`.
        cache_bytes: size of each recommender's own history cache; 0 for none.

    Raises:
        ArtifactError: for a folder that cannot be used, or an adapter made for another base.
        ConfigError: if two have the same name, or if a base with adapters is stored quantised.
    """
    found = check_adapters(base, adapters) if adapters else {}
    # bitsandbytes repacks weights when they are first used, in place, and spoils them when
    # peft then asks for the state of the model
    if found and "quantization_config" in read_json(Path(base) / "config.json"):
        raise ConfigError(
            f"base: the weights of {base} are stored quantised, which adapters cannot share; give "
            "the base in full precision, or merge the adapter with llmrec model merge"
        )
    plain = load_llm(base, beams=beams, cache_bytes=cache_bytes)
    # an adapted model has modules of its own, whose weights are the base's memory
    model = plain.engine.model
    memory = [*model.parameters(), *model.buffers()]
    adapted = {}
    for name, folder in found.items():
        attached = attach(copy.deepcopy(model, {id(t): t for t in memory}), name, folder).eval()
        adapted[name] = make_llm(
            attached.get_base_model(),
            plain.encoder,
            plain.ids,
            beams=beams,
            cache=HistoryCache(cache_bytes) if cache_bytes else None,
        )
    return MultiLoraLlm(plain, adapted, {name: read_adapter(path) for name, path in found.items()})

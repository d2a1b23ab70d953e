"""A bundle: one folder that serves, wherever it is moved.

::

    bundle/
      manifest.json        what it was made of
      model/               Hugging Face folder with tokenizer, item IDs and layout
      items.parquet        the catalogue
      features/            content vectors of the catalogue (when there are any)
      prompts/             the templates the model was trained with
      adapters/NAME/       LoRA adapters of the model (when there are any)
      ctr/                 the click model (when there is one)

``llmrec bundle`` writes it; :class:`Bundle` opens it.
"""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llmrec.errors import ArtifactError, ConfigError
from llmrec.llm.layout import ADAPTERS
from llmrec.ranking.rerank.settings import RerankConfig
from llmrec.serving.build import CTR, OWN_NAME, adapter_inputs
from llmrec.serving.item_table import ItemTable
from llmrec.stage import Manifest, folder_hash, read_manifest

if TYPE_CHECKING:
    from llmrec.content.features.item_encoder import QuerySimilarity
    from llmrec.generation.llm import Llm

MIB = 2**20


class Bundle:
    """An opened bundle; :class:`~llmrec.serving.recommender.Recommender` answers requests with it.

    Many threads may use one bundle at once, and each another of its adapters.

    Args:
        folder: what ``llmrec bundle`` wrote.
        beams: beam width for semantic IDs.
        cache_mib: MiB of keys and values of histories that the model and its adapters keep, for
            users who come back; 0 for none.

    Attributes:
        model_name: what requests call the model.
        adapters: name, version and task of each adapter, by the name that requests use.
        items: the catalogue.
        llm: the language model without adapter.
        ctr: folder of the click model, or None.
        rerank: how the list of the click model is re-ranked.

    Raises:
        ArtifactError: if the folder is not a bundle or is damaged.
    """

    def __init__(self, folder: str | Path, *, beams: int = 50, cache_mib: int = 0) -> None:
        from llmrec.generation.multi_lora import load_llm_with_adapters

        self.folder = Path(folder)
        manifest = read_manifest(folder, "bundle")
        model_hash = folder_hash(self.folder / "model")
        if manifest.inputs.get("model") != model_hash:
            raise ArtifactError(
                f"{folder}: its model is not the one it was made with; run llmrec bundle again"
            )
        self.ctr = self.folder / CTR if CTR in manifest.inputs else None
        if self.ctr is not None and folder_hash(self.ctr) != manifest.inputs[CTR]:
            raise ArtifactError(
                f"{folder}: its click model is not the one it was made with; run llmrec bundle "
                "again"
            )
        self.rerank = RerankConfig().overridden(manifest.config.get("rerank", {}), "rerank")
        self.catalog_version = manifest.fingerprint[:12]
        self.model_name = f"{OWN_NAME}-{model_hash[:8]}"
        self.items = ItemTable(self.folder / "items.parquet")
        self.item_ids, self.titles = self.items.item_ids, self.items.titles
        self.index = self.items.index
        if cache_mib < 0:
            raise ConfigError(f"cache_mib: {cache_mib} is not a size; give 0 for no cache")
        folders = _adapter_folders(self.folder, manifest)
        each = cache_mib * MIB // (1 + len(folders))  # each has a cache of its own
        self._multi_lora = load_llm_with_adapters(
            self.folder / "model", folders, beams=beams, cache_bytes=each
        )
        self.llm, self.adapters = self._multi_lora.base, self._multi_lora.adapters
        if self.llm.n_items != len(self.item_ids):
            raise ArtifactError(
                f"{folder}: the model knows {self.llm.n_items} items, items.parquet holds "
                f"{len(self.item_ids)}; run llmrec bundle again"
            )
        self._lock = threading.Lock()

    def llm_of(self, adapter: str | None) -> Llm:
        """The language model with an adapter, or without one for None.

        Raises:
            ConfigError: for an adapter that the bundle does not hold.
        """
        return self._multi_lora.with_adapter(adapter)

    def text_similarity(self, query: str) -> np.ndarray:
        """Cosine of each item's text and the query, float32 ``[items]``.

        Raises:
            ConfigError: if the bundle holds no text vectors.
        """
        with self._lock:  # one thread loads the encoder
            similarity = self._query_similarity
        return similarity.cosines(query)

    @cached_property
    def _query_similarity(self) -> QuerySimilarity:
        from llmrec.content.features.item_encoder import QuerySimilarity

        return QuerySimilarity(self.folder, len(self.items))


def _adapter_folders(bundle: Path, manifest: Manifest) -> list[Path]:
    """Folders of a bundle's adapters, which must be those it was made with."""
    from llmrec.llm.adapters import read_adapter

    folders = sorted((bundle / ADAPTERS).glob("*"))
    found: dict[str, str] = {}
    for folder in folders:
        found |= adapter_inputs(read_adapter(folder).name, folder)
    made_with = {k: v for k, v in manifest.inputs.items() if k.startswith(f"{ADAPTERS}/")}
    if found != made_with:
        raise ArtifactError(
            f"{bundle}: its adapters are not those it was made with; run llmrec bundle again"
        )
    return folders

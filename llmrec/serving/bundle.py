"""A bundle: one folder that serves, wherever it is moved.

::

    bundle/
      manifest.json        what it was made of
      model/               Hugging Face folder with tokenizer, item IDs and layout
      items.parquet        the catalogue
      features/            content vectors of the catalogue (when there are any)
      text_encoder/        the model that reads words (where it is no part of a package)
      prompts/             the templates the model was trained with
      adapters/NAME/       LoRA adapters of the model (when there are any)
      hybrid/              the item graph that ranks with the model (when there is one)
      ctr/                 the click model (when there is one)

``llmrec bundle`` writes it; :class:`Bundle` opens it.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from llmrec.errors import ArtifactError, ConfigError
from llmrec.files import damaged_files, unlisted_files
from llmrec.llm.layout import ADAPTERS
from llmrec.ranking.rerank.settings import RerankConfig
from llmrec.serving.build import CTR, FEATURES, HYBRID, OWN_NAME, adapter_inputs
from llmrec.serving.item_table import ItemTable
from llmrec.serving.policies import check_policies
from llmrec.serving.scenarios import check_presets
from llmrec.stage import Manifest, folder_hash, read_manifest

if TYPE_CHECKING:
    from llmrec.content.features.item_encoder import QuerySimilarity
    from llmrec.generation.history_cache import HistoryCache
    from llmrec.generation.llm import Llm
    from llmrec.generation.multi_lora import MultiLoraLlm
    from llmrec.generation.vllm_adapters import AdaptedVllm, VllmAdapters
    from llmrec.ranking.hybrid.prior import GraphPrior

EngineName = Literal["torch", "vllm"]
MIB = 2**20
LOG = logging.getLogger(__name__)
TITLE_LENGTH = 60  # of a title in a reason


class Bundle:
    """An opened bundle; :class:`~llmrec.serving.recommender.Recommender` answers requests with it.

    Many threads may use one bundle at once, and each another of its adapters.

    Args:
        folder: what ``llmrec bundle`` wrote.
        beams: beam width for semantic IDs.
        cache_mib: MiB of keys and values of histories that the model and its adapters keep, for
            users who come back; 0 for none.
        engine: what runs the language model: our own, or a vLLM that is started here.
        vllm_url: address of a vLLM server of ``llmrec vllm`` on the same bundle, to use instead.
        verify: check the sha256 of every file; sizes are checked in any case.

    Attributes:
        model_name: what requests call the model.
        adapters: name, version and task of each adapter, by the name that requests use.
        items: the catalogue.
        llm: the language model without adapter.
        revision: changes of the catalogue since the bundle was made; 0 for none.
        prior: what the item graph adds to the language model's ranking, or None.
        ctr: folder of the click model, or None.
        rerank: how the list of the click model is re-ranked.
        scenarios: that the bundle adds, fields of a request by name.
        policies: what the shop says of itself, by topic.

    Raises:
        ArtifactError: if the folder is not a bundle or is damaged, naming the file.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        beams: int = 50,
        cache_mib: int = 0,
        verify: bool = True,
        engine: EngineName = "torch",
        vllm_url: str | None = None,
    ) -> None:
        self.folder = Path(folder)
        manifest = _read_manifest(self.folder)
        with _checked(self.folder, manifest, verify):
            self._open(manifest, beams, cache_mib, engine, vllm_url)
        self.prior = self._open_prior() if HYBRID in manifest.inputs else None
        self._lock = threading.Lock()

    def _open(
        self,
        manifest: Manifest,
        beams: int,
        cache_mib: int,
        engine: EngineName,
        vllm_url: str | None,
    ) -> None:
        folder = self.folder
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
        self.scenarios = check_presets(manifest.config.get("scenarios", {}))
        self.policies = check_policies(manifest.config.get("policies", {}))
        self._fingerprint, self.revision = manifest.fingerprint[:12], 0
        self.model_name = f"{OWN_NAME}-{model_hash[:8]}"
        self.items = ItemTable(self.folder / "items.parquet")
        self.item_ids, self.titles = self.items.item_ids, self.items.titles
        self.index = self.items.index
        if cache_mib < 0:
            raise ConfigError(f"cache_mib: {cache_mib} is not a size; give 0 for no cache")
        folders = _adapter_folders(self.folder, manifest)
        self._multi_lora = _open_llms(folder / "model", folders, beams, cache_mib, engine, vllm_url)
        self.llm, self.adapters = self._multi_lora.base, self._multi_lora.adapters
        if self.llm.n_items != len(self.item_ids):
            raise ArtifactError(
                f"{folder}: the model knows {self.llm.n_items} items, items.parquet holds "
                f"{len(self.item_ids)}; run llmrec bundle again"
            )

    @property
    def lineage(self) -> str:
        """The same for all versions of the catalogue of one bundle."""
        return self._fingerprint

    @property
    def catalog_version(self) -> str:
        """Of the bundle, and how often its catalogue has been changed since."""
        return f"{self._fingerprint}.{self.revision}"

    def changed(
        self,
        items: ItemTable,
        multi_lora: MultiLoraLlm,
        prior: GraphPrior | None,
        texts: QuerySimilarity | None,
        revision: int,
    ) -> Bundle:
        """The same over a changed catalogue; whoever holds this one goes on with it.

        Args:
            items, multi_lora, prior, texts: of the changed catalogue; None where there is none.
            revision: above that of this one.
        """
        changed = copy.copy(self)
        changed.items, changed.prior, changed.revision = items, prior, revision
        changed.item_ids, changed.titles, changed.index = items.item_ids, items.titles, items.index
        changed._multi_lora, changed.llm = multi_lora, multi_lora.base
        if texts is not None:
            vars(changed)["_query_similarity"] = texts
        return changed

    @property
    def multi_lora(self) -> MultiLoraLlm:
        """The language model and its adapters on our own engine.

        Raises:
            ConfigError: if they are on vLLM, which reads the items once, when it starts.
        """
        if not self.is_changeable:
            raise ConfigError("catalogue: a service on vLLM keeps the items of its bundle")
        return cast("MultiLoraLlm", self._multi_lora)

    @property
    def is_changeable(self) -> bool:
        """Whether the catalogue can change while it is served."""
        return not hasattr(self.llm, "adapter")  # as AdaptedVllm has

    @property
    def texts(self) -> QuerySimilarity | None:
        """The text vectors of the items, and the model that makes them; None without any."""
        return self._texts("query") if self.has_texts else None

    def _open_prior(self) -> GraphPrior:
        from llmrec.ranking.hybrid.prior import GraphPrior

        return GraphPrior.load(self.folder / HYBRID, len(self.item_ids))

    def close(self) -> None:
        """End vLLM, where it was started here."""
        self._multi_lora.close()

    def llm_of(self, adapter: str | None) -> Llm | AdaptedVllm:
        """The language model with an adapter, or without one for None.

        Raises:
            ConfigError: for an adapter that the bundle does not hold.
        """
        return self._multi_lora.with_adapter(adapter)

    def history_caches(self) -> list[HistoryCache]:
        """The caches of the model and of each adapter; none for a bundle without any."""
        llms = [self.llm_of(name) for name in (None, *self.adapters)]
        return [llm.cache for llm in llms if llm.cache is not None]

    @property
    def has_texts(self) -> bool:
        """Whether there are text vectors of the items."""
        return (self.folder / FEATURES).is_dir()

    def encode_texts(
        self, field: str, texts: Sequence[str], *, as_items: bool
    ) -> tuple[np.ndarray, int]:
        """Texts in the space of the items' text vectors, float32 ``[texts, dim]`` of length 1, and
        how many tokens they have.

        Args:
            field: of the request that needs them, for the message.
            as_items: as texts of items are read, where the model tells them from queries.

        Raises:
            ConfigError: if the bundle has no text vectors.
        """
        return self._texts(field).encode_texts(texts, as_items=as_items)

    def text_similarity(self, query: str) -> np.ndarray:
        """Cosine of each item's text and the query, float32 ``[items]``.

        Raises:
            ConfigError: if the bundle holds no text vectors.
        """
        return self._texts("query").cosines(query)

    def text_vectors(self, field: str) -> np.ndarray:
        """Text vectors of the items, float32 ``[items, dim]``.

        Args:
            field: of the request that needs them, for the message.

        Raises:
            ConfigError: if the bundle holds none.
        """
        return self._texts(field).vectors

    def quoted_title(self, item: int) -> str:
        """An item's title in quotes, a long one cut, as reasons have it."""
        title = self.titles[item]
        if len(title) > TITLE_LENGTH:
            title = title[: TITLE_LENGTH - 1].rstrip() + "…"
        return repr(title)

    def _texts(self, field: str) -> QuerySimilarity:
        if not self.has_texts:
            raise ConfigError(
                f"{field}: this bundle holds no text features to compare with; give a history "
                "instead, or make the bundle again with --features"
            )
        with self._lock:  # one thread reads the vectors
            return self._query_similarity

    def open_text_encoder(self) -> None:
        """Open the model that reads words, where there is one, so that no request waits for it.

        Raises:
            ArtifactError: if it is not there, or not the one that made the vectors.
            MissingExtraError: if what runs it is not installed.
        """
        if self.has_texts:
            self._texts("query").open_encoder()

    @cached_property
    def _query_similarity(self) -> QuerySimilarity:
        from llmrec.content.features.item_encoder import QuerySimilarity

        return QuerySimilarity(self.folder, len(self.items))


def _open_llms(
    model: Path,
    adapters: list[Path],
    beams: int,
    cache_mib: int,
    engine: EngineName,
    vllm_url: str | None,
) -> MultiLoraLlm | VllmAdapters:
    """The language model and its adapters on their engine."""
    if engine == "torch" and vllm_url is None:
        from llmrec.generation.multi_lora import load_llm_with_adapters

        each = cache_mib * MIB // (1 + len(adapters))  # each has a cache of its own
        return load_llm_with_adapters(model, adapters, beams=beams, cache_bytes=each)
    from llmrec.generation.vllm_adapters import VllmAdapters
    from llmrec.generation.vllm_llm import VllmLlm

    return VllmAdapters(VllmLlm(model, adapters=adapters, beams=beams, server=vllm_url))


def _read_manifest(folder: Path) -> Manifest:
    """A bundle's manifest; its files are there, and no others in what libraries read."""
    manifest = read_manifest(folder, "bundle")
    added = [name for name in unlisted_files(folder, manifest.files) if "/" in name]
    if added:
        raise ArtifactError(f"{folder / added[0]}: is no part of the bundle; remove it")
    return manifest


@contextmanager
def _checked(folder: Path, manifest: Manifest, verify: bool) -> Iterator[None]:
    """Check the sha256 of a bundle's files: of small ones, which say what there is to open, before
    the block, and of large ones while it opens them.

    Raises:
        ArtifactError: naming a file that differs, whatever the block made of it.
    """
    if not verify:
        LOG.warning("llmrec: warning: %s: files are not verified; damage may go unnoticed", folder)
        yield
        return
    large = {name: entry for name, entry in manifest.files.items() if entry[0] > MIB}
    small = {name: entry for name, entry in manifest.files.items() if name not in large}
    _refuse(damaged_files(folder, small, hashes=True), manifest)
    with ThreadPoolExecutor(1) as pool:
        damage = pool.submit(damaged_files, folder, large, hashes=True)
        try:
            yield
        finally:
            _refuse(damage.result(), manifest)


def _refuse(damage: list[str], manifest: Manifest) -> None:
    if damage:
        raise ArtifactError(f"{damage[0]}; {manifest.remedy}")


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

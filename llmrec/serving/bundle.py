"""A bundle: one folder that serves, wherever it is moved.

::

    bundle/
      manifest.json        what it was made of
      model/               Hugging Face folder with tokenizer, item IDs and layout
      items.parquet        the catalogue
      features/            content vectors of the catalogue (when there are any)
      prompts/             the templates the model was trained with
      adapters/NAME/       LoRA adapters of the model (when there are any)
      ctr/                 the click model (when there is one), for llmrec.serving

``llmrec bundle`` writes it; :class:`Bundle` opens it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.errors import ArtifactError, ConfigError
from llmrec.llm.bundle_layout import ADAPTERS, CTR, OWN_NAME
from llmrec.ranking.rerank.settings import RerankConfig
from llmrec.recommender import top_n
from llmrec.serving.build import _adapter_inputs
from llmrec.serving.request import Answer, Question
from llmrec.stage import (
    Manifest,
    folder_hash,
    read_manifest,
)
from llmrec.types import Histories, Ranking, Recommendation

if TYPE_CHECKING:
    from llmrec.content.features.query import QueryEncoder
    from llmrec.generation.adapted import AdaptedLlm
    from llmrec.generation.beam_search import SearchOptions
    from llmrec.generation.constraints import Constraints
    from llmrec.generation.llm import Llm
    from llmrec.llm.adapters import AdapterInfo

CANDIDATES = 100  # items a text query keeps for the language model to rank
MAX_CANDIDATES = 1000  # items that are ranked at once
MIB = 2**20


class Bundle:
    """An opened bundle: items in, recommendations out, in the shop's own identifiers.

    Many threads may ask one bundle at once, and each another of its adapters.

    Args:
        folder: what ``llmrec bundle`` wrote.
        beams: beam width for semantic IDs.
        cache_mib: MiB to keep of what the model and its adapters remember of histories, for
            people who come back; 0 for none.

    Attributes:
        model_name: what requests call the model.
        adapters: what each adapter says of itself, by the name that requests use.
        recommender: the model's own recommender, without adapter.
        ctr: folder of the click model, or None; :class:`~llmrec.serving.recommender.Recommender`
            uses it.
        rerank: how the list of the click model is re-ranked.

    Raises:
        ArtifactError: if the folder is not a bundle or is damaged.
    """

    def __init__(self, folder: str | Path, *, beams: int = 50, cache_mib: int = 0) -> None:
        from llmrec.serving.item_table import ItemTable

        self.folder = Path(folder)
        manifest = read_manifest(folder, "bundle")
        model_hash = folder_hash(self.folder / "model")
        if manifest.inputs.get("model") != model_hash:
            raise ArtifactError(
                f"{folder}: its model is not the one it was made with; run llmrec bundle again"
            )
        self.ctr = _ctr_folder(self.folder, manifest)
        self.rerank = RerankConfig().overridden(manifest.config.get("rerank", {}), "rerank")
        self.catalog_version = manifest.fingerprint[:12]
        self.model_name = f"{OWN_NAME}-{model_hash[:8]}"
        self.items = ItemTable(self.folder / "items.parquet")
        self.item_ids, self.titles = self.items.item_ids, self.items.titles
        self.index = self.items.index
        if cache_mib < 0:
            raise ConfigError(f"cache_mib: {cache_mib} is not a size; give 0 for no cache")
        self._open_models(manifest, beams, cache_mib * MIB)
        if self.recommender.n_items != len(self.item_ids):
            raise ArtifactError(
                f"{folder}: the model knows {self.recommender.n_items} items, items.parquet holds "
                f"{len(self.item_ids)}; run llmrec bundle again"
            )
        self._lock = threading.Lock()

    def _open_models(self, manifest: Manifest, beams: int, cache_bytes: int) -> None:
        from llmrec.generation.load import load_llm

        model = self.folder / "model"
        folders = _adapter_folders(self.folder, manifest)
        self.adapters: dict[str, AdapterInfo] = {}
        self._adapted: AdaptedLlm | None = None
        if not folders:
            self.recommender: Llm = load_llm(model, beams=beams, cache_bytes=cache_bytes)
            return
        from llmrec.generation.adapted import load_llm_with_adapters

        each = cache_bytes // (1 + len(folders))  # every one of them remembers for itself
        self._adapted = load_llm_with_adapters(model, folders, beams=beams, cache_bytes=each)
        self.recommender, self.adapters = self._adapted.base, self._adapted.adapters

    def recommender_of(self, adapter: str | None) -> Llm:
        """The recommender of an adapter, or of the model itself for None.

        Raises:
            ConfigError: for an adapter that the bundle does not hold.
        """
        if adapter is None:
            return self.recommender
        if self._adapted is None:
            raise ConfigError(f"adapter: {adapter!r} is not loaded; {self.folder} holds none")
        return self._adapted.with_adapter(adapter)

    def recommend(self, history: Sequence[str], n: int = 10, **more: Any) -> list[Recommendation]:
        """The n items a person is likely to want next; :meth:`answer` without the notes.

        Args:
            more: further fields of the :class:`~llmrec.serving.request.Question`.
        """
        return self.answer(Question(history, n, **more)).recommendations

    def answer(self, question: Question) -> Answer:
        """The items a person is likely to want next, and what to know about them.

        Without a history the model says what people begin with; with a query and no history,
        items go by closeness to the query alone.

        Raises:
            CatalogError: for an item id that is not in the catalogue, or a name in ``where`` that
                no item has.
            ConfigError: if the bundle cannot answer words or ``where``, or lacks the adapter.
        """
        llm = self.recommender_of(question.adapter)
        histories = self._histories(question)
        limits = self._constraints(question, histories[0])
        most = min(question.n, len(self.item_ids))
        if question.query.strip():
            ranking, reason = self._by_words(question, llm, histories, most, limits)
        else:
            ranking = llm.recommend(
                histories,
                most,
                exclude_history=False,
                constraints=[limits],
                options=question.options,
            )
            reason = self._reason(histories)
        found = self.items.named(ranking, most, reason)
        return Answer.to(question, found, llm.max_events)

    def rank(
        self,
        history: Sequence[str],
        candidates: Sequence[str],
        *,
        history_times: Sequence[float] | None = None,
        now: float | None = None,
        adapter: str | None = None,
        options: SearchOptions | None = None,
    ) -> list[Recommendation]:
        """Given items in the model's order, their log-likelihood as score.

        Args:
            candidates: item ids; one that is given twice is ranked once.

        Other arguments as for a :class:`~llmrec.serving.request.Question`.

        Raises:
            CatalogError: for an item id that is not in the catalogue.
            ConfigError: for more than 1,000 candidates, times that do not fit the history, or an
                adapter that the bundle does not hold.
        """
        items = np.unique(self.items.rows("candidates", candidates))
        if len(items) > MAX_CANDIDATES:
            raise ConfigError(
                f"candidates: {len(items)} were given; at most {MAX_CANDIDATES} are ranked at once"
            )
        histories = self._histories(Question(history, history_times=history_times, now=now))
        ranking = _rank(self.recommender_of(adapter), histories, items, options)
        return self.items.named(ranking, len(items), self._reason(histories))

    def _histories(self, question: Question) -> Histories:
        times, now = question.history_times, question.now
        return Histories.from_lists(
            [self.items.rows("history", question.history)],  # type: ignore[list-item]
            timestamps=None if times is None else [times],
            now=None if now is None else [now],
        )

    def _constraints(self, question: Question, history: np.ndarray) -> Constraints:
        from llmrec.generation.constraints import Constraints

        lost, allow = self.items.rows("exclude", question.exclude), question.allow
        return Constraints(
            exclude=np.concatenate([lost, history]) if question.exclude_history else lost,
            allow=None if allow is None else self.items.rows("allow", allow),
            where=self.items.filter(question.where),
        )

    def _by_words(
        self, question: Question, llm: Llm, histories: Histories, n: int, limits: Constraints
    ) -> tuple[Ranking, str]:
        """The items closest to the query, in the model's order if there is a history."""
        query = question.query.strip()
        reason = f"close in meaning to {query!r}"
        with self._lock:  # so that there is one, whoever asks first
            queries = self._queries
        closeness = queries.closeness(query)[None]
        closeness[0, ~self.items.passing(limits)] = -np.inf
        closest = top_n(closeness, max(CANDIDATES, n))
        candidates = closest.items[0][closest.items[0] >= 0]
        if len(histories[0]) == 0 or len(candidates) == 0:
            return closest, reason
        ranking = _rank(llm, histories, candidates, question.options)
        return ranking, f"{reason} and likely after this history"

    def _reason(self, histories: Histories) -> str:
        if len(histories[0]) == 0:
            return "popular with everyone; there is no history to go by"
        return f"likely to follow {self.titles[histories[0][-1]]!r}"

    @cached_property
    def _queries(self) -> QueryEncoder:
        from llmrec.content.features.query import QueryEncoder

        return QueryEncoder(self.folder, len(self.item_ids))


def _ctr_folder(bundle: Path, manifest: Manifest) -> Path | None:
    """The click model of a bundle, which must be the one it was made with."""
    if CTR not in manifest.inputs:
        return None
    if folder_hash(bundle / CTR) != manifest.inputs[CTR]:
        raise ArtifactError(
            f"{bundle}: its click model is not the one it was made with; run llmrec bundle again"
        )
    return bundle / CTR


def _adapter_folders(bundle: Path, manifest: Manifest) -> list[Path]:
    """Folders of a bundle's adapters, which must be those it was made with."""
    from llmrec.llm.adapters import read_adapter

    folders = sorted((bundle / ADAPTERS).glob("*"))
    found: dict[str, str] = {}
    for folder in folders:
        found |= _adapter_inputs(read_adapter(folder).name, folder)
    made_with = {k: v for k, v in manifest.inputs.items() if k.startswith(f"{ADAPTERS}/")}
    if found != made_with:
        raise ArtifactError(
            f"{bundle}: its adapters are not those it was made with; run llmrec bundle again"
        )
    return folders


def _rank(
    llm: Llm, histories: Histories, candidates: np.ndarray, options: SearchOptions | None
) -> Ranking:
    """A model's order of some items (int64 indices), the same as among all items."""
    scores = llm.score_items(histories, candidates[None], options=options)
    found = top_n(scores, len(candidates))
    return Ranking(candidates[found.items], found.scores)

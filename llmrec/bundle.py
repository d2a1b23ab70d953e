"""A bundle: one folder that serves, wherever it is moved.

::

    bundle/
      manifest.json        what it was made of
      model/               Hugging Face folder with tokenizer, item IDs and layout
      items.parquet        the catalogue
      features/            content vectors of the catalogue (when there are any)
      prompts/             the templates the model was trained with

``llmrec bundle`` writes it; :class:`Bundle` opens it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from llmrec.errors import ArtifactError, CatalogError, ConfigError
from llmrec.recommender import top_n
from llmrec.stage import MODEL_STAGES, Manifest, StageRun, folder_hash, read_manifest, run_stage
from llmrec.types import Histories, Ranking, Recommendation

if TYPE_CHECKING:
    from llmrec.features.query import QueryEncoder
    from llmrec.generation.beam_search import SearchOptions
    from llmrec.generation.constraints import Constraints
    from llmrec.generation.filters import CatalogFilter
    from llmrec.generation.llm import Llm

CANDIDATES = 100  # items a text query keeps for the language model to rank
MAX_CANDIDATES = 1000  # items that are ranked at once
MIB = 2**20
LAST_SECOND = 1e11  # in the year 5138; milliseconds of our days are above


def run(dataset: Path, features: Path | None, model: Path, out: Path) -> Path:
    """Collect what serves into one folder.

    Raises:
        ArtifactError: if a part is missing, the model is no language model, or a part is of
            another dataset.
    """
    inputs = {"dataset": folder_hash(dataset), "model": folder_hash(model)}
    stage_of = read_manifest(model).stage
    parts = [(model, stage_of if stage_of in MODEL_STAGES else "train")]
    if features is not None:
        inputs["features"] = folder_hash(features)
        parts.append((features, "embed"))
    for folder, stage in parts:
        if read_manifest(folder, stage).inputs.get("dataset") != inputs["dataset"]:
            command = f"model {stage}" if stage in ("expand", "merge") else stage
            raise ArtifactError(
                f"{folder}: was not made from {dataset}; run llmrec {command} again on this dataset"
            )
    layout = model / "llmrec.json"
    if not layout.is_file():
        raise ArtifactError(f"{model}: holds no language model; only those of kind llm are bundled")

    def work(stage: StageRun) -> None:
        shutil.copytree(model, stage.folder / "model")
        shutil.copy(dataset / "items.parquet", stage.folder)
        if features is not None:
            shutil.copytree(features, stage.folder / "features")
        template = json.loads(layout.read_text(encoding="utf-8"))["template"]
        prompts = stage.folder / "prompts"
        prompts.mkdir()
        (prompts / f"{template['name']}.json").write_text(json.dumps(template), encoding="utf-8")
        stage.counts["items"] = pq.read_metadata(dataset / "items.parquet").num_rows

    return run_stage(out, Manifest("bundle", {}, inputs), work)


@dataclass(frozen=True)
class Answer:
    """What one request is answered with.

    Attributes:
        recommendations: best first.
        history_given: events of the history that came with the request.
        history_read: how many of them the model read, the newest.
        notes: what the caller should know, a sentence each.
    """

    recommendations: list[Recommendation]
    history_given: int
    history_read: int
    notes: list[str]


class Bundle:
    """An opened bundle: items in, recommendations out, in the shop's own identifiers.

    Many threads may ask one bundle at once.

    Args:
        folder: what ``llmrec bundle`` wrote.
        beams: beam width for semantic IDs.
        cache_mib: MiB to keep of what the model remembers of histories, for people who come
            back; 0 for none.

    Raises:
        ArtifactError: if the folder is not a bundle or is damaged.
    """

    def __init__(self, folder: str | Path, *, beams: int = 50, cache_mib: int = 0) -> None:
        from llmrec.generation.item_table import ItemTable
        from llmrec.generation.llm import Llm
        from llmrec.generation.load import load_recommender

        self.folder = Path(folder)
        manifest = read_manifest(folder, "bundle")
        model_hash = folder_hash(self.folder / "model")
        if manifest.inputs.get("model") != model_hash:
            raise ArtifactError(
                f"{folder}: its model is not the one it was made with; run llmrec bundle again"
            )
        self.catalog_version = manifest.fingerprint[:12]
        self.model_name = f"llmrec-{model_hash[:8]}"
        self.items = ItemTable(self.folder / "items.parquet")
        self.item_ids, self.titles = self.items.item_ids, self.items.titles
        self.index = self.items.index
        if cache_mib < 0:
            raise ConfigError(f"cache_mib: {cache_mib} is not a size; give 0 for no cache")
        recommender = load_recommender(self.folder, beams=beams, cache_bytes=cache_mib * MIB)
        assert isinstance(recommender, Llm)  # nothing else is bundled
        self.recommender: Llm = recommender
        if recommender.n_items != len(self.item_ids):
            raise ArtifactError(
                f"{folder}: the model knows {recommender.n_items} items, items.parquet holds "
                f"{len(self.item_ids)}; run llmrec bundle again"
            )
        self._lock = threading.Lock()

    def recommend(
        self,
        history: Sequence[str],
        n: int = 10,
        *,
        exclude_history: bool = True,
        exclude: Sequence[str] = (),
        allow: Sequence[str] | None = None,
        where: CatalogFilter | None = None,
        query: str = "",
        history_times: Sequence[float] | None = None,
        now: float | None = None,
        options: SearchOptions | None = None,
    ) -> list[Recommendation]:
        """The n items a person is likely to want next; :meth:`answer` without the notes."""
        answer = self.answer(
            history,
            n,
            exclude_history=exclude_history,
            exclude=exclude,
            allow=allow,
            where=where,
            query=query,
            history_times=history_times,
            now=now,
            options=options,
        )
        return answer.recommendations

    def answer(
        self,
        history: Sequence[str],
        n: int = 10,
        *,
        exclude_history: bool = True,
        exclude: Sequence[str] = (),
        allow: Sequence[str] | None = None,
        where: CatalogFilter | None = None,
        query: str = "",
        history_times: Sequence[float] | None = None,
        now: float | None = None,
        options: SearchOptions | None = None,
    ) -> Answer:
        """The n items a person is likely to want next, and what to know about them.

        Without a history the model says what people begin with; with a query and no history,
        items go by closeness to the query alone.

        Args:
            history: item ids, oldest first.
            n: at most so many items; fewer come back where no more are left.
            exclude_history: leave out what is in the history.
            exclude: item ids to leave out as well.
            allow: item ids that alone may be recommended; None for all.
            where: what items must be like.
            query: words; of the items that may be recommended, those closest to them in meaning
                are ranked by the model.
            history_times: when each of the history happened, seconds since 1970 UTC; a model
                trained with time tokens ranks better with them.
            now: time of the request, seconds since 1970 UTC.
            options: how to search and score; the bundle's own way when not given.

        Raises:
            CatalogError: for an item id that is not in the catalogue, a name in ``where`` that no
                item has, or n below 1.
            ConfigError: if times do not fit the history or are none, or the bundle cannot answer
                words or ``where``.
        """
        if n < 1:
            raise CatalogError(f"n: {n} items were asked for; ask for at least 1")
        histories = self._histories(history, history_times, now)
        limits = self._constraints(exclude, allow, where, histories[0] if exclude_history else None)
        most = min(n, len(self.item_ids))
        if query.strip():
            ranking, reason = self._by_words(query.strip(), histories, most, limits, options)
        else:
            ranking = self.recommender.recommend(
                histories, most, exclude_history=False, constraints=[limits], options=options
            )
            reason = self._reason(histories)
        found = self.items.named(ranking, most, reason)
        read = min(len(history), self.recommender.max_events)
        notes = _notes(len(history), read, n, len(found))
        return Answer(found, len(history), read, notes)

    def rank(
        self,
        history: Sequence[str],
        candidates: Sequence[str],
        *,
        history_times: Sequence[float] | None = None,
        now: float | None = None,
        options: SearchOptions | None = None,
    ) -> list[Recommendation]:
        """Given items in the model's order, their log-likelihood as score.

        Args:
            candidates: item ids; one that is given twice is ranked once.

        Other arguments as for :meth:`answer`.

        Raises:
            CatalogError: for an item id that is not in the catalogue.
            ConfigError: for more than 1,000 candidates, or times that do not fit the history.
        """
        items = np.unique(self.items.rows("candidates", candidates))
        if len(items) > MAX_CANDIDATES:
            raise ConfigError(
                f"candidates: {len(items)} were given; at most {MAX_CANDIDATES} are ranked at once"
            )
        histories = self._histories(history, history_times, now)
        ranking = self._rank(histories, items, options)
        return self.items.named(ranking, len(items), self._reason(histories))

    def _histories(
        self,
        history: Sequence[str],
        times: Sequence[float] | None,
        now: float | None,
    ) -> Histories:
        if times is not None and len(times) != len(history):
            raise ConfigError(
                f"history_times: {len(times)} are given for a history of {len(history)}"
            )
        _check_times("history_times", () if times is None else times)
        _check_times("now", () if now is None else (now,))
        return Histories.from_lists(
            [self.items.rows("history", history)],  # type: ignore[list-item]
            timestamps=None if times is None else [times],
            now=None if now is None else [now],
        )

    def _constraints(
        self,
        exclude: Sequence[str],
        allow: Sequence[str] | None,
        where: CatalogFilter | None,
        history: np.ndarray | None,
    ) -> Constraints:
        from llmrec.generation.constraints import Constraints

        lost = self.items.rows("exclude", exclude)
        return Constraints(
            exclude=lost if history is None else np.concatenate([lost, history]),
            allow=None if allow is None else self.items.rows("allow", allow),
            where=self.items.filter(where),
        )

    def _by_words(
        self,
        query: str,
        histories: Histories,
        n: int,
        limits: Constraints,
        options: SearchOptions | None,
    ) -> tuple[Ranking, str]:
        """The items closest to the query, in the model's order if there is a history."""
        reason = f"close in meaning to {query!r}"
        with self._lock:  # so that there is one, whoever asks first
            queries = self._queries
        closeness = queries.closeness(query)[None]
        closeness[0, ~self.items.passing(limits)] = -np.inf
        closest = top_n(closeness, max(CANDIDATES, n))
        candidates = closest.items[0][closest.items[0] >= 0]
        if len(histories[0]) == 0 or len(candidates) == 0:
            return closest, reason
        ranking = self._rank(histories, candidates, options)
        return ranking, f"{reason} and likely after this history"

    def _rank(
        self, histories: Histories, candidates: np.ndarray, options: SearchOptions | None
    ) -> Ranking:
        """The model's order of some items (int64 indices), the same as among all items."""
        scores = self.recommender.score_items(histories, candidates[None], options=options)
        found = top_n(scores, len(candidates))
        return Ranking(candidates[found.items], found.scores)

    def _reason(self, histories: Histories) -> str:
        if len(histories[0]) == 0:
            return "popular with everyone; there is no history to go by"
        return f"likely to follow {self.titles[histories[0][-1]]!r}"

    @cached_property
    def _queries(self) -> QueryEncoder:
        from llmrec.features.query import QueryEncoder

        return QueryEncoder(self.folder, len(self.item_ids))


def _notes(given: int, read: int, asked: int, found: int) -> list[str]:
    """What to say of a history that was not read whole and of an answer that is not full."""
    notes = []
    if read < given:
        notes.append(
            f"the model reads the newest {read} events of a history; the oldest {given - read} "
            f"of {given} were left out"
        )
    if found == 0:
        notes.append("nothing in the catalogue is left to recommend")
    elif found < asked:
        notes.append(f"only {found} of {asked} items: no more are left to recommend")
    return notes


def _check_times(field: str, times: Sequence[float]) -> None:
    """Check that all are seconds since 1970, or NaN for one that is unknown.

    Raises:
        ConfigError: if one is not; milliseconds are found out as well.
    """
    for time in times:
        if abs(time) >= LAST_SECOND:
            raise ConfigError(f"{field}: {time} is not a time in seconds since 1970")


def main(argv: list[str]) -> None:
    """``llmrec bundle``."""
    parser = argparse.ArgumentParser(prog="llmrec bundle", description="Collect what serves.")
    parser.add_argument("--dataset", type=Path, required=True, help="folder of llmrec ingest")
    parser.add_argument("--model", type=Path, required=True, help="folder of llmrec train")
    parser.add_argument("--features", type=Path, help="folder of llmrec embed")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args(argv)
    run(arguments.dataset, arguments.features, arguments.model, arguments.out)

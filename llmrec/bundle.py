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
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.errors import ArtifactError, CatalogError, ConfigError
from llmrec.recommender import top_n
from llmrec.stage import Manifest, StageRun, folder_hash, read_manifest, run_stage
from llmrec.types import Histories, Ranking, Recommendation

if TYPE_CHECKING:
    from llmrec.features.text_encoder import TextEncoder

CANDIDATES = 100  # items a text query keeps for the language model to rank


def run(dataset: Path, features: Path | None, model: Path, out: Path) -> Path:
    """Collect what serves into one folder.

    Raises:
        ArtifactError: if a part is missing, the model is no language model, or a part is of
            another dataset.
    """
    inputs = {"dataset": folder_hash(dataset), "model": folder_hash(model)}
    parts = [(model, "train")]
    if features is not None:
        inputs["features"] = folder_hash(features)
        parts.append((features, "embed"))
    for folder, stage in parts:
        if read_manifest(folder, stage).inputs.get("dataset") != inputs["dataset"]:
            raise ArtifactError(
                f"{folder}: was not made from {dataset}; run llmrec {stage} again on this dataset"
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


class Bundle:
    """An opened bundle: items in, recommendations out, in the shop's own identifiers.

    Many threads may ask one bundle at once.

    Args:
        folder: what ``llmrec bundle`` wrote.
        beams: beam width for semantic IDs.

    Raises:
        ArtifactError: if the folder is not a bundle or is damaged.
    """

    def __init__(self, folder: str | Path, *, beams: int = 50) -> None:
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
        self.items = _read_items(self.folder / "items.parquet")
        self.item_ids: list[str] = self.items["item_id"].to_pylist()
        self.titles: list[str] = self.items["title"].to_pylist()
        self.index = {item_id: row for row, item_id in enumerate(self.item_ids)}
        self.recommender = load_recommender(self.folder, beams=beams)
        if self.recommender.n_items != len(self.item_ids):
            raise ArtifactError(
                f"{folder}: the model knows {self.recommender.n_items} items, items.parquet holds "
                f"{len(self.item_ids)}; run llmrec bundle again"
            )
        # Loading a model in two threads at once is unsafe, and so is sharing its tokenizer.
        self._encoder_lock = threading.Lock()

    def recommend(
        self,
        history: Sequence[str],
        n: int = 10,
        *,
        exclude_history: bool = True,
        query: str = "",
        history_times: Sequence[float] | None = None,
        now: float | None = None,
    ) -> list[Recommendation]:
        """The n items a person is likely to want next.

        Without a history the model says what people begin with; with a query and no history,
        items go by closeness to the query alone.

        Args:
            history: item ids, oldest first.
            n: at most so many items; fewer come back where the catalogue has no more.
            exclude_history: leave out what is in the history.
            query: words; the items closest to them in meaning are ranked by the model.
            history_times: when each of the history happened, seconds since 1970 UTC; a model
                trained with time tokens ranks better with them.
            now: time of the request, seconds since 1970 UTC.

        Raises:
            CatalogError: for an item id that is not in the catalogue, or n below 1.
            ConfigError: if ``history_times`` does not fit the history, or words cannot be answered.
        """
        if n < 1:
            raise CatalogError(f"n: {n} items were asked for; ask for at least 1")
        if history_times is not None and len(history_times) != len(history):
            raise ConfigError(
                f"history_times: {len(history_times)} are given for a history of {len(history)}"
            )
        rows = [self._row(item_id) for item_id in history]
        histories = Histories.from_lists(
            [rows],
            timestamps=None if history_times is None else [history_times],
            now=None if now is None else [now],
        )
        n = min(n, len(self.item_ids))
        if query.strip():
            return self._answer(query.strip(), histories, n, exclude_history)
        ranking = self.recommender.recommend(histories, n, exclude_history=exclude_history)
        return self._named(ranking, n, self._reason(rows))

    def _row(self, item_id: str) -> int:
        if item_id not in self.index:
            raise CatalogError(f"history: {item_id!r} is not in the catalogue")
        return self.index[item_id]

    def _answer(
        self, query: str, histories: Histories, n: int, exclude_history: bool
    ) -> list[Recommendation]:
        """The items closest to the query, in the model's order if there is a history."""
        reason = f"close in meaning to {query!r}"
        vectors = self._text_vectors
        with self._encoder_lock:
            closeness = (vectors @ self._encoder.encode([query])[0])[None]
        if exclude_history:
            closeness[0, histories[0]] = -np.inf
        closest = top_n(closeness, max(CANDIDATES, n))
        candidates = closest.items[0][closest.items[0] >= 0]
        if len(histories[0]) == 0 or len(candidates) == 0:
            return self._named(closest, n, reason)
        ranking = self._rank(histories, candidates)
        return self._named(ranking, n, f"{reason} and likely after this history")

    def _rank(self, histories: Histories, candidates: np.ndarray) -> Ranking:
        """The model's order of some items (int64 indices), the same as among all items."""
        from llmrec.generation.llm import Llm

        assert isinstance(self.recommender, Llm)
        found = top_n(self.recommender.score_items(histories, candidates[None]), len(candidates))
        return Ranking(candidates[found.items], found.scores)

    def _reason(self, rows: list[int]) -> str:
        if not rows:
            return "popular with everyone; there is no history to go by"
        return f"likely to follow {self.titles[rows[-1]]!r}"

    def _named(self, ranking: Ranking, n: int, reason: str) -> list[Recommendation]:
        """The first n of the one user's ranking."""
        pairs = zip(ranking.items[0][:n].tolist(), ranking.scores[0][:n].tolist(), strict=True)
        return [
            Recommendation(self.item_ids[item], self.titles[item], rank, score, reason)
            for rank, (item, score) in enumerate(pairs, start=1)
            if item >= 0  # -1 pads, always at the end
        ]

    @cached_property
    def _text_vectors(self) -> np.ndarray:
        from llmrec.features.text import load_features

        folder = self.folder / "features"
        if not folder.is_dir():
            raise ConfigError(
                f"query: {self.folder} holds no text features, so it cannot be asked in words; "
                "make the bundle again with --features"
            )
        vectors = load_features(folder)["text"]
        if len(vectors) != len(self.item_ids):
            raise ArtifactError(
                f"{folder}: holds vectors of {len(vectors)} items, the catalogue has "
                f"{len(self.item_ids)}; run llmrec bundle again"
            )
        return vectors

    @cached_property
    def _encoder(self) -> TextEncoder:
        """Embeds queries; used under its lock."""
        from llmrec.features.text_encoder import TextEncoder

        manifest = read_manifest(self.folder / "features", "embed")
        return TextEncoder(manifest.config["model"])


def _read_items(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, columns=["item_id", "title", "price"])
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"{path}: cannot be read ({reason}); run llmrec bundle again") from None


def main(argv: list[str]) -> None:
    """``llmrec bundle``."""
    parser = argparse.ArgumentParser(prog="llmrec bundle", description="Collect what serves.")
    parser.add_argument("--dataset", type=Path, required=True, help="folder of llmrec ingest")
    parser.add_argument("--model", type=Path, required=True, help="folder of llmrec train")
    parser.add_argument("--features", type=Path, help="folder of llmrec embed")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args(argv)
    run(arguments.dataset, arguments.features, arguments.model, arguments.out)

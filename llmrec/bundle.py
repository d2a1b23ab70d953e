"""A bundle: one folder that serves.

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
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from llmrec.errors import ArtifactError, CatalogError
from llmrec.stage import Manifest, StageRun, folder_hash, read_manifest, run_stage
from llmrec.types import Histories, Recommendation

if TYPE_CHECKING:
    from llmrec.features.text_encoder import TextEncoder

CANDIDATES = 100  # items a text query keeps for the language model to rank


def run(dataset: Path, features: Path | None, model: Path, out: Path) -> Path:
    """Collect what serves into one folder.

    Raises:
        ArtifactError: if a part is missing or the model is of another dataset.
    """
    trained = read_manifest(model, "train")
    if trained.inputs.get("dataset") != folder_hash(dataset):
        raise ArtifactError(f"{model}: was not trained on {dataset}; train it again")
    inputs = {"dataset": folder_hash(dataset), "model": folder_hash(model)}
    if features is not None:
        inputs["features"] = folder_hash(features)

    def work(stage: StageRun) -> None:
        shutil.copytree(model, stage.folder / "model")
        shutil.copy(dataset / "items.parquet", stage.folder)
        if features is not None:
            shutil.copytree(features, stage.folder / "features")
        layout = json.loads((model / "llmrec.json").read_text(encoding="utf-8"))
        template = layout["template"]
        (stage.folder / "prompts").mkdir()
        (stage.folder / "prompts" / f"{template['name']}.json").write_text(json.dumps(template))
        stage.counts["items"] = pq.read_metadata(dataset / "items.parquet").num_rows

    return run_stage(out, Manifest("bundle", {}, inputs), work)


class Bundle:
    """An opened bundle: items in, recommendations out, in the shop's own identifiers."""

    def __init__(self, folder: str | Path, *, beams: int = 50) -> None:
        """
        Raises:
            ArtifactError: if the folder is not a bundle or is damaged.
        """
        from llmrec.generation.load import load_recommender

        self.folder = Path(folder)
        manifest = read_manifest(folder, "bundle")
        self.catalog_version = manifest.fingerprint[:12]
        self.model_name = f"llmrec-{manifest.inputs['model'][:8]}"
        self.recommender = load_recommender(self.folder, beams=beams)
        columns = ["item_id", "title", "price"]
        self.items = pq.read_table(self.folder / "items.parquet", columns=columns)
        self.item_ids: list[str] = self.items["item_id"].to_pylist()
        self.titles: list[str] = self.items["title"].to_pylist()
        self.index = {item_id: row for row, item_id in enumerate(self.item_ids)}

    def recommend(
        self,
        history: Sequence[str],
        n: int = 10,
        *,
        exclude_history: bool = True,
        query: str = "",
        now: float | None = None,
    ) -> list[Recommendation]:
        """The n items a person is likely to want next.

        Args:
            history: item ids, oldest first.
            n: at most so many items.
            exclude_history: leave out what is in the history.
            query: words; the items closest to them in meaning are ranked by the model, or by
                closeness alone when the history is empty.
            now: time of the request, seconds since 1970 UTC.

        Raises:
            CatalogError: for an item id that is not in the catalogue, or n below 1.
        """
        if n < 1:
            raise CatalogError(f"n: {n} items were asked for; ask for at least 1")
        rows = [self._row(item_id) for item_id in history]
        if query:
            return self._answer_query(query, rows, n, exclude_history)
        asked = None if now is None else [now]
        histories = Histories.from_lists([rows], now=asked)
        ranking = self.recommender.recommend(histories, n, exclude_history=exclude_history)
        reason = self._reason(rows)
        return self._named(ranking.items[0], ranking.scores[0], reason)

    def _row(self, item_id: str) -> int:
        if item_id not in self.index:
            raise CatalogError(f"history: {item_id!r} is not in the catalogue")
        return self.index[item_id]

    def _answer_query(
        self, query: str, rows: list[int], n: int, exclude_history: bool
    ) -> list[Recommendation]:
        closeness = self._text_vectors @ self._encoder.encode([query])[0]
        if exclude_history:
            closeness[rows] = -np.inf
        candidates = np.argsort(-closeness, kind="stable")[:CANDIDATES]
        candidates = candidates[np.isfinite(closeness[candidates])]
        if not rows:
            best = candidates[:n]
            return self._named(best, closeness[best], f"close in meaning to {query!r}")
        # The model's order among the closest: its list is long enough to hold them all.
        histories = Histories.from_lists([rows])
        full = self.recommender.recommend(
            histories, len(self.item_ids), exclude_history=exclude_history
        )
        keep = np.isin(full.items[0], candidates)
        reason = f"close in meaning to {query!r} and likely after this history"
        return self._named(full.items[0][keep][:n], full.scores[0][keep][:n], reason)

    def _reason(self, rows: list[int]) -> str:
        if not rows:
            return "popular with everyone; there is no history to go by"
        return f"likely to follow {self.titles[rows[-1]]!r}"

    def _named(self, items: np.ndarray, scores: np.ndarray, reason: str) -> list[Recommendation]:
        return [
            Recommendation(
                item_id=self.item_ids[item],
                title=self.titles[item],
                rank=rank,
                score=float(score),
                reason=reason,
            )
            for rank, (item, score) in enumerate(zip(items, scores, strict=True), start=1)
            if item >= 0
        ]

    @cached_property
    def _text_vectors(self) -> np.ndarray:
        from llmrec.features.text import load_features

        folder = self.folder / "features"
        if not folder.is_dir():
            raise ArtifactError(
                f"{self.folder}: holds no text features, so it cannot answer in words; "
                "make the bundle again with --features"
            )
        return load_features(folder)["text"]

    @cached_property
    def _encoder(self) -> TextEncoder:
        from llmrec.features.text_encoder import TextEncoder

        manifest = read_manifest(self.folder / "features", "embed")
        return TextEncoder(manifest.config["model"])


def main(argv: list[str]) -> None:
    """``llmrec bundle``."""
    parser = argparse.ArgumentParser(prog="llmrec bundle", description="Collect what serves.")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    run(arguments.dataset, arguments.features, arguments.model, arguments.out)

"""A bundle: one folder that serves, wherever it is moved.

::

    bundle/
      manifest.json        what it was made of
      model/               Hugging Face folder with tokenizer, item IDs and layout
      items.parquet        the catalogue
      features/            content vectors of the catalogue (when there are any)
      prompts/             the templates the model was trained with
      adapters/NAME/       LoRA adapters of the model (when there are any)
      ctr/                 the click model (when there is one), for llmrec.cascade

``llmrec bundle`` writes it; :class:`Bundle` opens it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from llmrec.errors import ArtifactError, ConfigError
from llmrec.question import Answer, Question
from llmrec.recommender import top_n
from llmrec.rerank.settings import RerankConfig
from llmrec.stage import (
    MODEL_STAGES,
    Manifest,
    StageRun,
    file_hash,
    folder_hash,
    read_manifest,
    run_stage,
)
from llmrec.types import Histories, Ranking, Recommendation

if TYPE_CHECKING:
    from llmrec.features.query import QueryEncoder
    from llmrec.generation.adapted import AdaptedLlm
    from llmrec.generation.beam_search import SearchOptions
    from llmrec.generation.constraints import Constraints
    from llmrec.generation.llm import Llm
    from llmrec.models.adapters import AdapterInfo

CANDIDATES = 100  # items a text query keeps for the language model to rank
MAX_CANDIDATES = 1000  # items that are ranked at once
MIB = 2**20
ADAPTERS = "adapters"  # folder of a bundle
CTR = "ctr"  # folder of a bundle
OWN_NAME = "llmrec"  # begins the model's own names


def run(
    dataset: Path,
    features: Path | None,
    model: Path,
    out: Path,
    adapters: Sequence[Path] = (),
    ctr: Path | None = None,
    rerank: Mapping[str, Any] | None = None,
) -> Path:
    """Collect what serves into one folder.

    Args:
        adapters: folders of adapters that were made for this model.
        ctr: folder of a click model.
        rerank: settings of re-ranking (:class:`~llmrec.rerank.settings.RerankConfig`), which need
            a click model.

    Raises:
        ArtifactError: if a part is missing, the model is no language model, a part is of
            another dataset, or an adapter of another model.
        ConfigError: if two adapters have the same name, one has the model's, or a setting of
            re-ranking makes no sense.
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

    found = _check_adapters(model, adapters)
    for name, folder in found.items():
        inputs |= _adapter_inputs(name, folder)
    if ctr is not None:
        _check_ctr(ctr, dataset, inputs)
        inputs[CTR] = folder_hash(ctr)
    settings = _rerank_settings(rerank, ctr)

    def work(stage: StageRun) -> None:
        shutil.copytree(model, stage.folder / "model")
        for name, folder in found.items():
            _copy_adapter(folder, stage.folder / ADAPTERS / name)
        shutil.copy(dataset / "items.parquet", stage.folder)
        if features is not None:
            shutil.copytree(features, stage.folder / "features")
        if ctr is not None:
            shutil.copytree(ctr, stage.folder / CTR)
        template = json.loads(layout.read_text(encoding="utf-8"))["template"]
        prompts = stage.folder / "prompts"
        prompts.mkdir()
        (prompts / f"{template['name']}.json").write_text(json.dumps(template), encoding="utf-8")
        stage.counts["items"] = pq.read_metadata(dataset / "items.parquet").num_rows

    return run_stage(out, Manifest("bundle", settings, inputs), work)


def _check_ctr(ctr: Path, dataset: Path, inputs: Mapping[str, str]) -> None:
    """Check that a click model is of the items of a dataset and reads the scores of the model.

    Raises:
        ArtifactError: if it is not, or is no click model.
    """
    manifest = read_manifest(ctr, "ctr")
    read = {value for name, value in manifest.inputs.items() if name.startswith("model/")}
    if read and inputs["model"] not in read:
        raise ArtifactError(
            f"{ctr}: learned from the scores of other models than this one; run llmrec ctr again "
            "with --model and its folder"
        )
    if manifest.inputs.get("dataset") == inputs["dataset"]:
        return
    counts = read_manifest(dataset).counts
    told = "catalogue" in counts and "catalogue" in manifest.counts
    name = "catalogue" if told else "items"
    if manifest.counts.get(name) != counts.get(name):
        raise ArtifactError(
            f"{ctr}: was made of {manifest.counts.get('items')} items, which are not the "
            f"{counts.get('items')} of {dataset}; run llmrec ctr again on this dataset"
        )


def _rerank_settings(rerank: Mapping[str, Any] | None, ctr: Path | None) -> dict[str, Any]:
    """What the manifest says of re-ranking, checked; nothing where nothing was said."""
    if not rerank:
        return {}
    if ctr is None:
        raise ConfigError("--rerank: needs a click model; give its folder as --ctr")
    RerankConfig().overridden(rerank, "--rerank")
    return {"rerank": dict(rerank)}


def _check_adapters(model: Path, adapters: Sequence[Path]) -> dict[str, Path]:
    """Folders by name, of adapters that this model can be served with."""
    if not adapters:
        return {}
    from llmrec.models.adapters import check_adapters

    found = check_adapters(model, adapters)
    for name, folder in found.items():
        if name.partition("-")[0] == OWN_NAME:
            raise ConfigError(
                f"--adapter {folder}: {name!r} is what requests call the model itself; give the "
                "adapter another name"
            )
    return found


def _adapter_inputs(name: str, folder: Path) -> dict[str, str]:
    """What stands for an adapter in the manifest; its own file holds a hash of the weights."""
    from llmrec.models.adapters import CONFIG, INFO

    return {f"{ADAPTERS}/{name}/{file}": file_hash(folder / file) for file in (INFO, CONFIG)}


def _copy_adapter(folder: Path, to: Path) -> None:
    """Copy an adapter and nothing that happens to stand beside it."""
    from llmrec.models.adapters import CONFIG, INFO, WEIGHTS

    to.mkdir(parents=True)
    for name in (INFO, CONFIG, WEIGHTS):
        shutil.copy(folder / name, to)


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
        ctr: folder of the click model, or None; :class:`~llmrec.cascade.recommender.Recommender`
            uses it.
        rerank: how the list of the click model is re-ranked.

    Raises:
        ArtifactError: if the folder is not a bundle or is damaged.
    """

    def __init__(self, folder: str | Path, *, beams: int = 50, cache_mib: int = 0) -> None:
        from llmrec.generation.item_table import ItemTable

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
            more: further fields of the :class:`~llmrec.question.Question`.
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

        Other arguments as for a :class:`~llmrec.question.Question`.

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
        from llmrec.features.query import QueryEncoder

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
    from llmrec.models.adapters import read_adapter

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


def main(argv: list[str]) -> None:
    """``llmrec bundle``."""
    parser = argparse.ArgumentParser(prog="llmrec bundle", description="Collect what serves.")
    parser.add_argument("--dataset", type=Path, required=True, help="folder of llmrec ingest")
    parser.add_argument("--model", type=Path, required=True, help="folder of llmrec train")
    parser.add_argument("--features", type=Path, help="folder of llmrec embed")
    parser.add_argument(
        "--adapter",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a LoRA adapter of the model, such as llmrec tune writes; may be repeated",
    )
    parser.add_argument("--ctr", type=Path, metavar="DIR", help="folder of llmrec ctr")
    parser.add_argument(
        "--rerank",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="how a list of click probabilities is re-ranked, such as per_category=3; may be "
        "repeated",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    said = parser.parse_args(argv)
    rerank = settings_of(said.rerank, "--rerank")
    run(said.dataset, said.features, said.model, said.out, said.adapter, said.ctr, rerank)


def settings_of(pairs: Sequence[str], flag: str) -> dict[str, Any]:
    """``NAME=VALUE`` of a repeated flag; a value is read as YAML has it.

    Raises:
        ConfigError: for one that is not so written.

    >>> settings_of(["per_category=3", "diversity=mmr"], "--rerank")
    {'per_category': 3, 'diversity': 'mmr'}
    """
    import yaml

    found: dict[str, Any] = {}
    for pair in pairs:
        name, is_pair, value = pair.partition("=")
        if not (is_pair and name.strip()):
            raise ConfigError(f"{flag}: {pair!r} is not NAME=VALUE")
        try:
            found[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"{flag}: {value!r} of {name} cannot be read") from None
    return found

"""``llmrec bench agree``: is what is served what was trained?

    llmrec bench agree BUNDLE --adapter NAME --dataset DIR
    llmrec bench agree BASE --adapter DIR --dataset DIR --users 200

Five ways to the best items of the whole catalogue, for the same users:

* ``trained``: base and adapter as peft joins them, every item scored by plain forward passes;
* ``llmrec``: our engine with the adapter;
* ``llmrec-merged``: our engine on what ``llmrec model merge`` writes;
* ``vllm``: vLLM with the adapter;
* ``vllm-merged``: vLLM on the merged model.

All search exactly and compute in float32. Two lists are the same if they hold the same items in
the same order; items whose scores in ``trained`` are closer than --tolerance are ties, whose order
means nothing. Beside it stands the base without its adapter: if its lists were the same as well,
the comparison could not notice a lost adapter. The exit status is 1 if the five do not agree.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.bench.checks import check_choice, result_file
from llmrec.bench.ranking_comparison import TOLERANCE, RankingComparison
from llmrec.bench.reference_scores import BruteForce, open_trained
from llmrec.config import as_dict, check_ranges
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError, require
from llmrec.generation.beam_search import SearchOptions
from llmrec.generation.load import load_llm
from llmrec.generation.multi_lora import load_llm_with_adapters
from llmrec.generation.vllm_llm import VllmLlm
from llmrec.llm import merge
from llmrec.llm.adapters import check_adapters, read_json
from llmrec.llm.layout import ADAPTERS, read_layout
from llmrec.metrics.results import write_result
from llmrec.recommender import history_mask, top_n
from llmrec.stage import MANIFEST, read_manifest
from llmrec.types import Histories

WAYS = ("trained", "llmrec", "llmrec-merged", "vllm", "vllm-merged")
EXACT = SearchOptions(exact=True)
OUT = Path("runs/bench/agree/agree.json")
OpenVllm = Callable[..., AbstractContextManager[VllmLlm]]


@dataclass(frozen=True)
class AgreeBenchConfig:
    """Settings of ``llmrec bench agree``.

    Attributes:
        users: whose recommendations are compared.
        n: items a user.
        ways: some of :data:`WAYS`.
        tolerance: scores closer than this are ties.

    Raises:
        ConfigError: if a value makes no sense, naming the flag.
    """

    users: int = 200
    n: int = 20
    ways: tuple[str, ...] = WAYS
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "users", "n")
        for way in self.ways:
            check_choice("ways", way, WAYS)
        if not set(self.ways) - {"trained"}:
            raise ConfigError("--ways: leaves nothing to compare; name one beside trained")
        check_ranges(self, "[0, 1)", "tolerance")


def compare(
    base: Path,
    adapter: Path,
    histories: Histories,
    n: int,
    *,
    ways: Sequence[str] = WAYS,
    model: Any = None,
    tolerance: float = TOLERANCE,
    open_vllm: OpenVllm = VllmLlm,
) -> RankingComparison:
    """Recommend by every way, and by the base without the adapter.

    Args:
        base: folder of the base model.
        adapter: folder of an adapter of it.
        n: items a user.
        ways: some of :data:`WAYS`; ``trained`` is always among them.
        model: the model as its trainer left it; None to open it from its files.
        tolerance: scores closer than this are ties.
        open_vllm: opens a folder, with ``adapters``, on vLLM.

    Raises:
        ArtifactError: for a folder that cannot be used, or an adapter made for another base.
    """
    ((name, _),) = check_adapters(base, [adapter]).items()
    ours = load_llm_with_adapters(base, [adapter])
    prompts = ours.base.encoder.encode_all(histories)
    model = open_trained(base, adapter) if model is None else model
    scores = BruteForce(model, ours.base.encoder.vocabulary, ours.base.ids).all_scores(prompts)
    scores[history_mask(histories)] = -np.inf
    lists = {"trained": top_n(scores, n)}
    if "llmrec" in ways:
        lists["llmrec"] = ours.with_adapter(name).recommend(histories, n, options=EXACT)
    if "vllm" in ways:
        with open_vllm(base, adapters=[adapter]) as llm:
            lists["vllm"] = llm.recommend(histories, n, adapter=name, options=EXACT)
    with tempfile.TemporaryDirectory() as folder:
        merged = merge.run(base, adapter, Path(folder) / "merged")
        if "llmrec-merged" in ways:
            lists["llmrec-merged"] = load_llm(merged).recommend(histories, n, options=EXACT)
        if "vllm-merged" in ways:
            with open_vllm(merged) as llm:
                lists["vllm-merged"] = llm.recommend(histories, n, options=EXACT)
    plain = ours.with_adapter(None).recommend(histories, n, options=EXACT)
    return RankingComparison(
        scores, {way: lists[way] for way in WAYS if way in lists}, plain, tolerance
    )


def test_users(dataset: Dataset, users: int) -> Histories:
    """Histories before the test items, and where these are too few, before the validation items.

    Raises:
        ConfigError: if there are none.
    """
    whole = Histories.concatenate(
        [dataset.cases(split).histories for split in ("test", "validation")]
    )
    if len(whole) == 0:
        raise ConfigError(f"--dataset: {dataset.folder} has nobody in its test split")
    return whole.select(range(min(users, len(whole))))


def report(found: RankingComparison) -> str:
    """The table that is printed."""
    lines = [f"{'':32}{'same list':>12}{'identical':>12}{'largest score difference':>27}"]
    for row in found.rows():
        pair = f"{row['one']} / {row['other']}"
        of = f"of {row['users']}"
        lines.append(
            f"{pair:32}{row['same']:>5} {of:6}{row['identical']:>5} {of:6}"
            f"{row['max_score_difference']:>27.2e}"
        )
    users = len(found.base.items)
    lines.append(f"the base without the adapter gives {found.moved} of {users} another list")
    lines.append("they agree" if found.agree else "THEY DO NOT AGREE")
    return "\n".join(lines)


def run(
    model: Path,
    /,
    config: AgreeBenchConfig,
    *,
    adapter: Path,
    dataset: Path,
    results: Path = OUT,
) -> None:
    """Compare what is served with what was trained; exit with 1 where they differ.

    Args:
        model: a bundle, or the folder of a base model.
        config: settings.
        adapter: folder of an adapter, or the name of one of the bundle's.
        dataset: folder of ``llmrec ingest``.
        results: the result file.
    """
    result_file(results, "--results")
    if {"vllm", "vllm-merged"} & set(config.ways):
        require("vllm", "vllm")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    base, adapter = _folders(model, adapter)
    opened = Dataset(dataset)
    started = time.monotonic()
    found = compare(
        base,
        adapter,
        test_users(opened, config.users),
        config.n,
        ways=config.ways,
        tolerance=config.tolerance,
        open_vllm=VllmLlm,
    )
    count = len(found.base.items)
    metrics = {
        "users": float(count),
        "agree": float(found.agree),
        "other_list_without_adapter": found.moved / count,
    }
    for way in list(found.lists)[1:]:
        metrics[f"same_list@{way}"] = float(
            found.same(found.lists[way], found.lists["trained"]).mean()
        )
        metrics[f"max_score_difference@{way}"] = found.error(way)
    ids, _ = read_layout(base)
    write_result(
        results,
        dataset=opened.folder.name,
        split="test",
        model=f"{ids.kind} item IDs",
        metrics=metrics,
        seed=read_manifest(base).seed if (base / MANIFEST).is_file() else None,
        seconds=time.monotonic() - started,
        rows=found.rows(),
        settings=as_dict(config) | {"ways": list(found.lists), "dtype": "float32"},
    )
    print(report(found), flush=True)
    if not found.agree:
        raise SystemExit(1)


def _folders(model: Path, adapter: Path) -> tuple[Path, Path]:
    """The base's folder and the adapter's.

    Raises:
        ConfigError: if the base is not stored in float32, in which all ways compute.
    """
    base = model
    if (model / MANIFEST).is_file() and read_manifest(model).stage == "bundle":
        base = model / "model"
        named = model / ADAPTERS / adapter
        adapter = named if named.is_dir() else adapter
    config = read_json(base / "config.json")
    dtype = config.get("dtype", config.get("torch_dtype", "float32"))
    if dtype != "float32":
        raise ConfigError(f"{base}: is stored in {dtype}; the ways are compared in float32")
    return base, adapter

"""Collects what serves into one folder: ``llmrec bundle``."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from llmrec.config import settings_of
from llmrec.errors import ArtifactError, ConfigError
from llmrec.llm.bundle_layout import ADAPTERS, CTR, OWN_NAME
from llmrec.ranking.rerank.settings import RerankConfig
from llmrec.stage import (
    MODEL_STAGES,
    Manifest,
    StageRun,
    file_hash,
    folder_hash,
    read_manifest,
    run_stage,
)


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
        rerank: settings of re-ranking (:class:`~llmrec.ranking.rerank.settings.RerankConfig`),
        which need
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
    from llmrec.llm.adapters import check_adapters

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
    from llmrec.llm.adapters import CONFIG, INFO

    return {f"{ADAPTERS}/{name}/{file}": file_hash(folder / file) for file in (INFO, CONFIG)}


def _copy_adapter(folder: Path, to: Path) -> None:
    """Copy an adapter and nothing that happens to stand beside it."""
    from llmrec.llm.adapters import CONFIG, INFO, WEIGHTS

    to.mkdir(parents=True)
    for name in (INFO, CONFIG, WEIGHTS):
        shutil.copy(folder / name, to)


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

"""Collects what serves into one folder: ``llmrec bundle``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from llmrec.config import as_dict, load_recipe
from llmrec.errors import ArtifactError, ConfigError
from llmrec.jsonl import read_json
from llmrec.llm.layout import ADAPTERS
from llmrec.ranking.rerank.settings import RerankConfig
from llmrec.serving.policies import read_policies
from llmrec.serving.scenarios import check_presets
from llmrec.stage import (
    MODEL_STAGES,
    Manifest,
    StageRun,
    file_hash,
    input_hashes,
    read_manifest,
    run_stage,
)

CTR, FEATURES, HYBRID = "ctr", "features", "hybrid"  # folders of a bundle
OWN_NAME = "llmrec"  # begins the model's own names
NO_RERANKING = RerankConfig()


def run(
    dataset: Path,
    model: Path,
    out: Path,
    features: Path | None = None,
    adapters: Sequence[Path] = (),
    ctr: Path | None = None,
    hybrid: Path | None = None,
    rerank: RerankConfig = NO_RERANKING,
    scenarios: Path | None = None,
    policies: Path | None = None,
) -> Path:
    """Collect what serves into one folder.

    Args:
        dataset: folder of llmrec ingest.
        model: folder of a language model, of llmrec train, model expand or model merge.
        out: folder to write.
        features: folder of llmrec embed, for queries in words; its text model comes with it.
        adapters: folders of LoRA adapters that were made for this model.
        ctr: folder of llmrec ctr, the click model.
        hybrid: folder of llmrec hybrid, the item graph that ranks with the language model.
        rerank: how the list of the click model is re-ranked.
        scenarios: recipe, or other YAML file, whose `scenarios:` section names lists of the shop's
            own.
        policies: YAML file of what the shop says of delivery, returns and so on: topic and text.

    Raises:
        ArtifactError: if a part is missing, the model is no language model, a part is of
            another dataset, or an adapter of another model.
        ConfigError: if two adapters have the same name, one has the model's, or there is no click
            model whose list could be re-ranked.
    """
    from llmrec.content.features.item_encoder import copy_text_encoder
    from llmrec.llm.adapters import CONFIG, INFO, WEIGHTS, check_adapters

    if rerank.options and ctr is None:
        raise ConfigError("--rerank: needs a click model; give its folder as --ctr")
    inputs = input_hashes(dataset=dataset, model=model, features=features, ctr=ctr, hybrid=hybrid)
    stage_of = read_manifest(model).stage
    parts = [(model, stage_of if stage_of in MODEL_STAGES else "train")]
    if features is not None:
        parts.append((features, "embed"))
    for folder, stage in parts:
        if read_manifest(folder, stage).inputs.get("dataset") != inputs["dataset"]:
            command = f"model {stage}" if stage in ("expand", "merge") else stage
            goes_on = f", with --base {folder} to go on from it" if stage == "train" else ""
            raise ArtifactError(
                f"{folder}: was not made from {dataset}; run llmrec {command} again on this "
                f"dataset{goes_on}"
            )
    layout = model / "llmrec.json"
    if not layout.is_file():
        raise ArtifactError(f"{model}: holds no language model; only those of kind llm are bundled")

    found = check_adapters(model, adapters) if adapters else {}
    for name, folder in found.items():
        if name.partition("-")[0] == OWN_NAME:
            raise ConfigError(
                f"--adapters {folder}: {name!r} is what requests call the model itself; give the "
                "adapter another name"
            )
        inputs |= adapter_inputs(name, folder)
    if ctr is not None:
        _check_ctr(ctr, dataset, inputs)
    if hybrid is not None and read_manifest(hybrid, HYBRID).inputs["model"] != inputs["model"]:
        raise ArtifactError(
            f"{hybrid}: was weighed against another model than {model}; run llmrec hybrid again"
        )
    settings: dict[str, Any] = {"rerank": as_dict(rerank)} if rerank.options else {}
    if scenarios is not None:
        given = load_recipe(scenarios)[0].get("scenarios", {})
        settings["scenarios"] = check_presets(given, f"{scenarios}: scenarios")
    if policies is not None:
        settings["policies"] = read_policies(policies)

    reads = [dataset, model, features, ctr, hybrid]

    def work(stage: StageRun) -> None:
        for part in filter(None, reads):
            read_manifest(part, hashes=True)
        shutil.copytree(model, stage.folder / "model")
        for name, folder in found.items():
            (stage.folder / ADAPTERS / name).mkdir(parents=True)
            for file in (INFO, CONFIG, WEIGHTS):  # an adapter's own files alone
                shutil.copy(folder / file, stage.folder / ADAPTERS / name)
        shutil.copy(dataset / "items.parquet", stage.folder)
        if features is not None:
            shutil.copytree(features, stage.folder / FEATURES)
            copy_text_encoder(features, stage.folder)
        if ctr is not None:
            shutil.copytree(ctr, stage.folder / CTR)
        if hybrid is not None:
            shutil.copytree(hybrid, stage.folder / HYBRID)
        template = read_json(layout)["template"]
        prompts = stage.folder / "prompts"
        prompts.mkdir()
        (prompts / f"{template['name']}.json").write_text(json.dumps(template), encoding="utf-8")
        stage.counts["items"] = pq.read_metadata(dataset / "items.parquet").num_rows

    return run_stage(out, Manifest("bundle", settings, inputs), work, reads=reads)


def _check_ctr(ctr: Path, dataset: Path, inputs: Mapping[str, str]) -> None:
    """Check that a click model is of the dataset and reads the scores of the model.

    Raises:
        ArtifactError: if it is not, or is no click model.
    """
    manifest = read_manifest(ctr, "ctr")
    models = {value for name, value in manifest.inputs.items() if name.startswith("model/")}
    if models and inputs["model"] not in models:
        raise ArtifactError(
            f"{ctr}: learned from the scores of other models than this one; run llmrec ctr again "
            "with --model and its folder"
        )
    if manifest.inputs.get("dataset") != inputs["dataset"]:
        raise ArtifactError(
            f"{ctr}: was not made from {dataset}; run llmrec ctr again on this dataset"
        )


def adapter_inputs(name: str, folder: Path) -> dict[str, str]:
    """Hashes of an adapter for the manifest; its own file holds that of the weights."""
    from llmrec.llm.adapters import CONFIG, INFO

    return {f"{ADAPTERS}/{name}/{file}": file_hash(folder / file) for file in (INFO, CONFIG)}

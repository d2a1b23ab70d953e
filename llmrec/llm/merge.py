"""``llmrec model merge``: bake an adapter into its base.

    llmrec model merge --base DIR --adapter DIR --out DIR

The result is an ordinary model folder like the base, with the same tokenizer, ``llmrec.json`` and
``item_ids/``, that answers as the adapter on the base does and needs no peft. A base whose
weights are stored quantised is merged into its dequantised weights, so the result takes their
space. An adapter that was trained over a quantised copy of a full-precision base (QLoRA) is merged
into the full-precision weights, where it answers a little differently than over the copy.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from llmrec.content.features.models import check_layers
from llmrec.errors import ArtifactError, one_line
from llmrec.files import file_hash
from llmrec.llm.adapters import CONFIG, attach, base_hash, check_adapters, read_adapter
from llmrec.stage import MANIFEST, Manifest, StageRun, read_manifest, run_stage

STAGE = "merge"
# What the merged model writes anew, or what is true of the base's own training only.
_NOT_COPIED = (
    MANIFEST,
    "config.json",
    "generation_config.json",
    "log.json",
    "training.png",
    "*.safetensors",
    "*.bin",
    "*.index.json",
    "work",
)


def run(base: Path, adapter: Path, out: Path) -> Path:
    """Bake an adapter into its base.

    Args:
        base: folder of ``llmrec model expand`` or ``llmrec train``.
        adapter: folder of an adapter that was trained on this base.
        out: folder to write.

    Raises:
        ArtifactError: if one of them cannot be used, or the adapter was made for another base.
    """
    info = read_adapter(adapter)
    inputs = {
        "base": base_hash(base),
        "adapter": info.weights_hash,
        "adapter_config": file_hash(adapter / CONFIG),
    }
    dataset = read_manifest(base).inputs.get("dataset")
    if dataset is not None:
        inputs["dataset"] = dataset
    config = {"adapter": info.name, "version": info.version, "task": info.task}
    counts = {"base_name": base.resolve().name}
    manifest = Manifest(STAGE, config, inputs, counts, command="model merge")

    def work(stage: StageRun) -> None:
        # the other format is the one a quantised base had
        merged(base, adapter).save_pretrained(stage.folder, save_original_format=False)
        copy_companions(base, stage.folder)

    return run_stage(out, manifest, work)


def merged(base: Path, adapter: Path) -> Any:
    """The causal LM with the adapter in its weights.

    Raises:
        ArtifactError: as for :func:`run`, and if the merged weights are not finite.
    """
    from transformers import AutoModelForCausalLM

    ((name, folder),) = check_adapters(base, [adapter]).items()
    check_layers(base)
    model = AutoModelForCausalLM.from_pretrained(
        base, local_files_only=True, trust_remote_code=False
    ).eval()
    if getattr(model, "is_quantized", False):
        model = model.dequantize()
    try:
        return attach(model, name, folder).merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ArtifactError(f"{adapter}: cannot be merged ({one_line(error)})") from None


def copy_companions(base: Path, folder: Path) -> None:
    """Copy a base's other files: tokenizer, layout, item IDs."""
    ignored = shutil.ignore_patterns(*_NOT_COPIED)
    for path in base.iterdir():
        if path.name in ignored(str(base), [path.name]):
            continue
        if path.is_dir():
            shutil.copytree(path, folder / path.name, dirs_exist_ok=True)
        else:
            shutil.copy(path, folder)

"""LoRA adapters on one expanded base: their files.

An adapter's folder is peft's own (``adapter_config.json``, ``adapter_model.safetensors``), so
that peft and vLLM open it, and holds ``llmrec_adapter.json`` beside it: what the adapter is for and
which base it was trained on. :mod:`llmrec.llm.lora_rules` has what an adapter may change,
:mod:`llmrec.generation.multi_lora` serves several on one base.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from llmrec.errors import ArtifactError, ConfigError, one_line, require
from llmrec.files import file_hash, read_versioned, replacing
from llmrec.llm.layout import LAYOUT
from llmrec.llm.lora_rules import check_name, why_not_plain
from llmrec.parsing import parse_json
from llmrec.weights.known import WEIGHTS as KNOWN
from llmrec.weights.locate import locate

SCHEMA_VERSION = 2
INFO, CONFIG, WEIGHTS = "llmrec_adapter.json", "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class AdapterInfo:
    """``llmrec_adapter.json``.

    Attributes:
        name: what requests call it.
        version: of this name, as its maker counts.
        task: what it was trained for, such as ``recommend``.
        base_hash: :func:`base_hash` of the base it was trained on.
        base_name: that base's folder name, for messages.
        created: when, ISO 8601 UTC.
        rank, alpha: of the LoRA matrices.
        weights_hash, config_hash: sha256 of ``adapter_model.safetensors`` and
            ``adapter_config.json``.
    """

    name: str
    version: str
    task: str
    base_hash: str
    base_name: str
    created: str
    rank: int
    alpha: float
    weights_hash: str
    config_hash: str
    schema_version: int = SCHEMA_VERSION


def base_hash(folder: str | Path, *, items: bool = True) -> str:
    """The identity of a base model: a hash of all that decides its answers.

    That is its weights, ``config.json``, ``llmrec.json`` and ``item_ids/``; neither the folder's
    name nor the age of its files. Every byte is read, about a second a gigabyte, once a process. A
    short name has the identity of its weights.

    Args:
        folder: of the base, or a short name.
        items: whether it must know items.

    Raises:
        ArtifactError: if the folder is no base, or knows no items though it must.
    """
    if not items and str(folder) in KNOWN:
        return KNOWN[str(folder)].identity
    folder = Path(folder)
    layout = [folder / LAYOUT] if items or (folder / LAYOUT).is_file() else []
    paths = [folder / "config.json", *layout, *(folder / "item_ids").glob("*")]
    weights = [*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")]
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not weights:
        raise ArtifactError(
            f"{folder}: is no base for adapters (it has no {(missing or ['weights'])[0]}); give "
            "the folder of llmrec model expand or llmrec train"
        )
    whole = hashlib.sha256()
    for path in sorted([*paths, *weights]):
        stat = path.stat()
        digest = _file_hash(path.resolve(), stat.st_size, stat.st_mtime_ns)
        whole.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    return whole.hexdigest()


@lru_cache(maxsize=256)
def _file_hash(path: Path, _size: int, _changed: int) -> str:
    return file_hash(path)


def save_adapter(
    peft_model: Any,
    folder: str | Path,
    *,
    name: str,
    version: str,
    task: str,
    base: str | Path,
    items: bool = True,
) -> Path:
    """Write the active adapter of a peft model.

    Args:
        folder: is whole or, after an error, as it was; an earlier adapter is replaced.
        name: what requests will call it: letters, digits and hyphens.
        base: folder of the base it was trained on; a short name too where ``items`` is False.
        items: whether the base must know items.

    Raises:
        ConfigError: for a name that cannot be used, an adapter that is not plain LoRA inside the
            blocks, or a model of which more was trained than the adapter.
        ArtifactError: if ``base`` is no expanded base, ``folder`` holds something else than an
            adapter, or another run writes there.
    """
    peft = require("peft", "tune")
    folder, adapters = Path(folder), peft_model.base_model.active_adapters
    check_name(name)
    if len(adapters) != 1:
        raise ConfigError(f"adapter: {len(adapters)} adapters are active; set the one to save")
    (active,) = adapters
    config = copy.copy(peft_model.peft_config[active])
    state = peft.get_peft_model_state_dict(
        peft_model,
        # not state_dict(), which unpacks the weights of a quantised base and spoils them
        state_dict=dict(peft_model.named_parameters()),
        adapter_name=active,
        save_embedding_layers=False,
    )
    reason = why_not_plain(config.to_dict(), state) or _trained_besides(peft_model, base)
    if reason is not None:
        raise ConfigError(f"adapter {name!r}: {reason}")
    if folder.exists() and not (folder / INFO).is_file() and any(folder.iterdir()):
        raise ArtifactError(f"{folder}: holds something else than an adapter; give another folder")
    made_for, base_name = base_hash(base, items=items), Path(base).resolve().name
    config.inference_mode, config.base_model_name_or_path = True, base_name
    with replacing(folder) as part:
        config.save_pretrained(part)
        plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        save_file(plain, part / WEIGHTS, metadata={"format": "pt"})
        info = AdapterInfo(
            name=name,
            version=version,
            task=task,
            base_hash=made_for,
            base_name=base_name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            rank=config.r,
            alpha=config.lora_alpha,
            weights_hash=file_hash(part / WEIGHTS),
            config_hash=file_hash(part / CONFIG),
        )
        (part / INFO).write_text(json.dumps(asdict(info), indent=2) + "\n", encoding="utf-8")
    return folder


def read_adapter(folder: str | Path) -> AdapterInfo:
    """The ``llmrec_adapter.json`` of an adapter's folder, its files checked.

    Raises:
        ArtifactError: if a file is missing, damaged or from a newer llmrec, or the adapter is not
            plain LoRA inside the blocks.
    """
    folder = Path(folder)
    raw = read_versioned(folder / INFO, "LoRA adapter", SCHEMA_VERSION, "save the adapter again")
    known = {field.name for field in fields(AdapterInfo)}
    try:
        info = AdapterInfo(**{key: value for key, value in raw.items() if key in known})
    except TypeError as error:
        raise ArtifactError(f"{folder / INFO}: a field is missing ({error})") from None
    config = read_json(folder / CONFIG)
    try:
        if file_hash(folder / WEIGHTS) != info.weights_hash:
            raise ArtifactError(
                f"{folder / WEIGHTS}: is not what {INFO} was written for; save the adapter again"
            )
        with safe_open(folder / WEIGHTS, "pt") as file:
            tensors = list(file.keys())
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{folder / WEIGHTS}: cannot be read ({error})") from None
    reason = why_not_plain(config, tensors)
    if reason is not None:
        raise ArtifactError(f"{folder}: {reason}")
    if file_hash(folder / CONFIG) != info.config_hash:
        raise ArtifactError(
            f"{folder / CONFIG}: is not what {INFO} was written for; save the adapter again"
        )
    check_name(info.name)
    return info


def check_adapters(
    base: str | Path, adapters: Sequence[str | Path], *, items: bool = True
) -> dict[str, Path]:
    """Folders by name, of adapters that were made for this base.

    Args:
        items: whether the base must know items.

    Raises:
        ArtifactError: for a folder that cannot be used, or an adapter made for another base.
        ConfigError: without adapters, or if two have the same name.
    """
    require("peft", "tune")
    if not adapters:
        raise ConfigError("adapter: none was given")
    given = base_hash(base, items=items)
    found: dict[str, Path] = {}
    for folder in map(Path, adapters):
        info = read_adapter(folder)
        if info.base_hash != given:
            raise ArtifactError(
                f"{folder}: adapter {info.name!r} was made for the base {info.base_name!r} "
                f"({info.base_hash[:12]}), {base} is another ({given[:12]})"
            )
        if info.name in found:
            raise ConfigError(
                f"adapter: {found[info.name]} and {folder} are both called {info.name!r}"
            )
        found[info.name] = folder
    return found


def attach(model: Any, name: str, folder: Path) -> Any:
    """A peft model of ``model``, a causal LM or a peft model, with one adapter more.

    Raises:
        ArtifactError: if the adapter's files do not fit the model or each other.
    """
    peft = require("peft", "tune")
    try:
        if isinstance(model, peft.PeftModel):
            model.load_adapter(folder, name)
        else:
            model = peft.PeftModel.from_pretrained(model, folder, adapter_name=name)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{folder}: the adapter does not fit its base ({one_line(error)})"
        ) from None
    wanted = {
        parameter.replace(f".{name}.", ".")
        for parameter, _ in model.named_parameters()
        if "lora_" in parameter and f".{name}." in parameter
    }
    with safe_open(folder / WEIGHTS, "pt") as file:
        different = sorted(wanted ^ set(file.keys()))
    if different:  # peft would go on with fresh values
        raise ArtifactError(
            f"{folder}: {CONFIG} and {WEIGHTS} do not agree on {different[0]}; save it again"
        )
    return model


def _trained_besides(peft_model: Any, base: str | Path) -> str | None:
    """Why the base does not go with the adapter: it was changed too; None if it was not."""
    for name, parameter in peft_model.named_parameters():
        if parameter.requires_grad and "lora_" not in name:
            return f"{name} was trained as well, which an adapter does not hold; freeze it"
    expected = read_json(Path(locate(str(base), "language model", "base")) / "config.json").get(
        "vocab_size"
    )
    rows = peft_model.get_base_model().get_input_embeddings().weight.shape[0]
    if expected != rows:
        return (
            f"its model has rows for {rows} tokens, {base} for {expected}; tokens are added once, "
            "by llmrec model expand"
        )
    return None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping.

    Raises:
        ArtifactError: if it is missing or holds something else.
    """
    try:
        raw = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path}: not found; is this an adapter's folder?") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from None
    if not isinstance(raw, dict):
        raise ArtifactError(f"{path}: holds no mapping; save the adapter again")
    return raw

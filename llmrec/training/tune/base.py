"""The base of a fine-tuning run: an expanded model's folder, opened, checked and copied.

An expanded folder is an ordinary Hugging Face folder whose vocabulary holds time and item
tokens, with ``llmrec.json`` and ``item_ids/``: what ``llmrec model expand`` and
``llmrec train`` write.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llmrec.content.features.models import check_layers
from llmrec.data.dataset import Dataset
from llmrec.errors import ArtifactError, ConfigError, one_line, require
from llmrec.item_ids.item_ids import ItemIds
from llmrec.jsonl import read_json
from llmrec.llm.layout import LAYOUT, read_layout
from llmrec.llm.merge import copy_companions
from llmrec.llm.tokenizer import load_tokenizer
from llmrec.llm.vocabulary import HistoryEncoder, Vocabulary
from llmrec.training.model_inputs import is_earlier_model
from llmrec.training.next_item.warm_start import continued, ids_for
from llmrec.training.tasks.corpus import TaskCorpus
from llmrec.training.tasks.writer import PromptWriter
from llmrec.training.tune.settings import TuneConfig
from llmrec.training.tune.trainer import chosen_precision

_WEIGHTS = ("*.safetensors", "*.bin", "*.index.json")


@dataclass(frozen=True)
class ExpandedBase:
    """An expanded model's folder.

    Attributes:
        folder: where it is.
        ids: item IDs.
        vocabulary: layout of its tokens.
        encoder: writes histories as serving does.
        tokenizer: with the time and item tokens.
    """

    folder: Path
    ids: ItemIds
    vocabulary: Vocabulary
    encoder: HistoryEncoder
    tokenizer: Any

    @property
    def new_tokens(self) -> range:
        """Ids of the time and item tokens."""
        return range(self.vocabulary.time_offset, self.vocabulary.size)


def open_base(folder: Path) -> ExpandedBase:
    """Open an expanded model's folder and check it.

    Raises:
        ConfigError: if it is no expanded model, or its tokenizer lacks item tokens.
    """
    if not is_earlier_model(folder):
        raise ConfigError(
            f"--base: {folder} has no {LAYOUT}, so its vocabulary holds no item tokens; run "
            "llmrec model expand on it first, or give a folder that llmrec train wrote"
        )
    try:
        ids, encoder = read_layout(folder)
    except ArtifactError as error:
        raise ConfigError(f"--base: {folder} is no expanded model ({one_line(error)})") from None
    tokenizer = load_tokenizer(str(folder))
    check_tokenizer(folder, tokenizer, encoder.vocabulary, ids)
    return ExpandedBase(folder, ids, encoder.vocabulary, encoder, tokenizer)


def base_for(
    base: ExpandedBase, dataset: Dataset, features: Path | None, out: Path
) -> ExpandedBase:
    """The base, or one made of it that knows the items of a dataset.

    Args:
        features: folder of llmrec embed of the dataset, for rows and IDs of new items.
        out: where to write a base that is made.

    Raises:
        ConfigError, CatalogError: if new items cannot get IDs.
    """
    if not base.ids.names or list(base.ids.names) == dataset.item_ids:
        return base
    if not (out / LAYOUT).is_file():  # written last
        ids = ids_for(base.folder, dataset, features)
        model, expanded = continued(base.folder, ids, features, dtype="auto")
        expanded.save(model, out)
    return open_base(out)


def check_tokenizer(folder: Path, tokenizer: Any, vocabulary: Vocabulary, ids: ItemIds) -> None:
    """Every time and item token must be one token, with its id in the layout.

    Raises:
        ConfigError: naming the first that is not.
    """
    names = vocabulary.time_token_strings() + ids.token_strings()
    found = tokenizer.convert_tokens_to_ids(names)
    for index, name in enumerate(names):
        if found[index] != vocabulary.time_offset + index:
            raise ConfigError(f"--base: the tokenizer of {folder} has no token {name}; {_AGAIN}")
    # a token may be in the vocabulary and still be split while text is read
    edges = {0, vocabulary.item_offset - vocabulary.time_offset, len(names) - 1}
    for index in sorted(edges):
        ids_found = tokenizer.encode(names[index], add_special_tokens=False)
        if ids_found != [vocabulary.time_offset + index]:
            raise ConfigError(
                f"--base: the tokenizer of {folder} splits {names[index]} into {len(ids_found)} "
                f"tokens; {_AGAIN}"
            )


_AGAIN = "it does not belong to these item ids; run llmrec model expand again"


def load_model(folder: Path, config: TuneConfig) -> Any:
    """The model of a folder as a method trains it: in 4 bits for ``qlora``, on the GPU if any.

    Raises:
        ConfigError: if it cannot be loaded or has no rows for the item tokens.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    # of several processes each has a GPU of its own
    device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
    precision = chosen_precision(config.loop)
    # every weight of a full run is trained, and keeps 32 bits for small steps to count
    bf16 = torch.cuda.is_available() and precision == "bf16" and config.method != "full"
    dtype = torch.bfloat16 if bf16 or precision == "bf16-true" else torch.float32
    options: dict[str, Any] = {"dtype": dtype}
    if config.method == "qlora":
        require("bitsandbytes", "tune")
        four_bits = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        options |= {"quantization_config": four_bits, "device_map": {"": device}}
    check_layers(folder)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **options
        )
    # transformers raises nearly anything for files that are damaged, or of another kind
    except Exception as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ConfigError(f"--base: {folder} cannot be loaded ({one_line(error)})") from None
    if config.method != "qlora":
        return model.to(device)
    # On some CPUs bitsandbytes rearranges a layer's weights the first time it is used outside
    # training and rounds their scales: training cannot continue after that, and the same adapter
    # would give other scores than on the next machine.
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def read_config(base: ExpandedBase) -> dict[str, Any]:
    """The model's ``config.json``.

    Raises:
        ConfigError: if it cannot be read, or the weights are stored quantised.
    """
    path = base.folder / "config.json"
    try:
        config: dict[str, Any] = read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--base: {path} cannot be read ({error})") from None
    if "quantization_config" in config:
        raise ConfigError(
            f"--base: the weights of {base.folder} are stored quantised; give it in full "
            "precision, which method: qlora quantises while it reads it"
        )
    return config


def copy_base(folder: Path, out: Path) -> None:
    """A model's folder: its weights and what stands beside them."""
    out.mkdir(parents=True, exist_ok=True)
    copy_companions(folder, out)
    for pattern in ("config.json", "generation_config.json", *_WEIGHTS):
        for path in folder.glob(pattern):
            shutil.copy(path, out)


@torch.no_grad()
def write_with_rows(base: ExpandedBase, trained: Any, out: Path) -> None:
    """Write the base with the rows of the new tokens as trained; all else stays as it was.

    Args:
        trained: a model whose input rows of these tokens, and output rows where they are others,
            were trained.
    """
    from transformers import AutoModelForCausalLM

    # in the precision it is stored in, whatever it was trained in
    model = AutoModelForCausalLM.from_pretrained(
        base.folder, dtype="auto", local_files_only=True, trust_remote_code=False
    )
    where = slice(base.new_tokens.start, base.new_tokens.stop)
    tables = [(model.get_input_embeddings(), trained.get_input_embeddings())]
    if not trained.config.tie_word_embeddings:
        tables.append((model.get_output_embeddings(), trained.get_output_embeddings()))
    for table, rows in tables:
        table.weight[where] = rows.weight[where].float().cpu().to(model.dtype)
    out.mkdir(parents=True, exist_ok=True)
    copy_companions(base.folder, out)
    model.save_pretrained(out)


def open_corpus(
    base: ExpandedBase,
    dataset: Dataset,
    max_length: int,
    own: Path | None = None,
    *,
    user_share: float = 1.0,
    domain: str = "",
) -> tuple[TaskCorpus, int]:
    """A dataset as the tasks of a base read it.

    Args:
        max_length: most tokens of an example.
        own: file of the user's own chat examples, or None.
        user_share, domain: as for :class:`~llmrec.training.tasks.corpus.TaskCorpus`.

    Returns:
        the corpus, and the most tokens of an example that the model can read.

    Raises:
        ConfigError: if the base knows other items, or not even one event fits.
    """
    if base.ids.n_items != dataset.n_items:
        raise ConfigError(
            f"--base: {base.folder} knows {base.ids.n_items} items, {dataset.folder} has "
            f"{dataset.n_items}; expand a base with the item ids of this dataset"
        )
    context = int(read_config(base).get("max_position_embeddings", 2**31))
    max_length = min(max_length, context)
    try:
        encoder = base.encoder.limited(max_length)
    except ConfigError:
        need = len(base.encoder.prefix) + 2 * base.encoder.event_width
        raise ConfigError(
            f"loop.max_length: {max_length} tokens cannot hold an event and its answer; set at "
            f"least {need}"
        ) from None
    writer = PromptWriter(base.tokenizer, encoder)
    corpus = TaskCorpus(dataset, writer, own, user_share=user_share, domain=domain)
    return corpus, max_length


def new_row_parameters(base: ExpandedBase) -> int:
    """How many numbers the rows of the new tokens hold, input and output."""
    config = read_config(base)
    tables = 1 if config.get("tie_word_embeddings", False) else 2
    return len(base.new_tokens) * int(config["hidden_size"]) * tables

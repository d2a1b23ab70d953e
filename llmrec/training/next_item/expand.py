"""``llmrec model expand``: add time and item tokens to a base model, once.

    llmrec model expand --base BASE --item-ids DIR [--dataset DIR] [--features DIR] --out DIR

The base is a size name (fresh weights; needs ``--dataset`` for its tokenizer), a folder or a hub
id. The result is what ``llmrec train`` writes, untrained: an ordinary Hugging Face folder
with its tokenizer, ``llmrec.json`` and ``item_ids/``. On text it behaves as the base did; the rows
of its item tokens start from the items' content (:mod:`llmrec.training.next_item.row_init`).
Adapters are then trained on this one base and stay off its vocabulary, so that a server can switch
them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from llmrec.config import as_dict, build
from llmrec.content.features.blocks import load_blocks
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.generation.llm import make_llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.layout import LAYOUT, save_layout
from llmrec.llm.llama import SIZES, from_folder, from_size
from llmrec.llm.tokenizer import add_tokens, plain_tokenizer, start_token
from llmrec.llm.vocabulary import HistoryEncoder, Vocabulary
from llmrec.prompts import Template, load_template
from llmrec.stage import Manifest, StageRun, file_hash, folder_hash, read_manifest, run_stage
from llmrec.training.next_item.item_content import token_content
from llmrec.training.next_item.row_init import content_part, initialise_rows
from llmrec.training.next_item.settings import TrainConfig

STAGE = "expand"
AROUND = (("", ""), ("Someone bought ", " and left."))  # an item alone, and inside a sentence
SENTENCES = (
    "Once upon a time there was a little girl.",
    "It's <5 km away & costs 12.50, isn't it?\n\tYes.",
    "Größe 38, 日本語 🎏",
    "a < b > c <item_ 7> <item> <gap>",
)
_BASE_FILES = ("*.json", "*.safetensors", "*.bin", "*.model", "*.txt", "*.jinja")


@dataclass(frozen=True)
class ExpandSettings:
    """Settings of ``llmrec model expand``.

    Attributes:
        base: a size (nano, micro, mini, small, medium), a folder or a hub id.
        time_tokens: any of gap, hour, weekday, month.
        prompt: template of the history prompt, by name or path.
        max_items: events of a history that are said, newest kept.
        dtype: of the weights that are written.
        components: principal components kept of every feature block.
        require_chat_template: refuse a base whose tokenizer has no chat template.
    """

    base: str
    time_tokens: list[str] = field(default_factory=list)
    prompt: str = "recommend_instruct"
    max_items: int = 50
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    components: int = 192
    require_chat_template: bool = False

    def __post_init__(self) -> None:
        for name in ("max_items", "components"):
            if getattr(self, name) < 1:
                raise ConfigError(f"expand.{name}: must be at least 1")


@dataclass
class Expanded:
    """A base with its new tokens, and what says histories to it."""

    model: Any
    tokenizer: Any
    vocabulary: Vocabulary
    encoder: HistoryEncoder
    template: Template
    ids: ItemIds

    def save(self, folder: Path) -> None:
        """Write what :func:`llmrec.generation.load.load_llm` reads."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self.ids.save(folder / "item_ids")
        prefix = self.encoder.prefix.tolist()
        save_layout(folder, self.vocabulary, self.template, prefix, self.encoder.max_items)


def run(
    settings: ExpandSettings,
    item_ids: Path,
    dataset: Path | None,
    features: Path | None,
    out: Path,
    seed: int = 0,
) -> Path:
    """Expand, or find it done.

    Args:
        item_ids: folder of the index stage.
        dataset: folder of the ingest stage; a size name learns its tokenizer from its titles.
        features: folder of the embed stage that item rows start from; None for the content that
            the item IDs themselves carry.
        out: the model's folder.

    Raises:
        ConfigError: before anything is written, where base, tokens and data do not fit together.
    """
    inputs = {"item_ids": folder_hash(item_ids)}
    known = read_manifest(item_ids).inputs.get("dataset")
    if dataset is not None:
        inputs["dataset"] = folder_hash(dataset)
    elif known is not None:
        inputs["dataset"] = known
    if features is not None:
        inputs["features"] = folder_hash(features)
    if settings.base not in SIZES:
        paths = {path for pattern in _BASE_FILES for path in Path(settings.base).glob(pattern)}
        inputs |= {f"base/{path.name}": file_hash(path) for path in sorted(paths)}
    manifest = Manifest(STAGE, as_dict(settings), inputs, seed=seed)

    def work(stage: StageRun) -> None:
        data = None if dataset is None else Dataset(dataset)
        expanded = expand(settings, ItemIds.load(item_ids), data, features, seed)
        expanded.save(stage.folder)
        layout = expanded.vocabulary
        stage.counts.update(
            items=expanded.ids.n_items,
            base_tokens=layout.base_size,
            time_tokens=layout.item_offset - layout.time_offset,
            item_tokens=layout.n_item_tokens,
        )

    return run_stage(out, manifest, work)


def expand(
    settings: ExpandSettings,
    ids: ItemIds,
    dataset: Dataset | None,
    features: Path | None,
    seed: int = 0,
) -> Expanded:
    """The base with its new tokens, checked; arguments as for :func:`run`."""
    _check_inputs(settings, ids, dataset)
    content = _content(settings, features, ids)
    template = load_template(settings.prompt)
    words = template.prefix("history")
    tokenizer, vocabulary = _tokenizer(settings, ids, dataset, words)
    prefix = [start_token(tokenizer), *tokenizer.encode(words, add_special_tokens=False)]
    encoder = HistoryEncoder(vocabulary, ids, prefix, settings.max_items)
    torch.manual_seed(seed)
    model, n_known = _model(settings, vocabulary, encoder, tokenizer)
    _fill_rows(model, n_known, vocabulary, content, seed)
    # as serving will see it: this finds a base that cannot recommend
    make_llm(model.eval(), vocabulary, encoder, ids)
    return Expanded(model, tokenizer, vocabulary, encoder, template, ids)


def _check_inputs(settings: ExpandSettings, ids: ItemIds, dataset: Dataset | None) -> None:
    if (Path(settings.base) / LAYOUT).is_file():
        raise ConfigError(
            f"base: {settings.base} already holds item or time tokens ({LAYOUT} is there); start "
            "from the base model as it was before items were added"
        )
    if dataset is None:
        if settings.base in SIZES:
            raise ConfigError(
                f"--dataset: needed with --base {settings.base}, whose tokenizer is learnt from "
                "the dataset's titles"
            )
        return
    if ids.n_items != dataset.n_items:
        raise ConfigError(
            f"item_ids: hold IDs of {ids.n_items} items, {dataset.folder} has "
            f"{dataset.n_items}; run llmrec index again"
        )
    if settings.time_tokens and dataset.train_histories().timestamps is None:
        raise ConfigError("time_tokens: the dataset has no timestamps; leave them out")


def _content(settings: ExpandSettings, features: Path | None, ids: ItemIds) -> torch.Tensor | None:
    """Content vector of every item token, float32 ``[item tokens, c]``; None without any."""
    if features is None:
        return torch.from_numpy(ids.token_vectors) if ids.token_vectors.any() else None
    every = load_blocks(features)
    blocks = {name: b for name, b in every.items() if b.ndim == 2 and b.dtype.kind == "f"}
    if not blocks:
        raise ConfigError(f"--features: {features} has no feature blocks; run llmrec embed again")
    for name, block in blocks.items():
        if len(block) != ids.n_items:
            raise ConfigError(
                f"--features: {features} holds vectors of {len(block)} items ({name}), the item "
                f"IDs are of {ids.n_items}; run llmrec embed and llmrec index on one dataset"
            )
    kept = {name: min(settings.components, block.shape[1]) for name, block in blocks.items()}
    return token_content(TrainConfig(content=kept), features, ids)


def _tokenizer(
    settings: ExpandSettings, ids: ItemIds, dataset: Dataset | None, words: str
) -> tuple[Any, Vocabulary]:
    """The base's tokenizer with the new tokens, checked, and where they are."""
    tokenizer = plain_tokenizer(settings.base, dataset)
    if not tokenizer.chat_template:
        if settings.require_chat_template:
            raise ConfigError(
                f"base: the tokenizer of {settings.base!r} has no chat template; take an "
                "instruction-tuned base, or give its tokenizer one"
            )
        print(f"{STAGE}: note: {settings.base} has no chat template; it cannot chat", flush=True)
    vocabulary = Vocabulary.of(len(tokenizer), settings.time_tokens, ids)
    sentences = [*SENTENCES, words]
    before = _encoded(tokenizer, sentences)
    names = vocabulary.time_token_strings() + ids.token_strings()
    add_tokens(tokenizer, names, vocabulary.base_size)
    for text, old, new in zip(sentences, before, _encoded(tokenizer, sentences), strict=True):
        if old != new:
            raise ConfigError(
                f"base: the new tokens change how its tokenizer reads text: {text!r} was "
                f"{tokenizer.convert_ids_to_tokens(old)} and became "
                f"{tokenizer.convert_ids_to_tokens(new)}"
            )
    check_round_trip(tokenizer, vocabulary, ids)
    return tokenizer, vocabulary


def check_round_trip(tokenizer: Any, vocabulary: Vocabulary, ids: ItemIds) -> None:
    """Check that every item ID is read as exactly its tokens, and said as text that is.

    Alone, inside a sentence, and decoded and read again; all items at once.

    Raises:
        ConfigError: naming the first item that is not, and what it became.
    """
    expected = [
        [token for token in row if token >= vocabulary.item_offset]
        for row in (ids.tokens(np.arange(ids.n_items)) + vocabulary.item_offset).tolist()
    ]
    names = ids.token_strings()
    texts = ["".join(names[t - vocabulary.item_offset] for t in row) for row in expected]
    for before, after in AROUND:
        said = [before + text + after for text in texts]
        _check_same(tokenizer, vocabulary, said, expected, whole=not before)
    _check_same(tokenizer, vocabulary, tokenizer.batch_decode(expected), expected, whole=True)


def _check_same(
    tokenizer: Any,
    vocabulary: Vocabulary,
    texts: Sequence[str],
    expected: list[list[int]],
    *,
    whole: bool,
) -> None:
    """Check the tokens of each text, or the item's part of them where there is more."""
    for item, (found, wanted) in enumerate(zip(_encoded(tokenizer, texts), expected, strict=True)):
        part = found
        if not whole:
            places = [n for n, token in enumerate(found) if token >= vocabulary.item_offset]
            part = found[places[0] : places[-1] + 1] if places else []
        if part != wanted:
            raise ConfigError(
                f"base: its tokenizer does not keep item {item} whole: {texts[item]!r} became "
                f"{tokenizer.convert_ids_to_tokens(found)}, expected "
                f"{tokenizer.convert_ids_to_tokens(wanted)}"
            )


def _encoded(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    if not texts:
        return []
    found: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return found


def _model(
    settings: ExpandSettings, vocabulary: Vocabulary, encoder: HistoryEncoder, tokenizer: Any
) -> tuple[Any, int]:
    """The causal LM with rows for the new tokens, and how many of its rows were the base's."""
    dtype = getattr(torch, settings.dtype)
    if settings.base in SIZES:
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        tokens = {name: getattr(tokenizer, name) for name in names}
        model = from_size(settings.base, vocabulary.size, encoder.max_tokens(), tokens)
        return model.to(dtype), vocabulary.base_size
    from transformers import AutoConfig

    model = from_folder(settings.base, vocabulary.size, dtype)
    # Some bases have rows to spare behind their tokenizer's last token, some too few.
    rows = AutoConfig.from_pretrained(settings.base).vocab_size
    return model, min(rows, vocabulary.base_size)


def _fill_rows(
    model: Any, n_known: int, vocabulary: Vocabulary, content: torch.Tensor | None, seed: int
) -> None:
    """Give the new rows of the input table, and of an output layer of its own, their start."""
    generator = torch.Generator().manual_seed(seed)
    inputs, outputs = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    width, offset = inputs.shape[1], vocabulary.item_offset
    if content is None:
        print(f"{STAGE}: note: no content to start item rows from; they are random", flush=True)
        items = torch.randn(vocabulary.n_item_tokens, width, generator=generator)
    else:
        items = content_part(content, vocabulary.level_sizes, width, generator)
    initialise_rows(inputs.data, n_known, offset, items, generator)
    if outputs.data_ptr() != inputs.data_ptr():
        initialise_rows(outputs.data, n_known, offset, items, generator)


def main(argv: list[str]) -> None:
    """``llmrec model expand``."""
    parser = argparse.ArgumentParser(
        prog="llmrec model expand", description="Add time and item tokens to a base model, once."
    )
    parser.add_argument("--base", required=True, help="a size name, a folder or a hub id")
    parser.add_argument("--item-ids", type=Path, required=True, help="folder of llmrec index")
    parser.add_argument("--dataset", type=Path, help="folder of llmrec ingest")
    parser.add_argument("--features", type=Path, help="folder of llmrec embed")
    parser.add_argument("--time-tokens", default="", help="comma-separated, such as gap,month")
    parser.add_argument("--prompt", default="recommend_instruct", help="a template's name or path")
    parser.add_argument("--max-items", type=int, default=50, help="events of a history said")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16")
    parser.add_argument("--require-chat-template", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args(argv)
    values = {
        "base": arguments.base,
        "time_tokens": [name.strip() for name in arguments.time_tokens.split(",") if name.strip()],
        "prompt": arguments.prompt,
        "max_items": arguments.max_items,
        "dtype": arguments.dtype,
        "require_chat_template": arguments.require_chat_template,
    }
    settings = build(ExpandSettings, values, "command line")
    run(
        settings,
        arguments.item_ids,
        arguments.dataset,
        arguments.features,
        arguments.out,
        arguments.seed,
    )

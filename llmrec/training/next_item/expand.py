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

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from llmrec.config import as_dict, check_ranges
from llmrec.content.features.blocks import load_blocks
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.generation.llm import make_llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.layout import LAYOUT
from llmrec.llm.llama import SIZES
from llmrec.llm.tokenizer import plain_tokenizer
from llmrec.llm.vocabulary import Vocabulary
from llmrec.prompts import load_template
from llmrec.stage import Manifest, StageRun, input_hashes, read_manifest, run_stage
from llmrec.training.model_inputs import is_earlier_model, model_hashes
from llmrec.training.next_item.expanded import ExpandedTokenizer
from llmrec.training.next_item.item_content import token_content
from llmrec.training.next_item.row_init import content_part, initialise_rows
from llmrec.weights.locate import locate

STAGE = "expand"
AROUND = (("", ""), ("Someone bought ", " and left."))  # an item alone, and inside a sentence
SENTENCES = (
    "Once upon a time there was a little girl.",
    "It's <5 km away & costs 12.50, isn't it?\n\tYes.",
    "Größe 38, 日本語 🎏",
    "a < b > c <item_ 7> <item> <gap>",
)


@dataclass(frozen=True)
class ExpandConfig:
    """Settings of ``llmrec model expand``.

    Attributes:
        base: a size (nano, micro, mini, small, medium), a folder, a hub id or a short name
            (``llmrec models list``).
        time_tokens: any of gap, hour, weekday, month.
        prompt: template of the history prompt, by name or path.
        max_items: newest events of a history that are in a prompt.
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
        check_ranges(self, "[1, inf)", "max_items", "components", prefix="expand.")


def run(
    config: ExpandConfig,
    item_ids: Path,
    out: Path,
    dataset: Path | None = None,
    features: Path | None = None,
    seed: int = 0,
) -> Path:
    """Add time and item tokens to a base model; a finished folder is found.

    Args:
        config: settings.
        item_ids: folder of llmrec index.
        out: the model's folder.
        dataset: folder of llmrec ingest; a size name trains its tokenizer on its titles.
        features: folder of llmrec embed that item rows start from; by default the content that
            the item IDs themselves carry.
        seed: of fresh weights and rows.

    Raises:
        ConfigError: before anything is written, where base, tokens and data do not fit together.
    """
    inputs = input_hashes(item_ids=item_ids, dataset=dataset, features=features)
    known = read_manifest(item_ids).inputs.get("dataset")
    if known is not None:
        inputs.setdefault("dataset", known)
    if config.base not in SIZES:
        inputs |= model_hashes(Path(config.base))
    manifest = Manifest(STAGE, as_dict(config), inputs, seed=seed, command="model expand")

    def work(stage: StageRun) -> None:
        data = None if dataset is None else Dataset(dataset)
        model, expanded = expand(config, ItemIds.load(item_ids), data, features, seed)
        expanded.save(model, stage.folder)
        layout = expanded.vocabulary
        stage.counts.update(
            items=expanded.ids.n_items,
            base_tokens=layout.base_size,
            time_tokens=layout.item_offset - layout.time_offset,
            item_tokens=layout.n_item_tokens,
        )

    return run_stage(out, manifest, work)


def expand(
    config: ExpandConfig,
    ids: ItemIds,
    dataset: Dataset | None,
    features: Path | None,
    seed: int = 0,
) -> tuple[Any, ExpandedTokenizer]:
    """The base with its new tokens, checked; arguments as for :func:`run`."""
    from transformers import AutoConfig

    _check_inputs(config, ids, dataset)
    content = _content(config, features, ids)
    expanded = _expand_tokenizer(config, ids, dataset)
    vocabulary = expanded.vocabulary
    torch.manual_seed(seed)
    model = expanded.make_model(config.base, getattr(torch, config.dtype))
    n_known = vocabulary.base_size  # rows of the model that are the base's own and stay
    if config.base not in SIZES:
        # some bases have rows to spare behind their tokenizer's last token, some too few
        n_known = min(
            AutoConfig.from_pretrained(
                locate(config.base, "language model", "base"), trust_remote_code=False
            ).vocab_size,
            n_known,
        )
    _fill_rows(model, n_known, vocabulary, content, seed)
    # as serving will see it: this finds a base that cannot recommend
    make_llm(model.eval(), expanded.encoder, ids)
    return model, expanded


def _check_inputs(config: ExpandConfig, ids: ItemIds, dataset: Dataset | None) -> None:
    if is_earlier_model(config.base):
        raise ConfigError(
            f"base: {config.base} already holds item or time tokens ({LAYOUT} is there); go on "
            "from it with llmrec train or llmrec tune, or start from the base model as it was "
            "before items were added"
        )
    if dataset is None:
        if config.base in SIZES:
            raise ConfigError(
                f"--dataset: needed with --base {config.base}, whose tokenizer is trained on "
                "the dataset's titles"
            )
        return
    if ids.n_items != dataset.n_items:
        raise ConfigError(
            f"item_ids: hold IDs of {ids.n_items} items, {dataset.folder} has "
            f"{dataset.n_items}; run llmrec index again"
        )
    if config.time_tokens and dataset.train_histories().timestamps is None:
        raise ConfigError("time_tokens: the dataset has no timestamps; leave them out")


def _content(config: ExpandConfig, features: Path | None, ids: ItemIds) -> torch.Tensor | None:
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
    kept = {name: min(config.components, block.shape[1]) for name, block in blocks.items()}
    return token_content(kept, features, ids)


def _expand_tokenizer(
    config: ExpandConfig, ids: ItemIds, dataset: Dataset | None
) -> ExpandedTokenizer:
    """The base's tokenizer with the new tokens, checked."""
    tokenizer = plain_tokenizer(config.base, dataset)
    if not tokenizer.chat_template:
        if config.require_chat_template:
            raise ConfigError(
                f"base: the tokenizer of {config.base!r} has no chat template; take an "
                "instruction-tuned base, or give its tokenizer one"
            )
        print(f"{STAGE}: note: {config.base} has no chat template; it cannot chat", flush=True)
    sentences = [*SENTENCES, load_template(config.prompt).prefix("history")]
    before = _encoded(tokenizer, sentences)
    expanded = ExpandedTokenizer.of(
        tokenizer, ids, config.time_tokens, config.prompt, config.max_items
    )
    for text, old, new in zip(sentences, before, _encoded(tokenizer, sentences), strict=True):
        if old != new:
            raise ConfigError(
                f"base: the new tokens change how its tokenizer reads text: {text!r} was "
                f"{tokenizer.convert_ids_to_tokens(old)} and became "
                f"{tokenizer.convert_ids_to_tokens(new)}"
            )
    check_round_trip(tokenizer, expanded.vocabulary, ids)
    return expanded


def check_round_trip(tokenizer: Any, vocabulary: Vocabulary, ids: ItemIds) -> None:
    """Check that every item ID is tokenised as exactly its tokens, and decoded as such text.

    Alone, inside a sentence, and decoded and tokenised again; all items at once.

    Raises:
        ConfigError: naming the first item that is not, and its tokens.
    """
    expected = [
        [token for token in row if token >= vocabulary.item_offset]
        for row in (ids.tokens(np.arange(ids.n_items)) + vocabulary.item_offset).tolist()
    ]
    names = ids.token_strings()
    texts = ["".join(names[t - vocabulary.item_offset] for t in row) for row in expected]
    for before, after in AROUND:
        framed = [before + text + after for text in texts]
        _check_same(tokenizer, vocabulary, framed, expected, whole=not before)
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

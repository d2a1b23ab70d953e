"""Tokenizers: a small byte-level BPE for from-scratch sizes, and adding time and item tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError, one_line
from llmrec.llm.llama import SIZES
from llmrec.weights.locate import locate

BASE_VOCABULARY = 1024  # tokens of a size name's own tokenizer
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int = 1024) -> Any:
    """A byte-level BPE tokenizer, so that any text is representable.

    Args:
        texts: what it learns its merges from (titles of the catalogue).
        vocab_size: at most so many tokens, at least the 256 bytes and the special tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def load_tokenizer(base: str) -> Any:
    """The tokenizer of a folder, hub id or short name.

    Raises:
        ConfigError: if there is none.
    """
    from transformers import AutoTokenizer

    located = locate(base, "language model", "base")
    try:
        return AutoTokenizer.from_pretrained(located, trust_remote_code=False)
    # transformers raises nearly anything for files that are damaged, or of another kind
    except Exception as error:
        reason = one_line(error)[:300]
        raise ConfigError(
            f"base: {base!r} is neither a size nor a folder or hub id with a loadable tokenizer "
            f"({reason})"
        ) from None


def add_tokens(tokenizer: Any, names: list[str], first_id: int) -> None:
    """Add time and item tokens; their ids must be ``first_id, first_id + 1, ...``.

    Raises:
        ConfigError: if the tokenizer already has some of them, or gives other ids.
    """
    from tokenizers import AddedToken

    added = [AddedToken(name, special=True, normalized=False) for name in names]
    count = tokenizer.add_tokens(added, special_tokens=True)
    if count != len(names) or tokenizer.convert_tokens_to_ids(names[0]) != first_id:
        raise ConfigError(
            "base: its tokenizer already holds item or time tokens, or gives them other ids; "
            "start from the base model as it was before items were added"
        )


def start_token(tokenizer: Any) -> int:
    """What every prompt begins with: some bases have no start token and use the end token.

    Raises:
        ConfigError: if the tokenizer has neither.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ConfigError("base: its tokenizer has neither a start nor an end token")


def plain_tokenizer(base: str, dataset: Dataset | None) -> Any:
    """The tokenizer of a base; a size name's is learnt from the titles of a dataset."""
    if base not in SIZES:
        return load_tokenizer(base)
    if dataset is None:
        raise ConfigError(f"base: {base!r} needs a dataset whose titles its tokenizer is learnt of")
    return train_tokenizer(dataset.items["title"].to_pylist(), BASE_VOCABULARY)

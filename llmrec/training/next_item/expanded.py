"""A base's tokenizer expanded by time and item tokens, and models with rows for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.layout import save_layout
from llmrec.llm.llama import SIZES, from_folder, from_size
from llmrec.llm.tokenizer import add_tokens, start_token
from llmrec.llm.vocabulary import HistoryEncoder, Vocabulary
from llmrec.prompts import Template, load_template


@dataclass(frozen=True)
class ExpandedTokenizer:
    """A tokenizer with time and item tokens, and the encoder of history prompts."""

    tokenizer: Any
    vocabulary: Vocabulary
    encoder: HistoryEncoder
    template: Template
    ids: ItemIds

    @classmethod
    def of(
        cls, tokenizer: Any, ids: ItemIds, time_tokens: Sequence[str], prompt: str, max_items: int
    ) -> ExpandedTokenizer:
        """Add the tokens to a base's tokenizer, in place.

        Args:
            prompt: template of the history prompt, by name or path.
            max_items: newest events of a history that are in a prompt.
        """
        vocabulary = Vocabulary.of(len(tokenizer), time_tokens, ids)
        names = vocabulary.time_token_strings() + ids.token_strings()
        add_tokens(tokenizer, names, vocabulary.base_size)
        template, prefix = prompt_prefix(tokenizer, prompt)
        encoder = HistoryEncoder(vocabulary, ids, prefix, max_items)
        return cls(tokenizer, vocabulary, encoder, template, ids)

    def make_model(self, base: str, dtype: torch.dtype = torch.float32, longest: int = 0) -> Any:
        """The causal LM of a base, with rows for the new tokens.

        Args:
            base: a size name, for fresh weights; a folder, a hub id or a short name.
            longest: tokens that fresh weights must read, if more than a history has.
        """
        if base not in SIZES:
            return from_folder(base, self.vocabulary.size, dtype)
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        tokens = {name: getattr(self.tokenizer, name) for name in names}
        longest = max(longest, self.encoder.max_tokens())
        return from_size(base, self.vocabulary.size, longest, tokens).to(dtype)

    def save(self, model: Any, folder: Path) -> None:
        """Write what :func:`llmrec.generation.load.load_llm` reads."""
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self.ids.save(folder / "item_ids")
        prefix = self.encoder.prefix.tolist()
        save_layout(folder, self.vocabulary, self.template, prefix, self.encoder.max_items)


def prompt_prefix(tokenizer: Any, prompt: str) -> tuple[Template, list[int]]:
    """A template of the history prompt, by name or path, and its tokens before the history."""
    template = load_template(prompt)
    text = tokenizer.encode(template.prefix("history"), add_special_tokens=False)
    return template, [start_token(tokenizer), *text]

"""A multimodal model's folder or hub id, before its weights are loaded: what it is."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmrec.captions.asking import Seen, Task
from llmrec.captions.inputs import prompt_of, starts_itself
from llmrec.content.schema import Schema
from llmrec.errors import ArtifactError, require
from llmrec.stage import MANIFEST, folder_hash

SEEING = ("llava", "llava_next_video")
_EXTRA = "media"


@dataclass(frozen=True)
class MultimodalModel:
    """A model that sees pictures, with its processor.

    Attributes:
        base: folder or hub id.
        config: of ``transformers``.
        processor: of ``transformers``; its tokenizer pads on the left.
    """

    base: str
    config: Any
    processor: Any

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    @property
    def context(self) -> int:
        """Tokens that the language model can read."""
        return int(self.config.get_text_config().max_position_embeddings)

    def fits(self, prompt: str, seen: Seen, answer: int) -> bool:
        """Whether a prompt and an answer of so many tokens are no more than it can read."""
        placeholders = (seen.image is not None) + (seen.video is not None)
        words = len(self.prompt_tokens(prompt)) - placeholders
        return words + self._tokens_of_pictures(seen) + answer <= self.context

    def _tokens_of_pictures(self, seen: Seen) -> int:
        picture = int(self.config.image_seq_length)
        frames = 0 if seen.video is None else len(seen.video.frames)
        pooled = picture // getattr(self.config, "spatial_pool_stride", 1) ** 2
        return (seen.image is not None) * picture + frames * pooled

    @cached_property
    def vocabulary(self) -> Any:
        """xgrammar's view of the tokenizer, as wide as the model's head."""
        xgrammar = require("xgrammar", _EXTRA)
        size = self.config.get_text_config().vocab_size
        return xgrammar.TokenizerInfo.from_huggingface(self.tokenizer, vocab_size=size)

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that end an answer, for free and for constrained ones."""
        return frozenset(self.vocabulary.stop_token_ids)

    def prompt(self, task: Task, seen: Seen, schema: Schema) -> str:
        """One question as the model's chat template writes it, up to where the answer starts."""
        return prompt_of(self.processor, task, seen, schema)

    def prompt_tokens(self, prompt: str) -> list[int]:
        """Token ids, one placeholder a picture or video."""
        add = not starts_itself(self.processor, prompt)
        tokens: list[int] = self.tokenizer(prompt, add_special_tokens=add)["input_ids"]
        return tokens

    def pieces(self, tokens: list[int]) -> list[bytes]:
        """What each token writes, in UTF-8 when put together; nothing for special tokens."""
        special = set(self.vocabulary.special_token_ids) | self.end_tokens
        written = self._bytes
        return [b"" if token in special else written[token] for token in tokens]

    def text(self, tokens: list[int]) -> str:
        """Free text, without special tokens and characters that were cut apart."""
        text = self.tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return " ".join(text.replace("\ufffd", "").split())

    @cached_property
    def _bytes(self) -> list[bytes]:
        return list(self.vocabulary.decoded_vocab)


def open_multimodal(base: str | Path) -> MultimodalModel:
    """Read a model's configuration and processor.

    Raises:
        ArtifactError: if there is none, or it is a model that cannot be shown pictures.
        MissingExtraError: without transformers, Pillow or xgrammar.
    """
    needed = (("transformers", "train"), ("PIL", _EXTRA), ("xgrammar", _EXTRA))
    for module, extra in needed:
        require(module, extra)
    from transformers import AutoConfig, AutoProcessor

    name = str(base)
    local = Path(name).is_dir()
    try:
        config = AutoConfig.from_pretrained(name, local_files_only=local)
        if config.model_type not in SEEING:
            raise ArtifactError(
                f"{name}: a {config.model_type!r} model, which cannot be shown pictures; give a "
                "LLaVA-type model, such as one of llmrec train multimodal"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            processor = AutoProcessor.from_pretrained(name, local_files_only=local)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ArtifactError(f"{name}: not a multimodal model that can be read ({reason})") from None
    if getattr(processor, "chat_template", None) is None:
        raise ArtifactError(
            f"{name}: its processor has no chat template; give an instruction model"
        )
    processor.tokenizer.padding_side = "left"
    return MultimodalModel(name, config, processor)


def model_hash(model: MultimodalModel) -> str:
    """Identifies the weights: a stage's folder by its manifest, others by their files."""
    from llmrec.content.features.image_encoder import weights_hash

    if (Path(model.base) / MANIFEST).is_file():
        return folder_hash(model.base)
    commit = getattr(model.config, "_commit_hash", None)
    return f"{model.base}@{commit}" if commit else weights_hash(model.base)

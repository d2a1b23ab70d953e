"""A multimodal model before its weights are loaded, and what the engines that run it share.

An engine takes queries and gives tokens; these are read in one place
(:mod:`llmrec.captions.responses`), so two engines that choose the same tokens write the same table.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from llmrec.captions.prompting import ModelInput, Task, enhance_schema, has_bos, render_prompt
from llmrec.content.features.models import check_layers, weights_hash
from llmrec.content.schema import Schema
from llmrec.errors import ArtifactError, LlmrecError, one_line, require
from llmrec.stage import MANIFEST, folder_hash
from llmrec.weights.locate import locate

SUPPORTED_MODELS = ("llava", "llava_next_video")
_EXTRA = "media"
_QUOTES_AND_COLON = 6  # `"", : ` around a key, `""` around a value


@dataclass(frozen=True)
class CaptionQuery:
    """One prompt about one item: the task, and the item as the model takes it."""

    task: Task
    given: ModelInput


@dataclass(frozen=True)
class Generation:
    """What a model generated for one query, greedily.

    Attributes:
        tokens: without the end token.
        logprobs: of each of these, among the tokens that the constraint left.
        ended: whether it ends with the end token; otherwise it ran into its limit.
    """

    tokens: list[int]
    logprobs: list[float]
    ended: bool


@dataclass(frozen=True)
class ResponseFormat:
    """What decoding is constrained to.

    Attributes:
        schema: the closed fields, resolved.
        caption_tokens: limit of a caption.
        enhance_tokens: limit of a response to ``enhance``.
    """

    schema: Schema
    caption_tokens: int
    enhance_tokens: int

    def json_schema(self, task: Task) -> str | None:
        """The JSON schema of a response, as JSON text; None for free text."""
        if task == "caption":
            return None
        found = self.schema.json_schema() if task == "attributes" else enhance_schema()
        return json.dumps(found, ensure_ascii=False)

    def max_tokens(self, task: Task) -> int:
        """Enough for the longest values in tokens of one byte: closed fields are never cut."""
        if task == "caption":
            return self.caption_tokens
        if task == "enhance":
            return self.enhance_tokens
        longest = (
            len(json.dumps(name)) + max(len(json.dumps(v)) for v in self.schema.values(name))
            for name in self.schema.names
        )
        return sum(longest) + _QUOTES_AND_COLON * len(self.schema.names) + 2


class CaptionEngine(Protocol):
    """Generates responses, greedily."""

    name: str

    def generate(self, queries: Sequence[CaptionQuery]) -> list[Generation]:
        """One response a query, in order."""

    def close(self) -> None:
        """Free what it holds."""


@dataclass(frozen=True)
class MultimodalModel:
    """A vision-language model's configuration and processor.

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

    def fits(self, prompt: str, given: ModelInput, response: int) -> bool:
        """Whether a prompt and a response of so many tokens are no more than the context."""
        placeholders = (given.image is not None) + (given.video is not None)
        words = len(self.prompt_tokens(prompt)) - placeholders
        return words + self._tokens_of_pictures(given) + response <= self.context

    def _tokens_of_pictures(self, given: ModelInput) -> int:
        picture = int(self.config.image_seq_length)
        pooled = picture // getattr(self.config, "spatial_pool_stride", 1) ** 2
        return (given.image is not None) * picture + given.n_frames * pooled

    @cached_property
    def vocabulary(self) -> Any:
        """xgrammar's view of the tokenizer, as wide as the model's head."""
        xgrammar = require("xgrammar", _EXTRA)
        size = self.config.get_text_config().vocab_size
        return xgrammar.TokenizerInfo.from_huggingface(self.tokenizer, vocab_size=size)

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that end a response, free or constrained."""
        return frozenset(self.vocabulary.stop_token_ids)

    def prompt(self, task: Task, given: ModelInput, schema: Schema) -> str:
        """One prompt by the model's chat template, up to where the response starts."""
        return render_prompt(self.processor, task, given, schema)

    def prompt_tokens(self, prompt: str) -> list[int]:
        """Token ids, one placeholder a picture or video."""
        add = not has_bos(self.processor, prompt)
        tokens: list[int] = self.tokenizer(prompt, add_special_tokens=add)["input_ids"]
        return tokens

    def pieces(self, tokens: list[int]) -> list[bytes]:
        """Each token's bytes, UTF-8 when put together; nothing for special tokens."""
        special = set(self.vocabulary.special_token_ids) | self.end_tokens
        return [b"" if token in special else self._bytes[token] for token in tokens]

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
        ArtifactError: if there is none, or it is no vision-language model of a supported kind.
        MissingExtraError: without transformers, Pillow or xgrammar.
    """
    for module, extra in (("transformers", "train"), ("PIL", _EXTRA), ("xgrammar", _EXTRA)):
        require(module, extra)
    from transformers import AutoConfig, AutoProcessor

    name = locate(str(base), "multimodal model", "model")
    local = Path(name).is_dir()
    check_layers(name)
    try:
        config = AutoConfig.from_pretrained(name, local_files_only=local, trust_remote_code=False)
        if config.model_type not in SUPPORTED_MODELS:
            raise ArtifactError(
                f"{name}: a {config.model_type!r} model, which takes no pictures; give a "
                "LLaVA-type model, such as one of llmrec train multimodal"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            processor = AutoProcessor.from_pretrained(
                name, local_files_only=local, trust_remote_code=False
            )
    except LlmrecError:
        raise
    # transformers raises nearly anything for files that are damaged, or of another kind
    except Exception as error:
        reason = one_line(error)[:300]
        raise ArtifactError(f"{name}: not a multimodal model that can be read ({reason})") from None
    if getattr(processor, "chat_template", None) is None:
        raise ArtifactError(
            f"{name}: its processor has no chat template; give an instruction model"
        )
    processor.tokenizer.padding_side = "left"
    return MultimodalModel(name, config, processor)


def model_hash(model: MultimodalModel) -> str:
    """Identifies the weights: a stage's folder by its manifest, others by their files."""
    if (Path(model.base) / MANIFEST).is_file():
        return folder_hash(model.base)
    commit = getattr(model.config, "_commit_hash", None)
    return f"{model.base}@{commit}" if commit else weights_hash(model.base)

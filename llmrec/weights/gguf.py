"""A LLaMA in GGUF, llama.cpp's format, as a folder of transformers.

transformers reads the file itself (``gguf_file=``) and makes float32 of its quantised blocks, so
the folder gives the same tokens as that. Two things are set right that its reading leaves wrong:
the special tokens are those the file names, and text is cut into pieces as the model's own
tokenizer does it, which GGUF only names (``tokenizer.ggml.pre``).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrec.errors import ArtifactError, one_line, require

_SPECIAL = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
}
_TEMPLATE, _PRE = "tokenizer.chat_template", "tokenizer.ggml.pre"
_KEYS = ("general.architecture", _TEMPLATE, _PRE, *_SPECIAL.values())


def convert(sources: Sequence[Path], folder: Path) -> None:
    """Write a GGUF file as weights, configuration and tokenizer of transformers.

    Args:
        sources: the file.
        folder: to write into.

    Raises:
        ArtifactError: if it is no GGUF file, cut short, or of another architecture than LLaMA.
        MissingExtraError: without gguf or transformers.
    """
    (path,) = sources
    header = read_header(path)
    with _quiet():
        model = _model(path)
        tokenizer = _tokenizer(path, header, model.config.max_position_embeddings)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@dataclass(frozen=True)
class Header:
    """What the beginning of a GGUF file says of its tokenizer.

    Attributes:
        special: tokens by what transformers calls them, such as ``eos_token``.
        chat_template: of messages, if there is one.
        pre: how text is cut into pieces, by llama.cpp's name for it.
    """

    special: dict[str, str]
    chat_template: str | None
    pre: str | None


def read_header(path: Path) -> Header:
    """The beginning of a GGUF file of a LLaMA.

    Raises:
        ArtifactError: if it cannot be read, or is of another architecture.
    """
    gguf = require("gguf", "train")
    try:
        fields = gguf.GGUFReader(path).fields
        values = {name: fields[name].contents() for name in _KEYS if name in fields}
        special = {
            name: fields["tokenizer.ggml.tokens"].contents(values[key])
            for name, key in _SPECIAL.items()
            if key in values
        }
    # numpy maps the file: one that is cut short raises its errors, and damaged counts others
    except Exception as error:
        raise ArtifactError(
            f"{path}: not a whole GGUF file ({one_line(error)[:200]}); get it again"
        ) from None
    architecture = values.get("general.architecture")
    if architecture != "llama":
        raise ArtifactError(
            f"{path}: a GGUF of the architecture {str(architecture)[:40]!r}; llmrec reads those of "
            "'llama'"
        )
    return Header(special, values.get(_TEMPLATE), values.get(_PRE))


def _model(path: Path) -> Any:
    """``LlamaForCausalLM`` in float32, with nothing in its configuration of how it was stored."""
    torch = require("torch", "train")
    transformers = require("transformers", "train")
    try:
        read = transformers.AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
        )
    except Exception as error:
        raise ArtifactError(
            f"{path}: transformers cannot read it ({one_line(error)[:200]}); get it again"
        ) from error
    settings = read.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        settings.pop(name, None)
    settings["architectures"] = ["LlamaForCausalLM"]
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings)).to(torch.float32)
    model.load_state_dict(read.state_dict())
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    model.generation_config.update(**{name: settings[name] for name in names})
    return model.eval()


def _tokenizer(path: Path, header: Header, longest: int) -> Any:
    transformers = require("transformers", "train")
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        path.parent, gguf_file=path.name, local_files_only=True, trust_remote_code=False
    )
    tokenizer.init_kwargs.pop("local_files_only", None)  # else it is saved as a setting
    for name, token in header.special.items():
        setattr(tokenizer, name, token)
    tokenizer.chat_template = header.chat_template
    tokenizer.model_max_length = longest
    tokenizer.clean_up_tokenization_spaces = False  # it is not reversible
    if header.pre == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = _digits_apart()
    return tokenizer


def _digits_apart() -> Any:
    """How SmolLM cuts text before it merges: each digit alone, then as GPT-2."""
    pieces = require("tokenizers.pre_tokenizers", "train")
    return pieces.Sequence(
        [
            pieces.Digits(individual_digits=True),
            pieces.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars of transformers, which say nothing of the whole."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield

"""A CLIP of two pretrained towers, in a folder that open_clip opens.

    clip, tokenize = pretrained_clip(LitConfig())     # projections fresh, the towers locked
    save_lit(clip, config, folder, home)

The image tower is a model of timm, the text tower a BERT whose tokens are averaged: both are kinds
that open_clip builds from ``open_clip_config.json``. Beside the weights lie the text tower's
``config.json`` and tokenizer. open_clip looks for that ``config.json`` where ``hf_model_name``
says, which is the folder's own path; of a folder that was moved
:class:`~llmrec.content.features.image_encoder.ImageEncoder` finds it, too.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from llmrec.content.clip.model import CONFIG, WEIGHTS
from llmrec.content.clip.settings import LitConfig
from llmrec.content.clip.training import TOWER
from llmrec.content.features.text_encoder import fetch_model
from llmrec.errors import ConfigError, one_line, require
from llmrec.jsonl import read_json
from llmrec.loop.logs import quiet_transformers
from llmrec.weights.locate import locate

CONTEXT = 64  # tokens of a text that are read
_TEXT_FILES = (
    *("config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "vocab.txt"),
)


def pretrained_clip(config: LitConfig) -> tuple[Any, Any]:
    """open_clip's ``CustomTextCLIP``, its towers locked and its projections fresh; its tokenizer.

    Raises:
        ArtifactError, MissingExtraError: if the weights of a short name are not to be had.
        ConfigError: if a tower cannot be loaded.
    """
    open_clip = require("open_clip", "media")
    timm = require("timm", "media")
    image = Path(locate(config.image_tower, "image model", "lit.image_tower")).expanduser()
    text = fetch_model(config.text_tower)
    try:
        trunk = timm.create_model(f"local-dir:{image}", pretrained=True, num_classes=0)
        with quiet_transformers():
            clip = open_clip.CustomTextCLIP(
                config.dim,
                _vision_config(image, config.side),
                _text_config(text) | {"hf_model_name": str(text)},
            )
        clip.visual.trunk.load_state_dict(trunk.state_dict())
        tokenizers = require("open_clip.tokenizer", "media")
        tokenize = tokenizers.HFTokenizer(str(text), context_length=CONTEXT)
    # timm and transformers raise many kinds for a folder of something else
    except Exception as error:
        raise ConfigError(
            f"lit: no towers of {config.image_tower!r} and {config.text_tower!r} "
            f"({one_line(error)[:200]}); give short names (llmrec models list), a folder of timm "
            "and a folder of a BERT"
        ) from error
    return clip.eval().requires_grad_(False), tokenize


def _vision_config(folder: Path, side: int) -> dict[str, Any]:
    return {
        "timm_model_name": read_json(folder / "config.json")["architecture"],
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": side,
    }


def _text_config(folder: Path) -> dict[str, Any]:
    return {
        "hf_tokenizer_name": folder.name,  # any: of a folder, open_clip takes the folder's
        "hf_proj_type": "linear",
        "hf_pooler_type": "mean_pooler",
        "context_length": CONTEXT,
    }


def save_lit(clip: Any, config: LitConfig, folder: Path, home: Path) -> None:
    """Write a CLIP with all that open_clip needs to open it.

    Args:
        folder: to write into.
        home: where the folder will be.
    """
    image = Path(locate(config.image_tower, "image model", "lit.image_tower")).expanduser()
    text = fetch_model(config.text_tower)
    for name in _TEXT_FILES:
        if (text / name).is_file():
            shutil.copyfile(text / name, folder / name)
    known = clip.visual.trunk.pretrained_cfg
    whole = {
        "model_cfg": {
            "embed_dim": config.dim,
            "custom_text": True,
            "vision_cfg": _vision_config(image, config.side),
            "text_cfg": _text_config(text) | {"hf_model_name": str(home.absolute())},
        },
        "preprocess_cfg": {
            "size": config.side,
            "mean": list(known["mean"]),
            "std": list(known["std"]),
            "interpolation": known["interpolation"],
            "resize_mode": "shortest",
        },
    }
    (folder / CONFIG).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    tensors = {name: tensor.cpu().contiguous() for name, tensor in clip.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)


class LockedTowers:
    """The towers' parts that do not learn, asked once about each picture and text.

    Args:
        clip: of :func:`pretrained_clip`.
        tokenize: open_clip's tokenizer of its texts.
        unfrozen: last stages of the image tower that learn.
        device: where they run.

    Raises:
        ConfigError: if the image tower has fewer stages.
    """

    def __init__(self, clip: Any, tokenize: Any, unfrozen: int, device: torch.device) -> None:
        self.clip, self.tokenize, self.device = clip.to(device), tokenize, device
        trunk = clip.visual.trunk
        stages = list(getattr(trunk, "blocks", []))
        if unfrozen and (not hasattr(trunk, "conv_head") or unfrozen >= len(stages)):
            raise ConfigError(
                f"lit.unfrozen: {unfrozen}, and the image tower has {len(stages)} stages that can "
                "learn but for the first; 0 leaves it locked"
            )
        self.front = trunk
        if unfrozen:
            self.front = nn.Sequential(trunk.conv_stem, trunk.bn1, *stages[:-unfrozen])
        self._words: dict[str, Tensor] = {}
        known = trunk.pretrained_cfg
        self._mean, self._std = (
            torch.tensor(known[name], device=device).view(3, 1, 1) for name in ("mean", "std")
        )

    @torch.no_grad()  # what comes out is learned from
    def see(self, pixels: Tensor) -> Tensor:
        """What the learned part gets of pictures: float16 ``[n, ...]`` on the CPU.

        Args:
            pixels: of 0 to 1, ``[n, 3, side, side]``.
        """
        seen = self.front((pixels.to(self.device) - self._mean) / self._std)
        return seen.half().cpu()

    @torch.no_grad()  # what comes out is learned from
    def read(self, texts: list[str]) -> Tensor:
        """The mean of each text's tokens, float32 ``[n, width]``; computed once a text."""
        new = [text for text in dict.fromkeys(texts) if text not in self._words]
        for start in range(0, len(new), 64):
            some = new[start : start + 64]
            self._words |= dict(zip(some, self._read(some), strict=True))
        return torch.stack([self._words[text] for text in texts])

    def _read(self, texts: list[str]) -> Tensor:
        text = self.clip.text
        tokens = self.tokenize(texts).to(self.device)
        mask = (tokens != text.config.pad_token_id).long()
        longest = int(mask.sum(1).max())  # the rest is padding
        tokens, mask = tokens[:, :longest], mask[:, :longest]
        found: Tensor = text.pooler(text.transformer(tokens, attention_mask=mask), mask)
        return found.cpu()


class LearnedPart(nn.Module):
    """What learns of a CLIP with pretrained towers: the projections, and unfrozen stages.

    They are the CLIP's own modules. It is called as a CLIP is, with what :class:`LockedTowers`
    gave instead of pixels and tokens.

    Args:
        clip: of :func:`pretrained_clip`.
        unfrozen: last stages of the image tower that learn.
        dropout: of what the image tower says.
    """

    def __init__(self, clip: Any, unfrozen: int, dropout: float) -> None:
        super().__init__()
        trunk = clip.visual.trunk
        tower = nn.Identity()
        if unfrozen:
            stages = list(trunk.blocks)[-unfrozen:]
            tower = nn.Sequential(*stages, trunk.conv_head, trunk.bn2, trunk.global_pool)
        setattr(self, TOWER, tower)
        self.dropout = nn.Dropout(dropout)
        self.image_projection, self.text_projection = clip.visual.head, clip.text.proj
        self.logit_scale = clip.logit_scale
        self.requires_grad_(True)

    def train(self, mode: bool = True) -> LearnedPart:
        """Batch norms keep the statistics that they came with."""
        super().train(mode)
        getattr(self, TOWER).eval()
        return self

    def encode_image(self, seen: Tensor, normalize: bool = False) -> Tensor:
        """Vectors of pictures: ``[n, dim]``."""
        pooled = getattr(self, TOWER)(seen.float())
        return _normalised(self.image_projection(self.dropout(pooled)), normalize)

    def encode_text(self, read: Tensor, normalize: bool = False) -> Tensor:
        """Vectors of texts: ``[n, dim]``."""
        return _normalised(self.text_projection(read), normalize)


def _normalised(vectors: Tensor, normalize: bool) -> Tensor:
    return nn.functional.normalize(vectors, dim=-1) if normalize else vectors

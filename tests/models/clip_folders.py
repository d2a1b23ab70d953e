"""Random CLIPs of several kinds, as open_clip keeps them in a folder."""

import json
from pathlib import Path
from typing import Any

import torch

VISION = {"image_size": 32, "layers": 3, "width": 48, "patch_size": 8, "head_width": 16}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}


def write_clip(
    folder: Path, *, preprocess: dict[str, Any] | None = None, quick: bool = False, **vision: Any
) -> Path:
    """A random CLIP as open_clip keeps it; its norms and biases are random too."""
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    config = {"embed_dim": 24, "vision_cfg": VISION | vision, "text_cfg": TEXT, "quick_gelu": quick}
    torch.manual_seed(3)
    model = CLIP(**config)  # type: ignore[arg-type]
    for name, parameter in model.visual.named_parameters():
        if "ln" in name or "bias" in name:
            torch.nn.init.normal_(parameter, mean=float("weight" in name), std=0.3)
    folder.mkdir()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    whole = {"model_cfg": config, "preprocess_cfg": preprocess or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    return folder

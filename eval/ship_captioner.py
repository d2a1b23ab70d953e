"""Pack the CLIP and the captioner of ``training/captioner.yaml`` for llmrec to bring along.

    llmrec run training/captioner.yaml
    python eval/ship_captioner.py runs/captioner

Writes ``demo-clip.zip`` and ``demo-captioner.zip``, in float16, and prints what
``llmrec/weights/known.py`` says of them.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from llmrec.captions.table import SCHEMA
from llmrec.content.clip.model import CONFIG, WEIGHTS
from llmrec.content.features.image_encoder import ImageEncoder
from llmrec.data.dataset import Dataset
from llmrec.files import file_hash
from llmrec.weights.archive import pack

OUT = Path(__file__).parents[1] / "llmrec" / "weights" / "files"
TOKENS = "token_embedding.weight"
# what transformers and vLLM read of a LLaVA's folder, and the fields that it learned
CAPTIONER = ("*config.json", "model*.safetensors", "tokenizer*", "chat_template*", SCHEMA)


def halve(path: Path, known: torch.Tensor | None = None) -> int:
    """Make a file's tensors float16; how many numbers it holds.

    Args:
        known: the tokens that were learned from; the rows of others, as random as they were at
            first, become zeros, which take no room in a zip.
    """
    tensors = load_file(path)
    if known is not None:
        kept = torch.zeros_like(tensors[TOKENS])
        kept[known] = tensors[TOKENS][known]
        tensors[TOKENS] = kept
    halves = {
        name: value.half() if value.is_floating_point() else value
        for name, value in tensors.items()
    }
    save_file(halves, path, metadata={"format": "pt"})
    return sum(value.numel() for value in tensors.values())


def learned_tokens(run: Path) -> torch.Tensor:
    """The tokens of the texts that the CLIP learned from."""
    import open_clip

    dataset = Dataset(run / "dataset")
    items = [dataset.item(row) for row in range(dataset.n_items)]
    texts = {item.title for item in items}.union(*(item.attributes.values() for item in items))
    return open_clip.SimpleTokenizer(context_length=24)(sorted(texts)).unique()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    parts = {"demo-clip": ("clip", (CONFIG, WEIGHTS)), "demo-captioner": ("multimodal", CAPTIONER)}
    for name, (folder, patterns) in parts.items():
        with tempfile.TemporaryDirectory() as work:
            for pattern in patterns:
                for path in (args.run / folder).glob(pattern):
                    shutil.copy(path, work)
            known = learned_tokens(args.run) if name == "demo-clip" else None
            numbers = sum(halve(path, known) for path in Path(work).glob("*.safetensors"))
            if name == "demo-clip":
                ImageEncoder(work)  # it opens
            archive = args.out / f"{name}.zip"
            pack(Path(work), archive)
            mib = sum(path.stat().st_size for path in Path(work).iterdir()) / 2**20
        size = archive.stat().st_size / 1e6
        print(f"{name}: {numbers / 1e6:.1f} M numbers, {mib:.1f} MiB, zip {size:.1f} MB")
        print(f"  sha256 {file_hash(archive)}")


if __name__ == "__main__":
    main()

"""How well a CLIP tells the category of photographs of clothes, trained on some thousand.

    python eval/clothing.py ../shared/data/clothing --out runs/clothing

The folder has ``train``, ``validation`` and ``test``, with a folder of photographs a category in
each. Only ``train`` is learned from; a photograph is of the category whose name, as text, is
nearest. ``eval/results/clothing.json`` gets the accuracy on ``test``, and the majority as floor.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from llmrec.config import build_section
from llmrec.content.clip.run import run as train_clip
from llmrec.content.clip.settings import LIT, ClipConfig
from llmrec.content.features.image_encoder import ImageEncoder
from llmrec.content.media.images import decode_image
from llmrec.data.dataset import Dataset
from llmrec.data.picture_folder import run as read_folder
from llmrec.metrics.bootstrap import intervals
from llmrec.metrics.results import write_result

HERE = Path(__file__).parent


def part_of(dataset: Dataset, part: str) -> list[str]:
    """The photographs of one of the three parts."""
    return [item for item in dataset.item_ids if item.startswith(f"{part}/")]


def is_right(
    encoder: ImageEncoder, root: Path, photographs: list[str], names: list[str]
) -> np.ndarray:
    """Whether each photograph's nearest category is its own: float ``[photographs]``."""
    words = encoder.encode_text(names)
    found = []
    for start in range(0, len(photographs), 128):
        pictures = [decode_image(root / name) for name in photographs[start : start + 128]]
        found += [names[place] for place in (encoder.encode(pictures) @ words.T).argmax(1)]
    truth = [Path(name).parent.name for name in photographs]
    return np.array([a == b for a, b in zip(found, truth, strict=True)], dtype=float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/clothing"))
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--recipe", type=Path, default=HERE / "clothing.yaml")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validate", action="store_true", help="do not look at the test part")
    args = parser.parse_args()
    started = time.monotonic()
    dataset = Dataset(read_folder(args.photographs, args.out / "dataset"))
    parts = {part: part_of(dataset, part) for part in ("train", "validation", "test")}
    left_out = args.out / "left_out.txt"
    left_out.write_text("".join(f"{item}\n" for item in parts["validation"] + parts["test"]))
    config = build_section(ClipConfig, args.recipe, "clip")
    clip = train_clip(
        config,
        dataset.folder,
        args.out / "clip",
        media_root=args.photographs,
        leave_out=left_out,
        seed=args.seed,
    )
    encoder = ImageEncoder(str(clip))
    names = sorted({Path(item).parent.name for item in parts["train"]})
    right = {"validation": is_right(encoder, args.photographs, parts["validation"], names)}
    print(f"validation: {right['validation'].mean():.3f}")
    if args.validate:
        return
    right["test"] = is_right(encoder, args.photographs, parts["test"], names)
    counts = [sum(Path(item).parent.name == name for item in parts["test"]) for name in names]
    towers = f"{config.lit.image_tower}, {config.lit.text_tower}"
    model = towers if config.size == LIT else config.size
    metrics = {
        "accuracy_category": float(right["test"].mean()),
        "floor_category": max(counts) / len(parts["test"]),
        "validation_accuracy_category": float(right["validation"].mean()),
    }
    write_result(
        args.results / "clothing.json",
        name="clothing",
        dataset="clothing",
        split="test",
        model=model,
        metrics=metrics,
        intervals=intervals({"accuracy_category": right["test"]}, seed=args.seed),
        photographs={part: len(items) for part, items in parts.items()},
        command="python eval/clothing.py ../shared/data/clothing",
        seed=args.seed,
        seconds=time.monotonic() - started,
    )
    for name, value in metrics.items():
        print(f"{name:<32}{value:.3f}")


if __name__ == "__main__":
    main()

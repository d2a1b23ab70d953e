"""``llmrec embed``: vectors of every item's text, and with ``--clip``, ``--whisper`` of its media.

    llmrec embed --dataset runs/shop/dataset --out runs/shop/features
    llmrec embed --dataset runs/shop/dataset --out runs/shop/features --media-root data/media \\
        --clip ViT-B-32:laion2b_s34b_b79k --whisper tiny.en

The second writes ``media_features`` beside ``features``: what ``llmrec embed media`` makes, which
has more settings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from llmrec.content.features import media, text


def main(argv: list[str]) -> None:
    """The command line of ``llmrec embed``."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--clip", metavar="MODEL")
    parser.add_argument("--whisper", metavar="MODEL")
    parser.add_argument("--media-root", metavar="DIR")
    parser.add_argument("--media-out", metavar="DIR")
    ours, rest = parser.parse_known_args(argv)
    if (ours.media_root or ours.media_out) and not (ours.clip or ours.whisper):
        parser.error("--media-root and --media-out go with --clip MODEL or --whisper MODEL")
    folders = text.embed_text(rest)
    if ours.clip or ours.whisper:
        media.main(_media_flags(ours, *folders))


def _media_flags(ours: argparse.Namespace, dataset: Path, out: Path) -> list[str]:
    """The command line of ``llmrec embed media`` that does the rest."""
    flags = ["--dataset", str(dataset), "--out", ours.media_out or f"{out.parent}/media_features"]
    if ours.media_root:
        flags += ["--media-root", ours.media_root]
    if ours.clip:
        flags += ["--image-model", ours.clip]
    if ours.whisper:
        flags += ["--speech-model", ours.whisper]
    seen = [*(("image", "video") if ours.clip else ()), *(("speech",) if ours.whisper else ())]
    return [*flags, "--modalities", ",".join(seen)]

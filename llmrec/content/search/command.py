"""``llmrec search``: find items by words, a picture or voice.

llmrec search runs/shop/search_index --text "a red striped mug"
llmrec search runs/shop/search_index --image photo.jpg -n 5 --json
llmrec search runs/shop/search_index --voice question.wav --speech-model base
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llmrec.content.search.question import Question, ask_image, ask_text, ask_voice
from llmrec.content.search.searcher import SearchIndex
from llmrec.content.search.show import as_json, as_table, check_sheet, write_sheet
from llmrec.errors import ConfigError
from llmrec.stage import read_manifest

_KINDS = ("text", "image", "voice")


def main(argv: list[str]) -> None:
    """The command line of ``llmrec search``."""
    args = _parser().parse_args(argv)
    _check(args)
    index = SearchIndex.load(args.folder, image_model=args.image_model, device=args.device)
    question = _question(index, args)
    answers = index.answers(question.vector, args.n)[0]
    if args.json:
        print(as_json(question, answers))
    else:
        if question.transcript is not None:
            print(f"heard: {question.transcript}")
        print(as_table(answers))
    if args.sheet is not None:
        for line in write_sheet(answers, args.sheet, args.media_root):
            print(f"no picture of {line}", file=sys.stderr)
        print(f"wrote {args.sheet}", file=sys.stderr)  # stdout is the answer alone


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmrec search",
        description="Find items by words, a picture or voice.  llmrec search index makes FOLDER.",
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="folder of llmrec search index")
    add("--text", help="words, such as 'a red striped mug'")
    add("--image", metavar="FILE-OR-URL", help="a picture to find the like of")
    add("--voice", metavar="FILE-OR-URL", help="a spoken question; its first minute is heard")
    add("-n", type=int, default=10, help="how many items (default: 10)")
    add("--json", action="store_true", help="for programs")
    add("--sheet", type=Path, metavar="PNG", help="also draw the pictures found")
    add("--media-root", type=Path, help="for --sheet: folder that the catalogue's paths are in")
    add("--image-model", help="where the image model is now (default: where it was)")
    add("--speech-model", help="a Whisper: name or file (default: that of the media features)")
    add("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    return parser


def _check(args: argparse.Namespace) -> None:
    given = [kind for kind in _KINDS if getattr(args, kind) is not None]
    if len(given) != 1:
        flags = " and ".join(f"--{kind}" for kind in given) or "none"
        raise ConfigError(f"give one of --text, --image and --voice; got {flags}")
    if args.n < 1:
        raise ConfigError(f"-n: must be 1 or more, got {args.n}")
    if args.sheet is not None:
        check_sheet(args.sheet, args.media_root)


def _question(index: SearchIndex, args: argparse.Namespace) -> Question:
    if args.text is not None:
        return ask_text(index, args.text)
    if args.image is not None:
        return ask_image(index, args.image)
    model = args.speech_model or read_manifest(args.folder).config["speech_model"]
    return ask_voice(index, args.voice, model, args.device)

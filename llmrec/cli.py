"""The ``llmrec`` command: one table from a command's name to the function behind it.

Only the function that is asked for is imported, so ``llmrec --help`` loads nothing heavy.
A mistake a user can fix (:class:`~llmrec.errors.LlmrecError`) ends as one line on stderr
and exit status 2; ``--debug`` or ``LLMREC_DEBUG=1`` shows the traceback instead.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable

from llmrec.errors import LlmrecError
from llmrec.version import __version__

Main = Callable[[list[str]], None]

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("llmrec.pipeline.recipe:main", "run a recipe: every stage below, in order"),
    "data fetch": ("llmrec.data.fetch:main", "download a public data set"),
    "data demo": ("llmrec.demo_shop:main", "make the demo shop: a catalogue and a click log"),
    "data pictures": ("llmrec.data.picture_folder:main", "a folder of pictures -> dataset"),
    "data cohorts": ("llmrec.data.cohorts:main", "part a dataset: older and newest users"),
    "ingest": ("llmrec.data.ingest:main", "raw files -> dataset"),
    "embed": ("llmrec.content.features.command:main", "dataset -> features: one vector per item"),
    "embed media": (
        "llmrec.content.features.media:main",
        "pictures, videos and speech -> features",
    ),
    "caption": ("llmrec.captions.run:main", "pictures, videos, words -> captions, closed fields"),
    "embed captions": (
        "llmrec.captions.categorical:main",
        "captions -> integers that a click model embeds",
    ),
    "search index": (
        "llmrec.content.search.build:main",
        "media features -> index of pictures and words",
    ),
    "search": ("llmrec.content.search.command:main", "find items by words, a picture or voice"),
    "index": ("llmrec.item_ids.index:main", "features -> item IDs the LLM can say"),
    "train": ("llmrec.training.next_item.run:main", "dataset and item IDs -> model"),
    "train clip": ("llmrec.content.clip.run:main", "pictures and words -> a small CLIP"),
    "train temporal": ("llmrec.content.clip.temporal:main", "videos -> what only motion shows"),
    "train multimodal": (
        "llmrec.captions.training.run:main",
        "CLIP and LLaMA -> LLaVA, in two steps",
    ),
    "train fusion": ("llmrec.content.fusion.run:main", "features -> one vector of all modalities"),
    "model expand": (
        "llmrec.training.next_item.expand:main",
        "base model -> base that can say items",
    ),
    "model merge": ("llmrec.llm.merge:main", "base and adapter -> model"),
    "tune": ("llmrec.training.tune.run:main", "expanded base -> LoRA, QLoRA or full fine-tuning"),
    "prefer": (
        "llmrec.training.preference.run:main",
        "adapter -> adapter that follows preferences (DPO, GRPO)",
    ),
    "jobs start": (
        "llmrec.training.jobs.commands:start",
        "tune or prefer in the background, as a folder",
    ),
    "jobs list": (
        "llmrec.training.jobs.commands:list_jobs",
        "every job: state, step, loss, time left",
    ),
    "jobs show": ("llmrec.training.jobs.commands:show", "all of a job; --follow watches it"),
    "jobs stop": ("llmrec.training.jobs.commands:stop", "end a job after its next step"),
    "jobs resume": ("llmrec.training.jobs.commands:resume", "go on with a job that did not finish"),
    "ctr": (
        "llmrec.ranking.ctr.run:main",
        "what was shown and clicked -> calibrated probabilities",
    ),
    "monitor": (
        "llmrec.ranking.monitor.run:main",
        "was it clicked as often as predicted? have inputs drifted?",
    ),
    "bundle": ("llmrec.serving.build:main", "model -> one folder that serves"),
    "recommend": ("llmrec.serving.recommend:main", "ranked items for a user or a history"),
    "evaluate": ("llmrec.bench.evaluate:main", "measure a bundle or a baseline"),
    "serve": ("llmrec.serving.app:main", "the OpenAI-compatible API"),
    "bench decode": ("llmrec.bench.decode:main", "time the decoder against other engines"),
    "bench tune": ("llmrec.bench.tuning:main", "LoRA and QLoRA against full fine-tuning"),
    "bench prefer": ("llmrec.bench.preferring:main", "DPO and GRPO against supervised alone"),
    "bench trie": ("llmrec.bench.trie:main", "time and size the catalogue's trie"),
    "bench captions": ("llmrec.bench.captions:main", "how often the fields of captions are right"),
    "bench temporal": ("llmrec.bench.temporal:main", "a temporal encoder against the mean"),
    "bench search": ("llmrec.bench.search:main", "do words find the right picture, and back?"),
    "bench fusion": ("llmrec.bench.fusion:main", "fused vectors against text alone"),
    "bench ctr": ("llmrec.bench.ctr:main", "a click model, its parts and the whole cascade"),
    "bench ctr-latency": ("llmrec.bench.ctr_latency:main", "time a click model's answer"),
    "bench cascade-latency": ("llmrec.bench.cascade:main", "time the whole cascade"),
    "bench agree": ("llmrec.bench.agree:main", "is what is served what was trained?"),
    "doctor": ("llmrec.environment:main", "check that every package works on this machine"),
}


def usage() -> str:
    """The text of ``llmrec --help``."""
    lines = [
        "usage: llmrec [--debug] COMMAND ...",
        "",
        "An LLM-as-ranker generative recommender.",
        "",
        "commands:",
        *(f"  {name:<12} {summary}" for name, (_, summary) in COMMANDS.items()),
        "",
        "llmrec COMMAND --help explains one.  llmrec --version  --debug: show tracebacks",
    ]
    return "\n".join(lines)


def find_command(argv: list[str]) -> tuple[str, list[str]]:
    """Split ``argv`` into a command's name (one word or two) and its arguments.

    Raises:
        LlmrecError: if the first words name no command.

    >>> find_command(["data", "demo", "--out", "raw"])
    ('data demo', ['--out', 'raw'])
    """
    for words in (2, 1):
        name = " ".join(argv[:words])
        if name in COMMANDS:
            return name, argv[words:]
    group = [name for name in COMMANDS if name.startswith(f"{argv[0]} ")]
    known = ", ".join(group or COMMANDS)
    raise LlmrecError(f"no command {' '.join(argv[: 2 if group else 1])!r}; there is {known}")


def load(name: str) -> Main:
    """Import the function behind a command."""
    module, function = COMMANDS[name][0].split(":")
    main: Main = getattr(importlib.import_module(module), function)
    return main


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0; 2 for a user's mistake or a file that cannot be used; 130 after
        Ctrl-C; 141 when whoever read the output has gone.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = os.environ.get("LLMREC_DEBUG", "") not in ("", "0")
    if "--debug" in argv:
        argv.remove("--debug")
        debug = True
    try:
        return _dispatch(argv)
    except LlmrecError as error:
        if debug:
            raise
        print(f"llmrec: error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if debug or (error.name or "llmrec").split(".")[0] == "llmrec":
            raise
        advice = "run  pip install 'llmrec[all]'"
        print(f"llmrec: error: {error.name} is not installed: {advice}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if debug:
            raise
        print("llmrec: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes stdout at exit; without this it would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if debug or error.filename is None:
            raise
        print(f"llmrec: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage(), flush=True)
    elif argv[0] == "--version":
        print(f"llmrec {__version__}", flush=True)
    else:
        name, arguments = find_command(argv)
        load(name)(arguments)
        sys.stdout.flush()
    return 0

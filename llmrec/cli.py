"""The ``llmrec`` command: finds what is asked for in :data:`~llmrec.stages.STAGES` and runs it.

Only the function that is asked for is imported, so ``llmrec --help`` loads nothing heavy.
A mistake a user can fix (:class:`~llmrec.errors.LlmrecError`) ends as one line on stderr
and exit status 2; ``--debug`` or ``LLMREC_DEBUG=1`` shows the traceback instead.
"""

from __future__ import annotations

import os
import sys

from llmrec.errors import LlmrecError
from llmrec.stages import STAGES
from llmrec.version import __version__

# Turns of its waiting loop after which a thread of OpenMP sleeps, hundreds of times fewer than the
# default: on quiet cores as fast, beside another busy process several times faster.
SPIN_COUNT = "3000"


def usage() -> str:
    """The text of ``llmrec --help``."""
    lines = [
        "usage: llmrec [--debug] COMMAND ...",
        "",
        "An LLM-as-ranker generative recommender.",
        "",
        "commands:",
        *(f"  {name:<20} {stage.summary}" for name, stage in STAGES.items()),
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
        if name in STAGES:
            return name, argv[words:]
    group = [name for name in STAGES if name.startswith(f"{argv[0]} ")]
    known = ", ".join(group or STAGES)
    raise LlmrecError(f"no command {' '.join(argv[: 2 if group else 1])!r}; there is {known}")


def run_command(argv: list[str]) -> None:
    """Run one command; its errors are raised.

    Args:
        argv: the command and its flags, as on the command line.

    Raises:
        LlmrecError: for a user's mistake.
        SystemExit: for flags that cannot be read, and after help.
    """
    from llmrec.flags import call

    name, arguments = find_command(argv)
    stage = STAGES[name]
    call(stage.load(), arguments, f"llmrec {name}", stage.section or None, stage.options)
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0; 2 for a user's mistake or a file that cannot be used; 130 after
        Ctrl-C; 141 when whoever read the output has gone.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)  # read when torch is loaded
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
        run_command(argv)
    return 0

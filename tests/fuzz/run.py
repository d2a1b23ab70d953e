"""Look for inputs that break something, for some time: ``make fuzz``.

    python tests/fuzz/run.py --seconds 600

All kinds of input get the same time. Every failure is printed with the smallest input that shows
it, which belongs into ``found.py`` with its repair. The counts go to ``eval/results/fuzz.json``.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
import traceback
import warnings
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

import psutil
from fuzz_folders import home
from properties import PROPERTIES, fuzz

from llmrec.metrics.results import write_result

RESULT = Path(__file__).parents[2] / "eval" / "results" / "fuzz.json"
ROUND = 40  # inputs of a kind, before the next kind's turn
ROOM = 4 << 30  # bytes that an input may take


def main() -> int:
    """Run it; the number of failures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    home()
    warnings.simplefilter("error")  # a user would see them between the lines
    room = psutil.Process().memory_info().vms + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    inputs, spent = dict.fromkeys(PROPERTIES, 0), dict.fromkeys(PROPERTIES, 0.0)
    failures, number, began = 0, given.seed, time.monotonic()
    while time.monotonic() - began < given.seconds:
        name = min(spent, key=lambda one: spent[one])
        started = time.monotonic()
        try:
            inputs[name] += fuzz(PROPERTIES[name], ROUND, number)
        except Exception:
            failures += 1
            print(f"{name}, seed {number}:\n{traceback.format_exc()}", flush=True)
        spent[name] += time.monotonic() - started
        number += 1
    seconds = time.monotonic() - began
    counts = {f"inputs, {name}": float(count) for name, count in inputs.items()}
    write_result(
        given.out,
        metrics={"inputs": float(sum(inputs.values())), "failures": float(failures)} | counts,
        seed=given.seed,
        seconds=seconds,
        command=f"python tests/fuzz/run.py --seconds {given.seconds:g} --seed {given.seed}",
    )
    print(f"{sum(inputs.values()):,} inputs in {seconds:.0f} s, {failures} failures")
    return min(failures, 100)


if __name__ == "__main__":
    sys.exit(main())

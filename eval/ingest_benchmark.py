"""Time and memory of ``llmrec ingest`` on a large made-up log.

    python eval/ingest_benchmark.py --events 10000000

Writes a CSV log of a million users and 200,000 items (skewed, with sessions and times that tie)
into a temporary folder, ingests it in a process of its own with a 5-core, and records
``eval/results/ingest-10m.json``. The peak is what the kernel counted for that process.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from llmrec.stage import library_versions, read_manifest

CHUNK = 1_000_000  # rows
USERS_PER_EVENT, ITEMS_PER_EVENT = 0.1, 0.02
_INGEST = """
import sys
from llmrec.cli import run_command
run_command(["ingest", *sys.argv[1:]])
for line in open("/proc/self/status"):
    if line.startswith("VmHWM:"):
        print("peak_kib", line.split()[1])
"""


def generate(path: Path, events: int, seed: int) -> None:
    """Write the log, a chunk at a time."""
    rng = np.random.default_rng(seed)
    users, items = int(events * USERS_PER_EVENT), int(events * ITEMS_PER_EVENT)
    types = np.array(["view", "click", "cart", "purchase"])
    with open(path, "wb") as file:
        for start in range(0, events, CHUNK):
            n = min(CHUNK, events - start)
            user = (users * rng.random(n) ** 1.5).astype(int)
            time_ = 1_600_000_000 + (rng.random(n) * 6e7).astype(int) // 3600 * 3600
            columns = {
                "user_id": np.char.add("user-", user.astype(str)),
                "item_id": np.char.add(
                    "item-", (items * rng.random(n) ** 3).astype(int).astype(str)
                ),
                "type": types[rng.choice(4, n, p=[0.7, 0.2, 0.06, 0.04])],
                "timestamp": time_,
                "session": np.char.add("s", (user * 31 + time_ // 3600).astype(str)),
            }
            options = pa_csv.WriteOptions(include_header=start == 0, quoting_style="none")
            pa_csv.write_csv(pa.table(columns), file, options)


def measure(log: Path, out: Path) -> tuple[float, float]:
    """Ingest in a child process.

    Returns:
        wall seconds, and peak resident memory in MiB.
    """
    flags = ["--events", str(log), "--out", str(out), "--k-core", "5"]
    started = time.monotonic()
    child = subprocess.run(
        [sys.executable, "-c", _INGEST, *flags], check=True, capture_output=True, text=True
    )
    seconds = time.monotonic() - started
    peak = child.stdout.split("peak_kib", 1)[1].split()[0]
    return seconds, int(peak) / 1024


def main() -> None:
    """Generate, measure, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path, help="folder for the log (default: the system's)")
    parser.add_argument("--out", type=Path, default=Path("eval/results/ingest-10m.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        log, dataset = Path(folder) / "events.csv", Path(folder) / "dataset"
        generate(log, args.events, args.seed)
        seconds, peak = measure(log, dataset)
        counts = read_manifest(dataset).counts
        log_bytes = log.stat().st_size
    result = {
        "name": args.out.stem,
        "dataset": f"generated: {args.events} events, {log_bytes} bytes of CSV",
        "split": "leave-one-out",
        "model": "llmrec ingest",
        "metrics": {
            "events_per_s": round(args.events / seconds),
            "seconds": round(seconds, 1),
            "peak_mib": round(peak, 1),
        },
        "counts": counts,
        "command": " ".join(["python", *sys.argv]),
        "seed": args.seed,
        "seconds": round(seconds, 1),
        "peak_mib": round(peak, 1),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **library_versions()},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["metrics"]))


def machine() -> dict[str, object]:
    """Cores and memory of this machine, and how busy it already was."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "cpu": platform.processor() or platform.machine(),
        "load_1min_after": round(os.getloadavg()[0], 2),
    }


if __name__ == "__main__":
    main()

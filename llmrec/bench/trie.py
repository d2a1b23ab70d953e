"""``llmrec bench trie``: what a catalogue costs as a trie, from thousands to tens of millions.

Each size is built in a process of its own, from random IDs whose making is not counted. Then
one process walks all of them in turns, with a random model, so that the cost of a decoding
step can be compared between sizes.

    llmrec bench trie --results eval/results/trie.json
    llmrec bench trie --items 1000 100000 --repeats 1
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmrec.bench.checks import check_catalogue, check_choice, result_file
from llmrec.bench.memory import PeakMemory
from llmrec.bench.report import write_trie_report
from llmrec.bench.worker import in_fresh_process, use_threads
from llmrec.bench.workload import BASE_TOKENS, random_codes, random_llama
from llmrec.config import check_ranges
from llmrec.generation.beam_search import decode_slots
from llmrec.generation.engine import TorchEngine
from llmrec.generation.frontier import NEG_INF, Frontier, Scoring
from llmrec.generation.kv_cache import PrefillState
from llmrec.generation.trie import ItemTrie
from llmrec.llm.llama import SIZES
from llmrec.llm.vocabulary import Vocabulary
from llmrec.metrics.results import read_result, write_result

OUT = Path("runs/bench/trie")
WALKS_A_REPEAT = 5
Row = dict[str, Any]


@dataclass(frozen=True)
class TrieBenchConfig:
    """Settings of ``llmrec bench trie``.

    Attributes:
        items: sizes of the catalogues.
        levels: tokens of an item ID.
        codes: codes a level.
        repeats: times each catalogue is built; a step is measured five times as often.
        size: of the random LLaMA whose decoding step is timed.
        batch: users of a step.
        beams: of a step.
        length: tokens of a history.
        seed: of weights and IDs.
        threads: of torch; 0 leaves it to torch.

    Raises:
        ConfigError: if a value makes no sense, naming the flag.
    """

    items: tuple[int, ...] = (10_000, 100_000, 1_000_000, 10_000_000)
    levels: int = 4
    codes: int = 256
    repeats: int = 3
    size: str = "small"
    batch: int = 64
    beams: int = 20
    length: int = 80
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", tuple(sorted(set(self.items))))
        check_ranges(self, "[1, inf)", "repeats", "batch", "beams", "length")
        check_ranges(self, "[0, inf)", "threads", "seed")
        check_ranges(self, "[1, inf)", "codes")
        check_ranges(self, "[2, 26]", "levels")
        for items in self.items:
            check_catalogue(items, self.levels, self.codes)
        check_choice("size", self.size, tuple(SIZES))


def run(config: TrieBenchConfig, out: Path = OUT, results: Path | None = None) -> Path:
    """Time and size the trie of catalogues of several sizes; write result file and page.

    Args:
        config: what is measured.
        out: folder of the page and the plot.
        results: the result file; by default trie.json in ``out``.
    """
    path = result_file(results or out / "trie.json", "--results")
    started = time.monotonic()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for items in config.items:
            row = in_fresh_process(measure_size, config, items, _file(folder, items))
            rows.append(row)
            print(
                f"{items} items: built in {row['build_s']:.3f} s, peak {row['peak_mib']:.0f} MiB, "
                f"{row['bytes_per_item']:.1f} bytes an item, loaded in {row['load_s']:.4f} s",
                flush=True,
            )
        for row, steps in zip(rows, in_fresh_process(measure_steps, config, folder), strict=True):
            row |= steps
            print(
                f"{row['items']} items: {row['step_ms']:.2f} ms a step, "
                f"{row['trie_ms']:.3f} ms of it the trie",
                flush=True,
            )
    write_result(
        path,
        dataset=f"random: {config.levels} levels of {config.codes} codes",
        model=f"random {config.size} LLaMA",
        metrics=trie_metrics(rows),
        seed=config.seed,
        seconds=time.monotonic() - started,
        rows=rows,
    )
    write_trie_report(read_result(path), out)
    return path


def trie_metrics(rows: list[Row]) -> dict[str, float]:
    """Flat metrics; ``bytes_per_item`` of the largest, ``step_ratio`` largest over smallest."""
    metrics: dict[str, float] = {}
    for row in rows:
        for name in ("build_s", "peak_mib", "load_s", "step_ms", "trie_ms"):
            metrics[f"{name}@{row['items']}"] = row[name]
    metrics["bytes_per_item"] = rows[-1]["bytes_per_item"]
    metrics["step_ratio"] = round(rows[-1]["step_ms"] / rows[0]["step_ms"], 3)
    return metrics


def measure_size(config: TrieBenchConfig, items: int, path: Path) -> Row:
    """Build, save and load a catalogue; run in a fresh process.

    Returns:
        its row: ``peak_mib`` is all that the process held while building, ``build_adds_mib`` what
        building added to the process with its table of codes, ``codes_mib`` that table.
    """
    use_threads(config.threads)
    rng = np.random.default_rng(config.seed)
    codes = random_codes(items, config.levels, config.codes, rng)
    seconds, peaks, added = [], [], []
    for _ in range(config.repeats):
        memory = PeakMemory()
        started = time.perf_counter()
        trie = ItemTrie(codes)
        seconds.append(time.perf_counter() - started)
        peaks.append(memory.peak_mib())
        added.append(memory.added_mib())
        size = trie.nbytes
        if len(seconds) < config.repeats:
            del trie
    started = time.perf_counter()
    trie.save(path)
    save_s = time.perf_counter() - started
    loads = [_load_and_walk(path) for _ in range(config.repeats)]
    return {
        "items": items,
        "build_s": round(float(np.median(seconds)), 4),
        "peak_mib": round(max(peaks), 1),
        "build_adds_mib": round(max(added), 1),
        "codes_mib": round(codes.nbytes / 2**20, 1),
        "bytes_per_item": round(size / items, 2),
        "save_s": round(save_s, 4),
        "load_s": round(float(np.median(loads)), 5),
        "build_seconds": [round(value, 4) for value in seconds],
    }


def measure_steps(config: TrieBenchConfig, folder: str) -> list[Row]:
    """What a decoding step costs in each catalogue; all of them in one process, in turns."""
    use_threads(config.threads)
    sizes = (config.codes,) * config.levels
    vocabulary = Vocabulary(BASE_TOKENS, (), sizes, sizes)
    longest = config.length + config.levels
    model = random_llama(config.size, vocabulary.size, longest, config.seed)
    engine = TorchEngine(model, vocabulary)
    tries = [ItemTrie.load(_file(folder, items)) for items in config.items]
    generator = torch.Generator().manual_seed(config.seed)
    tokens = torch.randint(
        vocabulary.item_offset,
        vocabulary.size,
        (config.batch, config.length),
        generator=generator,
    )
    free = max(decode_slots(trie, config.beams) for trie in tries)
    prefix = engine.prefill(tokens, torch.ones_like(tokens, dtype=torch.bool), slots=free)
    walks: list[list[tuple[float, float]]] = [[] for _ in tries]
    for turn in range(config.repeats * WALKS_A_REPEAT + 1):  # the first one warms up
        for place, trie in enumerate(tries):
            walk = _walk(engine, trie, prefix, config.beams)
            if turn:
                walks[place].append(walk)
    medians = [np.median(np.array(walk), axis=0) * 1000 for walk in walks]
    return [{"step_ms": round(float(s), 4), "trie_ms": round(float(t), 4)} for s, t in medians]


@torch.inference_mode()
def _walk(
    engine: TorchEngine, trie: ItemTrie, prefix: PrefillState, beams: int
) -> tuple[float, float]:
    """Seconds that a step takes, and that looking up its children in the trie takes."""
    frontier = Frontier.root(engine, trie, Scoring("level"), prefix)
    children, scores = frontier.expand()
    steps, lookups = [], []
    while frontier.depth + 1 < len(trie.levels):
        candidates = scores.masked_fill(~children.exists, NEG_INF).flatten(1)
        keep = min(beams, candidates.shape[1], len(trie.levels[frontier.depth]))
        kept, best = candidates.topk(keep, dim=1)
        parents = best // children.nodes.shape[2]
        nodes = children.nodes.flatten(1).gather(1, best).masked_fill(kept == NEG_INF, -1)
        started = time.perf_counter()
        frontier = frontier.advance(nodes, kept, parents)
        children, scores = frontier.expand()
        stepped = time.perf_counter()
        trie.children(frontier.depth, frontier.nodes)
        lookups.append(time.perf_counter() - stepped)
        steps.append(stepped - started)
    return float(np.mean(steps)), float(np.mean(lookups))


def _load_and_walk(path: Path) -> float:
    """Seconds until a mapped file has given children, all the way to an item."""
    started = time.perf_counter()
    trie = ItemTrie.load(path)
    node = torch.zeros(1, dtype=torch.int64)
    for depth in range(len(trie.levels)):
        children = trie.children(depth, node)
        node = children.nodes[children.exists][:1]
    assert trie.items[node].item() >= 0
    return time.perf_counter() - started


def _file(folder: str, items: int) -> Path:
    return Path(folder) / f"{items}.safetensors"

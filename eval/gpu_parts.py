"""The parts of ``eval/gpu.sh``: checks, Beauty trained, LoRA's speed, the decoder's speed.

Each takes a place and a clock and writes ``OUT/NAME-cuda.json`` (``-cpu`` where it is rehearsed
without a GPU), anew after every figure.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from llmrec.bench import evaluate
from llmrec.bench.agreement import overlap
from llmrec.bench.decode_config import DecodeBenchConfig
from llmrec.bench.decode_engines import MAKERS, LlmrecEngine
from llmrec.bench.workload import BASE_TOKENS, LOGIT_SPREAD, Workload, random_codes
from llmrec.config import build
from llmrec.generation.beam_search import SearchOptions, beam_search, decode_slots
from llmrec.generation.constraints import Constraints, LeafConstraints
from llmrec.generation.cuda_graph import CudaGraphSearch
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.llama import Size, llama_config
from llmrec.llm.vocabulary import Vocabulary
from llmrec.metrics.results import read_result, write_result
from llmrec.training.next_item import run as train
from llmrec.training.next_item.loss import table_cross_entropy
from llmrec.training.next_item.settings import TrainConfig
from llmrec.training.tune.adapter import with_adapter
from llmrec.training.tune.settings import TuneConfig

COMMAND = "bash eval/gpu.sh OUT runs/gpu-input"
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZES = {  # half a billion parameters, and the shape of SmolLM2-1.7B
    "0.5B": Size(layers=28, width=1024, heads=16, feed_forward=4096),
    "1.7B": Size(layers=24, width=2048, heads=32, feed_forward=8192),
}
TINY = Size(layers=2, width=64, heads=2, feed_forward=128)
SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
}


class Clock:
    """The time that a part has.

    Args:
        seconds: from now on.
    """

    def __init__(self, seconds: float) -> None:
        self.started, self.seconds = time.monotonic(), seconds

    def passed(self) -> float:
        return time.monotonic() - self.started

    def left(self) -> float:
        return self.seconds - self.passed()


@dataclass(frozen=True)
class Place:
    """What a part reads and writes.

    Attributes:
        source: folder of ``eval/gpu.py pack``.
        out: folder of results.
        settings: of the recipe.
        small: whether it is a rehearsal.
    """

    source: Path
    out: Path
    settings: dict[str, Any]
    small: bool

    @property
    def device(self) -> str:
        return "cuda" if torch.cuda.is_available() else "cpu"

    def write(self, name: str, clock: Clock, metrics: dict[str, float], **more: Any) -> None:
        """Write a result as it is by now."""
        finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
        path = self.out / f"{name}-{self.device}.json"
        write_result(path, metrics=finite, seed=0, seconds=clock.passed(), command=COMMAND, **more)
        print(f"{name}: " + "  ".join(f"{k} {v:.5g}" for k, v in finite.items()), flush=True)


def timed(place: Place, work: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each of some calls, after one to warm up."""
    work()
    found = []
    for _ in range(repeats):
        synchronize(place)
        started = time.perf_counter()
        work()
        synchronize(place)
        found.append(time.perf_counter() - started)
    return found


def synchronize(place: Place) -> None:
    if place.device == "cuda":
        torch.cuda.synchronize()


# --- checks ---------------------------------------------------------------------------------


def checks(place: Place, clock: Clock) -> None:
    """Graphs replayed for real, float32 as on a CPU, bfloat16 nearly so, the cross-entropy."""
    metrics: dict[str, float] = {}
    for check in (check_graphs, check_devices, check_cross_entropy):
        metrics |= check(place)
        place.write("checks", clock, metrics, dataset="random", model="random LLaMA")
    failed = [name for name, value in metrics.items() if name.startswith("ok_") and value != 1]
    if failed:
        raise SystemExit(f"checks: failed: {', '.join(failed)}")


def check_graphs(place: Place) -> dict[str, float]:
    """Whether a replayed search finds what a search of its own finds, for new histories."""
    size = TINY if place.small else Size(layers=4, width=256, heads=4, feed_forward=1024)
    config = DecodeBenchConfig(items=500 if place.small else 12101, batch=8, beams=20, length=80)
    workload, model = random_workload(place, config, size, torch.float32)
    engine = LlmrecEngine(config, workload, model)
    capture = None if place.device == "cuda" else (lambda work: work)
    graphed = CudaGraphSearch(engine.engine, engine.trie, capture)
    options, same = SearchOptions(beams=config.beams), []
    rng = np.random.default_rng(1)
    for _ in range(5):
        prompts = [rng.permutation(prompt) for prompt in workload.prompts]
        prefix = engine.engine.prefill_prompts(prompts, decode_slots(engine.trie, config.beams))
        limits = LeafConstraints(engine.trie, [Constraints()] * len(prompts))
        found = graphed(prefix, limits, config.n, options)
        expected = beam_search(engine.engine, engine.trie, prefix, limits, config.n, options)
        close = torch.allclose(found.scores, expected.scores, atol=1e-4)
        same.append(torch.equal(found.items, expected.items) and close)
    replayed = float(len(graphed._graphs))
    return {"ok_graphs_same": float(all(same)), "ok_graphs_captured": float(replayed == 1)}


def check_devices(place: Place) -> dict[str, float]:
    """Lists in float32 as on a CPU, and in bfloat16 mostly the same items."""
    size = TINY if place.small else Size(layers=4, width=256, heads=4, feed_forward=1024)
    config = DecodeBenchConfig(items=500 if place.small else 12101, batch=8, beams=20, length=80)
    workload, model = random_workload(place, config, size, torch.float32, "cpu")
    expected = LlmrecEngine(config, workload, model).answer(workload.prompts)
    found = {}
    for kind in (torch.float32, torch.bfloat16):
        there = replace(config, device=place.device)  # type: ignore[arg-type]
        moved = model.to(place.device, kind)
        found[kind] = LlmrecEngine(there, workload, moved).answer(workload.prompts)
    same = (found[torch.float32].items == expected.items).mean()
    nearly = overlap(found[torch.bfloat16].items, expected.items)
    return {
        "float32_same_places": float(same),
        "bfloat16_overlap": nearly,
        "ok_float32": float(same > 0.98),  # sums in another order may swap neighbours
        "ok_bfloat16": float(nearly > 0.7),
    }


def check_cross_entropy(place: Place) -> dict[str, float]:
    """Our cross-entropy against torch's: value, gradients, time."""
    rows, width, targets = (400, 64, 300) if place.small else (12101, 256, 8192)
    generator = torch.Generator(place.device).manual_seed(0)
    options = {"device": place.device, "generator": generator}
    hidden = torch.randn(targets, width, **options).requires_grad_()
    table = (torch.randn(rows, width, **options) * 0.1).requires_grad_()
    wanted = torch.randint(rows, (targets,), **options)

    def ours() -> torch.Tensor:
        return table_cross_entropy(hidden, table, wanted, 0.1)

    def theirs() -> torch.Tensor:
        return F.cross_entropy(hidden @ table.T, wanted, label_smoothing=0.1)

    def gradients(loss: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, ...]:
        value = loss()
        return (value.detach(), *torch.autograd.grad(value, (hidden, table)))

    worst = max(
        float((a - b).norm() / b.norm())
        for a, b in zip(gradients(ours), gradients(theirs), strict=True)
    )
    seconds = [min(timed(place, lambda: gradients(f), 5)) for f in (ours, theirs)]  # noqa: B023
    return {
        "cross_entropy_difference": worst,
        "ok_cross_entropy": float(worst < 1e-3),
        "cross_entropy_ms": 1000 * seconds[0],
        "torch_cross_entropy_ms": 1000 * seconds[1],
    }


# --- Beauty ---------------------------------------------------------------------------------


def beauty(place: Place, clock: Clock) -> None:
    """The recipe's model trained and measured, NDCG@10 on the test part."""
    settings = place.settings["train"]
    loop = settings.get("loop", {}) | {"precision": "bf16", "max_minutes": 0.65 * clock.left() / 60}
    if place.small:
        loop |= {"epochs": 1, "precision": "fp32"}
    config = build(TrainConfig, settings | {"loop": loop}, "settings.yaml")
    name = f"{place.settings['name']}-atomic"
    with tempfile.TemporaryDirectory() as work:  # only results go into OUT
        found = train_and_measure(place.source, config, name, Path(work))
    place.write(
        "beauty",
        clock,
        found["metrics"],
        dataset=found["dataset"],
        split="test",
        model="LLaMA, atomic item IDs, rows from content",
        intervals=found["intervals"],
        training=found["training"],
    )


def train_and_measure(source: Path, config: TrainConfig, name: str, work: Path) -> dict[str, Any]:
    """The result file of a model that is trained on a packed dataset."""
    model = work / "model"
    train.run(config, source / "dataset", model, source / "item_ids", source / "features")
    settings = evaluate.EvaluateConfig(name=name, batch_size=1024, with_history=False)
    measured = evaluate.run(settings, source / "dataset", model, work / "evaluation")
    return read_result(measured / f"{name}.json")


# --- LoRA -----------------------------------------------------------------------------------


def lora(place: Place, clock: Clock) -> None:
    """Tokens a second of LoRA of rank 16 on a model of SmolLM2's shape, in bfloat16."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape: dict[str, Any] = dict(SMOLLM2)
    if place.small:
        shape |= {"num_hidden_layers": 2, "vocab_size": 512}
    kind = torch.bfloat16 if place.device == "cuda" else torch.float32
    with torch.device(place.device):
        plain = LlamaForCausalLM(LlamaConfig(tie_word_embeddings=True, **TOKENS, **shape))
    model = with_adapter(plain.to(kind), TuneConfig(rank=16)).train()
    weights = [p for p in model.parameters() if p.requires_grad]
    for weight in weights:  # small steps count in 32 bits only
        weight.data = weight.data.float()
    optimizer = torch.optim.AdamW(weights, lr=1e-4)
    metrics: dict[str, float] = {"trained_parameters": float(sum(w.numel() for w in weights))}
    for batch, length in ((2, 16),) if place.small else ((16, 128), (16, 512), (64, 512)):
        if clock.left() < 10:
            break
        tokens = torch.randint(shape["vocab_size"], (batch, length), device=place.device)

        def step(tokens: torch.Tensor = tokens) -> None:
            with torch.autocast(place.device, kind, enabled=kind != torch.float32):
                loss = model(input_ids=tokens, labels=tokens).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        seconds = float(np.median(timed(place, step, 2 if place.small else 10)))
        metrics[f"tokens_per_s@{batch}x{length}"] = batch * length / seconds
        place.write(
            "lora",
            clock,
            metrics,
            dataset="random tokens",
            model="random LLaMA of SmolLM2-135M's shape, LoRA of rank 16",
        )


# --- decoding -------------------------------------------------------------------------------


def decode(place: Place, clock: Clock) -> None:
    """Our decoder, transformers and prefill alone, beside what bytes and flops allow."""
    sizes = {"tiny": TINY} if place.small else SIZES
    length, shapes = (24, ((1, 4), (2, 8))) if place.small else (1000, _SHAPES)
    kind: Any = "bfloat16" if place.device == "cuda" else "float32"
    rates = machine_rates(place)
    rows: list[dict[str, Any]] = []
    for name, size in sizes.items():
        model: Any = None
        for batch, beams in shapes:
            config = DecodeBenchConfig(
                items=500 if place.small else 12101,
                length=length,
                batch=batch,
                beams=beams,
                device=place.device,  # type: ignore[arg-type]
                dtype=kind,
                returning=False,
            )
            workload, model = random_workload(
                place, config, size, getattr(torch, kind), model=model
            )
            about = {"size": name, "batch": batch, "beams": beams}
            rows.append(about | {"engine": "floor"} | floor(size, config, rates))
            for engine in _ENGINES:
                if clock.left() < (0 if place.small else 15):
                    return
                row = about | {"engine": engine} | _measured(place, engine, config, workload, model)
                rows.append(row)
                print(row, flush=True)
                place.write(
                    "decode",
                    clock,
                    rates | ratios(rows),
                    dataset=workload.dataset,
                    model="random LLaMAs of 0.5 and 1.7 billion parameters",
                    rows=rows,
                )
        del model
        if place.device == "cuda":
            torch.cuda.empty_cache()


_SHAPES = ((1, 50), (32, 50), (1, 256), (32, 256))
_ENGINES = ("llmrec", "llmrec-prefill", "prefill", "transformers")


def _measured(
    place: Place, engine: str, config: DecodeBenchConfig, workload: Workload, model: Any
) -> dict[str, Any]:
    """A row: milliseconds a batch, users a second, memory; or why it cannot run."""
    if engine == "transformers" and place.device == "cuda":
        need = cache_bytes(model.config, config.batch * config.beams, config.length) * 2  # a copy
        free = torch.cuda.mem_get_info()[0]
        if need > free:
            gib = f"{need / 2**30:,.0f} GiB for the beams' own caches, {free / 2**30:,.0f} are free"
            return {"error": f"out of memory: {gib}"}
    try:
        found = MAKERS[engine](config, workload, model)
        if place.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() if place.device == "cuda" else 0
        slow = engine == "transformers" or place.small
        found.answer(workload.prompts)  # the first of a shape is not captured yet
        seconds = timed(place, lambda: found.answer(workload.prompts), 2 if slow else 5)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return {"error": "out of memory"}
    median = float(np.median(seconds))
    peak = torch.cuda.max_memory_allocated() - before if place.device == "cuda" else 0
    return {
        "p50_ms": round(1000 * median, 3),
        "users_per_s": round(config.batch / median, 3),
        "peak_mib": round(peak / 2**20, 1),
        "seconds": [round(value, 6) for value in seconds],
    }


def cache_bytes(config: Any, sequences: int, length: int) -> int:
    """Keys and values of some sequences in 16 bits."""
    width = config.num_key_value_heads * config.hidden_size // config.num_attention_heads
    return 2 * 2 * config.num_hidden_layers * width * sequences * length


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """How many times as long as ours, of each case."""
    found = {}
    times = {
        (row["size"], row["batch"], row["beams"], row["engine"]): row["p50_ms"]
        for row in rows
        if "p50_ms" in row
    }
    for (size, batch, beams, engine), value in times.items():
        ours = times.get((size, batch, beams, "llmrec"))
        if engine != "llmrec" and ours:
            found[f"llmrec_over_{engine}@{size},{batch}x{beams}"] = round(value / ours, 4)
    return found


def machine_rates(place: Place) -> dict[str, float]:
    """What this machine reaches: flops of a large product a second, bytes of a copy a second."""
    on_gpu = place.device == "cuda"
    side, kind = (8192, torch.bfloat16) if on_gpu else (256, torch.float32)
    one = torch.randn(side, side, device=place.device, dtype=kind)
    product = min(timed(place, lambda: one @ one, 10))
    block = torch.zeros((1 << 30) if on_gpu else (1 << 20), dtype=torch.uint8, device=place.device)
    target = torch.empty_like(block)
    copy = min(timed(place, lambda: target.copy_(block), 10))
    return {"flops_per_s": 2 * side**3 / product, "bytes_per_s": 2 * block.numel() / copy}


def floor(size: Size, config: DecodeBenchConfig, rates: dict[str, float]) -> dict[str, Any]:
    """The least time that weights, caches and products allow at the measured rates.

    Prefill is the products of all tokens. Each further step reads the weights and the histories'
    keys and values once, or does the products of all beams, whichever takes longer.
    """
    layers, width = size.layers, size.width
    weights = layers * (4 * width**2 + 3 * width * size.feed_forward)
    tokens = config.batch * config.length
    attention = 2 * 2 * layers * width * config.length / 2  # of a token, half are before it
    prefill = tokens * (2 * weights + attention) / rates["flops_per_s"]
    beams = config.batch * config.beams
    moved = 2 * weights + 2 * 2 * layers * width * tokens
    products = beams * (2 * weights + 2 * 2 * layers * width * config.length)
    step = max(moved / rates["bytes_per_s"], products / rates["flops_per_s"])
    total = prefill + (config.levels - 1) * step  # the first token needs no step
    return {
        "p50_ms": round(1000 * total, 3),
        "prefill_ms": round(1000 * prefill, 3),
        "step_ms": round(1000 * step, 4),
    }


@torch.no_grad()
def random_workload(
    place: Place,
    config: DecodeBenchConfig,
    size: Size,
    kind: torch.dtype,
    device: str | None = None,
    model: Any = None,
) -> tuple[Workload, Any]:
    """Random IDs and histories, and a random LLaMA with scores that differ, unless it is given."""
    from transformers import LlamaForCausalLM

    rng = np.random.default_rng(config.seed)
    codes = random_codes(config.items, config.levels, config.codes, rng)
    levels = (config.codes,) * config.levels
    ids = ItemIds("semantic", codes, levels, np.zeros((sum(levels), 0), np.float32))
    vocabulary = Vocabulary.of(BASE_TOKENS, (), ids)
    if model is None:
        longest = config.length + config.levels + 1
        torch.manual_seed(config.seed)
        with torch.device(device or place.device):
            shape = llama_config(size, vocabulary.size, max(256, longest), TOKENS)
            model = LlamaForCausalLM(shape).to(kind).eval()
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=LOGIT_SPREAD / size.width**0.5)
    events = -(-config.length // config.levels)
    items = rng.integers(ids.n_items, size=(config.batch, events))
    tokens = (ids.tokens(items) + vocabulary.item_offset).reshape(config.batch, -1)
    prompts = list(tokens[:, -config.length :])
    described = (
        f"{config.items} items with random IDs of {config.levels} levels of {config.codes} codes; "
        f"random histories of {config.length} tokens"
    )
    return Workload(place.out, vocabulary, ids, prompts, [], described, "random LLaMA"), model

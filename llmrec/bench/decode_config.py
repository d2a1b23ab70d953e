"""Settings of ``llmrec bench decode``. Light: nothing here loads torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmrec.bench.checks import check_catalogue, check_choice
from llmrec.config import check_ranges
from llmrec.errors import ConfigError
from llmrec.generation.frontier import Normalise
from llmrec.llm.llama import SIZES

ENGINES = ("llmrec", "llmrec-prefill", "prefill", "transformers", "vllm")
REFERENCE = "transformers"  # the engine whose answer the others are compared with


@dataclass(frozen=True)
class DecodeBenchConfig:
    """Settings of ``llmrec bench decode``.

    Attributes:
        items: of the catalogue.
        levels: tokens of an item ID.
        codes: codes a level.
        titles: JSONL file of items with a ``title``, whose MiniLM vectors give the item IDs by
            residual k-means; None for made-up titles.
        size: of the random LLaMA, a key of :data:`llmrec.llm.llama.SIZES`.
        base: a pretrained LLaMA in its place, by folder, hub id or short name; the rows of its item
            tokens are random.
        length: tokens of a history.
        batch: users of a batch.
        beams: beam width.
        n: items returned a user; 0 for as many as beams.
        repeats: batches timed for each engine.
        engines: some of :data:`ENGINES`.
        normalise: see :class:`~llmrec.generation.frontier.Scoring`.
        device: cpu or cuda.
        dtype: float32 or bfloat16, of every engine.
        threads: of every engine on the CPU; 0 leaves it to torch.
        seed: of weights, item IDs and histories.
        exact_users: users whose exact answer is compared with scoring every item.
        returning: also time users who come back with one more event.
        model: a trained model in place of a random one; needs ``dataset``.
        dataset: of that model; histories are those of its test split.
        vllm_block_size: tokens of a block of vLLM's KV cache. Beams share whole blocks of their
            prompt only, and vLLM's own size for a CPU, 128, is too coarse for short prompts.

    Raises:
        ConfigError: if a value makes no sense, naming the flag.
    """

    items: int = 12101
    levels: int = 4
    codes: int = 256
    titles: Path | None = None
    size: str = "small"
    base: str | None = None
    length: int = 80
    batch: int = 64
    beams: int = 20
    n: int = 0
    repeats: int = 5
    engines: tuple[str, ...] = ("llmrec", "prefill", "transformers", "vllm")
    normalise: Normalise = "children"
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    threads: int = 0
    seed: int = 0
    exact_users: int = 0
    returning: bool = True
    model: Path | None = None
    dataset: Path | None = None
    vllm_block_size: int = 32

    def __post_init__(self) -> None:
        if self.n == 0:
            object.__setattr__(self, "n", self.beams)
        check_ranges(self, "[1, inf)", "codes", "length", "batch", "beams", "n", "repeats")
        check_ranges(self, "[1, inf)", "vllm_block_size")
        check_ranges(self, "[0, inf)", "threads", "seed", "exact_users")
        check_ranges(self, "[1, 26]", "levels")
        check_catalogue(self.items, self.levels, self.codes)
        check_choice("size", self.size, tuple(SIZES))
        for engine in self.engines or ("",):
            check_choice("engines", engine, ENGINES)
        if self.n > self.beams:
            raise ConfigError(f"--n: {self.n} items are more than --beams {self.beams}; raise it")
        if (self.model is None) != (self.dataset is None):
            raise ConfigError("--model and --dataset belong together: give both or neither")
        if self.base is not None and self.model is not None:
            raise ConfigError("--base gets item tokens of its own; leave out --model and --dataset")

    @property
    def tolerance(self) -> float:
        """Scores closer than this are ties: what rounding alone makes of them."""
        return 1e-4 if self.dtype == "float32" else 5e-2

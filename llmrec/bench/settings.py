"""What ``llmrec bench decode`` is asked to measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmrec.errors import ConfigError
from llmrec.generation.frontier import Normalise
from llmrec.llm.llama import SIZES

ENGINES = ("llmrec", "prefill", "transformers", "vllm", "vllm-32")
VLLM = ("vllm", "vllm-32")
SLOW = ("transformers", *VLLM)  # tens of seconds a batch on a CPU
DTYPES = ("float32", "bfloat16")
REFERENCE = "transformers"  # the engine that says what the right answer is
LARGEST = 2**62  # different IDs that a random catalogue can be drawn from


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark.

    Attributes:
        items, levels, codes: of the random catalogue: items, tokens of an ID, codes a level.
        size: of the random LLaMA, a key of :data:`llmrec.llm.llama.SIZES`.
        length: tokens of a history.
        batch: users answered at once.
        beams, n: beam width, and items returned a user.
        repeats, slow_repeats: batches timed; the second for the engines of :data:`SLOW`.
        engines: some of :data:`ENGINES`.
        normalise: see :class:`~llmrec.generation.frontier.Scoring`.
        device, dtype: where and in which numbers every engine computes.
        threads: of every engine on the CPU; 0 leaves it to torch.
        seed: of weights, IDs and histories.
        exact_users: users whose exact answer is compared with scoring every item.
        returning: also time users who come back with one more event.
        model, dataset: a trained model and its dataset in place of the random ones.

    Raises:
        ConfigError: if a value makes no sense, naming the flag.
    """

    items: int = 12101
    levels: int = 4
    codes: int = 256
    size: str = "small"
    length: int = 80
    batch: int = 64
    beams: int = 20
    n: int = 20
    repeats: int = 5
    slow_repeats: int = 2
    engines: tuple[str, ...] = ENGINES
    normalise: Normalise = "children"
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 0
    seed: int = 0
    exact_users: int = 0
    returning: bool = True
    model: Path | None = None
    dataset: Path | None = None

    def __post_init__(self) -> None:
        for name in ("length", "batch", "beams", "n", "repeats", "slow_repeats"):
            check_at_least(name, getattr(self, name), 1)
        for name in ("threads", "seed", "exact_users"):
            check_at_least(name, getattr(self, name), 0)
        check_catalogue(self.items, self.levels, self.codes)
        check_choice("size", self.size, tuple(SIZES))
        check_choice("normalise", self.normalise, ("children", "level"))
        check_choice("device", self.device, ("cpu", "cuda"))
        check_choice("dtype", self.dtype, DTYPES)
        for engine in self.engines or ("",):
            check_choice("engines", engine, ENGINES)
        if self.n > self.beams:
            raise ConfigError(f"--n: {self.n} items are more than --beams {self.beams}; raise it")
        if (self.model is None) != (self.dataset is None):
            raise ConfigError("--model and --dataset belong together: give both or neither")

    def repeats_of(self, engine: str) -> int:
        """How often an engine is timed."""
        return min(self.repeats, self.slow_repeats) if engine in SLOW else self.repeats

    @property
    def tolerance(self) -> float:
        """Scores closer than this are a tie: what rounding alone makes of them."""
        return 1e-4 if self.dtype == "float32" else 5e-2


def check_catalogue(items: int, levels: int, codes: int, flag: str = "items") -> None:
    """Check that so many items can have different IDs.

    Raises:
        ConfigError: if not.
    """
    check_at_least(flag, items, 1)
    check_at_least("levels", levels, 1)
    check_at_least("codes", codes, 1)
    if levels > 26:
        raise ConfigError(f"--levels: {levels} is more than 26")
    if codes**levels > LARGEST:
        raise ConfigError(f"--codes: {codes} at {levels} levels are more IDs than fit 62 bits")
    if items > codes**levels:
        raise ConfigError(
            f"--{flag}: {items} items need more than the {codes**levels} IDs of "
            f"--levels {levels} --codes {codes}; raise one of them"
        )


def check_at_least(name: str, value: int, least: int) -> None:
    """Check a number.

    Raises:
        ConfigError: naming its flag.
    """
    if value < least:
        flag = name.replace("_", "-")
        raise ConfigError(f"--{flag}: {value} is too small; give at least {least}")


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Check a word.

    Raises:
        ConfigError: naming its flag and the words there are.
    """
    if value not in known:
        raise ConfigError(f"--{name}: {value!r} is not one of {', '.join(known)}")

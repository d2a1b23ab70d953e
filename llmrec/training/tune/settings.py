"""Settings of ``llmrec tune``. Light: nothing here loads torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from llmrec.config import check_ranges
from llmrec.errors import ConfigError
from llmrec.training.tasks.names import check_tasks

# every projection of attention and of the feed-forward block, as the LLaMA family names them
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
EMBEDDINGS = ("embed_tokens", "lm_head")


@dataclass(frozen=True)
class AlignConfig:
    """The short first step that trains the rows of the new tokens and nothing else.

    Attributes:
        steps: steps of it; 0 leaves it out.
        learning_rate: peak rate.
    """

    steps: int = 0
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_ranges(self, "[0, inf)", "steps", prefix="align.")
        check_ranges(self, "(0, inf)", "learning_rate", prefix="align.")


@dataclass(frozen=True)
class TuneLoopConfig:
    """Settings of the training loop.

    Attributes:
        epochs: passes over the mixture; counts only where ``max_steps`` is 0.
        max_steps: steps; 0 leaves it to ``epochs``.
        learning_rate: peak rate.
        schedule: ``linear`` or ``cosine`` down to 0, or ``constant``.
        warmup_ratio: share of the steps with a linear warm-up.
        batch_size: examples a device reads at once.
        gradient_accumulation: batches a step.
        max_length: most tokens of an example; long histories lose their oldest events.
        gradient_checkpointing: save memory at the cost of time.
        precision: of matrix products, ``fp32`` or ``bf16``; ``auto`` takes bf16 on a GPU, or a CPU
            with AMX, which keeps weights in fp32. On a CPU with AVX-512 BF16 alone, where
            ``bf16`` pays for large models only, it has to be asked for. ``bf16-true``
            keeps all weights in bf16 as well: half the memory and faster on a CPU, but steps of
            less than a 256th of a weight are lost, so it wants a high rate.
        save_steps: steps between checkpoints.
        logging_steps: steps between lines of the log.
        validate_every: steps between validations on the way; 0 validates before and after only.
        keep: ``last`` keeps the weights of the last step, where the schedule has brought the
            rate down; ``best`` those that validated best, which costs the validations and makes
            the validation's own figure a little too good.
        patience: end after so many validations in a row that were no better; 0 never does.
        report_to: ``none``, ``tensorboard`` or ``wandb``.
    """

    epochs: int = 1
    max_steps: int = 0
    learning_rate: float = 2e-4
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_ratio: float = 0.03
    batch_size: int = 16
    gradient_accumulation: int = 1
    max_length: int = 512
    gradient_checkpointing: bool = False
    precision: Literal["auto", "fp32", "bf16", "bf16-true"] = "fp32"
    save_steps: int = 200
    logging_steps: int = 10
    validate_every: int = 0
    keep: Literal["last", "best"] = "last"
    patience: int = 0
    report_to: Literal["none", "tensorboard", "wandb"] = "none"

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "[1, inf)",
            "batch_size",
            "gradient_accumulation",
            "save_steps",
            "logging_steps",
            prefix="loop.",
        )
        if self.epochs < 0 or self.max_steps < 0 or self.epochs + self.max_steps == 0:
            raise ConfigError("loop: trains nothing; set max_steps or epochs to at least 1")
        check_ranges(self, "[8, inf)", "max_length", prefix="loop.")
        check_ranges(self, "(0, inf)", "learning_rate", prefix="loop.")
        check_ranges(self, "[0, 1)", "warmup_ratio", prefix="loop.")
        check_ranges(self, "[0, inf)", "validate_every", "patience", prefix="loop.")
        if self.keep == "best" and self.validate_every == 0:
            raise ConfigError(
                "loop.keep: the best weights are known only where loop.validate_every is set"
            )
        if self.patience > 0 and self.keep != "best":
            raise ConfigError(
                "loop.patience: ends a run some validations after its best weights; set "
                "loop.keep: best to keep those"
            )

    @property
    def examples_per_step(self) -> int:
        """Examples a step learns from, in each process."""
        return self.batch_size * self.gradient_accumulation

    def steps(self, examples: int, processes: int = 1) -> int:
        """Optimizer steps: ``max_steps``, or those of ``epochs`` passes over the examples.

        Raises:
            ConfigError: if the examples do not fill one step.
        """
        batch = self.examples_per_step * processes
        if examples < batch:
            raise ConfigError(
                f"loop: there are {examples} examples, fewer than the {batch} of one step; lower "
                "loop.batch_size or loop.gradient_accumulation"
            )
        return self.max_steps or max(1, self.epochs * examples // batch)


@dataclass(frozen=True)
class TuneConfig:
    """Settings of a fine-tuning run.

    Attributes:
        method: ``lora`` trains small matrices beside frozen ones, ``qlora`` the same on a base
            held in 4 bits, ``full`` every weight.
        rank: of the adapter's matrices.
        alpha: the adapter is scaled by alpha / rank.
        dropout: on the adapter's input.
        targets: names of the linear layers that get an adapter.
        blocks: how many of the last blocks get one; 0 is all. Below them nothing is learned, and
            no gradient is computed, which saves up to half of the time.
        tasks: weight of each task, its share of the examples. The loss is a mean over tokens, so
            tasks with long answers weigh more in it than their share.
        instructions: for the task ``instructions``, a file (.jsonl, .parquet) or folder of own chat
            examples: rows with ``messages``, or ``prompt`` and ``completion``; the assistant's
            turns alone are learned.
        user_share: of the users, drawn at random, whose histories are learned from; the same users
            for every seed, and those of ``llmrec train`` with as large a share.
        domain: of several, the one whose items are learned to come next, for an adapter a domain;
            histories hold all. Empty for all.
        align: the first step, for the rows of new tokens.
        loop: the training loop's settings.
        validation_users: validate on a fixed sample of so many users; 0 is all of them.
        beams: beam width while validating semantic IDs.
        name: of the adapter in requests.
        version: which adapter of this name it is.
    """

    method: Literal["lora", "qlora", "full"] = "lora"
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    targets: list[str] = field(default_factory=lambda: list(PROJECTIONS))
    blocks: int = 0
    tasks: dict[str, float] = field(default_factory=lambda: {"next_item": 1.0})
    instructions: Path | None = None
    user_share: float = 1.0
    domain: str = ""
    align: AlignConfig = field(default_factory=AlignConfig)
    loop: TuneLoopConfig = field(default_factory=TuneLoopConfig)
    validation_users: int = 0
    beams: int = 20
    name: str = "recommend"
    version: str = "1"

    def __post_init__(self) -> None:
        check_tasks(self.tasks)
        if bool(self.tasks.get("instructions")) != (self.instructions is not None):
            raise ConfigError(
                "instructions: name the file, and give it a share: tasks: {instructions: 0.2}"
            )
        if self.domain and self.tasks.get("history"):
            raise ConfigError(
                "tasks.history: learns from every event of a history, those of other domains too; "
                "with `domain` take next_item"
            )
        if self.method != "full":
            self._check_adapter()
        check_ranges(self, "(0, 1]", "user_share")
        check_ranges(self, "[0, inf)", "validation_users")
        check_ranges(self, "[1, inf)", "beams")

    def _check_adapter(self) -> None:
        check_ranges(self, "[1, inf)", "rank")
        check_ranges(self, "[0, inf)", "blocks")
        check_ranges(self, "(0, inf)", "alpha")
        check_ranges(self, "[0, 1)", "dropout")
        if not self.targets:
            raise ConfigError("targets: an adapter on no layer trains nothing; name some")
        wrong = [name for name in self.targets if name.rsplit(".", 1)[-1] in EMBEDDINGS]
        if wrong:
            raise ConfigError(
                f"targets: {wrong[0]!r} holds the rows of tokens, which adapters leave alone; "
                "train those with align.steps, or use method: full"
            )
        if not re.fullmatch("[A-Za-z][A-Za-z0-9-]*", self.name):
            raise ConfigError(
                f"name: {self.name!r} cannot be an adapter's; take letters, digits and hyphens, "
                "a letter first"
            )

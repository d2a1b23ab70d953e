"""Settings of ``llmrec train``. Light: nothing here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from llmrec.config import check_ranges
from llmrec.errors import ConfigError
from llmrec.training.tasks.names import check_tasks


@dataclass(frozen=True)
class TrainLoopConfig:
    """Settings of the training loop.

    Attributes:
        epochs: at most so many passes over the training histories.
        max_minutes: stop training after so many minutes (validation not counted); 0 is no limit.
        patience: stop after so many validations without a better NDCG@10.
        validate_every: epochs between validations.
        tokens_per_batch: about so many tokens a step, padding included.
        negatives: items of each softmax in a step, drawn anew for every step beside the step's own
            targets; 0 is all of them. Quicker in a large catalogue, at some cost in accuracy.
        learning_rate: peak rate, reached after ``warmup_steps``.
        schedule: ``constant``, or ``cosine`` down to 2% at the last epoch.
        warmup_steps: steps of linear warm-up.
        weight_decay: AdamW's, on matrices only.
        label_smoothing: as in cross-entropy.
        gradient_clip: largest global norm of the gradient.
        average_decay: of the moving average of the weights; 0 turns it off.
        precision: of matrix products, ``fp32`` or ``bf16``; on a CPU without units for the latter
            fp32 is taken, with a warning.
        report_to: ``none``, ``tensorboard`` or ``wandb``.
    """

    epochs: int = 40
    max_minutes: float = 0.0
    patience: int = 5
    validate_every: int = 1
    tokens_per_batch: int = 1024
    negatives: int = 0
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 200
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    gradient_clip: float = 1.0
    average_decay: float = 0.999
    precision: Literal["fp32", "bf16"] = "fp32"
    report_to: Literal["none", "tensorboard", "wandb"] = "none"

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "[1, inf)",
            "epochs",
            "validate_every",
            "tokens_per_batch",
            "patience",
            prefix="train.",
        )
        check_ranges(self, "[0, inf)", "negatives", prefix="train.")
        check_ranges(self, "(0, inf)", "learning_rate", prefix="train.")
        check_ranges(self, "[0, 1)", "average_decay", prefix="train.")


@dataclass(frozen=True)
class EmfConfig:
    """Parts of ``kind: emf``.

    Attributes:
        intra: attention within the target's domain.
        inter: attention over the merged sequence of all domains.
    """

    intra: bool = True
    inter: bool = True

    def __post_init__(self) -> None:
        if not (self.intra or self.inter):
            raise ConfigError("train.emf: without intra and inter no history is read; keep one")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run.

    Attributes:
        kind: ``llm``; ``sasrec`` for the baseline of that name; or ``emf``, which reads histories
            of several domains in branches of ID, text and pictures (its ``content``).
        base: a size (nano, micro, mini, small, medium), a folder, a hub id or a short name
            (``llmrec models list``); the folder of an earlier ``llmrec train`` goes on from that
            model, also on a dataset with other items.
        start_from: folder of a model with atomic IDs of the same items, whose weights and rows a
            model of the same size with semantic IDs begins with.
        prompt: template of the history prompt, by name or path.
        max_items: newest events of a history that are in a prompt.
        time_tokens: any of gap, hour, weekday, month; needs timestamps.
        content: feature blocks the item rows are computed from, with the number of principal
            components of each; an empty mapping gives purely learned rows.
        content_dropout: share of content dropped in training.
        content_std: of the fresh weights that project content into rows: larger starts nearer to
            content alone.
        dropout: on every block of the network and on its input.
        normalise: over what the probabilities of a semantic ID's later tokens add up to one while
            training: ``level``, all its codes, or ``children``, those that go on to an item.
        domain: learn from the events of this domain alone, of several; empty for all.
        share: of the training events, the earliest, that are learned from; less than 1 for a model
            whose scores of the events after them are features of a click model.
        user_share: of the users, drawn at random, whose events are learned from: how much a model
            makes of little data. The same users for every seed; validation is on all users.
        learn_validation: learn from the events of the validation part as well. The epoch is then
            chosen on events that were learned from: in practice it is the last.
        validation_users: validate on a fixed sample of so many users; 0 is all of them.
        beams: beam width while validating semantic IDs.
        tasks: auxiliary tasks in words and their shares, named as in ``llmrec tune``; next_item is
            trained on the histories already.
        task_examples: examples of these tasks per step.
        task_length: most tokens of such an example.
        task_weight: of their loss, relative to the histories' own.
        emf: parts of ``kind: emf``.
        loop: the training loop's settings.
    """

    kind: Literal["llm", "sasrec", "emf"] = "llm"
    base: Annotated[str, tyro.conf.arg(aliases=("--from",))] = "micro"
    start_from: Path | None = None
    prompt: str = "recommend"
    max_items: int = 50
    time_tokens: list[str] = field(default_factory=list)
    content: dict[str, int] = field(default_factory=lambda: {"text": 192, "attributes": 96})
    content_dropout: float = 0.2
    content_std: float = 0.02
    dropout: float = 0.4
    normalise: Literal["level", "children"] = "level"
    domain: str = ""
    share: float = 1.0
    user_share: float = 1.0
    learn_validation: bool = False
    validation_users: int = 0
    beams: int = 20
    tasks: dict[str, float] = field(default_factory=dict)
    task_examples: int = 16
    task_length: int = 256
    task_weight: float = 0.1
    emf: EmfConfig = field(default_factory=EmfConfig)
    loop: TrainLoopConfig = field(default_factory=TrainLoopConfig)

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "max_items", prefix="train.")
        check_ranges(self, "[0, 1)", "dropout", "content_dropout", prefix="train.")
        check_ranges(self, "(0, 1]", "share", "user_share", prefix="train.")
        if self.learn_validation and self.share < 1:
            raise ConfigError(
                "train.learn_validation: what follows the training events; set share: 1"
            )
        if self.normalise == "children" and self.loop.label_smoothing > 0:
            raise ConfigError(
                "train.loop.label_smoothing: would spread over codes that make no item; set 0, or "
                "normalise: level"
            )
        if self.start_from is not None and self.kind != "llm":
            raise ConfigError(f"train.start_from: {self.kind} has no semantic IDs; leave it out")
        self._check_tasks()

    def _check_tasks(self) -> None:
        if not self.tasks:
            return
        if self.share < 1:
            raise ConfigError("train.tasks: tasks in words learn from all events; set share: 1")
        if self.kind != "llm":
            raise ConfigError(f"train.tasks: {self.kind} has no words; leave it empty")
        for name in ("next_item", "history"):
            if name in self.tasks:
                raise ConfigError(
                    f"train.tasks: {name} is trained on the histories already; leave it out"
                )
        if "instructions" in self.tasks:
            raise ConfigError("train.tasks: instructions are a task of llmrec tune; leave it out")
        check_tasks(self.tasks)
        check_ranges(self, "[1, inf)", "task_examples", prefix="train.")
        check_ranges(self, "[32, inf)", "task_length", prefix="train.")
        check_ranges(self, "(0, inf)", "task_weight", prefix="train.")

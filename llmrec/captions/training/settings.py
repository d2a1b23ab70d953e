"""Settings of ``llmrec train multimodal``. Light: nothing here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llmrec.captions.prompting import SOURCES, TASKS
from llmrec.captions.settings import check_chosen
from llmrec.config import check_ranges
from llmrec.content.media.container import MAX_PIXELS
from llmrec.content.media.download import MediaLimits
from llmrec.content.media.video import Choice
from llmrec.errors import ConfigError

# They change how fast the stage runs, not what it learns.
SPEED_SETTINGS = ("workers", "device", "checkpoint_steps", "logging_steps")
Method = Literal["lora", "full", "none"]


@dataclass(frozen=True)
class ProjectorConfig:
    """The first phase: the projector learns the language model's embeddings, all else is frozen.

    Attributes:
        epochs: passes over the items; 0 leaves the phase out.
        lr: highest learning rate.
    """

    epochs: int = 1
    lr: float = 1e-3

    def __post_init__(self) -> None:
        check_ranges(self, "[0, inf)", "epochs")
        check_ranges(self, "(0, inf)", "lr")


@dataclass(frozen=True)
class FinetuneConfig:
    """The second phase: fine-tuning of the projector and the language model.

    Attributes:
        train: of the language model: ``lora`` (merged into it at the end), ``full``, ``none`` of
            it; None for ``full`` from scratch and ``lora`` for a pretrained base.
        epochs: passes over the items; None for 10 from scratch and 2 otherwise.
        lr: highest learning rate; None for 2e-3 from scratch, 2e-4 for LoRA, 2e-5 for a
            pretrained model in full.
        tower: whether the vision tower is trained too; None for yes where it is fresh: what a CLIP
            learned is soon lost to a language model that cannot read it yet.
        rank, alpha: of LoRA.
    """

    train: Method | None = None
    epochs: int | None = None
    lr: float | None = None
    tower: bool | None = None
    rank: int = 16
    alpha: int = 32

    def __post_init__(self) -> None:
        check_ranges(self, "[0, inf)", "epochs")
        check_ranges(self, "(0, inf)", "lr")
        check_ranges(self, "[1, inf)", "rank")

    def resolved(self, *, scratch: bool, fresh_tower: bool | None = None) -> FinetuneConfig:
        """The same with everything chosen.

        Args:
            scratch: whether the language model starts from random weights.
            fresh_tower: whether the tower does; None for as the language model.

        Raises:
            ConfigError: if a model of random weights is to learn through LoRA alone.
        """
        train = self.train or ("full" if scratch else "lora")
        if scratch and train == "lora":
            raise ConfigError("finetune.train: a base of random weights has to learn in full")
        tower = scratch if fresh_tower is None else fresh_tower
        rate = 2e-3 if scratch else {"lora": 2e-4, "full": 2e-5, "none": 1e-4}[train]
        return FinetuneConfig(
            train,
            self.epochs if self.epochs is not None else (10 if scratch else 2),
            self.lr if self.lr is not None else rate,
            self.tower if self.tower is not None else tower,
            self.rank,
            self.alpha,
        )


@dataclass(frozen=True)
class SourceDropout:
    """How often a source of an item is dropped, so that the model can do without any of them.

    Attributes:
        alone: share of the items with a picture whose input is it alone.
        image, video, speech, text: of the other items, how often each is dropped; when all text
            is not, each of its fields is with the same chance. One source always stays.
    """

    alone: float = 0.5
    image: float = 0.1
    video: float = 0.5
    speech: float = 0.3
    text: float = 0.3

    def __post_init__(self) -> None:
        check_ranges(self, "[0, 1]", "alone", "image", "video", "speech", "text")


@dataclass(frozen=True)
class ViewAugmentation:
    """How pictures differ from one epoch to the next; colours keep their names.

    Attributes:
        flip: how often they are mirrored.
        crop: at most so much of their width and height is cut off.
    """

    flip: float = 0.5
    crop: float = 0.15

    def __post_init__(self) -> None:
        check_ranges(self, "[0, 1]", "flip")
        check_ranges(self, "[0, 1)", "crop")


@dataclass(frozen=True)
class MultimodalConfig:
    """Settings of ``llmrec train multimodal``.

    Attributes:
        base: ``llava-micro``, ``-mini`` or ``-nano`` for fresh weights, a folder or a hub id.
        clip: a CLIP that open_clip opens, whose vision tower a fresh model takes over.
        video: whether a fresh model takes videos.
        schema: name or YAML file of the closed fields.
        tasks: shares of the examples.
        sources: of the input.
        projector, finetune: the two phases.
        drop: how often sources are dropped.
        augmentation: how pictures differ from epoch to epoch.
        batch_size: examples a step learns from.
        micro_batch: examples of one forward pass; fewer need less memory.
        sort: whether examples of like length share a batch.
        warmup: share of a phase's steps in which the learning rate rises; then it falls as a
            cosine.
        optimizer: ``adamw``, or ``muon`` for the matrices inside blocks and AdamW for the rest;
            None for muon from scratch, where it learns in a fraction of the steps, and adamw
            otherwise.
        weight_decay: on matrices.
        gradient_clip: largest norm of the gradient.
        validation_share: of the items, held out to measure on; one at least.
        keep: the weights after the ``last`` epoch, or after the ``best`` by accuracy, or by loss
            where the catalogue has no fields.
        frames, frame_choice: of a video, as for ``llmrec caption``.
        max_pixels: a picture, or a frame, with more pixels is not used.
        limits: what one file may cost; ``limits.networks`` opens networks that are not public.
        precision: ``auto`` is bf16 on a GPU, fp32 on a CPU.
        device: auto, cpu, cuda.
        workers: threads that fetch and decode.
        checkpoint_steps: steps between two checkpoints; each epoch ends with one too.
        logging_steps: steps between two lines of the log.
    """

    base: str = "llava-micro"
    clip: str | None = None
    video: bool = False
    schema: str = "shop"
    tasks: dict[str, float] = field(
        default_factory=lambda: {"attributes": 0.6, "caption": 0.25, "enhance": 0.15}
    )
    sources: tuple[str, ...] = SOURCES
    projector: ProjectorConfig = field(default_factory=ProjectorConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    drop: SourceDropout = field(default_factory=SourceDropout)
    augmentation: ViewAugmentation = field(default_factory=ViewAugmentation)
    batch_size: int = 16
    micro_batch: int = 16
    sort: bool = True
    warmup: float = 0.05
    optimizer: Literal["muon", "adamw"] | None = None
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    validation_share: float = 0.05
    keep: Literal["last", "best"] = "last"
    frames: int = 8
    frame_choice: Choice = "even"
    max_pixels: int = MAX_PIXELS
    limits: MediaLimits = field(default_factory=MediaLimits)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"
    workers: int = 2
    checkpoint_steps: int = 200
    logging_steps: int = 10

    def __post_init__(self) -> None:
        check_chosen("tasks", self.tasks, TASKS)
        check_chosen("sources", self.sources, SOURCES)
        if min(self.tasks.values()) < 0 or not sum(self.tasks.values()) > 0:
            raise ConfigError("tasks: shares must be 0 or more, and one of them above 0")
        check_ranges(self, "[1, inf)", "batch_size", "micro_batch", "frames", "max_pixels")
        check_ranges(self, "[1, inf)", "workers", "checkpoint_steps", "logging_steps")
        check_ranges(self, "[0, 1)", "validation_share", "warmup")

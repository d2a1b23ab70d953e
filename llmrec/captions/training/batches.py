"""Examples to tensors: prompts with their pictures, answers, and which tokens are learned.

The loss is on the answer and the end token alone. Prompt and answer are tokenized apart and joined,
as they are when the model answers: no token can reach over the boundary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from llmrec.captions.asking import Seen, Task
from llmrec.captions.inputs import media_of, prompt_of, starts_itself
from llmrec.content.schema import Schema

IGNORED = -100


@dataclass(frozen=True)
class Shown:
    """One example, opened.

    Attributes:
        seen: what :func:`~llmrec.captions.inputs.shown` gave.
        task: what is asked.
        answer: what is to be said.
    """

    seen: Seen
    task: Task
    answer: str

    @property
    def frames(self) -> int:
        """Frames of its clip."""
        return 0 if self.seen.video is None else len(self.seen.video.frames)


@dataclass
class Batch:
    """Tensors of one forward pass.

    Attributes:
        inputs: ``input_ids`` and ``attention_mask``, int64 ``[examples, tokens]``, padded on the
            right, and the pictures as the processor gives them.
        labels: int64 ``[examples, tokens]``, ``IGNORED`` but for answers and end tokens.
        starts: where each answer begins.
        too_long: examples that the model cannot read and that were left out.
    """

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    starts: list[int]
    too_long: int = 0

    @property
    def learned(self) -> int:
        """Tokens that are learned."""
        return int((self.labels != IGNORED).sum())

    @property
    def pictured(self) -> bool:
        """Whether any of its examples shows a picture."""
        return any(name.startswith("pixel_values") for name in self.inputs)

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        inputs = {name: value.to(device) for name, value in self.inputs.items()}
        return Batch(inputs, self.labels.to(device), self.starts, self.too_long)


@dataclass(frozen=True)
class Collator:
    """Makes batches.

    Attributes:
        processor: of the model.
        schema: what answers are about.
        context: tokens that the model can read.
        size: examples of one forward pass.
    """

    processor: Any
    schema: Schema
    context: int
    size: int = 16

    def batches(self, examples: Sequence[Shown]) -> list[Batch]:
        """Forward passes for some examples: clips of one length share a tensor."""
        found = []
        for frames in sorted({example.frames for example in examples}):
            same = [example for example in examples if example.frames == frames]
            for start in range(0, len(same), self.size):
                batch = self.batch(same[start : start + self.size])
                if batch is not None:
                    found.append(batch)
        return found

    def batch(self, examples: Sequence[Shown]) -> Batch | None:
        """One forward pass; None if no example is short enough."""
        encoded = [self._encoded(example) for example in examples]
        kept = [one for one in encoded if len(one.prompt) + len(one.answer) <= self.context]
        if not kept:
            return None
        longest = max(len(one.prompt) + len(one.answer) for one in kept)
        ids = torch.full((len(kept), longest), self._padding, dtype=torch.long)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
        for row, one in enumerate(kept):
            start, end = len(one.prompt), len(one.prompt) + len(one.answer)
            ids[row, :end] = torch.tensor(one.prompt + one.answer)
            mask[row, :end] = 1
            labels[row, start:end] = torch.tensor(one.answer)
        inputs = {"input_ids": ids, "attention_mask": mask}
        for name in {name for one in kept for name in one.pixels}:
            inputs[name] = torch.cat([one.pixels[name] for one in kept if name in one.pixels])
        starts = [len(one.prompt) for one in kept]
        return Batch(inputs, labels, starts, len(encoded) - len(kept))

    @property
    def _padding(self) -> int:
        padding = self.processor.tokenizer.pad_token_id
        return 0 if padding is None else int(padding)  # the mask hides them

    def _encoded(self, example: Shown) -> _Encoded:
        prompt = prompt_of(self.processor, example.task, example.seen, self.schema)
        found = self.processor(
            text=prompt,
            return_tensors="pt",
            add_special_tokens=not starts_itself(self.processor, prompt),
            **media_of(example.seen),
        )
        tokenizer = self.processor.tokenizer
        answer = tokenizer(example.answer, add_special_tokens=False)["input_ids"]
        pixels = {
            name: value
            for name, value in found.items()
            if name in ("pixel_values", "pixel_values_videos", "image_sizes")
        }
        return _Encoded(found["input_ids"][0].tolist(), [*answer, tokenizer.eos_token_id], pixels)


@dataclass(frozen=True)
class _Encoded:
    prompt: list[int]
    answer: list[int]
    pixels: dict[str, torch.Tensor]


def value_tokens(tokenizer: Any, answer: str) -> dict[str, list[int]]:
    """Which tokens of an answer to ``attributes`` say the value of each field.

    The quote that ends a value counts: without it `blue` and `blue grey` begin alike.

    Returns:
        places among the answer's tokens, by field.
    """
    encoded = tokenizer(answer, add_special_tokens=False, return_offsets_mapping=True)
    spans: dict[str, tuple[int, int]] = {}
    written = "{"
    for name, value in json.loads(answer).items():
        written += f"{json.dumps(name, ensure_ascii=False)}: "
        start = len(written)
        written += json.dumps(value, ensure_ascii=False)
        spans[name] = (start + 1, len(written))
        written += ", "
    return {
        name: [
            place
            for place, (first, last) in enumerate(encoded["offset_mapping"])
            if first < end and last > start
        ]
        for name, (start, end) in spans.items()
    }

"""Examples to tensors: prompts with their pictures, responses, and which tokens are learned.

The loss is on the response and the end token alone. Prompt and response are tokenized apart and
joined, as they are in generation: no token can reach over the boundary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from llmrec.captions.inputs import processor_media
from llmrec.captions.prompting import ModelInput, Task, has_bos, render_prompt
from llmrec.content.schema import Schema

IGNORED = -100


@dataclass(frozen=True)
class LoadedExample:
    """One example with its files decoded.

    Attributes:
        given: the model's input, from :func:`~llmrec.captions.inputs.prepare_input`.
        task: of the prompt.
        response: that is learned.
    """

    given: ModelInput
    task: Task
    response: str


@dataclass
class Batch:
    """Tensors of one forward pass.

    Attributes:
        inputs: ``input_ids`` and ``attention_mask``, int64 ``[examples, tokens]``, padded on the
            right, and the pictures as the processor gives them.
        labels: int64 ``[examples, tokens]``, ``IGNORED`` but for responses and end tokens.
        starts: where each response begins.
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
        """Whether any of its examples has a picture."""
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
        schema: of the responses.
        context: tokens that the model can read.
        size: examples of one forward pass.
    """

    processor: Any
    schema: Schema
    context: int
    size: int = 16

    def batches(self, examples: Sequence[LoadedExample]) -> list[Batch]:
        """Forward passes for some examples."""
        found = map(self.batch, self.groups(examples))
        return [batch for batch in found if batch is not None]

    def groups(self, examples: Sequence[LoadedExample]) -> list[list[LoadedExample]]:
        """The examples of each forward pass: clips of one length share a tensor."""
        found = []
        for frames in sorted({example.given.n_frames for example in examples}):
            same = [example for example in examples if example.given.n_frames == frames]
            found += [same[start : start + self.size] for start in range(0, len(same), self.size)]
        return found

    def batch(self, examples: Sequence[LoadedExample]) -> Batch | None:
        """One forward pass; None if no example is short enough."""
        encoded = [self._encoded(example) for example in examples]
        kept = [one for one in encoded if len(one.prompt) + len(one.response) <= self.context]
        if not kept:
            return None
        longest = max(len(one.prompt) + len(one.response) for one in kept)
        ids = torch.full((len(kept), longest), self._padding, dtype=torch.long)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
        for row, one in enumerate(kept):
            start, end = len(one.prompt), len(one.prompt) + len(one.response)
            ids[row, :end] = torch.tensor(one.prompt + one.response)
            mask[row, :end] = 1
            labels[row, start:end] = torch.tensor(one.response)
        inputs = {"input_ids": ids, "attention_mask": mask}
        for name in {name for one in kept for name in one.pixels}:
            inputs[name] = torch.cat([one.pixels[name] for one in kept if name in one.pixels])
        starts = [len(one.prompt) for one in kept]
        return Batch(inputs, labels, starts, len(encoded) - len(kept))

    @property
    def _padding(self) -> int:
        padding = self.processor.tokenizer.pad_token_id
        return 0 if padding is None else int(padding)  # the mask hides them

    def _encoded(self, example: LoadedExample) -> _Encoded:
        prompt = render_prompt(self.processor, example.task, example.given, self.schema)
        found = self.processor(
            text=prompt,
            return_tensors="pt",
            add_special_tokens=not has_bos(self.processor, prompt),
            **processor_media(example.given),
        )
        tokenizer = self.processor.tokenizer
        response = tokenizer(example.response, add_special_tokens=False)["input_ids"]
        pixels = {
            name: value
            for name, value in found.items()
            if name in ("pixel_values", "pixel_values_videos", "image_sizes")
        }
        return _Encoded(found["input_ids"][0].tolist(), [*response, tokenizer.eos_token_id], pixels)


@dataclass(frozen=True)
class _Encoded:
    prompt: list[int]
    response: list[int]
    pixels: dict[str, torch.Tensor]


def value_tokens(tokenizer: Any, response: str) -> dict[str, list[int]]:
    """Which tokens of a response to ``attributes`` write the value of each field.

    The quote that ends a value counts: without it `blue` and `blue grey` begin alike.

    Returns:
        positions among the response's tokens, by field.
    """
    encoded = tokenizer(response, add_special_tokens=False, return_offsets_mapping=True)
    spans: dict[str, tuple[int, int]] = {}
    written = "{"
    for name, value in json.loads(response).items():
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

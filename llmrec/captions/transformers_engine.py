"""Answers by ``transformers``: batches padded on the left, one question of each kind at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmrec.captions.asking import TASKS, Seen, Task
from llmrec.captions.constraint import GreedyRecorder, compile_schema
from llmrec.captions.engine import Answer, Asked, Questions
from llmrec.captions.inputs import media_of, starts_itself
from llmrec.captions.model import MultimodalModel
from llmrec.captions.training.llava import load_multimodal


class TransformersEngine:
    """An :class:`~llmrec.captions.engine.Engine` on ``transformers``.

    Args:
        model: what is asked.
        questions: what answers are held to.
        device: a torch device.
        dtype: ``float32`` or ``bfloat16``.
        batch_size: questions of one forward pass.
    """

    name = "transformers"

    def __init__(
        self,
        model: MultimodalModel,
        questions: Questions,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int = 16,
    ) -> None:
        import torch
        from transformers import GenerationConfig

        self.model, self.questions = model, questions
        self.device, self.batch_size = device, batch_size
        loaded, _ = load_multimodal(model.base, dtype=getattr(torch, dtype))
        self._loaded: Any = loaded.to(device).eval()
        # the folder's own settings may sample, or punish what is repeated
        self._loaded.generation_config = GenerationConfig(
            do_sample=False,
            eos_token_id=sorted(model.end_tokens),
            pad_token_id=model.tokenizer.pad_token_id or min(model.end_tokens),
        )
        self._dtype = getattr(torch, dtype)
        self._grammars = {
            task: compile_schema(model.vocabulary, held)
            for task in TASKS
            if (held := questions.json_schema(task)) is not None
        }

    def answer(self, asked: Sequence[Asked]) -> list[Answer]:
        """One answer a question, in order."""
        answers: dict[int, Answer] = {}
        alike: dict[tuple[Task, int], list[int]] = {}
        for place, one in enumerate(asked):
            alike.setdefault((one.task, _frames(one.seen)), []).append(place)
        for (task, _), places in alike.items():
            for start in range(0, len(places), self.batch_size):
                batch = places[start : start + self.batch_size]
                said = self._generate(task, [asked[place].seen for place in batch])
                answers.update(zip(batch, said, strict=True))
        return [answers[place] for place in range(len(asked))]

    def close(self) -> None:
        """Let the weights go."""
        self._loaded = None

    def _generate(self, task: Task, shown: list[Seen]) -> list[Answer]:
        import torch

        recorder = GreedyRecorder(self._grammars.get(task), len(shown))
        inputs = self._inputs(task, shown)
        with torch.inference_mode():
            out = self._loaded.generate(
                **inputs,
                max_new_tokens=self.questions.max_tokens(task),
                logits_processor=[recorder],
            )
        said = out[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._cut(tokens, row, recorder.logprobs) for row, tokens in enumerate(said)]

    def _inputs(self, task: Task, shown: list[Seen]) -> Any:
        prompts = [self.model.prompt(task, seen, self.questions.schema) for seen in shown]
        media: dict[str, list[Any]] = {}
        for seen in shown:
            for name, files in media_of(seen).items():
                media.setdefault(name, []).extend(files)
        inputs = self.model.processor(
            text=prompts,
            padding=True,
            return_tensors="pt",
            add_special_tokens=not starts_itself(self.model.processor, prompts[0]),
            **media,
        )
        return inputs.to(self.device, self._dtype)  # whole numbers keep their type

    def _cut(self, tokens: list[int], row: int, logprobs: list[list[float]]) -> Answer:
        ends = [place for place, token in enumerate(tokens) if token in self.model.end_tokens]
        length = ends[0] if ends else len(tokens)
        return Answer(
            tokens[:length], [logprobs[step][row] for step in range(length)], ended=bool(ends)
        )


def _frames(seen: Seen) -> int:
    """Videos go together only with as many frames."""
    return 0 if seen.video is None else len(seen.video.frames)

"""How well a model answers about items held back: its loss, and how many fields it gets right.

The true answer is read to the model token by token (teacher forcing), so a field counts as right
when, after the true fields before it, each token of its true value is the likeliest. What it writes
by itself, held to the schema, is measured by ``llmrec caption``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from llmrec.captions.training.batches import IGNORED, Batch, Shown, value_tokens
from llmrec.captions.training.feed import Feed


@torch.no_grad()
def validate(
    model: Any, feed: Feed, precision: AbstractContextManager[Any] | None = None
) -> dict[str, float]:
    """Loss and accuracy on the items held back.

    Returns:
        ``validation_loss``; where the catalogue tells fields, ``validation_accuracy``, their mean,
        and ``validation_accuracy_FIELD``; empty when no item is held back.
    """
    model.eval()
    device = next(model.parameters()).device
    lost, learned = 0.0, 0
    right: dict[str, list[bool]] = defaultdict(list)
    size = feed.collator.size
    examples = feed.corpus.validation_examples()
    for start in range(0, len(examples), size):
        shown = [s for s in map(feed.shown, examples[start : start + size]) if s is not None]
        for group in _by_frames(shown):
            batch = feed.collator.batch(group)
            if batch is None or batch.too_long:
                continue
            batch = batch.to(device)
            with precision or nullcontext():
                logits = model(**batch.inputs, use_cache=False).logits
            lost += float(answer_loss(logits, batch.labels))
            learned += batch.learned
            _note_fields(right, feed, group, batch, logits)
    if not learned:
        return {}
    found = {"validation_loss": lost / learned}
    shares = {name: sum(values) / len(values) for name, values in right.items()}
    if shares:
        found["validation_accuracy"] = sum(shares.values()) / len(shares)
        found |= {f"validation_accuracy_{name}": share for name, share in shares.items()}
    return found


def answer_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sum of the cross-entropy over the tokens that are learned.

    Args:
        logits: ``[examples, tokens, vocabulary]``.
        labels: int64 ``[examples, tokens]``.
    """
    wanted = labels[:, 1:]
    learned = wanted != IGNORED
    return torch.nn.functional.cross_entropy(
        logits[:, :-1][learned].float(), wanted[learned], reduction="sum"
    )


def _by_frames(shown: Sequence[Shown]) -> list[list[Shown]]:
    return [
        [one for one in shown if one.frames == frames]
        for frames in sorted({one.frames for one in shown})
    ]


def _note_fields(
    right: dict[str, list[bool]],
    feed: Feed,
    group: Sequence[Shown],
    batch: Batch,
    logits: torch.Tensor,
) -> None:
    likeliest = logits.argmax(-1)
    for row, (one, start) in enumerate(zip(group, batch.starts, strict=True)):
        if one.task != "attributes":
            continue
        tokenizer = feed.collator.processor.tokenizer
        for name, places in value_tokens(tokenizer, one.answer).items():
            at = torch.tensor(places, device=logits.device) + start
            same = likeliest[row, at - 1] == batch.labels[row, at]
            right[name].append(bool(same.all()))

"""Validation of a multimodal model on items held out: its loss, and the accuracy of each field.

It is teacher-forced: a field counts as right when, after the true fields before it, each token of
its true value is the likeliest. Constrained generation is measured by ``llmrec caption`` and
``llmrec bench captions``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from llmrec.captions.training.batches import IGNORED, Batch, LoadedExample, value_tokens
from llmrec.captions.training.loader import BatchLoader


@torch.no_grad()
def validate(
    model: Any, loader: BatchLoader, precision: AbstractContextManager[Any] | None = None
) -> dict[str, float]:
    """Loss and accuracy on the items held out.

    Returns:
        ``validation_loss``; where the catalogue has fields, ``validation_accuracy``, their mean,
        and ``validation_accuracy_FIELD``; empty when no item is held out.
    """
    model.eval()
    device = next(model.parameters()).device
    lost, learned = 0.0, 0
    right: dict[str, list[bool]] = defaultdict(list)
    size = loader.collator.size
    examples = loader.corpus.validation_examples()
    for start in range(0, len(examples), size):
        chunk = map(loader.examples.load, examples[start : start + size])
        loaded = [one for one in chunk if one is not None]
        for group in loader.collator.groups(loaded):
            batch = loader.collator.batch(group)
            if batch is None or batch.too_long:
                continue
            batch = batch.to(device)
            with precision or nullcontext():
                logits = model(**batch.inputs, use_cache=False).logits
            lost += float(response_loss(logits, batch.labels))
            learned += batch.learned
            _note_fields(right, loader, group, batch, logits)
    if not learned:
        return {}
    found = {"validation_loss": lost / learned}
    shares = {name: sum(values) / len(values) for name, values in right.items()}
    if shares:
        found["validation_accuracy"] = sum(shares.values()) / len(shares)
        found |= {f"validation_accuracy_{name}": share for name, share in shares.items()}
    return found


def response_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
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


def _note_fields(
    right: dict[str, list[bool]],
    loader: BatchLoader,
    group: Sequence[LoadedExample],
    batch: Batch,
    logits: torch.Tensor,
) -> None:
    likeliest = logits.argmax(-1)
    for row, (one, start) in enumerate(zip(group, batch.starts, strict=True)):
        if one.task != "attributes":
            continue
        tokenizer = loader.collator.processor.tokenizer
        for name, places in value_tokens(tokenizer, one.response).items():
            at = torch.tensor(places, device=logits.device) + start
            same = likeliest[row, at - 1] == batch.labels[row, at]
            right[name].append(bool(same.all()))

"""Completions that share a prompt are scored as if each were the only one."""

import numpy as np
import pytest
import torch
from tiny_models import tiny_llama

from llmrec.training.preference.shared_prefix import SharedPrefixBatch

VOCABULARY = 40


def rows(levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight answers to three prompts, their order mixed; prompts of different lengths."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(1, VOCABULARY, n) for n in (3, 7, 5)]
    ids, masks = [], []
    for prompt in (0, 1, 0, 2, 1, 0, 0, 2):
        own = prompts[prompt]
        answer = rng.integers(1, VOCABULARY, levels)
        ids.append(np.concatenate([np.zeros(7 - len(own), int), own, answer]))
        masks.append(np.concatenate([np.zeros(7 - len(own)), np.ones(len(own) + levels)]))
    return torch.tensor(np.array(ids)), torch.tensor(np.array(masks)).long()


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_hidden_states_are_those_of_each_answer_alone(levels: int) -> None:
    ids, mask = rows(levels)
    model = tiny_llama(VOCABULARY).model
    batch = SharedPrefixBatch.of(ids, mask, levels)
    assert len(batch.tokens) == 3, "every prompt once"
    with torch.inference_mode():
        parts = [
            model(
                input_ids=part.tokens,
                attention_mask=part.attention_mask(torch.float32),
                position_ids=part.position_ids,
                use_cache=False,
            ).last_hidden_state[:, -part.kept :]
            for part in batch.split(2)
        ]
        found = batch.by_completion(torch.cat(parts))
        for row in range(len(ids)):
            alone = ids[row][mask[row].bool()][None, :-1]
            expected = model(input_ids=alone, use_cache=False).last_hidden_state[0, -levels:]
            torch.testing.assert_close(found[row], expected, atol=1e-4, rtol=1e-4)


def test_padding_gives_numbers() -> None:
    ids, mask = rows(3)
    batch = SharedPrefixBatch.of(ids, mask, 3)
    bias = batch.attention_mask(torch.float32)
    assert torch.isfinite(bias).all() and (bias <= 0).all()
    assert (batch.position_ids >= 0).all()
    assert int(batch.position_ids.max()) == 7 + 1, "the second token of an answer to the longest"

"""Content of tokens: what an ID's tokens say together is about its item's content."""

from pathlib import Path

import numpy as np
import pytest
from tiny_models import semantic_ids

from llmrec.training.next_item import item_content


def test_a_later_token_has_what_earlier_ones_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    content = np.array([[1.0, 0], [3, 0], [0, 6]], np.float32)
    monkeypatch.setattr(item_content, "content_matrix", lambda *_: content)
    ids = semantic_ids([[0, 0], [0, 1], [1, 1]], (3, 2))
    found = item_content.token_content({"text": 2}, Path("features"), ids)
    assert found is not None
    # the first code 0 has the mean (2, 0); second codes: -1, and the mean of +1 and nothing
    expected = [[2, 0], [0, 6], [0, 0], [-1, 0], [0.5, 0]]
    np.testing.assert_allclose(found.numpy(), expected)

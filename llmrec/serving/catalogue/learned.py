"""What was learned of a bundle's items, for items that came since: as their content suggests."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from llmrec.content.features.models import unit_rows
from llmrec.content.new_items import ContentRegression, joined_blocks
from llmrec.serving.build import FEATURES

if TYPE_CHECKING:
    from llmrec.ranking.ctr.model import ClickModel
    from llmrec.serving.bundle import Bundle

Blocks = Mapping[str, np.ndarray]


class LearnedByContent:
    """Fits a regression when it is first asked, which takes seconds for a large catalogue.

    Args:
        bundle: as it was opened.
        click_model: likewise; None without one.
    """

    def __init__(self, bundle: Bundle, click_model: ClickModel | None) -> None:
        self._bundle, self._click_model = bundle, click_model

    def token_rows(self, blocks: Blocks, n_items: int) -> list[np.ndarray]:
        """Rows of the tokens of items, float32 ``[n_items, width]``, one for each matrix of the
        language model that has any.

        Args:
            blocks: features of the items; empty without any.
        """
        return [fitted(joined_blocks(blocks, n_items)) for fitted in self._token_rows]

    def fused(self, blocks: Blocks, n_items: int) -> np.ndarray:
        """What the click model knows of items, float32 ``[n_items, dim]``."""
        assert self._click_model is not None
        if self._fused is None or not blocks:
            width = self._click_model.item_features.fused.shape[1]
            return np.zeros((n_items, width), np.float32)
        return unit_rows(self._fused(joined_blocks(blocks, n_items)))

    @cached_property
    def _content(self) -> np.ndarray:
        """float32 ``[items, dims]``, of the items of the bundle."""
        from llmrec.content.features.text import load_features

        folder = self._bundle.folder / FEATURES
        return joined_blocks(load_features(folder) if folder.is_dir() else {}, self._n_items)

    @cached_property
    def _token_rows(self) -> list[ContentRegression]:
        from llmrec.llm.new_items import token_tables

        first = self._bundle.llm.encoder.vocabulary.own_offset
        known = slice(first, first + self._n_items)
        return [
            ContentRegression.fit(self._content, table[known].detach().float().cpu().numpy())
            for table in token_tables(self._bundle.multi_lora.base.engine.model)
        ]

    @cached_property
    def _fused(self) -> ContentRegression | None:
        assert self._click_model is not None
        fused = self._click_model.item_features.fused
        has = fused.any(axis=1)
        if not (has.any() and self._content.shape[1]):
            return None
        return ContentRegression.fit(self._content[has], fused[has])

    @property
    def _n_items(self) -> int:
        return len(self._bundle.items)

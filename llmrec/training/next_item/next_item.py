"""Next-item models as the training loop sees them, and the LLaMA among them.

While training, the rows of item tokens are computed, not looked up: a learned residual plus
a linear projection of the item's content vector. Content lets rare items borrow from similar
ones; the residual lets frequent items be themselves. On export the rows become plain rows of
an ordinary LLaMA (:meth:`LlamaNextItem.export_to`), so serving needs nothing of this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from llmrec.llm.dropout import dropout
from llmrec.llm.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ItemRows(nn.Module):
    """Rows of the item tokens: ``residual + projection(content)``.

    Args:
        content: float ``[item tokens, c]``, or None for purely learned rows.
        n_rows: item tokens including spare ones; the spare ones have no content.
        width: of the language model.
        content_dropout: share of content dimensions dropped, for a row at a time.
        std: of fresh residuals.
        content_std: of fresh projection weights; content has unit mean square per dimension, so
            rows start dominated by it when this is not small against ``std``.
    """

    def __init__(
        self,
        content: torch.Tensor | None,
        n_rows: int,
        width: int,
        content_dropout: float,
        std: float,
        content_std: float,
    ) -> None:
        super().__init__()
        self.residual = nn.Parameter(torch.randn(n_rows, width) * std)
        self.content_dropout = content_dropout
        self.content: torch.Tensor | None
        self.register_buffer("content", None, persistent=False)
        if content is not None:
            padded = torch.zeros(n_rows, content.shape[1])
            padded[: len(content)] = content
            self.content = padded
            self.projection = nn.Linear(content.shape[1], width, bias=False)
            # Items alike in content start alike; the residual grows where behaviour differs.
            nn.init.normal_(self.projection.weight, std=content_std)

    @torch.no_grad()
    def start_from(self, rows: torch.Tensor) -> None:
        """Take rows that were learned before: what content explains of them, and the rest.

        Args:
            rows: float ``[n_rows, width]``.
        """
        self.residual.copy_(rows)
        if self.content is None:
            return
        known = self.content.ne(0).any(1)
        centred = rows[known] - rows[known].mean(0)
        fitted = torch.linalg.lstsq(self.content[known], centred).solution  # [c, width]
        self.projection.weight.copy_(fitted.T)
        self.residual -= self.content @ fitted

    @torch.no_grad()
    def content_alone(self, rows: torch.Tensor) -> None:
        """Leave some rows without a residual: items that nothing can be learned of.

        They take no part in the softmax of training either, where as targets that never come they
        would learn to be unlikely, and teach it to whatever content is like theirs.

        Args:
            rows: int64, their numbers.
        """
        self.residual[rows] = 0

    def forward(self) -> torch.Tensor:
        """float ``[n_rows, width]``."""
        if self.content is None:
            return self.residual
        content = dropout(self.content, self.content_dropout, self.training)
        return self.residual + self.projection(content)


class NextItemModel(nn.Module):
    """A next-item model as the training loop and validation use it.

    An item is ``levels`` tokens; a level's tokens are rows of ``heads()[level]``.
    """

    vocabulary: Vocabulary

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """:meth:`hidden`, under the name that wrappers such as DDP call."""
        return self.hidden(tokens)

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        """float ``[batch, length, width]`` for right-padded int64 ``[batch, length]`` tokens.

        Causal, so padding on the right needs no mask.
        """
        raise NotImplementedError  # pragma: no cover - abstract

    def rows(self) -> torch.Tensor:
        """float ``[item tokens, width]``: rows of the output layer, all levels."""
        raise NotImplementedError  # pragma: no cover - abstract

    def forget_rows(self) -> None:
        """Drop what was computed from the weights; called after every change of them."""

    def head_sizes(self) -> list[int]:
        """Output rows of every level."""
        return list(self.vocabulary.used_sizes)

    def heads(self, wanted: Sequence[torch.Tensor | None] | None = None) -> list[torch.Tensor]:
        """One table of output rows a level, ``[level size, width]`` each.

        Args:
            wanted: of each level the rows to give, int64; None for all of them.
        """
        rows = self.rows()
        levels = range(len(self.vocabulary.level_sizes))
        tables = [rows[slice(*self.vocabulary.level_range(level))] for level in levels]
        if wanted is None:
            return tables
        pairs = zip(tables, wanted, strict=True)
        return [table if some is None else table.index_select(0, some) for table, some in pairs]


class LlamaNextItem(NextItemModel):
    """A causal LM with computed item rows.

    For from-scratch models ``row_scale`` is sqrt(width), as in the original Transformer: small
    rows for the softmax, rows of unit size for the residual stream. The export folds it into
    the weights, from where a model that ``goes_on`` takes it out again, with its item rows.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        vocabulary: Vocabulary,
        item_rows: ItemRows,
        *,
        input_dropout: float = 0.0,
        row_scale: float = 1.0,
        goes_on: bool = False,
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.item_rows = item_rows
        self.body = model.model
        self.input_dropout = input_dropout
        self.row_scale = row_scale
        table = model.get_input_embeddings().weight
        head = model.get_output_embeddings().weight
        self.tied = head.data_ptr() == table.data_ptr()
        self.logit_scale = nn.Parameter(torch.ones(()))
        # Rows of text and time tokens; the item part of the model's own table is unused here.
        first = vocabulary.item_offset
        self.other_rows = nn.Parameter(table.detach()[:first].clone() / row_scale)
        if not self.tied:
            self.output_rows = nn.Parameter(item_rows.residual.detach().clone())
            self.register_buffer("text_head", head.detach()[:first].clone(), persistent=False)
        if goes_on:
            items = slice(first, first + vocabulary.n_item_tokens)
            item_rows.start_from(table.detach()[items] / row_scale)
            with torch.no_grad():
                self.body.norm.weight *= row_scale
                if not self.tied:
                    self.output_rows.copy_(head[items])
        self.body.embed_tokens = None
        # in a list, where torch does not take rows that are a parameter for one more of the model
        self._cached_rows: list[torch.Tensor] = []

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        table = self._input_rows()
        is_item = tokens >= self.vocabulary.item_offset
        items = F.embedding((tokens - self.vocabulary.item_offset).clamp(min=0), table)
        others = F.embedding(torch.where(is_item, 0, tokens), self.other_rows)
        inputs = torch.where(is_item[..., None], items, others) * self.row_scale
        inputs = dropout(inputs, self.input_dropout, self.training)
        output: torch.Tensor = self.body(inputs_embeds=inputs, use_cache=False).last_hidden_state
        return output * self.logit_scale

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Scores over the whole vocabulary, as the exported model gives them.

        Args:
            states: float ``[..., width]`` of :meth:`hidden`.

        Returns:
            float ``[..., vocabulary]``.
        """
        items = states @ self.rows().T
        if self.tied:
            return torch.cat([states @ self.other_rows.T, items], dim=-1)
        text = states / self.logit_scale @ self.text_head.T
        return torch.cat([text, items], dim=-1)

    def rows(self) -> torch.Tensor:
        if not self.tied:
            return self.output_rows
        return self._input_rows()

    def _input_rows(self) -> torch.Tensor:
        # Input and output of one step share the computed rows (and their dropout mask).
        if not self._cached_rows:
            self._cached_rows.append(self.item_rows())
        return self._cached_rows[0]

    def forget_rows(self) -> None:
        self._cached_rows.clear()

    def train(self, mode: bool = True) -> LlamaNextItem:
        self.forget_rows()
        super().train(mode)
        return self

    @torch.no_grad()
    def export_to(self, model: Any) -> None:
        """Write everything learned into ``model``, an ordinary causal LM of the same shape.

        ``row_scale`` goes into the table and out of the final norm, ``logit_scale`` into the
        norm, so the exported model's logits are the trained ones. Where the output layer has rows
        of its own, ``logit_scale`` goes into the item rows alone and the logits of text stay.
        """
        self.eval()
        table = torch.cat([self.other_rows, self.item_rows()]) * self.row_scale
        state = {
            f"model.{name}": value
            for name, value in self.body.state_dict().items()
            if not name.startswith("embed_tokens")
        }
        state["model.embed_tokens.weight"] = table
        if self.tied:
            state["lm_head.weight"] = table
            state["model.norm.weight"] = (
                state["model.norm.weight"] * self.logit_scale / self.row_scale
            )
        else:
            head = model.get_output_embeddings().weight.detach().clone()
            head[self.vocabulary.item_offset :] = self.output_rows * self.logit_scale
            state["lm_head.weight"] = head
        model.load_state_dict(state)

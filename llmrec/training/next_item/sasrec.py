"""SASRec with a softmax over the whole catalogue: the ID-only baseline to beat.

The network of Kang and McAuley (2018): item and position embeddings, causal self-attention
blocks with point-wise feed-forward layers, tied output embeddings. Two departures, both taken
by the strongest published runs: cross-entropy over the full catalogue in place of one sampled
negative, and layer normalisation before the blocks. It is trained by the same loop, on the
same batches and with the same early stopping as the LLM.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from llmrec.content.features.models import check_layers
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.generation.engine import right_pad
from llmrec.item_ids.item_ids import ItemIds
from llmrec.jsonl import read_json
from llmrec.llm.llama import SIZES
from llmrec.llm.vocabulary import HistoryEncoder, Vocabulary
from llmrec.recommender import check_finite, check_known, recommend_from_scores
from llmrec.stage import reading
from llmrec.training.next_item.batches import TrainingBatches
from llmrec.training.next_item.domain_data import training_histories
from llmrec.training.next_item.next_item import NextItemModel
from llmrec.training.next_item.setup import TrainingSetup
from llmrec.training.next_item.validation import validation_metrics
from llmrec.types import Cases, Histories, Ranking

if TYPE_CHECKING:
    from llmrec.training.next_item.settings import TrainConfig

SHAPE = "sasrec.json"


class SasRec(NextItemModel):
    """The network.

    Args:
        n_items: catalogue size.
        layers, width, heads: shape of the encoder.
        max_items: longest history.
        dropout: everywhere.
    """

    def __init__(
        self, n_items: int, layers: int, width: int, heads: int, max_items: int, dropout: float
    ) -> None:
        super().__init__()
        self.vocabulary = Vocabulary(1, (), (n_items,), (n_items,))  # token 0 starts a history
        self.max_items = max_items
        self.shape = {
            "n_items": n_items,
            "layers": layers,
            "width": width,
            "heads": heads,
            "max_items": max_items,
            "dropout": dropout,
        }
        self.item_embedding = nn.Embedding(n_items, width)
        self.start = nn.Parameter(torch.zeros(1, width))
        self.position_embedding = nn.Embedding(max_items + 2, width)
        block = nn.TransformerEncoderLayer(
            width, heads, width * 4, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(
            block, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.item_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        table = torch.cat([self.start, self.item_embedding.weight])
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        # scaled as in the original Transformer: small rows for the softmax, unit-size inputs
        states = nn.functional.embedding(tokens, table) * table.shape[1] ** 0.5
        states = self.dropout(states + self.position_embedding(positions))
        mask = nn.Transformer.generate_square_subsequent_mask(len(positions), tokens.device)
        output: torch.Tensor = self.blocks(states, mask=mask, is_causal=True)
        return output

    def rows(self) -> torch.Tensor:
        return self.item_embedding.weight


class SasRecRecommender:
    """A trained :class:`SasRec` as a Scorer and ListRecommender."""

    def __init__(self, model: SasRec, batch_size: int = 256) -> None:
        self.model, self.batch_size = model, batch_size
        self.n_items, self.max_items = model.item_embedding.num_embeddings, model.max_items

    @torch.inference_mode()
    def score(self, histories: Histories) -> np.ndarray:
        """Logits, float32 ``[users, n_items]``.

        Raises:
            CatalogError: for an item index outside the catalogue.
            LlmrecError: if the model gives anything but finite numbers.
        """
        check_known(histories, self.n_items)
        self.model.eval()
        table = self.model.rows()
        order = np.argsort(histories.lengths(), kind="stable")
        scores = np.empty((len(histories), self.n_items), dtype=np.float32)
        for start in range(0, len(order), self.batch_size):
            users = order[start : start + self.batch_size]
            newest = [self._newest(histories[u]) for u in users]
            tokens, present = right_pad([np.append(0, items + 1) for items in newest])
            hidden = self.model.hidden(tokens.to(table.device))
            last = hidden[torch.arange(len(users)), present.sum(1) - 1]
            scores[users] = (last @ table.T).float().cpu().numpy()
        check_finite(scores)
        return scores

    def _newest(self, items: np.ndarray) -> np.ndarray:
        # The last of max_items events was only ever a target: the position after it, where the
        # next item would be predicted, has never been trained.
        return items[max(0, len(items) - (self.max_items - 1)) :]

    def recommend(self, histories: Histories, n: int, *, exclude_history: bool = True) -> Ranking:
        """The n best-scored items."""
        return recommend_from_scores(self, histories, n, exclude_history=exclude_history)


def prepare(
    config: TrainConfig,
    dataset: Dataset,
    item_ids: Path | None,
    features: Path | None,
    cases: Cases,
    seed: int,
) -> TrainingSetup:
    """Build everything a SASRec run needs; its shape comes from the size names.

    Item IDs and features are not used: SASRec knows items by their index alone.
    """
    if config.base not in SIZES:
        raise ConfigError(f"base: sasrec takes a size ({', '.join(SIZES)}), not {config.base!r}")
    size = SIZES[config.base]
    n_items = dataset.n_items
    model = SasRec(n_items, size.layers, size.width, size.heads, config.max_items, config.dropout)
    encoder = HistoryEncoder(model.vocabulary, ItemIds.atomic(n_items), [0], config.max_items)
    batches = TrainingBatches(
        training_histories(config, dataset),
        encoder,
        config.loop.tokens_per_batch,
        seed,
    )

    def validate(trained: NextItemModel) -> dict[str, float]:
        assert isinstance(trained, SasRec)
        return validation_metrics(SasRecRecommender(trained), cases)

    def save(folder: Path) -> None:
        from safetensors.torch import save_file

        save_file(
            {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()},
            folder / "model.safetensors",
        )
        (folder / SHAPE).write_text(json.dumps(model.shape))

    return TrainingSetup(model, batches, validate, save)


def load_sasrec(folder: Path) -> SasRecRecommender:
    """Open what :func:`prepare`'s ``save`` wrote.

    Raises:
        ArtifactError: if a file is missing or damaged.
    """
    from safetensors.torch import load_file

    check_layers(folder, SHAPE)
    with reading(folder, "llmrec train"):
        model = SasRec(**read_json(folder / SHAPE))
        model.load_state_dict(load_file(folder / "model.safetensors"))
    return SasRecRecommender(model.eval())

"""Trains, saves, opens and asks :class:`~llmrec.training.next_item.emf.Emf`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from llmrec.content.features.models import check_layers
from llmrec.data.dataset import Dataset
from llmrec.data.domains import Domains
from llmrec.errors import ConfigError
from llmrec.generation.engine import right_pad
from llmrec.item_ids.item_ids import ItemIds
from llmrec.jsonl import read_json
from llmrec.llm.llama import SIZES
from llmrec.llm.vocabulary import HistoryEncoder
from llmrec.recommender import check_finite, check_known, recommend_from_scores
from llmrec.stage import reading
from llmrec.training.next_item.batches import SequenceBatch, TrainingBatches
from llmrec.training.next_item.domain_data import training_histories
from llmrec.training.next_item.emf import ID, Emf, EmfShape, shape_from
from llmrec.training.next_item.item_content import principal_components
from llmrec.training.next_item.next_item import NextItemModel
from llmrec.training.next_item.setup import TrainingSetup
from llmrec.training.next_item.validation import validation_metrics
from llmrec.types import Cases, Histories, Ranking

if TYPE_CHECKING:
    from llmrec.training.next_item.settings import TrainConfig

SHAPE, WEIGHTS = "emf.json", "model.safetensors"


class EmfBatches(TrainingBatches):
    """Histories as token sequences; a batch's targets stand by domain.

    Args:
        histories, encoder, tokens_per_batch, seed: as of the base class.
        domains: of the items.
    """

    def __init__(
        self,
        histories: Histories,
        encoder: HistoryEncoder,
        tokens_per_batch: int,
        seed: int,
        domains: Domains,
    ) -> None:
        super().__init__(histories, encoder, tokens_per_batch, seed)
        self._domain = domains.of_item
        self._place = np.zeros(len(domains.of_item), dtype=np.int64)  # among its domain's items
        for number in range(len(domains.names)):
            pool = domains.items(number)
            self._place[pool] = np.arange(len(pool))
        self._count = len(domains.names)

    def batch(self, sequences: list[np.ndarray]) -> SequenceBatch:
        width = self.encoder.event_width
        tokens, _ = right_pad([np.append(self.encoder.prefix, one) for one in sequences])
        places = -(-(tokens.shape[1] - 1) // width) + 1  # as Emf.hidden has them
        events = np.array([len(one) // width for one in sequences])
        row = np.repeat(np.arange(len(sequences)), events)
        event = np.arange(events.sum()) - np.repeat(np.cumsum(events) - events, events)
        last = np.concatenate([one[width - 1 :: width] for one in sequences])
        items = last - self.encoder.vocabulary.item_offset
        positions, codes = [], []
        for number in range(self._count):
            own = np.flatnonzero(self._domain[items] == number)
            at = (row[own] * self._count + number) * places + event[own]
            positions.append(torch.from_numpy(at))
            codes.append(torch.from_numpy(self._place[items[own]]))
        return SequenceBatch(tokens, positions, codes)


class EmfRecommender:
    """A trained :class:`Emf` as a Scorer and ListRecommender.

    A score is the log-probability of an item among those of its domain: scores of two domains are
    not comparable, ask for one domain.
    """

    def __init__(self, model: Emf, batch_size: int = 128) -> None:
        self.model, self.batch_size = model, batch_size
        self.n_items = model.shape.n_items
        # the last of max_items events was only ever a target, as in SASRec
        newest = max(1, model.shape.max_items - 1)
        ids = ItemIds.atomic(self.n_items)
        self.encoder = HistoryEncoder(model.vocabulary, ids, [0], newest)

    @torch.inference_mode()
    def score(self, histories: Histories) -> np.ndarray:
        """float32 ``[users, n_items]``.

        Raises:
            CatalogError: for an item index outside the catalogue.
            LlmrecError: if the model gives anything but finite numbers.
        """
        check_known(histories, self.n_items)
        self.model.eval()
        prompts = self.encoder.encode_all(histories)
        events = np.minimum(histories.lengths(), self.encoder.max_items)
        heads, pools = self.model.heads(), [pool.cpu().numpy() for pool in self.model.pools()]
        scores = np.empty((len(histories), self.n_items), dtype=np.float32)
        order = np.argsort(events, kind="stable")
        for start in range(0, len(order), self.batch_size):
            users = order[start : start + self.batch_size]
            tokens, _ = right_pad([prompts[user] for user in users])
            states = self.model.hidden(tokens.to(heads[0].device))
            states = states.view(len(users), len(pools), states.shape[1], -1)
            last = states[torch.arange(len(users)), :, torch.from_numpy(events[users])]
            for number, pool in enumerate(pools):
                logits = (last[:, number] @ heads[number].T).float()
                scores[np.ix_(users, pool)] = logits.log_softmax(-1).cpu().numpy()
        check_finite(scores)
        return scores

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
    media: Path | None = None,
) -> TrainingSetup:
    """Build everything a run needs; the shape of a branch comes from the size names.

    Item IDs are not used.

    Args:
        media: folder of llmrec embed media; its blocks may be branches beside those of features.

    Raises:
        ConfigError: for a base that is no size, times that are not there, or missing features.
        DataError: if an item has no domain.
    """
    if config.base not in SIZES:
        raise ConfigError(f"base: emf takes a size ({', '.join(SIZES)}), not {config.base!r}")
    if ID in config.content:
        raise ConfigError(f"content: {ID!r} is a branch already; name blocks of features")
    size, domains = SIZES[config.base], Domains.of(dataset)
    histories = training_histories(config, dataset)
    if config.time_tokens and histories.timestamps is None:
        raise ConfigError("train.time_tokens: the dataset has no timestamps; leave it empty")
    content = branch_content(config.content, [one for one in (features, media) if one])
    shape = EmfShape(
        n_items=dataset.n_items,
        domains=domains.names,
        branches={ID: 0} | {name: block.shape[1] for name, block in content.items()},
        layers=size.layers,
        width=size.width,
        heads=size.heads,
        max_items=config.max_items,
        dropout=config.dropout,
        intra=config.emf.intra,
        inter=config.emf.inter,
        time_fields=tuple(config.time_tokens),
    )
    model = Emf(shape, torch.from_numpy(domains.of_item), content)
    encoder = HistoryEncoder(
        model.vocabulary, ItemIds.atomic(dataset.n_items), [0], config.max_items
    )
    batches = EmfBatches(histories, encoder, config.loop.tokens_per_batch, seed, domains)

    def validate(trained: NextItemModel) -> dict[str, float]:
        assert isinstance(trained, Emf)
        return validation_metrics(EmfRecommender(trained), cases, domains)

    def save(folder: Path) -> None:
        from safetensors.torch import save_file

        tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
        save_file(tensors, folder / WEIGHTS)
        (folder / SHAPE).write_text(json.dumps(asdict(model.shape)))

    return TrainingSetup(model, batches, validate, save)


def branch_content(components: dict[str, int], features: Sequence[Path]) -> dict[str, torch.Tensor]:
    """Vectors of every content branch, float32 ``[n_items, c]``; zero rows where there are none.

    Args:
        components: block name -> principal components kept, found from the items that have it.
        features: folders of llmrec embed, embed media or train fusion.

    Raises:
        ConfigError: for features that are not there.
    """
    if not components:
        return {}
    if not features:
        raise ConfigError(
            "train.content: names feature blocks but there is no features folder; run llmrec embed "
            "or embed media, or set content: {}"
        )
    from llmrec.content.features.blocks import load_blocks

    blocks = {name: block for folder in features for name, block in load_blocks(folder).items()}
    found = {}
    for name, kept in components.items():
        if name not in blocks:
            known = ", ".join(sorted(blocks))
            where = " and ".join(map(str, features))
            raise ConfigError(f"train.content: {where} has no block {name!r}; it has {known}")
        vectors = blocks[name]
        there = vectors.any(axis=1)
        if there.sum() < 2:
            raise ConfigError(f"train.content: no two items have {name}; leave it out of content")
        reduced = principal_components(vectors[there], kept)
        rows = torch.zeros(len(vectors), reduced.shape[1])
        rows[torch.from_numpy(there)] = torch.from_numpy(reduced)
        found[name] = rows
    return found


def load_emf(folder: Path) -> EmfRecommender:
    """Open what :func:`prepare`'s ``save`` wrote.

    Raises:
        ArtifactError: if a file is missing or damaged.
    """
    from safetensors.torch import load_file

    check_layers(folder, SHAPE)
    with reading(folder, "llmrec train"):
        shape = shape_from(read_json(folder / SHAPE))
        tensors = load_file(folder / WEIGHTS)
        content = {name: tensors[f"content_{name}"] for name in shape.branches if name != ID}
        model = Emf(shape, tensors["domain_of_item"], content)
        model.load_state_dict(tensors)
    return EmfRecommender(model.eval())

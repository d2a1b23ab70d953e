"""Features of the click model: one way for training and for serving.

Numeric features of a candidate at a request and of the request alone, and categorical ones of the
request. Each has a name and a group (``GROUPS`` of the settings), so that a group can be left out
to see what it is worth. NaN means missing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmrec.errors import ConfigError
from llmrec.ranking.ctr.feature_columns import (
    Columns,
    caption_matches,
    item_columns,
    session_columns,
    similarity_columns,
    user_columns,
)
from llmrec.ranking.ctr.item_features import ItemFeatures
from llmrec.ranking.ctr.request_context import ContextVocabulary, RequestContext
from llmrec.ranking.ctr.settings import GROUPS, HistoryConfig
from llmrec.ranking.ctr.time_features import time_categories
from llmrec.ranking.retrieval.source_features import SourceFeatures
from llmrec.ranking.retrieval.sources import source_class


@dataclass(frozen=True)
class FeatureNames:
    """Names and groups of :class:`ClickFeatures`, in order.

    Attributes:
        candidate, request: (name, group) of numeric features of a candidate, and of the request.
        categories: (name, group, ids) of the request's categorical features.
    """

    candidate: tuple[tuple[str, str], ...]
    request: tuple[tuple[str, str], ...]
    categories: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, eq=False)
class ClickFeatures:
    """All that a click network reads of requests, each with its candidates.

    Attributes:
        items: int32 ``[requests, candidates]``, item index; -1 pads.
        position: int16 ``[requests, candidates]``, 0 the top; -1 unknown.
        candidate: float32 ``[requests, candidates, features]``, NaN missing.
        request: float32 ``[requests, features]``, NaN missing.
        categories: int32 ``[requests, names]``; 0 missing, 1 unknown.
        history_items: int32 ``[requests, attended]``, newest first, -1 pads; history_types int8;
            history_ages float32, days, NaN unknown; history_ratings float32, NaN for none.
    """

    names: FeatureNames
    items: np.ndarray
    position: np.ndarray
    candidate: np.ndarray
    request: np.ndarray
    categories: np.ndarray
    history_items: np.ndarray
    history_types: np.ndarray
    history_ages: np.ndarray
    history_ratings: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def concatenate(cls, parts: Sequence[ClickFeatures]) -> ClickFeatures:
        """The requests of all parts."""
        arrays = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in cls.__dataclass_fields__
            if name != "names"
        }
        return cls(parts[0].names, **arrays)

    def select(self, rows: np.ndarray | slice) -> ClickFeatures:
        """Some of the requests."""
        arrays = {n: v[rows] for n, v in vars(self).items() if n != "names"}
        return ClickFeatures(self.names, **arrays)

    def without(self, groups: Sequence[str]) -> ClickFeatures:
        """The same without the features of some groups; without ``time``, events have no ages.

        Raises:
            ConfigError: for a group that there is not.
        """
        for group in groups:
            if group not in GROUPS:
                raise ConfigError(f"without: {group!r} is no group of {', '.join(GROUPS)}")
        kept = {
            kind: [at for at, feature in enumerate(features) if feature[1] not in groups]
            for kind, features in vars(self.names).items()
        }
        names = FeatureNames(
            **{kind: tuple(getattr(self.names, kind)[at] for at in kept[kind]) for kind in kept}
        )
        ages = self.history_ages
        return replace(
            self,
            names=names,
            candidate=self.candidate[:, :, kept["candidate"]],
            request=self.request[:, kept["request"]],
            categories=self.categories[:, kept["categories"]],
            history_ages=np.full_like(ages, np.nan) if "time" in groups else ages,
        )

    def without_categories(self, names: Collection[str]) -> ClickFeatures:
        """The same without the categorical features of some names."""
        known = self.names.categories
        kept = [at for at, (name, _, _) in enumerate(known) if name not in names]
        left = replace(self.names, categories=tuple(known[at] for at in kept))
        return replace(self, names=left, categories=self.categories[:, kept])


class FeatureBuilder:
    """Makes :class:`ClickFeatures`.

    Args:
        item_features: the items.
        history: what of a user's history is read.
        context: ids of the context's values.
        rates: click, purchase, return rate and mean rating of all items, the prior of those with
            few events.
        holidays: country code whose public holidays count, or empty for none.
    """

    def __init__(
        self,
        item_features: ItemFeatures,
        history: HistoryConfig,
        context: ContextVocabulary,
        rates: tuple[float, float, float, float],
        holidays: str = "",
    ) -> None:
        self.item_features, self.history, self.context = item_features, history, context
        self.rates, self.holidays = rates, holidays
        self._log_price = np.log(np.maximum(item_features.price, 0.01)).astype(np.float32)

    def __call__(
        self,
        requests: RequestContext,
        items: np.ndarray,
        position: np.ndarray,
        source_features: SourceFeatures,
        counters: np.ndarray,
    ) -> ClickFeatures:
        """The features of some requests.

        Args:
            items: int ``[requests, candidates]``, -1 pads.
            position: int ``[requests, candidates]``.
            source_features: of the candidates.
            counters: float64 ``[requests, candidates, len(COUNTERS)]``.
        """
        features, attended = self.item_features, self.history.attended
        candidate: Columns = {}
        for column, name in enumerate(source_features.names):
            source = source_class(name)
            own = source.features(
                source_features.rank[..., column], source_features.score[..., column]
            )
            candidate |= {feature: (source.feature_group, own[feature]) for feature in own}
        candidate |= item_columns(
            requests, items, counters, self.rates, self._log_price, features.available_from
        )
        if features.watched is not None:
            candidate["watched_share"] = ("engagement", features.watched[items])
        candidate |= similarity_columns(requests, items, features.fused, attended)
        candidate |= caption_matches(requests, items, features)
        request = user_columns(requests, self._log_price, self.rates[3])
        request |= session_columns(requests, self.history.session_minutes)
        time, sizes = time_categories(requests.now, self.holidays)
        of_context = zip(self.context.names, self.context.sizes, strict=True)
        return ClickFeatures(
            names=FeatureNames(
                _names(candidate),
                _names(request),
                (
                    *((name, "context", size) for name, size in of_context),
                    *((name, "time", size) for name, size in sizes.items()),
                ),
            ),
            items=items.astype(np.int32),
            position=position.astype(np.int16),
            candidate=_stacked(candidate, items.shape),
            request=_stacked(request, (len(requests),)),
            categories=np.concatenate([requests.context, time], axis=1).astype(np.int32),
            history_items=requests.items[:, :attended],
            history_types=requests.types[:, :attended],
            history_ages=requests.ages[:, :attended],
            history_ratings=requests.ratings[:, :attended],
        )


def _names(columns: Columns) -> tuple[tuple[str, str], ...]:
    return tuple((name, group) for name, (group, _) in columns.items())


def _stacked(columns: Mapping[str, tuple[str, np.ndarray]], shape: tuple[int, ...]) -> np.ndarray:
    stacked = np.empty((*shape, len(columns)), dtype=np.float32)
    for at, (_, values) in enumerate(columns.values()):
        stacked[..., at] = values
    return stacked

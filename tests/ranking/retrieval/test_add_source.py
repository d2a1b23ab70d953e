"""A new source is one file and one line in the table: candidates, features and a reason follow."""

from pathlib import Path

import numpy as np
import pytest
from retrieval_shop import N_ITEMS, SETTINGS, make_catalogue, make_histories, make_snapshot

from llmrec.ranking.ctr.features import FeatureBuilder
from llmrec.ranking.ctr.item_features import COUNTERS, ItemFeatures
from llmrec.ranking.ctr.request_context import ContextVocabulary, request_context
from llmrec.ranking.ctr.settings import HistoryConfig
from llmrec.ranking.retrieval.candidates import candidates, explain
from llmrec.ranking.retrieval.sources import SOURCES, make_sources, source_names

FILE = '''
"""The source ``staff_picks``: what the staff likes."""

import numpy as np

from llmrec.ranking.retrieval.source import DenseScores, Source


class StaffPicks(Source):
    name = "staff_picks"
    reason_priority = -1

    def _query(self, histories):
        scores = np.full((len(histories), self.n_items), -np.inf, dtype=np.float32)
        scores[:, [38, 39]] = [2.0, 1.0]
        return DenseScores(scores)

    @classmethod
    def features(cls, rank, score):
        return {"staff_pick": (rank >= 0).astype(np.float32)}

    def reason(self, item, history, title):
        return f"our staff likes {title(item)}"
'''


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "staff_picks.py").write_text(FILE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SOURCES, "staff_picks", "staff_picks:StaffPicks")


@pytest.mark.usefixtures("added")
def test_a_source_is_added_by_one_file_and_one_line() -> None:
    catalogue, histories = make_catalogue(), make_histories().select([1])
    assert source_names(catalogue)[-1] == "staff_picks"
    sources = make_sources(catalogue, make_snapshot())
    found = candidates(sources, histories, SETTINGS.k)[0]
    row = int(np.flatnonzero(found.items == 38)[0])
    assert "staff_picks" in found.sources_of(row)
    assert found.features.rank[row, -1] == 0
    reason = explain(sources, found, row, histories[0], lambda item: f"'item {item}'")
    assert reason == "our staff likes 'item 38'"

    features = build(found.items, found.features[None])
    at = [name for name, _ in features.names.candidate].index("staff_pick")
    assert features.names.candidate[at] == ("staff_pick", "sources")
    picked = np.isin(found.items, [38, 39])
    np.testing.assert_array_equal(features.candidate[0, :, at], picked)


def test_without_the_line_there_is_no_such_source() -> None:
    assert source_names(make_catalogue()) == ("content", "item_to_item", "popular", "cold_start")


def build(items: np.ndarray, source_features: object) -> object:
    """The features of one request for some candidates."""
    n = N_ITEMS
    item_features = ItemFeatures(
        fused=make_catalogue().vectors, fields=np.zeros((n, 0), np.int32), field_names=(),
        field_sizes=(), token_ids=np.zeros(0, np.int32), token_offsets=np.zeros(n + 1, np.int64),
        token_size=0, price=np.ones(n, np.float32), available_from=np.full(n, np.nan),
        category=np.zeros(n, np.int32), categories=("all",), totals=np.zeros((n, len(COUNTERS))),
    )  # fmt: skip
    context = ContextVocabulary({})
    builder = FeatureBuilder(item_features, HistoryConfig(), context, (0.1, 0.1, 0.1, 3.0))
    request = request_context([1], [1], [0.0], [np.nan], 60.0, np.zeros(0, np.int32), 50)
    unknown = np.full((1, len(items)), -1)
    counters = item_features.totals[items][None]
    return builder(request, items[None], unknown, source_features, counters)

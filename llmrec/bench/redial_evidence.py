"""What speaks for each film at a turn of a dialogue: the films named so far, and what was said.

Item graph and content neighbours are those of :mod:`llmrec.ranking.retrieval.graph_scorer`; beside
them stand popularity, what the films have in common with those named (genres, title, plot, year)
and what the words that were said ask for: genres, as the turns of training use them, and plots.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from llmrec.content.features.attributes import AttributeEncoder, attribute_tokens
from llmrec.data.formats.redial import Turn
from llmrec.data.item_graph import ItemGraph, ItemGraphConfig
from llmrec.errors import require
from llmrec.ranking.retrieval.graph_scorer import (
    GraphScorer,
    GraphScorerConfig,
    content_neighbours,
)
from llmrec.ranking.retrieval.vectors import newest_weighted
from llmrec.types import Histories

SAID = ("said_genres", "said_plot")
KINDS = (
    *("popularity", "walk", "content_walk", "content", "genres", "title", "plot"),
    *("years_apart", "year", *SAID),
)
_DECAY = 0.9  # of a film named, relative to the one after it
_MESSAGES = 8  # newest ones that are read
_PRIOR = 20.0  # turns that a word's genres are smoothed by
# capitals, and short words between them, before a year
_TITLES = re.compile(r"(?:\b[A-Z0-9][^\s()]*\s+(?:[a-z&-]{1,4}\s+)?)*\(\d{4}\)")
_WORD = r"[a-z]{3,}"


class Films:
    """What is known of the films without any dialogue.

    Args:
        rows: of the catalogue, as ``items.parquet`` has them.
    """

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        text = require("sklearn.feature_extraction.text", "eval")
        self.n_items = len(rows)
        facts = [dict(pair.split("=", 1) for pair in row["attributes"] or ()) for row in rows]
        years = np.array([float(fact.get("year") or 0) for fact in facts])
        known = years[years > 0]
        self.year = np.where(years > 0, years, np.median(known) if len(known) else 2000.0)
        names = sorted({genre for row in rows for genre in row["categories"] or ()})
        self.genres = np.array(
            [[float(name in (row["categories"] or ())) for name in names] for row in rows],
            np.float32,
        )
        words = text.TfidfVectorizer(token_pattern=r"[a-z0-9]+", stop_words="english")
        self.titles = words.fit_transform(row["title"].split(" (")[0] for row in rows)
        self.plot_words = text.TfidfVectorizer(
            token_pattern=_WORD, stop_words="english", min_df=2, sublinear_tf=True
        )
        self.plots = self.plot_words.fit_transform(
            " ".join([*(row["categories"] or ()), *fact.values(), row["description"] or ""])
            for row, fact in zip(rows, facts, strict=True)
        )
        bags = [attribute_tokens(row) for row in rows]
        self.vectors = AttributeEncoder.fit(bags, 64).transform(bags)
        self.neighbours = content_neighbours(self.vectors, 100, 4.0)

    @cached_property
    def genre_vectors(self) -> np.ndarray:
        """float32 ``[films, genres]``, unit rows in which a rare genre counts more."""
        weighted = self.genres * np.log(self.n_items / (1 + self.genres.sum(axis=0)))
        return _unit(weighted)


class Evidence:
    """What dialogues tell, as evidence for the films at any turn.

    Args:
        films: of the catalogue.
        dialogues: films named in each whole dialogue, each once.
        turns: of these dialogues, which say what the words that people use lead to.
        index: item index by number.
    """

    def __init__(
        self, films: Films, dialogues: Histories, turns: Sequence[Turn], index: dict[str, int]
    ) -> None:
        self.films, self.index = films, index
        counts = np.bincount(dialogues.items, minlength=films.n_items)
        self.popularity = np.log(counts + 0.3).astype(np.float32)
        settings = ItemGraphConfig(window=12, step_decay=0.95, backward=1.0)
        graph = ItemGraph.fit(dialogues, films.n_items, settings)
        self.scorer = GraphScorer(graph, films.neighbours, GraphScorerConfig(decay=_DECAY))
        self._learn_words(turns)

    def _learn_words(self, turns: Sequence[Turn]) -> None:
        """For each word, how much likelier each genre is after it: float ``[words, genres]``."""
        text = require("sklearn.feature_extraction.text", "eval")
        self.words = text.CountVectorizer(
            token_pattern=_WORD, min_df=4, stop_words="english", binary=True
        )
        said = self.words.fit_transform(said_by(turn) for turn in turns)
        films = self.films.genres
        wanted = np.stack([films[[self.index[f] for f in t.films]].mean(axis=0) for t in turns])
        often = np.asarray(said.sum(axis=0)).ravel()[:, None]
        usual = wanted.mean(axis=0) + 1e-6
        share = (said.T @ wanted + _PRIOR * usual) / (often + _PRIOR)
        self.word_genres = np.log(share / usual).astype(np.float32)

    def of(self, turns: Sequence[Turn], histories: Histories) -> np.ndarray:
        """float32 ``[turns, films, len(KINDS)]``.

        Args:
            histories: the films named before each turn.
        """
        films, n = self.films, len(turns)
        named = newest_weighted(histories, _DECAY, 100, films.n_items)
        share = _rows_to_one(named)
        parts = self.scorer.dense_parts(histories)[:3]
        said = [said_by(turn) for turn in turns]
        genres = films.genres / np.sqrt(np.maximum(films.genres.sum(axis=1, keepdims=True), 1))
        year = np.where(histories.lengths() > 0, share @ films.year, films.year.mean())
        columns = {
            "popularity": np.broadcast_to(self.popularity, (n, films.n_items)),
            **dict(zip(KINDS[1:4], (np.log1p(part / 0.05) for part in parts), strict=True)),
            "genres": share @ films.genre_vectors @ films.genre_vectors.T,
            "title": np.sqrt((share @ films.titles @ films.titles.T).toarray()),
            "plot": (share @ films.plots @ films.plots.T).toarray(),
            "years_apart": np.abs(films.year[None] - year[:, None]) / 10,
            "year": np.broadcast_to((films.year - 2000) / 10, (n, films.n_items)),
            "said_genres": self.words.transform(said) @ self.word_genres @ genres.T,
            "said_plot": (films.plot_words.transform(said) @ films.plots.T).toarray(),
        }
        return np.stack([columns[kind] for kind in KINDS], axis=-1, dtype=np.float32)


def said_by(turn: Turn) -> str:
    """The newest messages before a turn in small letters, without the titles in them.

    >>> said_by(Turn("1", ("I liked The Wizard of Oz (1939)", "More horror?"), (), (), ()))
    'i liked  more horror?'
    """
    return " ".join(_TITLES.sub("", message) for message in turn.said[-_MESSAGES:]).lower()


def _rows_to_one(matrix: Any) -> Any:
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    return require("scipy.sparse", "eval").diags(1 / np.where(sums > 0, sums, 1)) @ matrix


def _unit(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: np.ndarray = rows / np.where(norms > 0, norms, 1)
    return unit.astype(np.float32)

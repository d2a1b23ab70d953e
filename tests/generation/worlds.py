"""Random catalogues over a tiny model, and the answers that asking it about every item gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from tiny_models import BASE_SIZE, tiny_llama

from llmrec.generation.beam_search import Found, SearchOptions, beam_search, room
from llmrec.generation.constraints import Constraints, ItemFilter, LeafConstraints
from llmrec.generation.engine import Prefix, TorchEngine
from llmrec.generation.frontier import Scoring
from llmrec.generation.history_cache import right_pad
from llmrec.generation.trie import ItemTrie
from llmrec.models.vocabulary import Vocabulary

SIZES = ((9,), (4, 5), (3, 2, 4), (2, 2, 2, 3))
LEVEL = Scoring()  # the default
ATOL = 2e-4  # of scores: sums of a few float32 log-probabilities


@dataclass(frozen=True)
class World:
    """A catalogue, a model that can say it, and the prompts of some users.

    Attributes:
        make_engine: gives the engine; models are made when a test runs, not while it is drawn.
        codes: int32 ``[items, levels]``, -1 behind IDs that are shorter than the longest.
    """

    make_engine: Callable[[], TorchEngine]
    codes: np.ndarray
    prompts: list[np.ndarray]

    def alone(self, user: int) -> "World":
        """The same world with one of its users."""
        return replace(self, prompts=[self.prompts[user]])

    @cached_property
    def engine(self) -> TorchEngine:
        return self.make_engine()

    @cached_property
    def trie(self) -> ItemTrie:
        return ItemTrie(self.codes)

    @property
    def n_items(self) -> int:
        return len(self.codes)

    def prefix(self, beams: int) -> Prefix:
        """The prompts, read, with room for ``beams`` beams."""
        return self.engine.prefill(*right_pad(self.prompts), room=room(self.trie, beams))

    def truth(self, scoring: Scoring = LEVEL) -> torch.Tensor:
        """float32 ``[users, items]``, every item's score by the model's own forward pass."""
        return torch.stack([every_score(self.engine, self.codes, p, scoring) for p in self.prompts])

    def search(
        self,
        n: int,
        options: SearchOptions,
        requests: Sequence[Constraints] | None = None,
        how: Callable[..., Found] = beam_search,
    ) -> Found:
        """The n best items of every user."""
        requests = [Constraints()] * len(self.prompts) if requests is None else requests
        prefix = self.prefix(max(n, options.beams))
        return how(self.engine, self.trie, prefix, LeafConstraints(self.trie, requests), n, options)


@cache
def engine_for(vocabulary: Vocabulary, seed: int) -> TorchEngine:
    """An engine over a tiny LLaMA with random weights."""
    return TorchEngine(tiny_llama(vocabulary.size, seed=seed), vocabulary)


def make_world(
    codes: Sequence[Sequence[int]] | np.ndarray,
    sizes: tuple[int, ...],
    lengths: Sequence[int] = (5,),
    seed: int = 0,
) -> World:
    """A world with a random prompt of each length."""
    vocabulary = Vocabulary(BASE_SIZE, (), sizes, sizes)
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(0, vocabulary.size, length) for length in lengths]
    make_engine = partial(engine_for, vocabulary, seed)
    return World(make_engine, np.asarray(codes, dtype=np.int32), prompts)


def every_id(sizes: tuple[int, ...]) -> np.ndarray:
    """int32 ``[items, levels]``, all that can be said."""
    return np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1).astype(np.int32)


@torch.inference_mode()
def every_score(
    engine: TorchEngine,
    codes: np.ndarray,
    prompt: np.ndarray,
    scoring: Scoring = LEVEL,
    chosen: np.ndarray | None = None,
) -> torch.Tensor:
    """float32 ``[chosen]``: the sum of the log-probabilities of an item's tokens, spelt out.

    Args:
        chosen: the items that are scored, out of the catalogue ``codes``; all when not given.
    """
    rows = codes if chosen is None else codes[chosen]
    vocabulary, model = engine.vocabulary, engine.model
    starts = np.array([vocabulary.level_range(level)[0] for level in range(rows.shape[1])])
    said = np.maximum(rows, 0) + starts + vocabulary.item_offset
    tokens = np.concatenate([np.tile(prompt, (len(said), 1)), said], axis=1)
    logits = model(torch.from_numpy(tokens)).logits.float() / scoring.temperature
    total = torch.zeros(len(said))
    for level, start in enumerate(starts + vocabulary.item_offset):
        size = vocabulary.used_sizes[level]
        step = logits[:, len(prompt) - 1 + level, start : start + size]
        if scoring.normalise == "children":
            step = step.masked_fill(~_continuations(codes, rows, level, size), float("-inf"))
        code = torch.from_numpy(rows[:, level].astype(np.int64))[:, None]
        gain = step.log_softmax(-1).gather(1, code.clamp(min=0))
        total += torch.where(code < 0, 0.0, gain)[:, 0]
    return total


def _continuations(codes: np.ndarray, rows: np.ndarray, level: int, size: int) -> torch.Tensor:
    """bool ``[rows, size]``, which codes follow a row's first ``level`` ones in the catalogue."""
    same = (rows[:, None, :level] == codes[None, :, :level]).all(-1)
    follows = codes[:, level, None] == np.arange(size)
    return torch.from_numpy((same[:, :, None] & follows).any(1))


def allowed_items(request: Constraints, n_items: int) -> list[int]:
    """What a request may be answered with, in ascending order."""
    left = set(range(n_items))
    if request.allow is not None:
        left &= set(np.asarray(request.allow).tolist())
    if request.where is not None:
        left &= set(np.flatnonzero(request.where.passes).tolist())
    return sorted(left - set(np.asarray(request.exclude).tolist()))


def check_answer(
    items: torch.Tensor, scores: torch.Tensor, truth: torch.Tensor, allowed: list[int]
) -> None:
    """A user's list holds allowed items once each, as many as there are, with their true scores."""
    n = min(len(items), len(allowed))
    found = items[:n]
    assert set(found.tolist()) <= set(allowed), "an item that was not allowed, or a short list"
    assert len(set(found.tolist())) == n, "an item twice"
    assert (items[n:] == -1).all()
    torch.testing.assert_close(scores[:n], truth[found], atol=ATOL, rtol=1e-5)
    assert (scores[:n].diff() <= 0).all()
    assert (scores[n:] == float("-inf")).all()


def check_best(found: Found, user: int, truth: torch.Tensor, allowed: list[int]) -> None:
    """A user's list is the best there are, up to ties."""
    check_answer(found.items[user], found.scores[user], truth, allowed)
    n = min(found.items.shape[1], len(allowed))
    best = truth[allowed].sort(descending=True).values[:n]
    torch.testing.assert_close(found.scores[user, :n], best, atol=ATOL, rtol=1e-5)


@st.composite
def catalogues(draw: st.DrawFn, sizes: tuple[int, ...], most: int = 24) -> np.ndarray:
    """Different IDs int32 ``[items, levels]``, none the beginning of another."""
    row = st.tuples(*[st.integers(0, size - 1) for size in sizes])
    rows = draw(st.lists(row, min_size=1, max_size=most, unique=True))
    if draw(st.booleans()):
        return np.array(rows, dtype=np.int32)
    kept: list[tuple[int, ...]] = []
    for full in rows:
        cut = full[: draw(st.integers(1, len(sizes)))]
        if not any(cut[: len(other)] == other[: len(cut)] for other in kept):
            kept.append(cut)
    return np.array([cut + (-1,) * (len(sizes) - len(cut)) for cut in kept], dtype=np.int32)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A catalogue, and users whose prompts differ in length."""
    sizes = draw(st.sampled_from(SIZES))
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    return make_world(draw(catalogues(sizes)), sizes, lengths, draw(st.integers(0, 3)))


@st.composite
def requests_for(draw: st.DrawFn, world: World) -> list[Constraints]:
    """Constraints of every user; filters are shared, and shorter or longer than the catalogue."""
    n = world.n_items
    passes = st.lists(st.booleans(), min_size=1, max_size=n + 3)
    filters = [ItemFilter(np.array(draw(passes))) for _ in range(2)]
    some = st.lists(st.integers(0, n - 1), max_size=n + 2)
    return [
        Constraints(
            exclude=draw(some),
            allow=draw(st.none() | some),
            where=draw(st.sampled_from([None, *filters])),
        )
        for _ in world.prompts
    ]


@st.composite
def constrained_worlds(draw: st.DrawFn) -> tuple[World, list[Constraints]]:
    """A world and what each of its users may get."""
    world = draw(worlds())
    return world, draw(requests_for(world))


def scorings() -> Any:
    """Both ways to normalise, and temperatures around 1."""
    return st.builds(
        Scoring, st.sampled_from(["level", "children"]), st.sampled_from([0.5, 1.0, 2.5])
    )

"""A search on fixed tensors answers every request as a search of its own does."""

import numpy as np
import pytest
import torch
from tiny_models import random_semantic_ids, tiny_llm

from llmrec.generation.beam_search import SearchOptions, beam_search, decode_slots
from llmrec.generation.constraints import Constraints, ItemFilter, LeafConstraints
from llmrec.generation.cuda_graph import GRAPHS, CudaGraphSearch, Replay
from llmrec.generation.llm import Llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.types import Histories

N_ITEMS = 100
OPTIONS = SearchOptions(beams=9)


class Capture:
    """Does the work again where a GPU would replay it, and counts."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, work: Replay) -> Replay:
        self.captured += 1

        def replay() -> object:
            self.replayed += 1
            return work()

        return replay  # type: ignore[return-value]


@pytest.fixture(scope="module", params=["atomic", "semantic"])
def llm(request: pytest.FixtureRequest) -> Llm:
    ids = random_semantic_ids(N_ITEMS, (5, 6, 7))
    return tiny_llm(ItemIds.atomic(N_ITEMS) if request.param == "atomic" else ids)


def check(
    llm: Llm,
    search: CudaGraphSearch,
    users: int,
    seed: int,
    options: SearchOptions = OPTIONS,
    **limits: object,
) -> None:
    """Compare with a plain search, for histories of other lengths but the longest."""
    rng = np.random.default_rng(seed)
    lengths = [8, *rng.integers(1, 9, users - 1)]
    histories = Histories.from_lists([rng.integers(0, N_ITEMS, n).tolist() for n in lengths])
    prefix = llm.prefill(llm.prompts(histories), decode_slots(llm.trie, OPTIONS.beams))
    requests = [Constraints(exclude=history, **limits) for history in histories]  # type: ignore[arg-type]
    constraints = LeafConstraints(llm.trie, requests)
    found = search(prefix, constraints, 7, options)
    expected = beam_search(llm.engine, llm.trie, prefix, constraints, 7, options)
    assert torch.equal(found.items, expected.items)
    assert torch.equal(found.exact, expected.exact)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=0)


def test_a_shape_that_comes_again_is_recorded_once(llm: Llm) -> None:
    capture = Capture()
    search = CudaGraphSearch(llm.engine, llm.trie, capture)
    for seed in range(5):
        check(llm, search, 4, seed)
    assert (capture.captured, capture.replayed) == (1, 4), "the first of a shape is not captured"


def test_options_do_not_mix(llm: Llm) -> None:
    capture = Capture()
    search = CudaGraphSearch(llm.engine, llm.trie, capture)
    for seed in range(3):
        for temperature in (1.0, 3.0):
            check(llm, search, 2, seed, SearchOptions(beams=9, temperature=temperature))
    assert (capture.captured, capture.replayed) == (2, 4)


def test_shapes_do_not_mix_and_old_ones_make_room(llm: Llm) -> None:
    capture = Capture()
    search = CudaGraphSearch(llm.engine, llm.trie, capture)
    for seed in range(3):
        for users in range(1, GRAPHS + 3):
            check(llm, search, users, seed)
    assert len(search._graphs) == GRAPHS


def test_filters_are_searched_as_they_are(llm: Llm) -> None:
    capture = Capture()
    search = CudaGraphSearch(llm.engine, llm.trie, capture)
    passes = np.arange(N_ITEMS) % 3 == 0
    for seed in range(3):
        check(llm, search, 2, seed, allow=ItemFilter(passes))
        check(llm, search, 2, seed, allow=ItemFilter.of_items(range(5), N_ITEMS))
    assert capture.captured == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_cuda_graph_gives_the_same_items() -> None:
    ids = random_semantic_ids(N_ITEMS, (5, 6, 7))
    cpu = tiny_llm(ids)
    gpu = tiny_llm(ids)
    gpu.engine.model.to("cuda")
    gpu.device = torch.device("cuda")
    gpu._use(gpu.trie)
    rng = np.random.default_rng(0)
    for _ in range(4):
        histories = Histories.from_lists([rng.integers(0, N_ITEMS, 8).tolist() for _ in range(4)])
        np.testing.assert_array_equal(
            gpu.recommend(histories, 7).items, cpu.recommend(histories, 7).items
        )

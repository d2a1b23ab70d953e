"""Item generation on a real vLLM: what our engine gives, whoever asks, and items only."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
import pytest
import torch
from recommender_contract import RecommenderContract
from tiny_expanded import write_expanded
from tiny_tuned import Tuned
from vllm_here import ENVIRONMENT

from llmrec.bench.agreement import same_as
from llmrec.data.dataset import Dataset
from llmrec.errors import ArtifactError, CatalogError, ConfigError
from llmrec.generation.beam_search import SearchOptions
from llmrec.generation.constraints import Constraints, ItemFilter
from llmrec.generation.multi_lora import MultiLoraLlm, load_llm_with_adapters
from llmrec.generation.vllm_adapters import VllmAdapters
from llmrec.generation.vllm_llm import VllmLlm
from llmrec.generation.vllm_server import check_constraint
from llmrec.generation.vllm_start import VllmSettings
from llmrec.generation.vllm_tokens import ITEM_PREFIX
from llmrec.item_ids.item_ids import ItemIds
from llmrec.recommender import ListRecommender
from llmrec.types import Histories, Ranking

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, of all kinds

NAMES = (None, "recommend", "gifts")
KINDS = ("atomic", "semantic")
TOLERANCE = 1e-4
END = 2  # the end token of the tiny shop's models


@pytest.fixture(scope="module")
def vllm_atomic(tuned_atomic: Tuned) -> Iterator[VllmLlm]:
    """In processes of its own, as users have it; the semantic one is in this process."""
    pytest.importorskip("vllm", reason="vLLM is not installed in this environment")
    apart = ENVIRONMENT | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    before = psutil.Process().children(recursive=True)
    with patch.dict(os.environ, apart), VllmLlm(tuned_atomic.bundle, beams=20) as llm:
        started = [
            process
            for process in psutil.Process().children(recursive=True)
            if process not in before and "resource_tracker" not in " ".join(process.cmdline())
        ]
        assert started
        yield llm
    assert psutil.wait_procs(started, timeout=20)[1] == []


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def vllm(kind: str, request: pytest.FixtureRequest) -> VllmLlm:
    opened: VllmLlm = request.getfixturevalue(f"vllm_{kind}")
    return opened


@pytest.fixture(scope="module")
def ours(kind: str, request: pytest.FixtureRequest) -> MultiLoraLlm:
    tuned = request.getfixturevalue(f"tuned_{kind}")
    return load_llm_with_adapters(tuned.base, list(tuned.adapters.values()), beams=20)


@pytest.fixture(scope="module")
def people(tiny_data: Dataset) -> Histories:
    return tiny_data.cases("test").histories.select(range(40))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "options",
    [
        SearchOptions(beams=20),
        SearchOptions(beams=3),
        SearchOptions(beams=2, exact=True),
        SearchOptions(beams=20, temperature=0.6),
        SearchOptions(beams=20, groups=4, diversity=2.0),
    ],
    ids=["wide", "narrow", "exact", "temperature", "diverse"],
)
def test_vllm_ranks_the_items_as_our_engine_does(
    vllm: VllmLlm, ours: MultiLoraLlm, people: Histories, name: str | None, options: SearchOptions
) -> None:
    for n in (3, 20):
        found = vllm.recommend(people, n, adapter=name, options=options)
        expected = ours.with_adapter(name).recommend(people, n, options=options)
        assert same_as(found, expected, TOLERANCE).all()
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=TOLERANCE)


def test_requests_for_different_adapters_share_a_batch(vllm: VllmLlm, people: Histories) -> None:
    """Those without an adapter too: vLLM's kernels for the CPU would let them read the last one."""
    chosen = [NAMES[user % 3] for user in range(len(people))]
    vllm.llm.reset_prefix_cache()
    mixed = vllm.recommend(people, 10, adapter=chosen)
    for place, name in enumerate(NAMES):
        vllm.llm.reset_prefix_cache()
        alone = vllm.recommend(people, 10, adapter=name)
        rows = slice(place, None, 3)
        np.testing.assert_array_equal(mixed.items[rows], alone.items[rows])
        np.testing.assert_allclose(mixed.scores[rows], alone.scores[rows], atol=TOLERANCE)
        assert (mixed.items != alone.items).any(axis=1).sum() > len(people) / 2


def test_a_request_may_limit_what_is_recommended(
    vllm: VllmLlm, ours: MultiLoraLlm, people: Histories
) -> None:
    rng = np.random.default_rng(0)
    some = ItemFilter(rng.random(vllm.n_items) < 0.3)
    limits = [
        Constraints(exclude=rng.choice(vllm.n_items, 100, replace=False)),
        Constraints(allow=ItemFilter.of_items([7, 3, 90], vllm.n_items)),
        Constraints(allow=some),
        Constraints([1, 2, 3], some),
    ]
    own = [limits[user % 4] for user in range(len(people))]
    for part in (own, [limits[0]] * len(people)):
        found = vllm.recommend(people, 15, constraints=part, adapter="gifts")
        expected = ours.with_adapter("gifts").recommend(people, 15, constraints=part)
        assert same_as(found, expected, TOLERANCE).all()


@pytest.mark.parametrize("name", [None, "gifts"])
def test_given_items_are_scored_as_our_engine_does(
    vllm: VllmLlm, ours: MultiLoraLlm, people: Histories, name: str | None
) -> None:
    items = np.random.default_rng(1).permuted(np.tile(np.arange(-1, 120), (40, 1)), axis=1)[:, :30]
    view = VllmAdapters(vllm).with_adapter(name)
    found = view.score_items(people, items)
    expected = ours.with_adapter(name).score_items(people, items)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    same = ours.with_adapter(name).recommend(people, 5)
    assert same_as(view.recommend(people, 5), same, TOLERANCE).all()
    assert view.score_items(people, items[:, :0]).shape == (40, 0)
    with pytest.raises(CatalogError, match="not among the 120"):
        view.score_items(people, items + 1)


def test_a_vllm_without_the_constraint_is_found_out(vllm: VllmLlm) -> None:
    class Free:
        """vLLM, asked without the constraint's argument."""

        def likeliest(self, prompts: Any, prefix: int, most: int, adapters: Any) -> Any:
            from vllm import SamplingParams

            params = SamplingParams(max_tokens=1, logprobs=most, flat_logprobs=True)
            params.detokenize = False
            (answer,) = vllm.llm.generate([{"prompt_token_ids": prompts[0]}], params)
            found = answer.outputs[0].logprobs
            return [(np.asarray(found.token_ids), np.asarray(found.logprobs))]

        def close(self) -> None: ...

    vocabulary, codes = vllm.encoder.vocabulary, vllm.ids.codes[0]
    check_constraint(vllm.tokens, vocabulary, codes)
    with pytest.raises(ConfigError, match="does not keep to the catalogue; start it with"):
        check_constraint(Free(), vocabulary, codes)


def test_the_other_model_runner_is_refused_by_name(
    tuned_atomic: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes a constraint with its own state where the first one gives a device."""
    from llmrec.generation.vllm_constraint import ItemConstraint

    config = SimpleNamespace(model_config=SimpleNamespace(model=str(tuned_atomic.base)))
    with pytest.raises(ConfigError, match=r"second model runner.*VLLM_USE_V2_MODEL_RUNNER=0"):
        ItemConstraint(config, object())
    config.model_config.model = str(tmp_path)  # a model without items is none of our business
    assert not ItemConstraint(config, object()).add_request(0, None)
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "1")
    with pytest.raises(ConfigError, match="VLLM_USE_V2_MODEL_RUNNER: is '1'"):
        VllmLlm(tuned_atomic.base)


def test_batches_are_cut_where_the_settings_say(
    vllm: VllmLlm, people: Histories, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = vllm.recommend(people, 5, adapter="recommend")
    monkeypatch.setattr(vllm, "settings", VllmSettings(batch_size=7))
    parts = vllm.recommend(people, 5, adapter="recommend")
    assert same_as(parts, whole, TOLERANCE).all()


def sampled(vllm: VllmLlm, people: Histories, levels: int, **more: Any) -> list[list[int]]:
    """Tokens that vLLM draws with as little regard for likelihood as it allows."""
    from vllm import SamplingParams

    drawn = SamplingParams(temperature=2.0, max_tokens=levels + 1, detokenize=False, **more)
    prompts = [vllm.encoder.encode(row) for row in people]
    requests = [{"prompt_token_ids": prompt.tolist()} for prompt in prompts for _ in range(8)]
    return [
        list(a.outputs[0].token_ids) for a in vllm.llm.generate(requests, drawn, use_tqdm=False)
    ]


def test_what_is_sampled_is_an_item_and_then_the_end(vllm: VllmLlm, people: Histories) -> None:
    levels, offset = vllm.ids.levels, vllm.encoder.vocabulary.item_offset
    tokens = np.asarray(vllm.ids.tokens(np.arange(vllm.n_items))) + offset
    items = {tuple(row) for row in tokens.tolist()}
    generated = sampled(vllm, people, levels, extra_args={ITEM_PREFIX: 0})
    assert all(tuple(row[:levels]) in items for row in generated)
    assert all(row[levels:] == [END] for row in generated)
    assert len({tuple(row) for row in generated}) > vllm.n_items / 4
    free = sampled(vllm, people, levels)  # requests that do not ask for items are left alone
    assert not all(tuple(row[:levels]) in items for row in free)


def test_a_prompt_that_ends_in_no_beginning_of_an_item_is_ended(vllm: VllmLlm) -> None:
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError

    params = SamplingParams(
        temperature=0, max_tokens=1, extra_args={ITEM_PREFIX: 2}, detokenize=False
    )
    answer = vllm.llm.generate([{"prompt_token_ids": [5, 6, 7]}], params, use_tqdm=False)
    assert list(answer[0].outputs[0].token_ids) == [END]
    for wrong in (-1, "2", 1.0, True):
        bad = SamplingParams(extra_args={ITEM_PREFIX: wrong})
        with pytest.raises(VLLMValidationError, match="is not a number of tokens"):
            vllm.llm.generate([{"prompt_token_ids": [5]}], bad, use_tqdm=False)


@dataclass(frozen=True)
class OneAdapter:
    """One adapter of a :class:`VllmLlm` as a recommender."""

    llm: VllmLlm
    n_items: int

    def recommend(self, histories: Histories, n: int, *, exclude_history: bool = True) -> Ranking:
        return self.llm.recommend(
            histories, n, exclude_history=exclude_history, adapter="recommend"
        )


class TestVllmKeepsTheContract(RecommenderContract):
    @pytest.fixture
    def recommender(self, vllm: VllmLlm) -> ListRecommender:
        return OneAdapter(vllm, vllm.n_items)


def test_mistakes_are_named(vllm: VllmLlm, people: Histories) -> None:
    with pytest.raises(ConfigError, match="adapter: 'x' is not loaded; there is gifts, recommend"):
        vllm.recommend(people, 3, adapter="x")
    with pytest.raises(ConfigError, match="adapter: 2 are given for 40 users"):
        vllm.recommend(people, 3, adapter=["gifts", None])
    with pytest.raises(ConfigError, match="vLLM scores over 'children' only"):
        vllm.recommend(people, 3, options=SearchOptions(normalise="level"))
    with pytest.raises(CatalogError, match="n: 0 items were asked for"):
        vllm.recommend(people, 0)
    with pytest.raises(CatalogError, match="not among the 120"):
        vllm.recommend(Histories.from_lists([[120]]), 3)


def test_nothing_is_started_for_what_cannot_be_served(
    tuned_atomic: Any, tuned_semantic: Any, tmp_path: Path
) -> None:
    foreign = tuned_semantic.adapters["gifts"]
    with pytest.raises(ArtifactError, match="'gifts' was made for the base"):
        VllmLlm(tuned_atomic.base, adapters=[foreign])
    with pytest.raises(ConfigError, match="is a bundle and brings its own"):
        VllmLlm(tuned_atomic.bundle, adapters=[foreign])
    narrow = write_expanded(tmp_path / "narrow", ItemIds.atomic(9))
    if not torch.cuda.is_available():
        with pytest.raises(ArtifactError, match="heads are 8 wide; on a CPU vLLM serves 32, 64"):
            VllmLlm(narrow)
    with pytest.raises(ConfigError, match="dtype: 'fp8' is neither float32 nor bfloat16"):
        VllmSettings(dtype="fp8")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="block_size: must be above 0"):
        VllmSettings(block_size=0)

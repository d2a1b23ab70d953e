"""``llmrec bench decode`` on a model of width 64: engines and brute force agree, files appear."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import tiny_llama
from tiny_shop import TinyRun

from llmrec import cli
from llmrec.bench.agreement import same_as
from llmrec.bench.decode import TimedEngine, make_row, ratios
from llmrec.bench.decode_config import DecodeBenchConfig
from llmrec.bench.decode_engines import MAKERS, LlmrecEngine, TransformersEngine, VllmEngine
from llmrec.bench.exactness import check_exactness
from llmrec.bench.memory import PeakMemory
from llmrec.bench.reference_scores import BruteForce
from llmrec.bench.returning_users import measure_returning, returning_metrics
from llmrec.bench.worker import Timed, in_fresh_process
from llmrec.bench.workload import (
    Workload,
    load_model,
    make_workload,
    random_codes,
    title_ids,
    unique_after,
)
from llmrec.errors import ConfigError, LlmrecError
from llmrec.generation.frontier import Normalise
from llmrec.llm.tokenizer import train_tokenizer
from llmrec.types import Ranking

TINY = DecodeBenchConfig(
    items=150,
    levels=3,
    codes=8,
    size="nano",
    length=17,
    batch=5,
    beams=6,
    n=6,
    repeats=2,
    engines=("llmrec", "prefill", "transformers"),
    threads=1,
    exact_users=4,
)


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    return make_workload(TINY, tmp_path_factory.mktemp("random"))


def of_different_lengths(workload: Workload) -> Workload:
    prompts = [prompt[user:] for user, prompt in enumerate(workload.prompts)]
    return replace(workload, prompts=prompts)


def test_the_command_compares_engines_and_writes_figures_page_and_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results" / "decode.json"
    flags = "--items 150 --levels 3 --codes 8 --size nano --length 17 --batch 5 --beams 6"
    flags += " --repeats 2 --engines llmrec prefill transformers --threads 1"
    flags += f" --no-returning --out {tmp_path / 'page'} --results {results}"
    assert cli.main(["bench", "decode", *flags.split()]) == 0

    result = json.loads(results.read_text())
    rows = {row["engine"]: row for row in result["rows"]}
    assert list(rows) == ["llmrec", "prefill", "transformers"]
    for row in rows.values():
        assert row["users_per_s"] == pytest.approx(5 * 1000 / row["p50_ms"], rel=1e-2)
        assert row["peak_mib"] >= 0 and row["batch"] == 5
    assert [len(row["seconds"]) for row in rows.values()] == [2, 2, 2]
    assert rows["llmrec"]["identical_to_reference"] is True
    assert rows["llmrec"]["max_score_difference"] < 1e-4
    assert rows["transformers"]["identical_to_reference"] is True
    assert rows["prefill"]["identical_to_reference"] is None
    assert {"llmrec_over_transformers", "llmrec_over_prefill", "peak_over_transformers"} <= set(
        result["metrics"]
    )
    assert result["name"] == "decode" and result["seed"] == 0
    unique = [result["metrics"][f"unique_after_{n}_tokens"] for n in (1, 2, 3)]
    assert unique == sorted(unique)
    assert unique[2] == 1.0

    page = (tmp_path / "page" / "report.md").read_text()
    assert "| transformers |" in page and "](decode.png)" in page
    assert (tmp_path / "page" / "decode.png").stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "llmrec: 2 of 2: " in printed and page in printed


@pytest.mark.parametrize("normalise", ["children", "level"])
def test_generate_finds_the_same_items_with_the_same_scores(
    workload: Workload, normalise: Normalise
) -> None:
    settings, padded = replace(TINY, normalise=normalise), of_different_lengths(workload)
    ours = LlmrecEngine(settings, padded).answer(padded.prompts)
    theirs = TransformersEngine(settings, padded).answer(padded.prompts)
    assert same_as(ours, theirs, 1e-4).all()
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)


def test_generate_with_more_beams_than_first_codes_invents_nothing(tmp_path: Path) -> None:
    settings = replace(TINY, items=5, levels=2, codes=4, beams=7, n=7)
    few = make_workload(settings, tmp_path)
    theirs = TransformersEngine(settings, few).answer(few.prompts)
    ours = LlmrecEngine(settings, few).answer(few.prompts)
    assert same_as(ours, theirs, 1e-4).all()
    assert (np.sort(theirs.items, axis=1) == [-1, -1, 0, 1, 2, 3, 4]).all()


@pytest.mark.parametrize("normalise", ["children", "level"])
def test_exact_search_is_what_scoring_every_item_finds(
    workload: Workload, normalise: Normalise
) -> None:
    found = check_exactness(replace(TINY, normalise=normalise), workload)
    assert found["exact_users"] == 4
    assert found["exact_identical"] == 1.0
    assert found["exact_max_score_difference"] < 1e-4
    assert 0 < found["beam_recall"] <= 1 and 0 <= found["beam_certified"] <= 1


@pytest.mark.parametrize("normalise", ["children", "level"])
def test_brute_force_scores_an_item_as_reading_it_alone_does(
    workload: Workload, normalise: Normalise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmrec.bench.reference_scores.ITEMS_AT_ONCE", 40)  # several chunks
    model = LlmrecEngine(TINY, workload).model
    prompt, codes = workload.prompts[0], workload.ids.codes
    scores = BruteForce(model, workload.vocabulary, workload.ids, normalise).scores(prompt)
    for item in (0, 77, 149):
        tokens = workload.ids.tokens(item) + workload.vocabulary.item_offset
        whole = torch.from_numpy(np.concatenate([prompt, tokens]))[None]
        with torch.inference_mode():
            logits = model(input_ids=whole).logits[0, len(prompt) - 1 : -1].numpy()
        total = 0.0
        for level, code in enumerate(codes[item]):
            start = workload.vocabulary.item_offset + 8 * level
            values = logits[level, start : start + 8]
            if normalise == "children":
                siblings = codes[(codes[:, :level] == codes[item, :level]).all(axis=1), level]
                total += values[code] - np.logaddexp.reduce(values[np.unique(siblings)])
            else:
                total += values[code] - np.logaddexp.reduce(values)
        assert scores[item] == pytest.approx(total, abs=1e-4)


def test_who_comes_back_gets_the_same_items(workload: Workload) -> None:
    rows = measure_returning(replace(TINY, repeats=1), workload.ids)
    assert [(row["ids"], row["batch"]) for row in rows] == [
        ("semantic", 1),
        ("semantic", 5),
        ("atomic", 1),
        ("atomic", 5),
    ]
    assert all(row["identical_items"] for row in rows)
    metrics = returning_metrics(rows)
    assert metrics["returning_identical"] == 1.0
    assert metrics["returning_speedup"] == metrics["returning_speedup@semantic,1"] > 0


def test_a_trained_model_takes_the_place_of_the_random_one(tiny_run: TinyRun) -> None:
    settings = replace(
        TINY,
        model=tiny_run.model("semantic"),
        dataset=tiny_run.folder / "dataset",
        batch=3,
        exact_users=2,
    )
    trained = make_workload(settings, Path("unused"))
    assert len(trained.prompts) == 3 and len(trained.checked) == 2
    assert check_exactness(settings, trained)["exact_identical"] == 1.0


def test_a_pretrained_base_is_given_item_tokens(tmp_path: Path) -> None:
    tokenizer = train_tokenizer([f"thing {n}" for n in range(50)], 300)
    base = tiny_llama(len(tokenizer))
    for part in (base, tokenizer):
        part.save_pretrained(tmp_path / "base")
    settings = replace(TINY, base=str(tmp_path / "base"))
    workload = make_workload(settings, tmp_path / "expanded")
    table = load_model(workload.model, "cpu", "float32").get_input_embeddings().weight
    assert torch.equal(table[: len(tokenizer)], base.get_input_embeddings().weight)
    assert len(table) == len(tokenizer) + 3 * 8
    ours = LlmrecEngine(settings, workload).answer(workload.prompts)
    assert same_as(
        ours, TransformersEngine(settings, workload).answer(workload.prompts), 1e-4
    ).all()
    assert MAKERS["llmrec-prefill"](settings, workload).answer(workload.prompts) is None
    with pytest.raises(ConfigError, match="--base gets item tokens of its own"):
        replace(settings, model=tmp_path, dataset=tmp_path)


def test_the_same_seed_makes_the_same_workload(workload: Workload, tmp_path: Path) -> None:
    again = make_workload(TINY, tmp_path)
    assert np.array_equal(again.ids.codes, workload.ids.codes)
    assert np.array_equal(again.prompts, workload.prompts)
    assert {len(prompt) for prompt in again.prompts} == {TINY.length}
    name = "model.safetensors"
    assert (again.model / name).read_bytes() == (workload.model / name).read_bytes()


def test_titles_of_one_kind_share_the_beginning_of_their_ids(tmp_path: Path) -> None:
    """Two brushes and two soaps: one code parts the kinds, the second the items."""
    titles = ["red hair brush", "blue hair brush", "rose bath soap", "lemon bath soap"]
    (tmp_path / "items.jsonl").write_text("".join(f'{{"title": "{t}"}}\n' for t in titles))
    config = replace(TINY, items=4, levels=2, codes=2, titles=tmp_path / "items.jsonl")
    codes = title_ids(config).codes
    assert codes[0, 0] == codes[1, 0] != codes[2, 0] == codes[3, 0]
    assert unique_after(title_ids(config)) == [0.0, 1.0]
    with pytest.raises(ConfigError, match="has 4 titles, fewer than 5"):
        title_ids(replace(config, items=5, codes=3))


@pytest.mark.parametrize(("items", "levels", "codes"), [(60, 3, 4), (1000, 4, 256), (1, 1, 1)])
def test_random_codes_are_all_different(items: int, levels: int, codes: int) -> None:
    table = random_codes(items, levels, codes, np.random.default_rng(0))
    assert table.shape == (items, levels) and table.min() >= 0 and table.max() < codes
    assert len(np.unique(table, axis=0)) == items


@pytest.mark.parametrize(
    ("items", "scores", "same"),
    [
        ([3, 1, 2], [-1.0, -2.0, -3.0], True),
        ([1, 3, 2], [-1.0, -2.0, -3.0], False),
        ([3, 1, 9], [-1.0, -2.0, -3.0], True),  # a tie at the cut
        ([3, 1, 9], [-1.0, -2.0, -3.5], False),
        ([3, 9, 2], [-1.0, -2.0, -3.0], False),
        ([3, 3, 2], [-1.0, -1.0, -3.0], False),
        ([3, 1, -1], [-1.0, -2.0, -np.inf], False),
    ],
)
def test_same_lists_are_told_from_others(items: list[int], scores: list[float], same: bool) -> None:
    reference = Ranking(np.array([[3, 1, 2]]), np.array([[-1.0, -2.0, -3.0]]))
    found = Ranking(np.array([items]), np.array([scores]))
    assert same_as(found, reference, 1e-4).tolist() == [same]


def test_two_tied_items_may_change_places() -> None:
    reference = Ranking(np.array([[3, 1, -1]]), np.array([[-1.0, -1.00001, -np.inf]]))
    found = Ranking(np.array([[1, 3, -1]]), np.array([[-1.00001, -1.0, -np.inf]]))
    assert same_as(found, reference, 1e-4).all()


def test_ratios_compare_medians_and_leave_out_what_was_not_measured() -> None:
    ranking = Ranking(np.array([[1]]), np.array([[-1.0]]))
    rows = [
        make_row(
            TINY,
            "llmrec",
            TimedEngine([Timed(s, ranking) for s in (0.1, 0.2, 9.0)], 5.0, {"a": 1}),
            ranking,
        ),
        make_row(TINY, "transformers", TimedEngine([Timed(0.8, ranking)], 20.0, {}), ranking),
    ]
    metrics = ratios(rows)
    assert metrics["llmrec_over_transformers"] == 4.0
    assert metrics["peak_over_transformers"] == 0.25
    assert rows[0]["users_per_s"] == 25.0 and rows[0]["seconds"] == [0.1, 0.2, 9.0]
    assert rows[0]["options"] == {"a": 1}
    assert not {"llmrec_over_vllm", "llmrec_over_prefill"} & set(metrics)


def test_the_memory_of_work_is_seen_and_forgotten() -> None:
    memory = PeakMemory()
    held = np.ones(2**23)  # 64 MiB
    assert 60 < memory.added_mib() < 90
    del held
    assert memory.added_mib() > 60
    assert PeakMemory().added_mib() < 20


def test_without_vllm_its_row_is_left_out_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from llmrec.bench import decode

    monkeypatch.setattr(decode.importlib.util, "find_spec", lambda name: None)
    assert decode.available(replace(TINY, engines=("llmrec", "vllm"))) == ("llmrec",)
    assert capsys.readouterr().out.startswith("vllm: left out, it is not installed")


@pytest.mark.filterwarnings("ignore")  # vLLM's own, of all kinds
def test_vllm_finds_what_its_own_beam_search_finds(
    tiny_run: TinyRun, vllm_semantic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real engine: one that serves already, with the benchmark's reading of its answers."""
    config = replace(
        TINY,
        model=tiny_run.model("semantic"),
        dataset=tiny_run.folder / "dataset",
        batch=3,
        exact_users=0,
        beams=4,
        n=3,
    )
    trained = make_workload(config, Path("unused"))
    # serving needs no tokenizer, LLM.beam_search does
    from vllm.tokenizers import get_tokenizer

    tokenizer = get_tokenizer(str(trained.model))
    monkeypatch.setattr(vllm_semantic.llm.renderer, "tokenizer", tokenizer)
    engine = VllmEngine(config, trained, llm=vllm_semantic.llm)
    engine.forget()
    found = engine.answer(trained.prompts)
    assert found.items.shape == (3, 3)
    model = load_model(trained.model, "cpu", "float32")
    for user, prompt in enumerate(trained.prompts):
        beams = unconstrained_beams(model, prompt, config.beams, trained.ids.levels)
        items = [engine.item_of.get(tokens, -1) for tokens, _ in beams[: config.n]]
        assert found.items[user].tolist() == items
        np.testing.assert_allclose(
            found.scores[user], [score for _, score in beams[: config.n]], atol=1e-3
        )


def unconstrained_beams(
    model: Any, prompt: np.ndarray, width: int, steps: int
) -> list[tuple[tuple[int, ...], float]]:
    """Beam search over the whole vocabulary, by plain forward passes; best first."""
    beams: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    for _ in range(steps):
        longer = []
        for tokens, score in beams:
            row = torch.tensor([[*prompt.tolist(), *tokens]])
            with torch.inference_mode():
                gains = model(input_ids=row).logits[0, -1].log_softmax(0)
            best = gains.topk(2 * width)
            longer += [
                ((*tokens, token), score + gain)
                for token, gain in zip(best.indices.tolist(), best.values.tolist(), strict=True)
            ]
        beams = sorted(longer, key=lambda beam: -beam[1])[:width]
    return beams


def test_vllm_runs_with_room_for_every_beam(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled, all beams of all users at once; as it is where the compiler fails."""
    vllm = pytest.importorskip("vllm", reason="vLLM is not installed in this environment")
    opened: list[dict[str, Any]] = []

    class Engine:
        def __init__(self, **options: Any) -> None:
            opened.append(options)
            if not options["enforce_eager"]:
                raise RuntimeError("no compiler")

    monkeypatch.setattr(vllm, "LLM", Engine)
    engine = VllmEngine(TINY, workload)
    compiled, eager = opened
    assert compiled["max_num_seqs"] == TINY.batch * TINY.beams == 30
    assert compiled["block_size"] == 32 and compiled["max_logprobs"] == 12
    assert eager == compiled | {"enforce_eager": True}
    assert engine.options["enforce_eager"] is True


def _die() -> None:
    import os

    os._exit(9)


def test_a_process_that_dies_is_one_plain_error() -> None:
    with pytest.raises(LlmrecError, match="ended before it answered"):
        in_fresh_process(_die)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--engines llmrec tgi", "--engines: 'tgi' is not one of llmrec, llmrec-prefill, prefill"),
        ("--size huge", "--size: 'huge' is not one of nano, "),
        ("--beams 5 --n 6", "--n: 6 items are more than --beams 5"),
        ("--items 300 --levels 2 --codes 16", "--items: 300 items need more than the 256 IDs"),
        ("--repeats 0", "repeats: must be 1 or more, got 0"),
        ("--titles nowhere.jsonl", "nowhere.jsonl: no JSONL file of items with a title"),
        ("--model here", "--model and --dataset belong together"),
        ("--codes 99999999", "--codes: 99999999 at 4 levels are more IDs than fit 62 bits"),
        ("--results figures.txt", "--results figures.txt: give the name of a .json file"),
        ("--model nowhere --dataset nowhere", "nowhere: not a trained llmrec model"),
    ],
)
def test_a_wrong_flag_is_one_line(
    flags: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "decode", *flags.split()]) == 2
    assert capsys.readouterr().err.startswith(f"llmrec: error: {message}")

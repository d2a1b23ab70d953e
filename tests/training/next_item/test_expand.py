"""Expanding a base: item rows by content, whole item tokens, and text as it was."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from tiny_models import (
    make_histories,
    random_semantic_ids,
    semantic_ids,
    tiny_llama,
    write_dataset,
    write_item_ids,
)

from llmrec.cli import run_command
from llmrec.content.features.text import EMBEDDINGS
from llmrec.errors import ConfigError
from llmrec.generation.load import load_llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.tokenizer import add_tokens, load_tokenizer, train_tokenizer
from llmrec.llm.vocabulary import Vocabulary
from llmrec.stage import Manifest, read_manifest, writing
from llmrec.training.next_item.expand import ExpandConfig, check_round_trip, run
from llmrec.training.next_item.row_init import SPREAD, content_part, initialise_rows, orthogonal
from llmrec.types import Histories

N_ITEMS, SPARE = 40, 4
HISTORY = Histories.from_lists([[0, 3, 7]])


def write_base(folder: Path, *, tied: bool = True, chat: bool = True, dead_rows: int = 0) -> str:
    """A pretrained model's folder, as a hub would give it."""
    tokenizer = train_tokenizer(["Thing number one of the shop"] * 3, 300)
    if not chat:
        tokenizer.chat_template = None
    tiny_llama(len(tokenizer) + dead_rows, tied=tied).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def clusters(seed: int = 0) -> np.ndarray:
    """Content vectors float32 ``[N_ITEMS, 12]``: eight kinds of item."""
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(8, 12))[np.arange(N_ITEMS) % 8]
    return (kinds + 0.3 * rng.normal(size=kinds.shape)).astype(np.float32)


def write_features(folder: Path, vectors: np.ndarray) -> Path:
    with writing(folder, Manifest("embed", {})) as stage:
        blocks = {"text": vectors, "present": np.ones((len(vectors), 1), bool)}
        save_file(blocks, stage.folder / EMBEDDINGS)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_base(tmp_path_factory.mktemp("bases") / "base")


@pytest.fixture(scope="module")
def atomic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Atomic IDs that carry their items' content."""
    ids = ItemIds.atomic(N_ITEMS, spare=SPARE, vectors=clusters())
    return write_item_ids(tmp_path_factory.mktemp("ids") / "atomic", ids)


def item_rows(folder: Path, table: str = "model.embed_tokens.weight") -> torch.Tensor:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")[table]


def cosines(rows: torch.Tensor) -> torch.Tensor:
    """Cosines between all pairs of different rows, after the mean is taken away."""
    unit = torch.nn.functional.normalize(rows - rows.mean(0), dim=1)
    first, second = torch.triu_indices(len(rows), len(rows), 1)
    return (unit @ unit.T)[first, second]


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("source", ["item ids", "features"])
def test_similar_items_get_similar_rows_like_the_bases_own(
    tmp_path: Path, atomic: Path, tied: bool, source: str
) -> None:
    base = write_base(tmp_path / "base", tied=tied)
    features = None
    if source == "features":
        features = write_features(tmp_path / "features", clusters())
    out = run(ExpandConfig(base), atomic, tmp_path / "model", features=features)
    offset = load_llm(out).engine.vocabulary.item_offset
    expected = cosines(torch.from_numpy(clusters()))
    for table in ["model.embed_tokens.weight"] + ["lm_head.weight"] * (not tied):
        whole = item_rows(out, table)
        old, new = whole[:offset], whole[offset : offset + N_ITEMS]
        assert correlation(cosines(new), expected) > 0.9
        # the standard error of the mean over 40 rows of noise alone, five times over
        assert ((new.mean(0) - old.mean(0)).abs() < old.std(0) * 0.05).all()
        assert float(new.var(0).mean() / old.var(0).mean()) == pytest.approx(SPREAD**2, rel=0.1)
        spare = whole[offset + N_ITEMS :]
        assert len(spare) == SPARE
        assert ((spare - old.mean(0)).abs() < 0.3 * old.std(0)).all()
        assert len(whole.unique(dim=0)) == len(whole)


def test_items_with_the_same_content_still_get_rows_of_their_own(tmp_path: Path, base: str) -> None:
    same = np.repeat(clusters()[:20], 2, axis=0)
    folder = write_item_ids(tmp_path / "ids", ItemIds.atomic(N_ITEMS, vectors=same))
    out = run(ExpandConfig(base), folder, tmp_path / "model")
    rows = item_rows(out)[-N_ITEMS:]
    near = torch.nn.functional.cosine_similarity(rows[0::2], rows[1::2])
    assert (near > 0.98).all()
    assert not torch.equal(rows[0::2], rows[1::2])


@given(st.integers(1, 40), st.integers(0, 20))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_the_projection_keeps_all_angles(rows: int, more: int) -> None:
    matrix = orthogonal(rows, rows + more, torch.Generator().manual_seed(0))
    assert matrix.shape == (rows, rows + more)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(rows), rtol=0, atol=1e-5)


def test_content_wider_than_the_model_keeps_what_differs_most() -> None:
    rng = np.random.default_rng(0)
    wide = np.concatenate([5 * clusters(), rng.normal(size=(N_ITEMS, 200))], axis=1)
    content = torch.from_numpy(wide.astype(np.float32))
    part = content_part(content, (N_ITEMS,), 16, torch.Generator().manual_seed(0))
    assert correlation(cosines(part), cosines(torch.from_numpy(clusters()))) > 0.8


def test_each_level_has_the_full_spread_and_tokens_without_content_none() -> None:
    content = torch.randn(12, 6)
    content[7:] *= 1e-3  # a deep level, whose content hardly differs
    content[5] = 0.0
    part = content_part(content, (7, 5), 16, torch.Generator().manual_seed(0))
    assert part[5].eq(0).all()
    for level in (part[[0, 1, 2, 3, 4, 6]], part[7:]):
        torch.testing.assert_close(level.mean(0), torch.zeros(16), rtol=0, atol=1e-5)
        torch.testing.assert_close(level.std(0, correction=0), torch.ones(16))


@pytest.mark.parametrize("content", [torch.ones(4, 6), torch.zeros(4, 6), torch.eye(4)[:, :1]])
def test_content_that_does_not_differ_gives_no_rows_that_are_not_numbers(
    content: torch.Tensor,
) -> None:
    part = content_part(content, (4,), 8, torch.Generator().manual_seed(0))
    assert part.isfinite().all()
    assert part.abs().max() < 1e-3


def test_old_rows_stay_when_new_ones_are_filled() -> None:
    table = torch.randn(20, 8)
    before = table.clone()
    items = torch.full((6, 8), 3.0)
    initialise_rows(table, 10, 12, items, torch.Generator().manual_seed(0))
    assert torch.equal(table[:10], before[:10])
    mean, spread = before[:10].mean(0), before[:10].std(0, correction=0)
    assert ((table[10:12] - mean).abs() < spread).all(), "time tokens start near the mean"
    assert ((table[12:18] - mean).norm(dim=1) > 1.5 * spread.norm()).all()
    assert ((table[18:] - mean).abs() < spread).all()


def test_no_state_finds_new_rows_louder_than_the_bases() -> None:
    """Along the directions in which the base's rows vary least as along those they vary most in."""
    generator = torch.Generator().manual_seed(0)
    directions = orthogonal(8, 8, generator)
    deviations = torch.logspace(-3, 0, 8)
    known = torch.randn(400, 8, generator=generator) * deviations @ directions + 5
    table = torch.cat([known, torch.zeros(500, 8)])
    initialise_rows(table, 400, 400, torch.randn(500, 8, generator=generator), generator)
    along = ((table[400:] - table[400:].mean(0)) @ directions.T).std(0)
    torch.testing.assert_close(along, SPREAD * deviations, rtol=0.15, atol=0)


def test_rows_that_do_not_differ_are_a_base_all_the_same() -> None:
    table = torch.cat([torch.ones(3, 8), torch.zeros(4, 8)])
    initialise_rows(table, 3, 3, torch.ones(4, 8), torch.Generator().manual_seed(0))
    torch.testing.assert_close(table, torch.ones(7, 8), rtol=0, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dead_rows", [0, 5, 200])
def test_the_bases_logits_on_text_stay(
    tmp_path: Path, atomic: Path, tied: bool, dead_rows: int
) -> None:
    """Also where the base has rows that its tokenizer does not use, fewer or more than needed."""
    base = write_base(tmp_path / "base", tied=tied, dead_rows=dead_rows)
    out = run(ExpandConfig(base, ["month"]), atomic, tmp_path / "model")
    from transformers import AutoModelForCausalLM

    size = len(load_tokenizer(base))
    tokens = torch.arange(size)[None, :200]
    with torch.inference_mode():
        before = AutoModelForCausalLM.from_pretrained(base)(tokens).logits[..., :size]
        after = AutoModelForCausalLM.from_pretrained(out)(tokens).logits[..., :size]
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_result_is_an_ordinary_folder_that_recommends(
    tmp_path: Path, base: str, kind: str, dtype: str
) -> None:
    ids = ItemIds.atomic(N_ITEMS) if kind == "atomic" else random_semantic_ids(N_ITEMS, (7, 8))
    folder = write_item_ids(tmp_path / "ids", ids)
    chosen = ExpandConfig(base, ["gap", "month"], dtype=dtype, max_items=5)  # type: ignore[arg-type]
    out = run(chosen, folder, tmp_path / "model")
    served = load_llm(out)
    assert served.engine.model.dtype == getattr(torch, dtype)
    assert served.encoder.vocabulary.time_fields == ("gap", "month")
    assert served.max_events == 5
    found = served.recommend(HISTORY, 20).items[0]
    assert len(set(found.tolist()) - {0, 3, 7}) == 20
    tokenizer = load_tokenizer(str(out))
    assert len(tokenizer) == served.engine.vocabulary.size
    text = tokenizer.decode(served.prompts(HISTORY)[0])
    words = "Name the item that comes next.\n<gap_0><month_0>"
    assert words + "".join(ids.token_strings()[t] for t in ids.tokens(0)) in text


def test_a_size_name_learns_its_tokenizer_from_the_titles(tmp_path: Path, atomic: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", make_histories(20, N_ITEMS), N_ITEMS)
    with pytest.raises(ConfigError, match="--dataset: needed with --base nano"):
        run(ExpandConfig("nano"), atomic, tmp_path / "model")
    out = run(ExpandConfig("nano"), atomic, tmp_path / "model", dataset)
    assert read_manifest(out, "expand").inputs.keys() == {"item_ids", "dataset"}
    tokenizer = load_tokenizer(str(out))
    assert tokenizer.chat_template
    assert len(tokenizer.encode("Thing number 7 of the shop")) < 10
    assert (load_llm(out).recommend(HISTORY, 5).items >= 0).all()
    with pytest.raises(ConfigError, match="time_tokens: the dataset has no timestamps"):
        run(ExpandConfig("nano", ["gap"]), atomic, tmp_path / "timed", dataset)
    few = write_item_ids(tmp_path / "few", ItemIds.atomic(39))
    with pytest.raises(ConfigError, match=r"hold IDs of 39 items, .*dataset has 40"):
        run(ExpandConfig("nano"), few, tmp_path / "few_model", dataset)


def test_a_finished_expansion_is_not_repeated_unless_its_base_changes(
    tmp_path: Path, atomic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_base(tmp_path / "base")
    for _ in range(2):
        run(ExpandConfig(base), atomic, tmp_path / "model")
    printed = capsys.readouterr().out
    assert printed.count("expand: wrote") == printed.count("expand: up to date") == 1
    first = item_rows(tmp_path / "model")
    tiny_llama(len(load_tokenizer(base)), seed=1).save_pretrained(base)
    run(ExpandConfig(base), atomic, tmp_path / "model")
    assert not torch.equal(item_rows(tmp_path / "model"), first)


def test_the_seed_decides_the_rows(tmp_path: Path, base: str, atomic: Path) -> None:
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        run(ExpandConfig(base), atomic, tmp_path / name, seed=seed)
    one, same, other = (item_rows(tmp_path / name) for name in ("one", "same", "other"))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_without_any_content_rows_are_random_and_this_is_said(
    tmp_path: Path, base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_item_ids(tmp_path / "ids", random_semantic_ids(N_ITEMS, (7, 8)))
    out = run(ExpandConfig(base), folder, tmp_path / "model")
    assert "no content to start item rows from" in capsys.readouterr().out
    whole = item_rows(out)
    assert 0.7 < float(whole[-15:].std() / whole[:-15].std()) / SPREAD < 1.3


def test_a_base_that_holds_items_is_refused(tmp_path: Path, base: str, atomic: Path) -> None:
    out = run(ExpandConfig(base), atomic, tmp_path / "model")
    message = "already holds item or time tokens"
    with pytest.raises(ConfigError, match=message):
        run(ExpandConfig(str(out)), atomic, tmp_path / "again")
    (out / "llmrec.json").unlink()  # as someone would publish it
    with pytest.raises(ConfigError, match=message):
        run(ExpandConfig(str(out)), atomic, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_missing_chat_template_is_noted_or_refused(
    tmp_path: Path, atomic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_base(tmp_path / "base", chat=False)
    with pytest.raises(ConfigError, match="has no chat template"):
        strict = ExpandConfig(base, require_chat_template=True)
        run(strict, atomic, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    run(ExpandConfig(base), atomic, tmp_path / "model")
    assert "has no chat template" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("taken", "message"),
    [
        ("<a_1><b_2>", r"does not keep item 1 whole: '<a_1><b_2>' became \['<a_1><b_2>'\]"),
        ("bought <", r"does not keep item 0 whole: 'Someone bought <a_0><b_0> and left.' became"),
    ],
)
def test_an_item_that_the_tokenizer_splits_is_named(
    tmp_path: Path, taken: str, message: str
) -> None:
    base = Path(write_base(tmp_path / "base"))
    tokenizer = load_tokenizer(str(base))
    tokenizer.add_tokens([taken], special_tokens=True)
    tokenizer.save_pretrained(base)
    ids = semantic_ids([[0, 0], [1, 2], [2, 1]], (3, 3))
    folder = write_item_ids(tmp_path / "ids", ids)
    with pytest.raises(ConfigError, match=message):
        run(ExpandConfig(str(base)), folder, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_prompt_whose_words_the_new_tokens_change_is_refused(
    tmp_path: Path, base: str, atomic: Path
) -> None:
    prompt = tmp_path / "like.yaml"
    prompt.write_text('name: like\nvariables: [history]\ntext: "More like <item_3>:\\n{history}"\n')
    with pytest.raises(ConfigError, match=r"reads text: 'More like <item_3>.* became .*'<item_3>'"):
        run(ExpandConfig(base, prompt=str(prompt)), atomic, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_features_of_another_catalogue_are_refused(tmp_path: Path, base: str, atomic: Path) -> None:
    features = write_features(tmp_path / "features", clusters()[:30])
    with pytest.raises(ConfigError, match=r"--features: .* vectors of 30 items \(text\).* of 40"):
        run(ExpandConfig(base), atomic, tmp_path / "model", features=features)


def test_a_context_too_short_for_one_event_is_found_before_anything_is_written(
    tmp_path: Path, atomic: Path
) -> None:
    base = Path(write_base(tmp_path / "base"))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 20}))
    with pytest.raises(ConfigError, match="context of 20 tokens cannot hold one event"):
        run(ExpandConfig(str(base)), atomic, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_command_line_says_the_same(
    tmp_path: Path, base: str, atomic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    where = ["--base", base, "--item-ids", str(atomic), "--out", str(out)]
    where = ["model", "expand", *where]
    run_command(
        [*where, "--time-tokens", "gap", "month", "--max-items", "7", "--prompt", "recommend"]
    )
    layout = json.loads((out / "llmrec.json").read_text())
    assert (layout["time_fields"], layout["max_items"]) == (["gap", "month"], 7)
    assert layout["template"]["name"] == "recommend"
    with pytest.raises(SystemExit) as refused:
        run_command([*where, "--dtype", "int8"])
    assert refused.value.code == 2 and "int8" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="unknown field 'week'"):
        run_command([*where, "--time-tokens", "week"])
    with pytest.raises(ConfigError, match="max_items: must be 1 or more"):
        run_command([*where, "--max-items", "0"])


def test_a_whole_catalogue_is_checked_in_seconds() -> None:
    ids = random_semantic_ids(12_101, (32, 32, 32, 32))
    tokenizer = train_tokenizer(["Thing number one of the shop"] * 3, 300)
    vocabulary = Vocabulary.of(len(tokenizer), (), ids)
    add_tokens(tokenizer, ids.token_strings(), len(tokenizer))
    check_round_trip(tokenizer, vocabulary, ids)


def story(folder: Path, n_tokens: int) -> str:
    """What a model says after "Once upon a time", its old tokens only."""
    from transformers import AutoModelForCausalLM

    tokenizer: Any = load_tokenizer(str(folder))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    words = tokenizer.encode("Once upon a time", add_special_tokens=False)
    tokens = [tokenizer.bos_token_id, *words]
    for _ in range(40):
        with torch.inference_mode():
            logits = model(torch.tensor([tokens])).logits[0, -1, :n_tokens]
        tokens.append(int(logits.argmax()))
    text: str = tokenizer.decode(tokens, skip_special_tokens=True)
    return text


def test_a_real_pretrained_llama_tells_its_story_as_before(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "stories260k-llama"
    if not folder.is_dir():
        pytest.skip(f"no pretrained model at {folder}")
    rng = np.random.default_rng(0)
    ids = ItemIds.atomic(200, spare=10, vectors=rng.normal(size=(200, 32)).astype(np.float32))
    item_ids = write_item_ids(tmp_path / "ids", ids)
    chosen = ExpandConfig(str(folder), ["gap", "month"], max_items=20)
    out = run(chosen, item_ids, tmp_path / "model")
    before = story(folder, 512)
    assert before.startswith("Once upon a time, there was a little girl named Lily. She loved")
    assert story(out, 512) == before
    # also free to say an item, it goes on with words
    assert story(out, len(load_tokenizer(str(out)))) == before
    assert (load_llm(out).recommend(HISTORY, 20).items >= 0).all()

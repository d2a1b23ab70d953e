"""LoRA adapters: saved and read, several on one base, and never one for another."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_models import BASE_SIZE, random_semantic_ids, tiny_llama

from llmrec.errors import ArtifactError, ConfigError
from llmrec.files import file_hash, locked
from llmrec.generation.llm import Llm
from llmrec.generation.load import load_llm
from llmrec.generation.multi_lora import MultiLoraLlm, load_llm_with_adapters
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.adapters import (
    CONFIG,
    INFO,
    WEIGHTS,
    attach,
    base_hash,
    read_adapter,
    save_adapter,
)
from llmrec.llm.layout import save_layout
from llmrec.llm.vocabulary import Vocabulary
from llmrec.prompts import load_template
from llmrec.stage import Manifest, writing
from llmrec.types import Histories, Ranking

N_ITEMS = 60
# Of three log-probabilities about -5 in float32: a batch, a cache or another number of threads may
# add up in another order, which is worth a few units in the last place of each layer's output.
ROUNDING = 5e-5
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RNG = np.random.default_rng(0)
HISTORIES = Histories.from_lists([RNG.integers(0, N_ITEMS, n).tolist() for n in (8, 30, 25, 1, 0)])


def make_base(folder: Path, ids: ItemIds, seed: int = 0, tied: bool = True) -> Path:
    """A base as ``llmrec model expand`` leaves it, without a tokenizer."""
    vocabulary = Vocabulary.of(BASE_SIZE, (), ids)
    with writing(folder, Manifest("expand", {}, {"dataset": "d"}, seed=seed)) as stage:
        tiny_llama(vocabulary.size, seed=seed, tied=tied).save_pretrained(stage.folder)
        ids.save(stage.folder / "item_ids")
        save_layout(stage.folder, vocabulary, load_template("recommend"), [1, 5], 30)
    return folder


def make_peft(base: Path, seed: int = 0, name: str = "default", **changes: Any) -> Any:
    """A peft model of the base whose LoRA matrices are random, so that they matter."""
    from transformers import AutoModelForCausalLM

    chosen = {"target_modules": LAYERS, "r": 4, "lora_alpha": 16, "init_lora_weights": False}
    torch.manual_seed(seed)
    return get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(**(chosen | changes)), name
    )


def make_adapter(base: Path, name: str, seed: int) -> Path:
    model = make_peft(base, seed, name="unlike-default" if seed % 2 else "default")
    folder = base.parent / name
    return save_adapter(model, folder, name=name, version="1", task="recommend", base=base)


@pytest.fixture(scope="module", params=["atomic", "semantic"])
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def base(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    semantic = kind == "semantic"
    ids = random_semantic_ids(N_ITEMS, (6, 6, 6)) if semantic else ItemIds.atomic(N_ITEMS, 3)
    return make_base(tmp_path_factory.mktemp(kind) / "base", ids, tied=not semantic)


@pytest.fixture(scope="module")
def adapters(base: Path) -> list[Path]:
    return [make_adapter(base, "gifts", 1), make_adapter(base, "daily", 2)]


@pytest.fixture
def copied(adapters: list[Path], tmp_path: Path) -> Path:
    """An adapter's folder that a test may spoil."""
    return Path(shutil.copytree(adapters[0], tmp_path / "copied"))


def same(one: Ranking, other: Ranking) -> None:
    np.testing.assert_array_equal(one.items, other.items)
    np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=ROUNDING)


def test_an_adapters_folder_says_what_it_is(base: Path, adapters: list[Path]) -> None:
    info = read_adapter(adapters[0])
    assert (info.name, info.version, info.task) == ("gifts", "1", "recommend")
    assert (info.rank, info.alpha) == (4, 16)
    assert (info.base_hash, info.base_name) == (base_hash(base), "base")
    assert json.loads((adapters[0] / CONFIG).read_text())["base_model_name_or_path"] == "base"
    assert {path.name for path in adapters[0].iterdir()} == {INFO, CONFIG, WEIGHTS}


def test_peft_alone_opens_the_folder(base: Path, adapters: list[Path]) -> None:
    opened = PeftModel.from_pretrained(load_llm(base).engine.model, adapters[0]).eval()
    expected = load_llm_with_adapters(base, adapters).with_adapter("gifts").engine.model
    tokens = torch.arange(1, 9)[None]
    with torch.inference_mode():
        torch.testing.assert_close(opened(tokens).logits, expected(tokens).logits)


def test_the_bases_hash_is_of_its_contents_alone(base: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(base, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    (moved / "manifest.json").unlink()
    (moved / "README.md").write_text("not part of it")
    assert base_hash(moved) == base_hash(base)
    for name in ("model.safetensors", "config.json", "llmrec.json", "item_ids/item_ids.json"):
        path = moved / name
        before = path.read_bytes()
        path.write_bytes(before[:-2] + b" " + before[-1:])
        assert base_hash(moved) != base_hash(base), name
        path.write_bytes(before)
    assert base_hash(moved) == base_hash(base)
    (moved / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"is no base for adapters \(it has no weights"):
        base_hash(moved)
    with pytest.raises(ArtifactError, match=r"is no base for adapters \(it has no config.json"):
        base_hash(tmp_path)


def test_each_adapter_answers_as_peft_switched_to_it_would(
    base: Path, adapters: list[Path]
) -> None:
    llm = load_llm_with_adapters(base, adapters)
    names = ("gifts", "daily")
    switched = load_llm(base).engine.model
    for name, folder in zip(names, adapters, strict=True):
        switched = attach(switched, name, folder)
    switched.eval()
    own = load_llm(base)
    own.engine.model = switched.get_base_model()  # its linear layers are peft's now
    for name in (*names, *names):
        switched.set_adapter(name)
        same(own.recommend(HISTORIES, 20), llm.with_adapter(name).recommend(HISTORIES, 20))
    with switched.disable_adapter():
        same(own.recommend(HISTORIES, 20), llm.with_adapter(None).recommend(HISTORIES, 20))


def test_adapters_differ_and_going_back_gives_the_first_answer_again(
    base: Path, adapters: list[Path]
) -> None:
    plain = load_llm(base).recommend(HISTORIES, 20)
    llm = load_llm_with_adapters(base, adapters, cache_bytes=1 << 24)
    answers = {}
    for name in ("gifts", "daily", None):
        answers[name] = llm.with_adapter(name).recommend(HISTORIES, 20)
    same(answers[None], plain)
    for one, other in (("gifts", "daily"), ("gifts", None), ("daily", None)):
        assert not np.array_equal(answers[one].items, answers[other].items)
    for name, answer in answers.items():  # now from the cache
        same(llm.with_adapter(name).recommend(HISTORIES, 20), answer)
        cache = llm.with_adapter(name).cache
        assert cache is not None
        assert cache.metrics["hits"] > 0


def test_the_base_is_in_memory_once(base: Path, adapters: list[Path]) -> None:
    llm = load_llm_with_adapters(base, adapters)
    own = {p.data_ptr() for p in llm.with_adapter(None).engine.model.parameters()}
    for name in ("gifts", "daily"):
        model = llm.with_adapter(name).engine.model
        parameters = dict(model.named_parameters())
        extra = {n for n, p in parameters.items() if p.data_ptr() not in own}
        assert len(extra) == 2 * 2 * len(LAYERS)
        assert all("lora_" in n for n in extra)


def test_many_threads_with_mixed_adapters_get_what_one_would(
    base: Path, adapters: list[Path]
) -> None:
    names = ("gifts", "daily", None)
    requests = [
        (names[n % 3], Histories.from_lists([RNG.integers(0, N_ITEMS, 1 + 5 * (n % 6)).tolist()]))
        for n in range(48)
    ]

    def answers(llm: MultiLoraLlm, workers: int) -> list[Ranking]:
        def answer(request: tuple[str | None, Histories]) -> Ranking:
            return llm.with_adapter(request[0]).recommend(request[1], 20)

        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(answer, requests))

    alone = answers(load_llm_with_adapters(base, adapters), 1)
    mixed = answers(load_llm_with_adapters(base, adapters), 8)
    with_cache = answers(load_llm_with_adapters(base, adapters, cache_bytes=1 << 24), 8)
    for one, other, cached in zip(alone, mixed, with_cache, strict=True):
        same(one, other)
        same(one, cached)


def test_an_adapter_that_is_not_loaded_is_named(base: Path, adapters: list[Path]) -> None:
    llm = load_llm_with_adapters(base, adapters)
    assert list(llm.adapters) == ["gifts", "daily"]
    with pytest.raises(ConfigError, match="'captions' is not loaded; there is gifts, daily"):
        llm.with_adapter("captions")
    alone = load_llm_with_adapters(base, [])
    assert alone.with_adapter(None) is alone.base
    with pytest.raises(ConfigError, match="'gifts' is not loaded; there is none"):
        alone.with_adapter("gifts")
    with pytest.raises(ConfigError, match="are both called 'gifts'"):
        load_llm_with_adapters(base, [adapters[0], adapters[0]])


def test_another_base_is_refused_by_name(base: Path, adapters: list[Path], tmp_path: Path) -> None:
    other = make_base(tmp_path / "other", load_llm(base).ids, seed=9)
    message = (
        rf"'gifts' was made for the base 'base' \({base_hash(base)[:12]}\), .*other is another"
    )
    with pytest.raises(ArtifactError, match=message):
        load_llm_with_adapters(other, adapters)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def without(path: Path, field: str) -> None:
    raw = json.loads(path.read_text())
    del raw[field]
    path.write_text(json.dumps(raw))


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Write other weights, and record their hash."""
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS)
    edit(folder / INFO, weights_hash=file_hash(folder / WEIGHTS))


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: (f / INFO).unlink(), f"{INFO}: not found"),
    (lambda f: (f / CONFIG).unlink(), f"{CONFIG}: not found"),
    (lambda f: (f / WEIGHTS).unlink(), f"{WEIGHTS}: cannot be read"),
    (lambda f: (f / INFO).write_text("{"), f"{INFO}: not a readable LoRA adapter"),
    (lambda f: (f / INFO).write_text("[]"), f"{INFO}: has no schema_version"),
    (lambda f: (f / INFO).write_text("{}"), f"{INFO}: has no schema_version"),
    (lambda f: without(f / INFO, "base_hash"), f"{INFO}: a field is missing .*base_hash"),
    (lambda f: edit(f / INFO, schema_version=9), "schema version 9, this llmrec reads up to 2"),
    (lambda f: edit(f / INFO, name="items"), "'items' cannot be its name"),
    (lambda f: cut(f / WEIGHTS), f"{WEIGHTS}: is not what {INFO} was written for"),
    (lambda f: edit(f / CONFIG, lora_alpha=17), f"{CONFIG}: is not what {INFO} was written for"),
    (lambda f: edit(f / CONFIG, peft_type="LOHA"), "it is LOHA, not LoRA"),
    (lambda f: edit(f / CONFIG, modules_to_save=["norm"]), "uses modules_to_save"),
    (lambda f: edit(f / CONFIG, bias="all"), "uses bias"),
    (lambda f: edit(f / CONFIG, alpha_pattern={"q_proj": 2}), "uses alpha_pattern"),
    (lambda f: edit(f / CONFIG, init_lora_weights="pissa"), "began with 'pissa'"),
    (
        lambda f: change_tensors(f, lambda s: s.update({"model.embed_tokens": torch.zeros(2)})),
        "changes the base's vocabulary .model.embed_tokens",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), DAMAGE)
def test_a_damaged_adapter_is_refused_in_one_line(
    copied: Path, spoil: Callable[[Path], object], message: str
) -> None:
    read_adapter(copied)
    spoil(copied)
    with pytest.raises((ArtifactError, ConfigError), match=message) as caught:
        read_adapter(copied)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop(sorted(s)[0]), "do not agree on .*layers.0"),
        (lambda s: s.update({sorted(s)[0]: torch.zeros(3, 5)}), "does not fit its base"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    base: Path, copied: Path, change: Any, message: str, recwarn: pytest.WarningsRecorder
) -> None:
    change_tensors(copied, change)
    with pytest.raises(ArtifactError, match=message) as caught:
        load_llm_with_adapters(base, [copied])
    assert "\n" not in str(caught.value)


def grown(base: Path) -> Any:
    model = make_peft(base)
    model.get_base_model().resize_token_embeddings(200, mean_resizing=False)
    for parameter in model.get_base_model().get_input_embeddings().parameters():
        parameter.requires_grad = False
    return model


def thawed(base: Path) -> Any:
    model = make_peft(base)
    model.get_base_model().model.norm.weight.requires_grad = True
    return model


def two_active(base: Path) -> Any:
    model = make_peft(base)
    model.add_adapter("second", LoraConfig(target_modules=["q_proj"]))
    model.base_model.set_adapter(["default", "second"])
    return model


UNSERVABLE: list[tuple[Callable[[Path], Any], str]] = [
    (lambda b: make_peft(b, target_modules=["q_proj", "embed_tokens"]), "base's vocabulary .*emb"),
    (lambda b: make_peft(b, modules_to_save=["embed_tokens"]), "base's vocabulary .*embed"),
    (lambda b: make_peft(b, trainable_token_indices=[14, 15]), "base's vocabulary .*embed"),
    (lambda b: make_peft(b, use_dora=True), "more than LoRA matrices .*magnitude"),
    (lambda b: make_peft(b, rank_pattern={"q_proj": 2}), "uses rank_pattern"),
    (grown, "rows for 200 tokens, .*base for .*llmrec model expand"),
    (thawed, "model.norm.weight was trained as well"),
]


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize(("make", "message"), UNSERVABLE)
def test_an_adapter_that_cannot_be_served_is_not_saved(
    base: Path, tmp_path: Path, make: Callable[[Path], Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"adapter 'bad': .*{message}"):
        save_adapter(make(base), tmp_path / "bad", name="bad", version="1", task="t", base=base)
    assert not (tmp_path / "bad").exists()


def test_an_adapter_is_replaced_whole_or_stays(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gifts"

    def save(seed: int) -> None:
        made = make_peft(base, seed, r=2 + seed)
        save_adapter(made, folder, name="gifts", version=f"{seed}", task="t", base=base)

    save(1)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    for moment in ("llmrec.llm.adapters.save_file", "llmrec.files.put_in_place"):
        with monkeypatch.context() as patch:
            patch.setattr(moment, lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                save(2)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    with locked(folder), pytest.raises(ArtifactError, match="another run writes here"):
        save(2)
    save(2)
    assert (read_adapter(folder).version, read_adapter(folder).rank) == ("2", 4)
    assert [path.name for path in tmp_path.iterdir()] == ["gifts"]
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_what_is_no_adapter_is_not_replaced(base: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.tex").touch()
    with pytest.raises(ArtifactError, match="holds something else than an adapter"):
        save_adapter(make_peft(base), tmp_path / "a", name="a", version="1", task="t", base=base)
    assert (tmp_path / "a" / "thesis.tex").exists()


def test_one_adapter_is_saved_at_a_time(base: Path, tmp_path: Path) -> None:
    model = two_active(base)
    with pytest.raises(ConfigError, match="2 adapters are active; set the one to save"):
        save_adapter(model, tmp_path / "a", name="a", version="1", task="t", base=base)


@pytest.mark.parametrize("name", ["", "items", "train", "1st", "a.b", "lora_x", "é", "a b", "../x"])
def test_a_name_that_peft_cannot_keep_is_refused(base: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be its name"):
        save_adapter(make_peft(base), tmp_path / "a", name=name, version="1", task="t", base=base)


def test_an_adapter_of_a_bfloat16_base_recommends(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", random_semantic_ids(N_ITEMS, (6, 6, 6)))
    load_llm(base).engine.model.to(torch.bfloat16).save_pretrained(base)
    adapter = make_adapter(base, "gifts", 1)
    llm: Llm = load_llm_with_adapters(base, [adapter]).with_adapter("gifts")
    assert llm.engine.model.dtype == torch.bfloat16
    assert (llm.recommend(HISTORIES, 20).items >= 0).all()


def test_a_base_that_is_stored_quantised_is_not_shared(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", ItemIds.atomic(N_ITEMS))
    model = make_peft(base)
    edit(base / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    folder = tmp_path / "gifts"
    save_adapter(model, folder, name="gifts", version="1", task="recommend", base=base)
    with pytest.raises(ConfigError, match="are stored quantised, which adapters cannot share"):
        load_llm_with_adapters(base, [folder])

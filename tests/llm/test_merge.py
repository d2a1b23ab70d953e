"""A merged model answers as the adapter on its base does, and is an ordinary folder."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_models import random_semantic_ids, tiny_llama, write_item_ids

from llmrec.cli import run_command
from llmrec.errors import ArtifactError
from llmrec.generation.load import load_llm
from llmrec.generation.multi_lora import load_llm_with_adapters
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.adapters import base_hash, save_adapter
from llmrec.llm.tokenizer import load_tokenizer, train_tokenizer
from llmrec.stage import MANIFEST, Manifest, read_manifest, writing
from llmrec.training.next_item.expand import ExpandConfig, run
from llmrec.types import Histories

N_ITEMS = 60
RNG = np.random.default_rng(0)
HISTORIES = Histories.from_lists([RNG.integers(0, N_ITEMS, n).tolist() for n in (8, 3, 0, 1, 7)])


def make_base(folder: Path, ids: ItemIds, *, tied: bool = True) -> Path:
    """A pretrained model, expanded."""
    tokenizer = train_tokenizer(["Thing number one of the shop"] * 3, 300)
    tokenizer.save_pretrained(folder / "plain")
    tiny_llama(len(tokenizer), tied=tied).save_pretrained(folder / "plain")
    item_ids = write_item_ids(folder / "ids", ids)
    chosen = ExpandConfig(str(folder / "plain"), ["month"], max_items=8)
    return run(chosen, item_ids, folder / "base")


def make_adapter(base: Path, folder: Path, seed: int = 1) -> Path:
    torch.manual_seed(seed)
    config = LoraConfig(
        target_modules=["q_proj", "v_proj", "down_proj"], r=4, init_lora_weights=False
    )
    model = get_peft_model(load_llm(base).engine.model, config)
    return save_adapter(model, folder, name="gifts", version="3", task="recommend", base=base)


def merge(base: Path, adapter: Path, out: Path) -> Path:
    flags = ["--base", str(base), "--adapter", str(adapter), "--out", str(out)]
    run_command(["model", "merge", *flags])
    return out


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
@pytest.mark.parametrize("tied", [True, False])
def test_merged_and_adapter_on_base_answer_alike(tmp_path: Path, kind: str, tied: bool) -> None:
    atomic = kind == "atomic"
    ids = ItemIds.atomic(N_ITEMS, 4) if atomic else random_semantic_ids(N_ITEMS, (6, 6, 6))
    base = make_base(tmp_path, ids, tied=tied)
    adapter = make_adapter(base, tmp_path / "adapter")
    merged = load_llm(merge(base, adapter, tmp_path / "merged")).recommend(HISTORIES, 20)
    llm = load_llm_with_adapters(base, [adapter])
    expected = llm.with_adapter("gifts").recommend(HISTORIES, 20)
    np.testing.assert_array_equal(merged.items, expected.items)
    np.testing.assert_allclose(merged.scores, expected.scores, rtol=0, atol=1e-4)
    assert not np.array_equal(merged.items, llm.with_adapter(None).recommend(HISTORIES, 20).items)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("merge"), ItemIds.atomic(N_ITEMS))


@pytest.fixture(scope="module")
def adapter(base: Path) -> Path:
    return make_adapter(base, base.parent / "adapter")


def test_the_folder_is_ordinary_and_says_what_it_is(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    (base / "notes").mkdir()
    (base / "notes" / "about.txt").write_bytes(b"kept")
    (base / "log.json").write_text("[]")
    out = merge(base, adapter, tmp_path / "merged")
    names = {path.name for path in out.iterdir()}
    assert names == {path.name for path in base.iterdir()} - {"log.json"}
    assert (out / "llmrec.json").read_bytes() == (base / "llmrec.json").read_bytes()
    assert (out / "notes" / "about.txt").read_bytes() == b"kept"
    text = "Thing <item_3> number"
    old, new = load_tokenizer(str(base)), load_tokenizer(str(out))
    assert new.encode(text) == old.encode(text)
    assert new.chat_template == old.chat_template

    from safetensors.torch import load_file

    weights = load_file(out / "model.safetensors")
    assert weights.keys() == load_file(base / "model.safetensors").keys()
    manifest = read_manifest(out, "merge")
    assert manifest.config == {"adapter": "gifts", "version": "3", "task": "recommend"}
    assert manifest.inputs["base"] == base_hash(base)
    assert manifest.counts["base_name"] == "base"
    shutil.rmtree(base / "notes")
    (base / "log.json").unlink()


def test_a_finished_merge_is_not_repeated(
    base: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        merge(base, adapter, tmp_path / "merged")
    printed = capsys.readouterr().out
    assert printed.count("merge: wrote") == printed.count("merge: up to date") == 1
    merge(base, make_adapter(base, tmp_path / "retrained", seed=2), tmp_path / "merged")
    assert "merge: wrote" in capsys.readouterr().out


def test_what_does_not_belong_together_is_not_merged(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    merged = merge(base, adapter, tmp_path / "merged")
    with pytest.raises(ArtifactError, match="'gifts' was made for the base 'base'"):
        merge(merged, adapter, tmp_path / "twice")
    with pytest.raises(ArtifactError, match=r"llmrec_adapter\.json: not found"):
        merge(base, base, tmp_path / "twice")
    with pytest.raises(ArtifactError, match="is no base for adapters"):
        merge(tmp_path, adapter, tmp_path / "twice")
    assert not (tmp_path / "twice").exists()


def test_weights_that_are_not_numbers_are_not_merged(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = get_peft_model(load_llm(base).engine.model, LoraConfig(target_modules=["q_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(float("nan"))
    broken = tmp_path / "broken"
    save_adapter(model, broken, name="broken", version="1", task="recommend", base=base)
    with pytest.raises(ArtifactError, match="broken: cannot be merged"):
        merge(base, broken, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_base_that_is_stored_quantised_is_merged_into_its_dequantised_weights(
    base: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    small = AutoModelForCausalLM.from_pretrained(base, quantization_config=nf4, device_map="cpu")
    quantised = tmp_path / "quantised"
    others = shutil.ignore_patterns("model.safetensors", MANIFEST)
    with writing(quantised, Manifest("expand", {}, read_manifest(base).inputs)) as stage:
        shutil.copytree(base, stage.folder, ignore=others, dirs_exist_ok=True)
        small.save_pretrained(stage.folder)
    torch.manual_seed(1)
    config = LoraConfig(target_modules=["q_proj", "v_proj"], r=4, init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(quantised), config)
    adapter = tmp_path / "gifts"
    save_adapter(model, adapter, name="gifts", version="1", task="t", base=quantised)
    out = merge(quantised, adapter, tmp_path / "merged")
    assert "quantization_config" not in (out / "config.json").read_text()

    plain = AutoModelForCausalLM.from_pretrained(quantised).dequantize()
    expected = PeftModel.from_pretrained(plain, adapter).eval()
    tokens = torch.arange(40)[None]
    with torch.inference_mode():
        torch.testing.assert_close(
            load_llm(out).engine.model(tokens).logits, expected(tokens).logits, rtol=0, atol=1e-4
        )

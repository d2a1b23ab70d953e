"""``llmrec embed`` with the real MiniLM on a handful of items."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llmrec.bench.random_texts import write_text_model
from llmrec.cli import run_command
from llmrec.content.features import text
from llmrec.content.features.item_encoder import ItemEncoder, copy_text_encoder, own_text_encoder
from llmrec.content.features.models import weights_hash
from llmrec.content.features.text import EmbedConfig, item_text, load_features, run
from llmrec.content.features.text_encoder import TextEncoder, locate_model
from llmrec.errors import ArtifactError, CatalogError, ConfigError
from llmrec.stage import read_manifest

pytest.importorskip("sentence_transformers", reason="needs the train extra")


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder("minilm", device="cpu")


def test_text_uses_the_fields_in_order_and_cuts_the_description() -> None:
    row = {
        "title": "Polish",
        "brand": "",
        "categories": ["Beauty", "Nails"],
        "description": "A very   long text",
        "attributes": ["colour=red"],
    }
    assert item_text(row, ["title"], 10) == "Polish"
    assert item_text(row, ["description", "brand", "attributes", "title"], 6) == (
        "A very. attributes: colour red. Polish"
    )


def test_encoder_gives_unit_rows_in_the_order_asked(encoder: TextEncoder) -> None:
    texts = ["red nail polish", " ", "a four person tent for camping in the mountains"]
    vectors = encoder.encode(texts)
    assert vectors.shape == (3, 384) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1], atol=1e-5)
    np.testing.assert_allclose(vectors[0], encoder.encode(texts[:1])[0], atol=1e-5)


def test_encoder_matches_the_library_used_directly(encoder: TextEncoder) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["red nail polish", "a tent"]
    direct = SentenceTransformer(locate_model("minilm"), device="cpu").encode(texts)
    direct /= np.linalg.norm(direct, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(texts), direct, atol=1e-5)


def test_run_writes_blocks_that_find_alike_items(dataset: Path, tmp_path: Path) -> None:
    config = EmbedConfig(fields=("title",), attributes=True, attribute_min_items=2, device="cpu")
    out = run(config, dataset, tmp_path / "features")
    blocks = load_features(out)
    assert blocks["present"].tolist() == [1, 0, 1, 1, 1, 1]
    similar = blocks["text"] @ blocks["text"].T
    assert similar[0, 2] > 0.5 > similar[0, 3]  # polish and lacquer, not polish and tent
    assert similar[3, 4] > similar[3, 0]
    assert not blocks["text"][1].any() and not blocks["attributes"][1].any()
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert counts["items"] == 6 and counts["without_text"] == 1
    # colour=green, brand=OPI and three categories occur twice or more
    assert counts["attribute_values"] == blocks["attributes"].shape[1] == 4
    assert not (out / "shards").exists()


def test_new_items_get_the_vectors_the_catalogue_would_have_given(
    dataset: Path, tmp_path: Path
) -> None:
    config = EmbedConfig(attributes=True, attribute_min_items=2, device="cpu")
    out = run(config, dataset, tmp_path / "features")
    row = {"title": "Red nail polish", "description": "", "brand": "OPI", "attributes": []}
    row["categories"] = ["Beauty", "Nails"]
    new, old = ItemEncoder(out, device="cpu").encode([row]), load_features(out)
    for name in ("text", "attributes"):
        np.testing.assert_allclose(new[name][0], old[name][0], atol=1e-5)


def test_a_killed_run_goes_on_with_the_next_shard(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "SHARD_ITEMS", 2)
    config = EmbedConfig(fields=("title",), device="cpu")
    whole = load_features(run(config, dataset, tmp_path / "whole"))
    encode, calls = TextEncoder.encode, []

    def stop_at_third(self: TextEncoder, texts: list[str], **options: object) -> np.ndarray:
        calls.append(list(texts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(self, texts, **options)

    monkeypatch.setattr(TextEncoder, "encode", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        run(config, dataset, tmp_path / "resumed")
    assert not (tmp_path / "resumed").exists()
    # Another batch size changes nothing of the result, so the earlier shards still count.
    smaller = EmbedConfig(fields=("title",), device="cpu", batch_size=1)
    resumed = load_features(run(smaller, dataset, tmp_path / "resumed"))
    assert calls[3:] == [["Two-person hiking tent", "Green nail polish"]]
    np.testing.assert_allclose(resumed["text"], whole["text"], atol=1e-5)


def test_a_finished_folder_is_not_made_again(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EmbedConfig(fields=("title",), device="cpu")
    run(config, dataset, tmp_path / "features")
    monkeypatch.setattr(TextEncoder, "encode", None)  # would fail if it were called
    run(config, dataset, tmp_path / "features")


def test_command_line_reads_a_recipe_and_flags(dataset: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "embed.yaml"
    recipe.write_text("seed: 4\nembed: {fields: [title, brand], batch_size: 2}\n")
    out = tmp_path / "features"
    arguments = [recipe, "--dataset", dataset, "--out", out, "--device", "cpu"]
    run_command(["embed", *map(str, arguments)])
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["config"]["fields"] == ["title", "brand"] and manifest["seed"] == 4


def test_an_empty_catalogue_is_an_error(make_dataset, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no items"):
        run(EmbedConfig(), make_dataset([]), tmp_path / "features")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fields": ["titel"]}, "fields: choose from"),
        ({"batch_size": 0}, "batch_size: must be 1 or more"),
        ({"dtype": "int8"}, "is not one of float32"),
    ],
)
def test_wrong_settings_name_the_setting(settings: dict, message: str) -> None:
    from llmrec.config import build

    with pytest.raises(ConfigError, match=message):
        build(EmbedConfig, settings, "recipe.yaml: embed")


@pytest.mark.parametrize("model", ["./nowhere", "no-such-owner/no-such-model"])
def test_a_model_that_is_not_there_is_one_clear_line(model: str) -> None:
    with pytest.raises(ConfigError, match="model: ") as caught:
        TextEncoder(model, device="cpu")
    assert "\n" not in str(caught.value)


@pytest.fixture
def downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of ``someone/letters``, as a download from a hub leaves it."""
    home = tmp_path / "hub" / "models--someone--letters"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("0123abcd")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return write_text_model(home / "snapshots" / "0123abcd")


def test_a_model_of_a_hub_is_known_by_its_files(
    downloaded: Path, dataset: Path, tmp_path: Path
) -> None:
    config = EmbedConfig(model="someone/letters")
    out = run(config, dataset, tmp_path / "features")
    assert read_manifest(out).inputs["model"] == weights_hash(str(downloaded))
    query = ItemEncoder(out).encode_query("polish")
    (tmp_path / "bundle").mkdir()
    copy_text_encoder(out, tmp_path / "bundle")
    (downloaded / "model.safetensors").write_bytes(b"another version")
    with pytest.raises(ArtifactError, match="other weights of 'someone/letters' than those in"):
        ItemEncoder(out)
    own = own_text_encoder(tmp_path / "bundle")
    np.testing.assert_array_equal(ItemEncoder(out, text_encoder=own).encode_query("polish"), query)
    shutil.rmtree(downloaded.parents[1])
    with pytest.raises(ArtifactError, match="'someone/letters' is not on this machine; run llmrec"):
        ItemEncoder(out)


def test_minilm_is_part_of_a_package_and_not_copied(dataset: Path, tmp_path: Path) -> None:
    out = run(EmbedConfig(fields=("title",), device="cpu"), dataset, tmp_path / "features")
    (tmp_path / "bundle").mkdir()
    copy_text_encoder(out, tmp_path / "bundle")
    assert own_text_encoder(tmp_path / "bundle") is None


def test_a_device_that_is_not_there_names_the_setting() -> None:
    with pytest.raises(ConfigError, match="device: 'nonsense'"):
        TextEncoder("minilm", device="nonsense")


def test_damaged_features_name_file_and_fix(dataset: Path, tmp_path: Path) -> None:
    out = run(EmbedConfig(fields=("title",), device="cpu"), dataset, tmp_path / "features")
    size = (out / "embeddings.safetensors").stat().st_size
    (out / "embeddings.safetensors").write_bytes(b"?" * size)
    with pytest.raises(ArtifactError, match=r"embeddings\.safetensors: .*llmrec embed"):
        load_features(out)


def test_the_stage_module_loads_no_heavy_package() -> None:
    heavy = "torch transformers sentence_transformers sklearn scipy faiss matplotlib"
    code = (
        "import sys, llmrec.content.features.text, llmrec.item_ids.index\n"
        f"assert not [m for m in '{heavy}'.split() if m in sys.modules]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

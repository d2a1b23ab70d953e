"""``llmrec index``: folders in, a folder out, and what it says when something is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from llmrec.cli import run_command
from llmrec.config import build
from llmrec.errors import ArtifactError, CatalogError, ConfigError, DataError
from llmrec.item_ids.index import IndexConfig, run
from llmrec.item_ids.item_ids import ItemIds
from llmrec.item_ids.quantizer import ResidualQuantizer
from llmrec.item_ids.report import level_report
from llmrec.item_ids.rq_kmeans import fit_rq_kmeans
from llmrec.item_ids.rq_vae_settings import RqVaeConfig

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(200, 8)).astype(np.float32)


def test_semantic_folder_is_complete(make_folders, tmp_path: Path) -> None:
    dataset, features = make_folders(np.concatenate([VECTORS, VECTORS[:5]]))
    config = IndexConfig(kind="semantic", codebook_size=8)
    out = run(config, dataset, tmp_path / "item_ids", features, seed=1)
    ids = ItemIds.load(out)
    assert ids.level_sizes == (8, 8, 8) and ids.n_items == 205
    report = json.loads((out / "report.json").read_text())
    assert report["collisions_before"] >= 10 and report["collisions_after"] == 0
    assert [level["size"] for level in report["levels"]] == [8, 8, 8]
    errors = [level["relative_mse"] for level in report["levels"]]
    assert 1 > errors[0] > errors[1] > errors[2] == report["relative_mse"] > 0
    assert json.loads((out / "manifest.json").read_text())["counts"]["items"] == 205
    assert (out / "code_usage.png").read_bytes().startswith(b"\x89PNG")


def test_atomic_needs_no_features(make_folders, tmp_path: Path) -> None:
    dataset, features = make_folders(VECTORS)
    bare = ItemIds.load(run(IndexConfig(), dataset, tmp_path / "bare"))
    assert bare.n_items == 200 and bare.n_tokens == 264  # 5% would be 10: at least 64
    assert bare.token_vectors.shape == (264, 0)
    rich = ItemIds.load(run(IndexConfig(spare=7), dataset, tmp_path / "rich", features))
    np.testing.assert_array_equal(rich.token_vectors[:200], VECTORS)
    assert rich.n_tokens == 207
    assert bare.assign_new(np.zeros((64, 0))).n_items == 264


def test_command_line_prints_a_report(make_folders, tmp_path: Path, capsys) -> None:
    dataset, features = make_folders(VECTORS[:20])
    arguments = ["--dataset", dataset, "--features", features, "--out", tmp_path / "ids"]
    arguments += ["--kind", "semantic", "--blocks", "text", "0.25", "--levels", "2"]
    run_command(["index", *map(str, arguments)])
    printed = capsys.readouterr().out
    assert "20 items, semantic ids, 40 item tokens" in printed
    assert "codebook_size lowered from 256 to 20" in printed
    ids = ItemIds.load(tmp_path / "ids")
    assert ids.blocks == {"text": 0.25}
    np.testing.assert_allclose(ids.content({"text": VECTORS[:3]}, 3), VECTORS[:3] / 2)


def test_no_more_error_than_the_data_has_when_every_item_has_a_code() -> None:
    fitted = fit_rq_kmeans(VECTORS[:16], (16, 16))
    assert fitted.relative_mse == pytest.approx(0, abs=1e-6)


def test_balanced_levels_are_even() -> None:
    skewed = np.concatenate([VECTORS * 0.01, VECTORS[:40] + 5])
    fitted = fit_rq_kmeans(skewed, (8, 8), balanced=True)
    for level in range(2):
        assert np.bincount(fitted.codes[:, level]).max() <= 30  # 240 items on 8 codes


def test_level_report_by_hand() -> None:
    books = (np.array([[-1.0], [1.0], [9.0]], np.float32), np.array([[0.0], [0.5]], np.float32))
    latents = np.array([[-1.0], [1.5]], np.float32)
    quantizer = ResidualQuantizer(books)
    first, second = level_report(quantizer, latents, quantizer.codes(latents))
    assert (first["used"], first["usage"], first["perplexity"]) == (2, 0.6667, 2.0)
    # Left after level one: 0 and 0.5. Spread about the mean 0.25: 2 * 1.25 ** 2.
    assert first["relative_mse"] == pytest.approx(0.25 / 3.125)
    assert second["relative_mse"] == 0


def test_rq_vae_learns_and_keeps_its_codes_in_use() -> None:
    torch = pytest.importorskip("torch", reason="needs the train extra")
    from llmrec.item_ids.rq_vae import fit_rq_vae

    # Three numbers in eight dimensions: an autoencoder can find them, 8 bits can tell them.
    vectors = (RNG.normal(size=(200, 3)) @ RNG.normal(size=(3, 8))).astype(np.float32)
    before = torch.random.get_rng_state()
    quick = RqVaeConfig((32,), 8, 200, learning_rate=0.01)
    fitted = fit_rq_vae(vectors, (16, 16), quick, seed=0)
    assert torch.equal(before, torch.random.get_rng_state())
    untrained = fit_rq_vae(vectors, (16, 16), RqVaeConfig((32,), 8, 1, warmup=0), seed=0)
    assert fitted.relative_mse < 0.1 < 0.8 < untrained.relative_mse
    for level in range(2):
        assert len(np.unique(fitted.codes[:, level])) >= 12
    again = fitted.quantizer.codes(fitted.quantizer.latents(vectors))
    np.testing.assert_array_equal(again, fitted.codes)


def test_the_exported_encoder_is_the_trained_one() -> None:
    torch = pytest.importorskip("torch", reason="needs the train extra")
    from llmrec.item_ids.rq_vae import RqVae, _export

    model = RqVae(8, (4, 4), RqVaeConfig((16, 12), 5))
    mean, scale = VECTORS.mean(axis=0), 0.7
    with torch.no_grad():
        expected = model.encoder(torch.from_numpy((VECTORS - mean) / scale)).numpy()
    exported = _export(model, mean, scale)
    np.testing.assert_allclose(exported.latents(VECTORS), expected, atol=1e-5)
    assert exported.input_dim == 8


def test_one_rq_vae_step_moves_every_weight() -> None:
    torch = pytest.importorskip("torch", reason="needs the train extra")
    from llmrec.item_ids.rq_vae import RqVae

    torch.manual_seed(0)
    model = RqVae(8, (4, 4), RqVaeConfig((16,), 5))
    for book in model.codebooks:
        torch.nn.init.normal_(book)
    model(torch.from_numpy(VECTORS), quantized=True)[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_single_item_gets_an_id(make_folders, tmp_path: Path) -> None:
    dataset, features = make_folders(VECTORS[:1])
    out = run(IndexConfig(kind="semantic"), dataset, tmp_path / "ids", features)
    assert ItemIds.load(out).decode([[0, 0, 0]]).tolist() == [0]


def test_a_vector_that_is_not_finite_names_block_and_row(make_folders, tmp_path: Path) -> None:
    vectors = VECTORS.copy()
    vectors[7, 2] = np.nan
    dataset, features = make_folders(vectors)
    with pytest.raises(DataError, match=r"block 'text': item row 7"):
        run(IndexConfig(kind="semantic"), dataset, tmp_path / "ids", features)
    assert not (tmp_path / "ids").exists()


def test_an_empty_catalogue_is_an_error(make_folders, tmp_path: Path) -> None:
    dataset, _ = make_folders(VECTORS[:0])
    with pytest.raises(CatalogError, match="no items"):
        run(IndexConfig(), dataset, tmp_path / "ids")


def test_features_of_another_catalogue_are_refused(make_folders, tmp_path: Path) -> None:
    dataset, features = make_folders(VECTORS)
    config = IndexConfig(kind="semantic", blocks={"image": 1.0})
    with pytest.raises(ConfigError, match="no block 'image'; it has: text"):
        run(config, dataset, tmp_path / "ids", features)
    make_folders(VECTORS[:50])[0].rename(tmp_path / "small")
    _, features = make_folders(VECTORS)
    with pytest.raises(DataError, match="for 50 items"):
        run(IndexConfig(kind="semantic"), tmp_path / "small", tmp_path / "ids", features)


def test_semantic_without_features_says_so(make_folders, tmp_path: Path) -> None:
    dataset, features = make_folders(VECTORS)
    with pytest.raises(ConfigError, match="features: semantic"):
        run(IndexConfig(kind="semantic"), dataset, tmp_path / "ids")
    with pytest.raises(ArtifactError, match="'ingest' stage, which has no vectors"):
        run(IndexConfig(kind="semantic"), dataset, tmp_path / "ids", dataset)
    assert features.is_dir()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"levels": 1}, r"levels: must be in \[2, 8\]"),
        ({"codebook_size": 0}, "codebook_size: must be 1"),
        ({"spare": -1}, "spare: must be 0"),
        ({"blocks": {}}, "blocks: need"),
        ({"blocks": {"text": 0}}, "weights above 0"),
        ({"method": "rq-vae", "balanced": True}, "only rq-kmeans"),
        ({"rq_vae": {"steps": 0}}, "rq_vae.steps: must be 1"),
        ({"kind": "sematic"}, "not one of atomic, domain, semantic"),
    ],
)
def test_wrong_settings_name_the_setting(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(IndexConfig, settings, "recipe.yaml: index")

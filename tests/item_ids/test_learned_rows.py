"""Semantic IDs of what a model with atomic IDs has learned."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from llmrec.errors import ArtifactError, ConfigError
from llmrec.item_ids.index import IndexConfig, run
from llmrec.item_ids.item_ids import ItemIds
from llmrec.item_ids.learned_rows import learned_rows
from llmrec.stage import Manifest, writing

N, TEXT_TOKENS = 60, 5
RNG = np.random.default_rng(0)
CONTENT = RNG.normal(size=(N, 6)).astype(np.float32)
ROWS = CONTENT @ RNG.normal(size=(6, 4)).astype(np.float32)
ROWS[:, 0] += 20 * (np.arange(N) % 2)  # of which content knows nothing
SETTINGS = IndexConfig(kind="semantic", levels=2, codebook_size=12)


def write_model(folder: Path, order: np.ndarray) -> Path:
    """A model that has its items in another order than the dataset."""
    ids = replace(ItemIds.atomic(N, spare=3), names=tuple(f"i{n}" for n in order))
    table = np.concatenate([np.full((TEXT_TOKENS, 4), 9.0), ROWS[order], np.zeros((3, 4))])
    with writing(folder, Manifest("train", {}, counts={})) as stage:
        ids.save(stage.folder / "item_ids")
        weights = {"model.embed_tokens.weight": table.astype(np.float32)}
        save_file(weights, stage.folder / "model.safetensors")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", RNG.permutation(N))


def test_rows_are_found_by_name(model: Path) -> None:
    np.testing.assert_array_equal(learned_rows(model, [f"i{n}" for n in range(N)]), ROWS)


def test_codes_are_of_rows_and_those_of_later_items_by_content(
    model: Path, make_folders, tmp_path: Path
) -> None:
    dataset, features = make_folders(CONTENT)
    out = run(replace(SETTINGS, rows_of=model), dataset, tmp_path / "ids", features)
    ids = ItemIds.load(out)
    first = ids.codes[:, 0]
    assert not set(first[::2]) & set(first[1::2])  # what behaviour tells apart
    assert ids.quantizer is not None
    assert ids.quantizer.input_dim == ids.token_vectors.shape[1] == 6
    predicted = ids.quantizer.latents(CONTENT)
    likeness = [np.corrcoef(predicted[:, d], ROWS[:, d])[0, 1] for d in range(1, 4)]
    assert min(likeness) > 0.9
    spread = [np.linalg.norm(v - v.mean(0), axis=1).mean() for v in (predicted, ROWS)]
    assert spread[0] == pytest.approx(spread[1], rel=0.05)
    grown = ids.assign_new(CONTENT[:3] + 1e-3)
    assert grown.n_items == N + 3
    alone = ItemIds.load(run(SETTINGS, dataset, tmp_path / "content", features))
    assert set(alone.codes[::2, 0]) & set(alone.codes[1::2, 0])


def test_a_model_that_does_not_fit_is_named(model: Path, make_folders, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rows_of: .* does not know 'new'; train it on these"):
        learned_rows(model, ["i0", "new"])
    ids = ItemIds.load(
        run(SETTINGS, *make_folders(CONTENT)[:1], tmp_path / "s", tmp_path / "features")
    )
    ids.save(tmp_path / "semantic" / "item_ids")
    with pytest.raises(ConfigError, match=r"rows_of: .* are semantic; give a model with atomic"):
        learned_rows(tmp_path / "semantic", ["i0"])
    with pytest.raises(ConfigError, match="rows_of: is for semantic IDs by rq-kmeans; leave it"):
        IndexConfig(rows_of=model)
    (model / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        learned_rows(model, ["i0"])

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from shop_of_colours import COLOURS, SHAPES, picture_shop, write_dataset

from llmrec.content.clip.model import contrastive_loss
from llmrec.content.clip.pictures import views
from llmrec.content.clip.run import run
from llmrec.content.clip.settings import Augmentation, ClipConfig
from llmrec.content.clip.texts import Texts
from llmrec.content.clip.training import ClipTrainer
from llmrec.content.features.image_encoder import ImageEncoder
from llmrec.content.media.images import decode_image
from llmrec.errors import CatalogError, ConfigError, DataError
from llmrec.stage import read_manifest

Shop = tuple[Path, Path, Path]
FIELDS = ("colour", "category")
FAST = ClipConfig(
    size="vit-nano", fields=FIELDS, epochs=25, batch_size=9, learning_rate=3e-3, dropout=0.0,
    validation_share=0.1,
)  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return picture_shop(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def trained(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    dataset, media, left_out = shop
    out = tmp_path_factory.mktemp("trained") / "clip"
    return run(FAST, dataset, out, media_root=media, leave_out=left_out)


def test_it_tells_the_colour_and_the_shape_of_pictures_that_it_has_not_seen(
    shop: Shop, trained: Path
) -> None:
    encoder = ImageEncoder(str(trained))
    rows = [int(json.loads(line)["item_id"][1:]) for line in shop[2].read_text().splitlines()]
    pictures = encoder.encode([decode_image(shop[1] / f"{row}.png") for row in rows])
    colours = pictures @ encoder.encode_text(list(COLOURS)).T
    shapes = pictures @ encoder.encode_text(list(SHAPES)).T
    assert np.mean(colours.argmax(1) == np.array(rows) % 3) >= 0.9
    assert np.mean(shapes.argmax(1) == np.array(rows) // 3 % 2) >= 0.9


def test_items_that_are_left_out_are_counted_and_not_trained_on(trained: Path) -> None:
    counts = read_manifest(trained, "train-clip").counts
    assert counts["left_out"] == 18
    assert counts["trained_on"] + counts["validated_on"] == 54


def test_the_folder_shows_how_training_went_and_keeps_no_working_files(trained: Path) -> None:
    log = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == list(range(1, FAST.epochs + 1))
    assert log[-1]["loss"] < log[0]["loss"] / 2
    assert (trained / "loss.png").stat().st_size > 1000
    assert not (trained / "work").exists()


def test_a_run_that_was_killed_ends_as_one_that_was_not(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ClipConfig(**{**FAST.__dict__, "epochs": 3, "dropout": 0.5})
    whole = run(config, shop[0], tmp_path / "whole", media_root=shop[1])
    validate, calls = ClipTrainer.validate, []

    def killed(self: ClipTrainer) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return validate(self)

    monkeypatch.setattr(ClipTrainer, "validate", killed)
    with pytest.raises(KeyboardInterrupt):
        run(config, shop[0], tmp_path / "parts", media_root=shop[1])
    assert not (tmp_path / "parts").exists()
    monkeypatch.setattr(ClipTrainer, "validate", validate)
    parts = run(config, shop[0], tmp_path / "parts", media_root=shop[1])
    name = "open_clip_model.safetensors"
    assert (whole / name).read_bytes() == (parts / name).read_bytes()


def test_adamw_alone_learns_too(shop: Shop, tmp_path: Path) -> None:
    config = ClipConfig(**{**FAST.__dict__, "epochs": 4, "optimizer": "adamw"})
    out = run(config, shop[0], tmp_path / "clip", media_root=shop[1])
    log = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"]


def test_a_picture_that_cannot_be_used_is_skipped_with_its_reason(tmp_path: Path) -> None:
    dataset, media, _ = picture_shop(tmp_path, 12)
    whole = (media / "3.png").read_bytes()
    (media / "3.png").write_bytes(whole[: len(whole) // 2])
    (media / "4.png").write_text("no picture")
    config = ClipConfig(**{**FAST.__dict__, "epochs": 1})
    out = run(config, dataset, tmp_path / "clip", media_root=media)
    skipped = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert [row["item"] for row in skipped] == ["i3", "i4"]
    assert all(row["reason"] for row in skipped)


def test_titles_serve_where_the_catalogue_has_no_fields(tmp_path: Path) -> None:
    _, media, _ = picture_shop(tmp_path, 12)
    rows = [{"item_id": f"i{n}", "title": f"thing {n}", "image": f"{n}.png"} for n in range(12)]
    dataset = write_dataset(tmp_path / "titled", rows)
    out = run(
        ClipConfig(**{**FAST.__dict__, "epochs": 1}), dataset, tmp_path / "clip", media_root=media
    )
    assert read_manifest(out).counts["trained_on"] == 11


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("i0\nnobody\n", "'nobody' is not an item"),
        ("\n", "lists no item"),
        ("".join(f"i{n}\n" for n in range(12)), "none is left to learn from"),
    ],
)
def test_a_list_of_items_that_does_not_fit_is_told_so(
    tmp_path: Path, listed: str, said: str
) -> None:
    dataset, media, _ = picture_shop(tmp_path, 12)
    (tmp_path / "list.txt").write_text(listed)
    with pytest.raises(DataError, match=said):
        run(FAST, dataset, tmp_path / "out", media_root=media, leave_out=tmp_path / "list.txt")
    assert not (tmp_path / "out").exists()


def test_without_usable_pictures_nothing_is_written(tmp_path: Path) -> None:
    dataset, media, _ = picture_shop(tmp_path, 6)
    for path in media.iterdir():
        path.write_bytes(b"")
    with pytest.raises(CatalogError, match="0 pictures can be learned from"):
        run(FAST, dataset, tmp_path / "out", media_root=media)
    assert not (tmp_path / "out").exists()


def test_a_field_that_the_schema_lacks_is_named(shop: Shop, tmp_path: Path) -> None:
    config = ClipConfig(**{**FAST.__dict__, "fields": ("colour", "flavour")})
    with pytest.raises(ConfigError, match="'flavour' is not in the schema"):
        run(config, shop[0], tmp_path / "out", media_root=shop[1])


@pytest.mark.parametrize(
    "wrong", [{"size": "huge"}, {"batch_size": 1}, {"dropout": 1.0}, {"learning_rate": 0.0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ClipConfig(**wrong)  # type: ignore[arg-type]


def test_a_text_is_true_of_every_picture_with_its_values() -> None:
    known = [{"colour": "red", "category": "mug"}, {"colour": "red", "category": "hat"}, {}]
    texts = Texts(["A", "", "C"], known, FIELDS, title_share=0.0)
    rows, seen = np.arange(3), set()
    for seed in range(30):
        said, true = texts.draw(rows, np.random.default_rng(seed))
        assert true.diagonal().all()
        assert said[2] == "C" and true[2].tolist() == [False, False, True]
        seen.add((said[0], tuple(true[0].tolist())))
    assert seen == {
        ("red", (True, True, False)),
        ("mug", (True, False, False)),
        ("red mug", (True, False, False)),
    }


def test_an_item_without_title_and_fields_has_no_text() -> None:
    texts = Texts(["", "title", ""], [{}, {}, {"colour": "red"}], FIELDS, 0.5)
    assert texts.described.tolist() == [False, True, True]


def test_contrast_is_least_where_all_true_pairs_are_alike() -> None:
    vectors = torch.eye(4)
    true = torch.eye(4, dtype=torch.bool)
    aligned = contrastive_loss(vectors, vectors, torch.tensor(20.0), true)
    crossed = contrastive_loss(vectors, vectors.flip(0), torch.tensor(20.0), true)
    assert aligned < 0.01 < 10 < crossed


def test_views_without_changes_show_the_whole_picture() -> None:
    squares = np.full((2, 40, 40, 3), 51, np.uint8)
    squares[1, :, 20:] = 255
    seen = views(squares, 32)
    assert seen.shape == (2, 3, 32, 32)
    assert torch.allclose(seen[0], torch.tensor(0.2), atol=1e-3)
    assert seen[1, :, :, :8].mean() < 0.25 < 0.95 < seen[1, :, :, -8:].mean()


def test_views_are_drawn_by_the_generator_alone() -> None:
    squares = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3)).astype(np.uint8)
    changes = Augmentation(erase=1.0)
    first, again, other = (
        views(squares, 32, changes, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1


def test_further_views_of_an_item_are_learned_from_and_stay_together(tmp_path: Path) -> None:
    dataset, media, left_out = picture_shop(tmp_path, 24)
    for n in range(24):
        for view in (2, 3, 5):  # no fourth: what comes after a gap is not looked for
            (media / f"{n}-{view}.png").write_bytes((media / f"{n}.png").read_bytes())
    config = ClipConfig(**{**FAST.__dict__, "epochs": 1, "validation_share": 0.5})
    out = run(config, dataset, tmp_path / "clip", media_root=media, leave_out=left_out)
    counts = read_manifest(out).counts
    assert (counts["trained_on"], counts["validated_on"]) == (3 * 9, 3 * 9)
    (media / "7-4.png").write_bytes((media / "7.png").read_bytes())  # now 5 is a view too
    run(config, dataset, tmp_path / "clip", media_root=media, leave_out=left_out)
    more = read_manifest(out).counts
    assert more["trained_on"] + more["validated_on"] == 6 * 9 + 2
    one = ClipConfig(**{**config.__dict__, "views": 1})
    out = run(one, dataset, tmp_path / "one", media_root=media, leave_out=left_out)
    assert read_manifest(out).counts["trained_on"] == 9

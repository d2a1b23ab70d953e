"""``llmrec bench search`` on pictures whose vectors are chosen, so that each figure is known."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("open_clip", reason="needs the media extra")
pytest.importorskip("faiss", reason="needs the media extra")

from search_shop import Shop, make_shop, write_dataset, write_media

from llmrec.bench.search import ATTRIBUTES, TEMPLATE, render, run
from llmrec.cli import run_command
from llmrec.content.features.image_encoder import ImageEncoder
from llmrec.errors import ArtifactError, ConfigError, DataError

# id, category, colour, pattern, split, whose words its picture looks like (None: no picture)
A, B, C = ("mug", "red", "plain"), ("mug", "blue", "plain"), ("sock", "red", "striped")
World = list[tuple[str, tuple[str, str, str], str, tuple[str, str, str] | None]]
RIGHT: World = [
    ("a", A, "held_out", A),
    ("t", B, "train", A),  # would be the first answer to A if it took part
    ("b", B, "held_out", B),
    ("c", C, "held_out", C),
    ("unseen", C, "held_out", None),
]
SWAPPED: World = [("a", A, "held_out", B), ("b", B, "held_out", A), ("c", C, "held_out", C)]
PLACES = tuple[Path, Path, Path]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return make_shop(tmp_path_factory.mktemp("search_shop"))


def made(world: World, shop: Shop, folder: Path, lost: bool = False) -> PLACES:
    """Dataset, media and truth; with ``lost``, the truth knows an item that ingest left out."""
    encoder = ImageEncoder(str(shop.clip), device="cpu")
    vectors = np.zeros((len(world), 24), np.float32)
    for row, (*_, looks_like) in enumerate(world):
        if looks_like is not None:
            vectors[row] = encoder.encode_text(render(TEMPLATE, [looks_like]))[0]
    ids = [row[0] for row in world]
    dataset = write_dataset(folder / "dataset", ids, ids, {})
    media = write_media(folder / "media", dataset, shop.clip, {"image": vectors})
    rows = [
        {"item_id": item_id, "split": split, **dict(zip(ATTRIBUTES, label, strict=True))}
        for item_id, label, split, _ in world
    ]
    rows += [{**rows[0], "item_id": "lost"}] if lost else []
    truth = folder / "media_truth.jsonl"
    truth.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return dataset, media, truth


def measured(places: PLACES, out: Path, **more: str) -> dict:
    path = run(*places, out, device="cpu", **more)
    return json.loads(path.read_text())


def test_pictures_that_lie_on_their_words_are_all_found(shop: Shop, tmp_path: Path) -> None:
    result = measured(made(RIGHT, shop, tmp_path, lost=True), tmp_path / "search-demo.json")
    hits = {name: value for name, value in result["metrics"].items() if "chance" not in name}
    assert len(hits) == 10 and set(hits.values()) == {1.0}
    assert result["metrics"]["text_to_image_chance@1"] == pytest.approx(1 / 3)
    assert (result["queries"], result["pictures"]) == (3, 3)
    assert result["held_out_without_picture"] == 2  # "unseen" and "lost"
    assert (result["name"], result["split"]) == ("search-demo", "held_out")


def test_two_pictures_that_changed_places_cost_what_one_can_count(
    shop: Shop, tmp_path: Path
) -> None:
    result = measured(made(SWAPPED, shop, tmp_path), tmp_path / "out.json")
    for way in ("text_to_image", "image_to_text"):
        found = {k: v for k, v in result["metrics"].items() if k.startswith(way)}
        assert found == {
            f"{way}_hit@1": pytest.approx(1 / 3),
            f"{way}_hit@5": 1.0,
            f"{way}_category@1": 1.0,
            f"{way}_colour@1": pytest.approx(1 / 3),
            f"{way}_pattern@1": 1.0,
            f"{way}_chance@1": pytest.approx(1 / 3),
        }
    low, high = result["intervals"]["text_to_image_hit@1"]
    assert 0 <= low < 1 / 3 < high <= 1


def test_several_pictures_of_a_combination_are_one_query(shop: Shop, tmp_path: Path) -> None:
    twice: World = [*SWAPPED[2:], ("c2", C, "held_out", C), ("a", A, "held_out", A)]
    result = measured(made(twice, shop, tmp_path), tmp_path / "out.json")
    assert (result["queries"], result["pictures"]) == (2, 3)
    assert result["metrics"]["text_to_image_chance@1"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert result["metrics"]["image_to_text_chance@1"] == pytest.approx(1 / 2)


def test_the_words_of_a_query_are_a_setting(shop: Shop, tmp_path: Path) -> None:
    places = made(RIGHT, shop, tmp_path)
    template = "a photo of a {category}: {pattern}, {colour}"
    other = measured(places, tmp_path / "out.json", template=template)
    assert other["template"] == template
    for wrong in ("{colour} {category}", "{colour} {pattern} {category} {size}", "{colour", "{}"):
        with pytest.raises(ConfigError, match="--template: "):
            run(*places, tmp_path / "wrong.json", template=wrong)
    assert not (tmp_path / "wrong.json").exists()


def test_the_command_prints_each_figure_with_its_interval(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, media, truth = made(SWAPPED, shop, tmp_path)
    flags = ["--dataset", str(dataset), "--media", str(media), "--truth", str(truth)]
    run_command(["bench", "search", *flags, "--out", str(tmp_path / "out.json"), "--device", "cpu"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 queries, 3 pictures" and lines[-1] == f"wrote {tmp_path / 'out.json'}"
    assert "text_to_image_hit@5          1.0000  [1.0000, 1.0000]" in lines


def test_a_truth_that_does_not_fit_is_one_clear_line(shop: Shop, tmp_path: Path) -> None:
    dataset, media, truth = made(RIGHT, shop, tmp_path)
    row = truth.read_text().splitlines()[0]
    for content, message in (
        ("not json\n", "row 1: not a readable JSON"),
        (row + '\n{"item_id": "b", "split": "held_out"}\n', "b: needs texts for category, colour"),
        (row.replace("held_out", "train") + "\n", "no item of split 'held_out' has a picture"),
    ):
        truth.write_text(content)
        with pytest.raises(DataError, match=message) as told:
            run(dataset, media, truth, tmp_path / "out.json")
        assert "\n" not in str(told.value)
    with pytest.raises(DataError, match=r"gone\.jsonl: no such file"):
        run(dataset, media, tmp_path / "gone.jsonl", tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_media_without_pictures_are_refused(shop: Shop, tmp_path: Path) -> None:
    dataset, _, truth = made(RIGHT, shop, tmp_path)
    films = write_media(
        tmp_path / "films", dataset, shop.clip, {"video": np.eye(5, 24, dtype="f4")}
    )
    with pytest.raises(ArtifactError, match="has no vectors of pictures"):
        run(dataset, films, truth, tmp_path / "out.json")

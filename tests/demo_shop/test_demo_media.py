"""The demo shop with media: files that open, a truth that fits, and nothing new without it."""

import hashlib
import json
import re
import wave
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from llmrec.cli import run_command
from llmrec.data.values import to_pairs
from llmrec.demo_shop import DemoShopConfig, generate, run
from llmrec.demo_shop.media import make_plan, write_media
from llmrec.demo_shop.media.wording import make_voice_queries
from llmrec.errors import ConfigError, MissingExtraError
from llmrec.files import file_hash
from llmrec.stage import read_manifest

FEW = 5  # items whose files are compared bit by bit


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): file_hash(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }


@pytest.fixture(scope="module")
def plain_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plain") / "shop"
    return run(DemoShopConfig(items=120, users=40), out, seed=7)


@pytest.fixture(scope="module")
def media_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("media") / "shop"
    size = ["--seed", "7", "--items", "120", "--users", "40"]
    run_command(["data", "demo", "--out", str(out), *size, "--media"])
    return out


# --- without media --------------------------------------------------------------------------


def test_a_shop_without_media_is_the_shop_that_it_was_before_there_were_any(plain_shop):
    assert sorted(files(plain_shop)) == [
        "README.txt",
        "events.jsonl",
        "impressions.jsonl",
        "items.jsonl",
        "policies.yaml",
        "truth.json",
    ]
    items, readme = plain_shop / "items.jsonl", plain_shop / "README.txt"
    text = re.sub(r', "available_from": [\d.]+', "", items.read_text(encoding="utf-8"))
    assert hashlib.sha256(text.encode()).hexdigest().startswith("fcea1cd5841d0128")
    assert file_hash(readme).startswith("b834d33b71b2efd4")


def test_media_add_to_the_shop_and_change_nothing_in_it(plain_shop, media_shop):
    before, after = files(plain_shop), files(media_shop)
    for name in ("events.jsonl", "impressions.jsonl", "truth.json"):
        assert after[name] == before[name]
    rows = lines(media_shop / "items.jsonl")
    bare = [{k: v for k, v in row.items() if k not in ("image", "video", "audio")} for row in rows]
    assert bare == lines(plain_shop / "items.jsonl")
    readme = (media_shop / "README.txt").read_text()
    assert "120 pictures, 40 clips, 40 spoken" in readme and readme.endswith("--users 40 --media\n")


def test_without_films_there_are_pictures_alone(tmp_path: Path, media_shop: Path) -> None:
    config = DemoShopConfig(items=120, users=40, media=True, films=False)
    silent = run(config, tmp_path / "shop", seed=7)
    images = {n: h for n, h in files(media_shop).items() if n.startswith("images/")}
    assert {n: h for n, h in files(silent).items() if n.startswith("images/")} == images
    assert not list((silent / "videos").iterdir()) and not list((silent / "audio").iterdir())
    assert not any("video" in row or "audio" in row for row in lines(silent / "items.jsonl"))
    truth = (lines(folder / "media_truth.jsonl") for folder in (silent, media_shop))
    assert all(a["split"] == b["split"] for a, b in zip(*truth, strict=True))
    readme = (silent / "README.txt").read_text()
    assert "0 clips, 0 spoken" in readme and readme.endswith("--media --no-films\n")


# --- with media -----------------------------------------------------------------------------


def test_every_file_that_items_name_opens_and_no_other_file_is_there(media_shop):
    rows = lines(media_shop / "items.jsonl")
    named = {row[field] for row in rows for field in ("image", "video", "audio") if field in row}
    there = {n for n in files(media_shop) if n.startswith(("images/", "videos/", "audio/"))}
    assert named == there
    for row in rows:
        with Image.open(media_shop / row["image"]) as picture:
            assert (picture.size, picture.mode) == ((128, 128), "RGB")
            picture.load()
    for name in sorted(named):
        if name.endswith(".mp4"):
            with av.open(str(media_shop / name)) as clip:
                stream = clip.streams.video[0]
                assert (stream.codec_context.name, stream.average_rate) == ("h264", 8)
                assert sum(1 for _ in clip.decode(stream)) == 16
        if name.endswith(".wav"):
            with wave.open(str(media_shop / name)) as speech:
                assert (speech.getframerate(), speech.getnchannels()) == (16_000, 1)
                assert 1.0 < speech.getnframes() / 16_000 < 15.0


def test_the_truth_says_what_the_items_say(media_shop):
    rows, truth = lines(media_shop / "items.jsonl"), lines(media_shop / "media_truth.jsonl")
    assert [row["item_id"] for row in rows] == [row["item_id"] for row in truth]
    for row, true in zip(rows, truth, strict=True):
        assert to_pairs(row["attributes"], "|")  # ingest reads them
        for field in ("category", "colour", "accent", "pattern", "motion"):
            assert true[field] == row["attributes"][field]
        assert true["group"] == row["categories"][0]
        assert {f: true[f] for f in ("image", "video", "audio") if true[f]} == {
            f: row[f] for f in ("image", "video", "audio") if f in row
        }
        assert (true["transcript"] is None) == (true["audio"] is None)
        if true["transcript"]:
            for field in ("category", "colour", "pattern"):
                assert true[field] in true["transcript"].lower()
    counts = read_manifest(media_shop).counts
    assert sum(true["split"] == "held_out" for true in truth) == counts["held_out"] == 24


def test_questions_name_every_right_item_and_no_other(media_shop):
    items = {row["item_id"]: row["attributes"] for row in lines(media_shop / "items.jsonl")}
    queries = lines(media_shop / "queries" / "queries.jsonl")
    assert len({query["file"] for query in queries}) == len(queries) > 80
    kinds = {(q["category"] is None, q["colour"] is None) for q in queries}
    assert kinds == {(True, False), (False, True), (False, False)}
    for query in queries:
        asked = {f: query[f] for f in ("category", "colour") if query[f]}
        right = {i for i, a in items.items() if asked.items() <= a.items()}
        assert set(query["items"]) == right != set()
        assert all(word in query["text"].lower() for word in asked.values())
        with wave.open(str(media_shop / "queries" / query["file"])) as speech:
            assert speech.getnframes() > 16_000 * 0.5


def test_a_question_that_nothing_answers_is_not_asked():
    items = generate(7, 100, 1).items[:3]
    assert {i for q in make_voice_queries(items, np.random.default_rng(0)) for i in q.items} == {
        item.item_id for item in items
    }
    assert all(query.items for query in make_voice_queries(items, np.random.default_rng(0)))


def test_the_same_seed_gives_the_same_files_bit_by_bit(tmp_path):
    items = generate(7, 100, 1).items[:FEW]
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_media(items, 7, tmp_path / name)
        made.append(files(tmp_path / name))
    assert made[0] == made[1]
    suffixes = {Path(name).suffix for name in made[0]}
    assert suffixes == {".jpg", ".mp4", ".wav", ".jsonl"}
    (tmp_path / "other").mkdir()
    write_media(items, 8, tmp_path / "other")
    other = files(tmp_path / "other")
    assert all(other[name] != made[0][name] for name in other if name.startswith("images/"))


def test_an_item_looks_the_same_in_a_larger_shop_of_the_same_items(tmp_path):
    """Its files depend on the item and its place, not on how many others there are."""
    items = generate(7, 100, 1).items
    for name, some in (("small", items[:4]), ("large", items[:8])):
        (tmp_path / name).mkdir()
        write_media(some, 7, tmp_path / name)
    small, large = files(tmp_path / "small"), files(tmp_path / "large")
    pictures = [name for name in small if name.startswith("images/")]
    assert len(pictures) == 4
    assert all(small[name] == large[name] for name in pictures)


def test_two_items_of_one_look_are_two_photographs(tmp_path):
    item = generate(7, 100, 1).items[0]
    write_media([item, replace(item, item_id="twin")], 7, tmp_path)
    one, other = (Image.open(tmp_path / "images" / f"{i}.jpg") for i in (item.item_id, "twin"))
    assert np.abs(np.asarray(one, int) - np.asarray(other, int)).mean() > 5


@pytest.mark.parametrize(("items", "held_out"), [(500, 100), (2500, 500), (9000, 500)])
def test_a_fifth_of_the_items_is_held_out_but_no_more_than_500(items, held_out):
    plan, again = make_plan(3, items), make_plan(3, items)
    assert plan.held_out.sum() == held_out
    assert (plan.held_out == again.held_out).all()
    assert (plan.held_out != make_plan(4, items).held_out).any()
    # each draw is its own: a third of the held-out items have a video, a third of them are spoken
    assert plan.filmed.sum() == plan.spoken.sum() == round(items / 3)
    assert abs(plan.filmed[plan.held_out].mean() - 1 / 3) < 0.15
    assert abs(plan.spoken[plan.filmed].mean() - 1 / 3) < 0.15


def test_a_missing_package_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "espeakng_loader", None)
    with pytest.raises(MissingExtraError, match=r"llmrec\[demo\]"):
        run(DemoShopConfig(items=100, users=2, media=True), tmp_path / "shop")
    assert list(tmp_path.iterdir()) == []


def test_further_views_are_other_photographs_and_leave_the_first_as_it_was(tmp_path):
    items = generate(7, 120, 40).items[:3]
    for name, views in (("one", 1), ("three", 3)):
        (tmp_path / name).mkdir()
        _, counts = write_media(items, 7, tmp_path / name, views)
        assert counts["pictures"] == views * 3
    first, all_three = files(tmp_path / "one"), files(tmp_path / "three")
    assert {path: all_three[path] for path in first} == first
    more = sorted(set(all_three) - set(first))
    expected = [f"images/{item.item_id}-{view}.jpg" for item in items for view in (2, 3)]
    assert more == sorted(expected)
    assert len({all_three[path] for path in more} | set(first.values())) == len(first) + 6


def test_views_without_media_are_refused(tmp_path):
    command = ["data", "demo", "--out", str(tmp_path / "shop"), "--views"]
    with pytest.raises(ConfigError, match="views: needs media"):
        run_command([*command, "3"])
    with pytest.raises(ConfigError, match="views: must be 1 or more"):
        run_command([*command, "0", "--media"])

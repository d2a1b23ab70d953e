"""``llmrec caption`` from a dataset to a table: whole, resumed, and refused."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from caption_world import COLOURS, SCHEMA, write_items
from tiny_media import clip

from llmrec.captions import captioner
from llmrec.captions.run import run, summary
from llmrec.captions.settings import CaptionConfig
from llmrec.captions.table import columns, load_captions
from llmrec.captions.transformers_engine import TransformersCaptionEngine
from llmrec.cli import run_command
from llmrec.errors import ArtifactError, CatalogError, ConfigError, LlmrecError, MissingExtraError
from llmrec.stage import Manifest, read_manifest, writing

QUICK: dict[str, Any] = {"caption_tokens": 6, "enhance_tokens": 24, "workers": 2}
LONG = "more words than fit the 1024 tokens that the model reads"


def captioned(shop: Path, nano: Path, out: Path, items: Path | None = None, **more: Any) -> Path:
    config = CaptionConfig(schema=str(shop / "fields.yaml"), **QUICK | more)
    places = {"media_root": shop / "media", "items": items}
    return run(config, shop / "dataset", str(nano), out, **places)


@pytest.fixture(scope="module")
def folder(shop: Path, nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captioned(shop, nano, tmp_path_factory.mktemp("captions") / "out")


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_item_has_its_row_in_the_order_of_the_dataset(folder: Path) -> None:
    table, schema = load_captions(folder)
    assert schema == SCHEMA
    assert table.schema == columns(SCHEMA)
    rows = table.to_pylist()
    assert [row["item_id"] for row in rows] == [f"i{number}" for number in range(10)]
    nothing = [row for row in rows if row["prompt_hash"] is None]
    assert [row["item_id"] for row in nothing] == ["i7", "i9"]
    for row in nothing:
        assert set(row.values()) == {None, row["item_id"]}
    for row in (row for row in rows if row not in nothing):
        for name in SCHEMA.names:
            assert row[name] in SCHEMA.values(name)
            assert 0 < row[f"p_{name}"] <= 1
        assert isinstance(row["key_terms"], list)
    assert len({row["prompt_hash"] for row in rows[:6]}) == 6  # the titles are in the prompts


def test_the_manifest_says_what_was_done_and_by_what(folder: Path) -> None:
    manifest = read_manifest(folder, "caption")
    assert manifest.config["fields"] == SCHEMA.names
    assert manifest.config["engine"] == "transformers"
    assert {"dataset", "model", "files", "schema", "prompts"} <= manifest.inputs.keys()
    counts = manifest.counts
    assert (counts["items"], counts["captioned"], counts["without_input"]) == (10, 8, 2)
    assert counts["image_skipped"] == 2
    assert counts["caption_cut"] + counts["enhance_cut"] > 0
    assert "attributes_cut" not in counts
    assert "xgrammar" in counts["versions"]
    assert "10 items: 8 captioned, 2 without any input, 2 images skipped" in summary(counts)
    assert not list(folder.glob("shards"))


def test_a_picture_that_cannot_be_read_leaves_the_item_its_words(folder: Path) -> None:
    skipped = lines(folder / "skipped.jsonl")
    assert [(row["item"], row["field"]) for row in skipped] == [
        ("i6", "image"),
        ("i7", "image"),
        ("i7", "item"),
        ("i9", "item"),
    ]
    assert "not a picture" in skipped[0]["reason"]
    assert "no such file" in skipped[1]["reason"]
    row = load_captions(folder)[0].to_pylist()[6]
    assert row["colour"] in COLOURS


def test_a_killed_run_goes_on_to_the_same_table(
    shop: Path, nano: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captioner, "SHARD_ITEMS", 3)
    generate, calls = TransformersCaptionEngine.generate, []

    def killed(self: TransformersCaptionEngine, queries: Any) -> Any:
        calls.append(len(queries))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(self, queries)

    out = tmp_path / "out"
    monkeypatch.setattr(TransformersCaptionEngine, "generate", killed)
    with pytest.raises(KeyboardInterrupt):
        captioned(shop, nano, out)
    assert not out.exists()
    captioned(shop, nano, out, batch_size=2)  # another batch is no other run
    assert calls == [9, 9, 6, 6]  # i7 has nothing, nor i9: the last shard asks nothing
    found, whole = load_captions(out)[0], load_captions(folder)[0]
    exact = [name for name in whole.column_names if not name.startswith("p_")]
    assert found.select(exact).equals(whole.select(exact))
    for name in (f"p_{field}" for field in SCHEMA.names):
        assert found[name].is_null().equals(whole[name].is_null())
        sure = whole[name].drop_null().to_pylist()
        assert found[name].drop_null().to_pylist() == pytest.approx(sure, rel=1e-3)
    for name in ("skipped.jsonl", "schema.json"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    counts, expected = (read_manifest(place).counts for place in (out, folder))
    assert counts == expected


def test_what_is_up_to_date_is_not_done_again_and_what_changed_is(
    shop: Path, nano: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: Any, **__: Any) -> Any:
        raise AssertionError("started")

    monkeypatch.setattr(TransformersCaptionEngine, "__init__", started)
    captioned(shop, nano, folder, batch_size=7)
    with pytest.raises(AssertionError, match="started"):
        captioned(shop, nano, folder, inputs=("title",))
    picture = shop / "media" / "red.png"
    before = picture.stat()
    picture.touch()
    try:
        with pytest.raises(AssertionError, match="started"):
            captioned(shop, nano, folder)
    finally:
        import os

        os.utime(picture, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load_captions(folder)[0].num_rows == 10  # what stood there stays


def test_only_the_listed_items_are_captioned(shop: Path, nano: Path, tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("i8\ni2\n")
    out = captioned(shop, nano, tmp_path / "out", items=tmp_path / "few.txt")
    assert load_captions(out)[0]["item_id"].to_pylist() == ["i2", "i8"]
    (tmp_path / "few.txt").write_text("i8\nsku-1\n")
    with pytest.raises(CatalogError, match=r"few\.txt: item 'sku-1' is not in"):
        captioned(shop, nano, tmp_path / "out", items=tmp_path / "few.txt")


def test_words_alone_need_no_folder_of_media(shop: Path, nano: Path, tmp_path: Path) -> None:
    config = CaptionConfig(schema=str(shop / "fields.yaml"), inputs=("title", "price"), **QUICK)
    run(config, shop / "dataset", str(nano), tmp_path / "out")
    assert read_manifest(tmp_path / "out").counts["captioned"] == 8
    with pytest.raises(ConfigError, match="--media-root: the column image names files"):
        run(CaptionConfig(schema="shop"), shop / "dataset", str(nano), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"--media-root: .* is no folder"):
        run(CaptionConfig(), shop / "dataset", str(nano), tmp_path / "o", media_root=tmp_path / "x")


def test_a_dataset_without_items_is_told_so(shop: Path, nano: Path, tmp_path: Path) -> None:
    empty = write_items(tmp_path / "empty", [])
    with pytest.raises(CatalogError, match="the catalogue has no items"):
        run(CaptionConfig(), empty, str(nano), tmp_path / "out")


def test_the_fields_that_a_model_was_trained_on_are_its_own(
    shop: Path, nano: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in nano.iterdir():
        (model / file.name).symlink_to(file)
    own = {"colour": {"values": ["red", "blue"], "source": "", "limits": []}}
    (model / "schema.json").write_text(json.dumps(own))
    config = CaptionConfig(inputs=("title",), **QUICK)
    run(config, shop / "dataset", str(model), tmp_path / "out")
    assert load_captions(tmp_path / "out")[1].names == ["colour"]
    (model / "schema.json").write_text("[")
    with pytest.raises(ArtifactError, match=r"schema\.json: cannot be read"):
        run(config, shop / "dataset", str(model), tmp_path / "out")


def test_speech_comes_from_transcripts(shop: Path, nano: Path, tmp_path: Path) -> None:
    media = tmp_path / "media_features"
    with writing(media, Manifest("embed-media", {})) as stage:
        said = {"item": "i9", "language": "en", "text": "a white mug", "segments": []}
        (stage.folder / "transcripts.jsonl").write_text(json.dumps(said) + "\n")
    config = CaptionConfig(schema=str(shop / "fields.yaml"), inputs=("speech",), **QUICK)
    out = tmp_path / "out"
    run(config, shop / "dataset", str(nano), out, media=media)
    rows = load_captions(out)[0].to_pylist()
    assert [row["item_id"] for row in rows if row["colour"]] == ["i9"]
    with pytest.raises(ConfigError, match="speech is read from transcripts; give --media"):
        run(config, shop / "dataset", str(nano), out)


def test_more_words_than_the_model_reads_are_left_out_with_a_reason(
    nano: Path, shop: Path, tmp_path: Path
) -> None:
    data = write_items(tmp_path / "data", [{"title": "\u65e5" * 900}, {"title": "short"}])
    config = CaptionConfig(schema=str(shop / "fields.yaml"), **QUICK)
    run(config, data, str(nano), tmp_path / "out")
    assert lines(tmp_path / "out" / "skipped.jsonl") == [
        {"item": "i0", "field": "text", "reason": LONG},
        {"item": "i0", "field": "item", "reason": "has no usable input"},
    ]
    counts = read_manifest(tmp_path / "out").counts
    assert (counts["captioned"], counts["text_skipped"]) == (1, 1)
    with pytest.raises(ConfigError, match=r"take more than the 1024 tokens .* fewer --enhance"):
        long = CaptionConfig(schema=str(shop / "fields.yaml"), enhance_tokens=1020)
        run(long, data, str(nano), tmp_path / "none")


def test_a_video_stands_for_a_picture_that_is_not_there(
    nano: Path, shop: Path, tmp_path: Path
) -> None:
    clip(tmp_path / "mug.mp4", ["red", "navy", "green"])
    data = write_items(tmp_path / "data", [{"video": "mug.mp4"}, {"video": "none.mp4"}])
    config = CaptionConfig(schema=str(shop / "fields.yaml"), frames=3, **QUICK)
    run(config, data, str(nano), tmp_path / "out", media_root=tmp_path)
    rows = load_captions(tmp_path / "out")[0].to_pylist()
    assert rows[0]["colour"] in COLOURS
    assert rows[1]["colour"] is None
    assert read_manifest(tmp_path / "out").counts["video_skipped"] == 1


def test_without_xgrammar_the_command_says_what_to_install(
    nano: Path, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xgrammar", None)
    with pytest.raises(MissingExtraError, match="xgrammar is not installed: run  pip install"):
        run(CaptionConfig(inputs=("title",)), shop / "dataset", str(nano), tmp_path / "out")


def test_the_command_captions_and_draws_a_sheet(
    shop: Path, nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = f"schema: {shop / 'fields.yaml'}, inputs: [image], frames: 2"
    (tmp_path / "recipe.yaml").write_text(f"caption: {{{settings}, caption_tokens: 5}}\n")
    given = ["--dataset", str(shop / "dataset"), "--model", str(nano), "--out"]
    given += [str(tmp_path / "out"), "--media-root", str(shop / "media"), "--enhance-tokens", "9"]
    given += ["--inputs", "image", "title", "--sheet", str(tmp_path / "sheet.png")]
    run_command(["caption", str(tmp_path / "recipe.yaml"), *given])
    config = read_manifest(tmp_path / "out").config
    assert config["inputs"] == ["image", "title"]
    assert (config["caption_tokens"], config["enhance_tokens"], config["frames"]) == (5, 9, 2)
    printed = capsys.readouterr().out
    assert "10 items: 8 captioned" in printed
    assert "drew" in printed
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_mistakes_of_the_command_line_are_one_line(shop: Path, nano: Path, tmp_path: Path) -> None:
    given = ["--dataset", str(shop / "dataset"), "--model", str(nano)]
    given += ["--media-root", str(shop / "media"), "--out"]
    (tmp_path / "lacking.yaml").write_text("fields: {}\n")
    (tmp_path / "section.yaml").write_text("multimodal: {}\n")
    (tmp_path / "typo.yaml").write_text("caption: {batchsize: 3}\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    out = str(tmp_path / "out")
    for more, message in (
        (
            [out, "--inputs", "image", "smell"],
            "inputs: 'smell' is not one; choose from image, video",
        ),
        ([out, "--batch-size", "0"], "batch_size: must be 1 or more"),
        ([out, "--schema", str(tmp_path / "lacking.yaml")], "a schema needs at least one"),
        ([out, "--schema", "shoes"], "no such schema"),
        ([out, "RECIPE", str(tmp_path / "section.yaml")], "no `caption:` section"),
        ([out, "RECIPE", str(tmp_path / "typo.yaml")], "did you mean 'batch_size'?"),
        ([out, "--schema", "shop"], "no item of the catalogue has 'attributes.category'"),
        ([out, "--model", str(tmp_path / "none")], "not a multimodal model"),
        ([out, "--dataset", str(tmp_path)], "manifest.json: not found"),
        ([str(tmp_path / "mine")], "exists and was not written by llmrec"),
    ):
        schema = [] if "--schema" in more else ["--schema", str(shop / "fields.yaml")]
        recipe = [more.pop()] if "RECIPE" in more else []
        more = [word for word in more if word != "RECIPE"]
        with pytest.raises(LlmrecError) as error:
            run_command(["caption", *recipe, *given, *more, *schema])
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"
    assert not (tmp_path / "out").exists()


def test_a_table_of_another_stage_or_damaged_is_told_so(folder: Path, tmp_path: Path) -> None:
    with writing(tmp_path / "other", Manifest("embed", {})):
        pass
    with pytest.raises(ArtifactError, match="holds the 'embed' stage, expected 'caption'"):
        load_captions(tmp_path / "other")
    with writing(tmp_path / "bad", Manifest("caption", {})) as stage:
        (stage.folder / "schema.json").write_bytes((folder / "schema.json").read_bytes())
        (stage.folder / "captions.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match=r"captions\.parquet: cannot be read"):
        load_captions(tmp_path / "bad")

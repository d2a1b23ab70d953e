"""``llmrec embed captions`` from a folder of captions to what an embedding bag takes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.captions.categorical import CategoricalConfig, load_categorical, run
from llmrec.cli import run_command
from llmrec.errors import ArtifactError, CatalogError, ConfigError, LlmrecError
from llmrec.stage import Manifest, read_manifest, writing

FIELDS = ["category", "colour"]
ROWS: list[dict[str, Any]] = [
    {
        "caption": "A red mug.",
        "category": "mug",
        "colour": "red",
        "key_terms": ["red mug", "gift"],
        "summary": "Warm",
    },
    {"caption": "A blue mug", "category": "mug", "colour": "blue", "key_terms": []},
    {},
    {"caption": "Red socks 🎁", "category": "socks", "colour": "red", "key_terms": ["café"]},
    {"caption": "one of a kind", "category": "vase"},
]
TEXT = pa.string()
COLUMNS = {name: TEXT for name in ("item_id", "caption", *FIELDS, "summary", "wanted_by")}
COLUMNS["key_terms"] = pa.list_(TEXT)


def captions(
    folder: Path,
    rows: list[dict[str, Any]],
    *,
    columns: dict[str, pa.DataType] = COLUMNS,
    fields: list[str] = FIELDS,
    stage: str = "caption",
    closed: dict[str, list[str]] | None = None,
) -> Path:
    """A folder as ``llmrec caption`` writes it, with rows chosen by hand.

    Args:
        closed: the values of the fields; those of the rows when None.
    """
    if closed is None:
        closed = {name: sorted({r[name] for r in rows if r.get(name)}) or ["x"] for name in fields}
    named = [{"item_id": f"i{number}", **row} for number, row in enumerate(rows)]
    table = pa.Table.from_pylist(named, pa.schema(list(columns.items())))
    # what it was made from decides a stage's hash: other rows are other inputs
    inputs = {"rows": json.dumps(rows)}
    with writing(folder, Manifest(stage, {"fields": fields}, inputs)) as done:
        pq.write_table(table, done.folder / "captions.parquet")
        listed = {name: {"values": values} for name, values in closed.items()}
        (done.folder / "schema.json").write_text(json.dumps(listed))
    return folder


@pytest.fixture
def given(tmp_path: Path) -> Path:
    return captions(tmp_path / "captions", ROWS)


def test_fields_and_words_become_these_integers(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = load_categorical(run(CategoricalConfig(hash_buckets=0), given, tmp_path / "out"))
    assert found.vocabulary.fields["category"].values == ("mug", "socks", "vase")
    assert found.vocabulary.fields["colour"].values == ("red", "blue")
    assert found.vocabulary.tokens.values == ("a", "mug", "red")  # 3, 2 and 2 items
    assert found.fields["category"].tolist() == [2, 2, 0, 3, 4]
    assert found.fields["colour"].tolist() == [2, 3, 0, 2, 0]
    assert [found.tokens(item).tolist() for item in range(5)] == [
        [1, 2, 3, 4],  # gift; a, mug, red
        [1, 2, 3],  # blue; a, mug
        [],
        [1, 4],  # socks, the pictograph and café; red
        [1, 2],  # one, of, kind; a
    ]
    assert found.sizes == {"category": 5, "colour": 4, "tokens": 5}
    assert found.fields["colour"].dtype == found.token_ids.dtype == np.int32
    assert found.token_offsets.dtype == np.int64 and found.n_items == 5
    assert "5 items, 11 words of which 3 have an id of their own (3 new)" in capsys.readouterr().out


def test_every_row_encodes_to_what_was_written(given: Path, tmp_path: Path) -> None:
    found = load_categorical(run(CategoricalConfig(hash_buckets=3), given, tmp_path / "out"))
    for item, row in enumerate(ROWS):
        fields, tokens = found.vocabulary.encode(row)
        assert fields == {name: int(column[item]) for name, column in found.fields.items()}
        assert tokens == found.tokens(item).tolist()
    assert set(found.vocabulary.encode({"caption": "zebra"})[1]) <= {2, 3, 4}  # hashed


def test_an_embedding_bag_takes_the_arrays_as_they_are(given: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the train extra")
    found = load_categorical(run(CategoricalConfig(), given, tmp_path / "out"))
    bag = torch.nn.EmbeddingBag(found.sizes["tokens"], 4, mode="sum", include_last_offset=True)
    ids, offsets = torch.from_numpy(found.token_ids), torch.from_numpy(found.token_offsets)
    summed = bag(ids, offsets.int())
    assert summed.shape == (5, 4) and not summed[2].any()
    expected = bag.weight[ids[offsets[3] : offsets[4]].long()].sum(0)
    torch.testing.assert_close(summed[3], expected)


def test_ids_of_an_earlier_run_stay_and_new_ones_come_after(given: Path, tmp_path: Path) -> None:
    first = load_categorical(run(CategoricalConfig(hash_buckets=4), given, tmp_path / "one"))
    fresh = {"caption": "A green café chair", "category": "chair", "colour": "red"}
    more = captions(tmp_path / "more", [fresh, fresh, *reversed(ROWS), fresh])
    out = run(CategoricalConfig(), more, tmp_path / "two", vocabulary=tmp_path / "one")
    later = load_categorical(out)
    for name in FIELDS:
        before = first.fields[name]
        assert later.fields[name][2:-1].tolist() == before[::-1].tolist()
    old = first.vocabulary.tokens
    assert later.vocabulary.tokens.values[: len(old.values)] == old.values
    assert later.vocabulary.tokens.values[len(old.values) :] == ("café", "chair", "green")
    assert later.vocabulary.fields["category"].values == ("mug", "socks", "vase", "chair")
    own = {*first.tokens(0).tolist()} & {old.id(word) for word in old.values}
    assert own <= {*later.tokens(6).tolist()}  # the same item, elsewhere in the table
    assert read_manifest(out).counts["new_words"] == 3


def test_a_field_that_is_no_longer_captioned_keeps_its_ids(given: Path, tmp_path: Path) -> None:
    run(CategoricalConfig(), given, tmp_path / "one")
    rows = [{"caption": "a mug", "colour": "red", "style": "plain"}]
    columns = {"item_id": TEXT, "caption": TEXT, "colour": TEXT, "style": TEXT}
    less = captions(tmp_path / "less", rows, columns=columns, fields=["colour", "style"])
    out = run(CategoricalConfig(), less, tmp_path / "two", vocabulary=tmp_path / "one")
    found = load_categorical(out)
    assert {name: column.tolist() for name, column in found.fields.items()} == {
        "category": [0],
        "colour": [2],
        "style": [2],
    }


def test_a_value_that_no_item_has_yet_is_no_stranger(tmp_path: Path) -> None:
    closed = {"category": ["mug", "socks", "vase", "chair"], "colour": ["red", "blue", "azure"]}
    given = captions(tmp_path / "captions", ROWS, closed=closed)
    found = load_categorical(run(CategoricalConfig(), given, tmp_path / "out"))
    assert found.vocabulary.fields["colour"].values == ("red", "blue", "azure")
    assert found.vocabulary.encode({"category": "chair"})[0]["category"] == 5


def test_columns_that_a_caption_may_lack_are_not_asked_for(tmp_path: Path) -> None:
    columns = {"item_id": TEXT, **{name: TEXT for name in FIELDS}}
    given = captions(tmp_path / "captions", ROWS, columns=columns)
    found = load_categorical(run(CategoricalConfig(), given, tmp_path / "out"))
    assert found.token_offsets.tolist() == [0] * 6 and found.fields["colour"].any()


def test_the_summary_counts_when_it_is_asked_for(given: Path, tmp_path: Path) -> None:
    config = CategoricalConfig(summary=True, min_count=1, hash_buckets=0)
    with_summary = load_categorical(run(config, given, tmp_path / "out"))
    assert "warm" in with_summary.vocabulary.tokens.values
    config = CategoricalConfig(min_count=1)  # the earlier choice holds
    again = run(config, given, tmp_path / "two", vocabulary=tmp_path / "out")
    assert load_categorical(again).tokens(0).tolist() == with_summary.tokens(0).tolist()


def test_the_same_captions_are_not_tokenized_again(given: Path, tmp_path: Path) -> None:
    flags = ["--captions", str(given), "--out", str(tmp_path / "out")]
    run_command(["embed", "captions", *flags, "--min-count", "1"])
    stamp = (tmp_path / "out" / "manifest.json").stat().st_mtime_ns
    run_command(["embed", "captions", *flags, "--min-count", "1"])
    assert (tmp_path / "out" / "manifest.json").stat().st_mtime_ns == stamp
    run_command(["embed", "captions", *flags, "--min-count", "2", "--max-values", "1"])
    assert load_categorical(tmp_path / "out").vocabulary.tokens.values == ("a",)


def test_another_earlier_vocabulary_is_another_input(given: Path, tmp_path: Path) -> None:
    for name, word in (("one", "zebra"), ("two", "yak")):
        folder = captions(tmp_path / f"{name} captions", [{"caption": word}] * 2)
        run(CategoricalConfig(), folder, tmp_path / name)
        out = run(CategoricalConfig(), given, tmp_path / "out", vocabulary=tmp_path / name)
        assert load_categorical(out).vocabulary.tokens.values == (word, "a", "mug", "red")


def test_a_vocabulary_can_grow_in_its_own_folder(given: Path, tmp_path: Path) -> None:
    out = run(CategoricalConfig(), given, tmp_path / "out")
    before = load_categorical(out)
    more = captions(tmp_path / "more", [*ROWS, {"caption": "blue socks"}])
    after = load_categorical(run(CategoricalConfig(), more, out, vocabulary=out))
    kept = len(before.vocabulary.tokens.values)
    assert after.vocabulary.tokens.values[:kept] == before.vocabulary.tokens.values
    assert after.vocabulary.tokens.values[kept:] == ("blue", "socks")


# --- what is refused ------------------------------------------------------------------------


def refused(
    given: Path, tmp_path: Path, kind: type[LlmrecError], message: str, **more: Any
) -> None:
    with pytest.raises(kind, match=message) as caught:
        run(CategoricalConfig(), given, tmp_path / "refused", **more)
    assert "\n" not in str(caught.value) and not (tmp_path / "refused").exists()


def test_a_folder_of_another_stage_is_refused(tmp_path: Path) -> None:
    given = captions(tmp_path / "captions", ROWS, stage="embed")
    refused(given, tmp_path, ArtifactError, "holds the 'embed' stage, expected 'caption'")
    refused(tmp_path / "gone", tmp_path, ArtifactError, r"gone.manifest.json: not found")


@pytest.mark.parametrize("name", ["captions.parquet", "schema.json"])
def test_a_damaged_file_is_named(given: Path, tmp_path: Path, name: str) -> None:
    path = given / name
    path.write_bytes(b"?" * path.stat().st_size)
    refused(given, tmp_path, ArtifactError, rf"{name}: cannot be read .*caption again")


@pytest.mark.parametrize("lost", ["item_id", "colour"])
def test_a_missing_column_is_named(tmp_path: Path, lost: str) -> None:
    columns = {name: kind for name, kind in COLUMNS.items() if name != lost}
    given = captions(tmp_path / "captions", ROWS, columns=columns)
    refused(given, tmp_path, ArtifactError, rf"captions.parquet: has no column '{lost}'")


def test_a_column_of_another_type_is_named(tmp_path: Path) -> None:
    columns = {**COLUMNS, "key_terms": TEXT}
    given = captions(tmp_path / "captions", [{"key_terms": "red mug"}], columns=columns)
    refused(given, tmp_path, ArtifactError, r"column 'key_terms' holds string, expected list")


def test_captions_without_items_or_fields_are_refused(tmp_path: Path) -> None:
    refused(captions(tmp_path / "none", []), tmp_path, CatalogError, "has no items")
    given = captions(tmp_path / "odd", ROWS, closed={})
    refused(given, tmp_path, ArtifactError, "a schema needs at least one")


def test_a_vocabulary_of_a_newer_version_is_refused(given: Path, tmp_path: Path) -> None:
    earlier = run(CategoricalConfig(), given, tmp_path / "one")
    path = earlier / "vocabulary.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 7', 1))
    refused(given, tmp_path, ArtifactError, "version 7, .*upgrade", vocabulary=earlier)
    with pytest.raises(ArtifactError, match="upgrade llmrec"):
        load_categorical(earlier)


def test_settings_that_would_move_ids_are_refused(given: Path, tmp_path: Path) -> None:
    earlier = run(CategoricalConfig(hash_buckets=4), given, tmp_path / "one")
    for config, name in (
        (CategoricalConfig(hash_buckets=5), "hash_buckets: .* made with 4"),
        (CategoricalConfig(hash_seed=1), "hash_seed: .* made with 0"),
        (CategoricalConfig(summary=True), "summary: .* made with False"),
    ):
        with pytest.raises(ConfigError, match=name):
            run(config, given, tmp_path / "two", vocabulary=earlier)
    run(
        CategoricalConfig(hash_buckets=4, hash_seed=0, summary=False),
        given,
        tmp_path / "two",
    )


def test_settings_that_make_no_sense_name_the_setting(given: Path, tmp_path: Path) -> None:
    flags = ["--captions", str(given), "--out", str(tmp_path / "out")]
    for name in ("hash-buckets", "hash-seed", "min-count", "max-values"):
        with pytest.raises(ConfigError, match=rf"{name.replace('-', '_')}: must be .* got -1"):
            run_command(["embed", "captions", *flags, f"--{name}=-1"])


@pytest.mark.parametrize("name", ["features.safetensors", "vocabulary.json"])
def test_a_damaged_result_names_the_file(given: Path, tmp_path: Path, name: str) -> None:
    out = run(CategoricalConfig(), given, tmp_path / "out")
    whole = shutil.copytree(out, tmp_path / "copy")
    (whole / name).write_bytes(b"{" * (whole / name).stat().st_size)
    with pytest.raises(ArtifactError, match=rf"{name}: .*run llmrec embed captions again"):
        load_categorical(whole)

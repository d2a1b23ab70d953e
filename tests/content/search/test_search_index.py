"""``llmrec search index`` and :class:`SearchIndex`: who is found, by what, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("open_clip", reason="needs the media extra")
pytest.importorskip("faiss", reason="needs the media extra")

import faiss
from edit_manifest import edit_manifest
from search_shop import FILMED, ITEM_IDS, PICTURED, TITLES, UNSEEN, Shop, write_dataset, write_media
from tiny_media import tiny_clip

from llmrec.cli import run_command
from llmrec.content.features.image_encoder import ImageEncoder
from llmrec.content.features.media import load_media_features
from llmrec.content.media.images import decode_image
from llmrec.content.search.build import run
from llmrec.content.search.nearest import load_index
from llmrec.content.search.searcher import SearchIndex
from llmrec.content.search.settings import SearchIndexConfig
from llmrec.content.search.vectors import item_vectors
from llmrec.errors import ArtifactError, CatalogError, ConfigError
from llmrec.stage import read_manifest


def indexed(shop: Shop, out: Path, **settings: object) -> Path:
    config = SearchIndexConfig(device="cpu", **settings)  # type: ignore[arg-type]
    return run(config, shop.dataset, shop.media, out)


def search_text(
    index: SearchIndex, texts: list[str], n: int = 10
) -> tuple[list[list[str]], list[list[float]]]:
    """Ids and cosines of the items that each text finds."""
    found = index.search(index.embed_text(texts), n)
    ids = [[result.item_id for result in row] for row in found]
    return ids, [[result.score for result in row] for row in found]


@pytest.fixture(scope="module")
def folder(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return indexed(shop, tmp_path_factory.mktemp("index") / "search_index")


@pytest.fixture(scope="module")
def index(folder: Path) -> SearchIndex:
    return SearchIndex.load(folder, device="cpu")


def test_every_picture_finds_its_own_item_first(index: SearchIndex, shop: Shop) -> None:
    pictures = [decode_image(shop.picture(item_id)) for item_id in PICTURED]
    found = index.search(index.encoder.encode(pictures), n=3)
    assert [row[0].item_id for row in found] == PICTURED
    np.testing.assert_allclose([row[0].score for row in found], 1, atol=1e-5)
    assert all(row == sorted(row, key=lambda result: -result.score) for row in found)


def test_scores_are_cosines_of_the_stored_vectors_and_the_query(
    index: SearchIndex, shop: Shop
) -> None:
    ids, scores = search_text(index, ["a red mug"], n=100)
    query = ImageEncoder(str(shop.clip), device="cpu").encode_text(["a red mug"])[0]
    blocks = load_media_features(shop.media)
    vectors = blocks["image"] + blocks["video"]  # no item has both
    expected = {item_id: float(vectors[row] @ query) for row, item_id in enumerate(ITEM_IDS)}
    assert scores[0] == pytest.approx([expected[item_id] for item_id in ids[0]], abs=1e-5)


def test_more_than_there_are_gives_all_that_can_be_seen_once(index: SearchIndex) -> None:
    ids, _ = search_text(index, ["anything"], n=1000)
    assert sorted(ids[0]) == sorted([*PICTURED, FILMED])


def test_an_item_without_picture_or_video_is_counted_and_left_out(folder: Path) -> None:
    counts = read_manifest(folder, "search-index").counts
    assert counts == {
        "items": 8,
        "indexed": 7,
        "left_out": 1,
        "from_image": 6,
        "from_video": 1,
        "kind": "flat",
        "dim": 24,
    }


def test_a_batch_of_questions_is_answered_like_each_alone(index: SearchIndex) -> None:
    texts = ["a red mug", "blue socks", "a lamp"]
    ids, scores = search_text(index, texts, n=4)
    for row, text in enumerate(texts):
        alone = search_text(index, [text], n=4)
        assert ids[row] == alone[0][0]
        np.testing.assert_allclose(scores[row], alone[1][0], atol=1e-5)
    assert search_text(index, [], n=4) == ([], [])


def test_titles_alone_find_every_item_that_has_one(shop: Shop, tmp_path: Path) -> None:
    index = SearchIndex.load(indexed(shop, tmp_path / "out", text_weight=1.0), device="cpu")
    named = [row for row, title in enumerate(TITLES) if title]
    ids, scores = search_text(index, [TITLES[row] for row in named], n=1)
    assert [row[0] for row in ids] == [ITEM_IDS[row] for row in named]
    np.testing.assert_allclose([row[0] for row in scores], 1, atol=1e-5)
    everything = search_text(index, ["thing"], n=100)[0][0]
    assert UNSEEN in everything and ITEM_IDS[TITLES.index("")] not in everything


def test_a_title_joins_a_picture_with_its_weight_and_stands_for_none() -> None:
    blocks = {"image": np.array([[1, 0], [1, 0], [0, 0]], np.float32)}
    titles = np.array([[0, 1], [0, 0], [0, 1]], np.float32)
    found = item_vectors(blocks, ["image"], titles=titles, text_weight=0.25)
    assert found.rows.tolist() == [0, 1]
    length = np.hypot(0.75, 0.25)
    expected = [[0.75 / length, 0.25 / length], [1, 0]]
    np.testing.assert_allclose(found.vectors, expected, atol=1e-6)
    assert found.counts["with_title"] == 1 and found.counts["left_out"] == 1


def test_a_video_stands_in_only_where_there_is_no_picture() -> None:
    image, video = np.zeros((2, 3, 2), np.float32)
    image[0], video[:2] = [1, 0], [0, 1]
    found = item_vectors({"image": image, "video": video}, ["image", "video"])
    assert found.vectors.tolist() == [[1, 0], [0, 1]]
    assert (found.counts["from_image"], found.counts["from_video"]) == (1, 1)
    assert item_vectors({"image": image, "video": video}, ["image"]).rows.tolist() == [0]
    assert item_vectors({"video": video}, ["video"]).rows.tolist() == [0, 1]
    assert item_vectors({"video": video}, []).rows.tolist() == []


def test_videos_of_a_trained_temporal_encoder_are_not_compared_with_words(
    shop: Shop, tmp_path: Path
) -> None:
    blocks = load_media_features(shop.media)
    kept = {"image": blocks["image"], "video": blocks["video"]}
    media = write_media(tmp_path / "m", shop.dataset, shop.clip, kept, temporal="t.safetensors")
    out = run(SearchIndexConfig(device="cpu"), shop.dataset, media, tmp_path / "out")
    assert "from_video" not in read_manifest(out).counts


def test_an_approximate_index_states_its_recall_on_titles(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = SearchIndexConfig("hnsw", device="cpu")
    run(config, shop.dataset, shop.media, tmp_path / "out")
    counts = read_manifest(tmp_path / "out").counts
    assert (counts["kind"], counts["recall@10"]) == ("hnsw", 1.0)
    assert (counts["recall_queries"], counts["recall_queries_are"]) == (6, "titles")
    assert "hnsw index, recall@10 1.000 against exact search on 6 titles" in capsys.readouterr().out


def test_the_same_settings_are_not_run_again_and_others_are(shop: Shop, tmp_path: Path) -> None:
    arguments = ["--dataset", str(shop.dataset), "--media", str(shop.media)]
    arguments += ["--out", str(tmp_path / "out"), "--device", "cpu"]
    run_command(["search", "index", *arguments])
    before = (tmp_path / "out" / "vectors.faiss").stat().st_mtime_ns
    run_command(["search", "index", *arguments])
    assert (tmp_path / "out" / "vectors.faiss").stat().st_mtime_ns == before
    run_command(["search", "index", *arguments, "--text-weight", "0.5"])
    assert (tmp_path / "out" / "vectors.faiss").stat().st_mtime_ns > before


def test_other_media_are_indexed_anew(shop: Shop, tmp_path: Path) -> None:
    for seen in (3, 5):
        blocks = {"image": np.eye(8, 24, dtype=np.float32) * (np.arange(8) < seen)[:, None]}
        media = write_media(tmp_path / f"seen {seen}", shop.dataset, shop.clip, blocks, seen=seen)
        out = run(SearchIndexConfig(), shop.dataset, media, tmp_path / "out")
        assert read_manifest(out).counts["indexed"] == seen


# --- what is refused ------------------------------------------------------------------------


def test_media_of_another_dataset_are_refused(shop: Shop, tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "other", ["x"], ["a thing"], {})
    with pytest.raises(ArtifactError, match=r"was not made from .*other; run llmrec embed media"):
        run(SearchIndexConfig(), other, shop.media, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_shop_of_which_nothing_can_be_seen_is_told_so(shop: Shop, tmp_path: Path) -> None:
    blocks = {"image": np.zeros((8, 24), np.float32)}
    media = write_media(tmp_path / "m", shop.dataset, shop.clip, blocks)
    with pytest.raises(CatalogError, match="no item has a vector to be found by"):
        run(SearchIndexConfig(), shop.dataset, media, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_settings_that_make_no_sense_name_the_setting(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--dataset", str(shop.dataset), "--media", str(shop.media)]
    arguments = ["search", "index", *arguments, "--out", str(tmp_path / "out")]
    for flag, value in (("--text-weight", "1.5"), ("--recall-queries", "0")):
        with pytest.raises(ConfigError, match=flag[2:].replace("-", "_")):
            run_command([*arguments, flag, value])
    with pytest.raises(SystemExit):
        run_command([*arguments, "--kind", "annoy"])
    assert "--kind" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="ivfpq trains its codes on 9,984 vectors"):
        run_command([*arguments, "--kind", "ivfpq"])


def test_a_model_that_moved_is_found_by_its_new_place(
    folder: Path, shop: Shop, tmp_path: Path
) -> None:
    moved = shutil.copytree(shop.clip, tmp_path / "elsewhere")
    index = SearchIndex.load(folder, image_model=str(moved), device="cpu")
    there = SearchIndex.load(folder, device="cpu")
    assert search_text(index, ["a mug"]) == search_text(there, ["a mug"])


def test_a_query_never_goes_through_other_weights(folder: Path, tmp_path: Path) -> None:
    other = tiny_clip(tmp_path / "other")
    (other / "notes.txt").write_text("one file more")
    with pytest.raises(ArtifactError, match="holds other weights now; say with --image-model"):
        SearchIndex.load(folder, image_model=str(other)).embed_text(["a mug"])
    with pytest.raises(ArtifactError, match="is not here; say with --image-model"):
        SearchIndex.load(folder, image_model="gone").embed_text(["a mug"])


def test_an_index_of_another_length_than_the_model_gives_is_refused(
    folder: Path, shop: Shop
) -> None:
    whole = SearchIndex.load(folder)
    index = SearchIndex(
        faiss.IndexFlatIP(7), whole.items, lambda: ImageEncoder(str(shop.clip), device="cpu")
    )
    with pytest.raises(ArtifactError, match=r"vectors of 7 numbers, .* gives 24"):
        index.embed_text(["a mug"])


@pytest.mark.parametrize("name", ["vectors.faiss", "items.parquet"])
def test_a_damaged_folder_names_the_file(folder: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / name).write_bytes(b"?" * (copy / name).stat().st_size)
    with pytest.raises(
        ArtifactError, match=rf"{name}: cannot be read .*search index again"
    ) as told:
        SearchIndex.load(copy)
    assert "\n" not in str(told.value)


def test_an_index_cut_short_is_refused(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "vectors.faiss").read_bytes()
    (tmp_path / "vectors.faiss").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"vectors.faiss: cannot be read"):
        load_index(tmp_path / "vectors.faiss", 24, 7)


def test_an_index_of_other_items_is_refused(tmp_path: Path) -> None:
    faiss.write_index(faiss.IndexFlatIP(24), str(tmp_path / "vectors.faiss"))
    with pytest.raises(ArtifactError, match="holds 0 vectors of 24 numbers, expected 7 of 24"):
        load_index(tmp_path / "vectors.faiss", 24, 7)


def test_a_manifest_that_lost_the_model_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    inputs = read_manifest(copy).inputs
    del inputs["image_model"]
    edit_manifest(copy, inputs=inputs)
    with pytest.raises(ArtifactError, match=r"copy: its manifest lacks 'image_model'; run"):
        SearchIndex.load(copy)


def test_a_folder_of_another_stage_is_refused(shop: Shop) -> None:
    with pytest.raises(ArtifactError, match="'embed-media' stage, expected 'search-index'"):
        SearchIndex.load(shop.media)


def test_empty_words_and_no_answers_are_refused(index: SearchIndex) -> None:
    with pytest.raises(ConfigError, match="text: is empty"):
        index.embed_text(["a mug", " \n"])
    with pytest.raises(ConfigError, match="n: must be 1 or more, got 0"):
        search_text(index, ["a mug"], n=0)

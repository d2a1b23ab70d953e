"""Item IDs that begin with the item's domain."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fusion_world import write_features
from tiny_models import domain_ids, make_histories, tiny_llm, write_dataset

from llmrec.cli import run_command
from llmrec.errors import ArtifactError, CatalogError
from llmrec.generation.constraints import Constraints, ItemFilter
from llmrec.item_ids.continued import continued_ids
from llmrec.item_ids.item_ids import ItemIds
from llmrec.types import Histories

N = 9
DOMAINS = ["kitchen" if item % 3 else "food" for item in range(N)]


def test_an_id_is_the_domain_and_the_item(tmp_path: Path) -> None:
    ids = domain_ids(N, spare=2)
    assert ids.codes[:4].tolist() == [[0, 0], [1, 1], [1, 2], [0, 3]]
    assert (ids.level_sizes, ids.capacity, ids.has_item_tokens) == ((2, N + 2), N + 2, True)
    ids.save(tmp_path)
    loaded = ItemIds.load(tmp_path)
    assert (loaded.kind, loaded.domains) == ("domain", ("food", "kitchen"))
    everything = np.arange(N)
    np.testing.assert_array_equal(loaded.decode(loaded.encode(everything)), everything)
    assert loaded.decode([[1, 0], [0, N]]).tolist() == [-1, -1]  # another's domain; nobody's token


def test_a_new_item_needs_a_domain_that_is_known() -> None:
    ids, none = domain_ids(N, spare=2), np.zeros((1, 0), np.float32)
    grown = ids.assign_new(none, domains=["kitchen"])
    assert grown.codes[N].tolist() == [1, N]
    for domains in (["garden"], None):
        with pytest.raises(
            CatalogError, match=r"^domain: '(garden)?' of a new item is none of food"
        ):
            ids.assign_new(none, domains=domains)
    with pytest.raises(CatalogError, match="3 new items, but only 2 spare"):
        ids.assign_new(np.zeros((3, 0), np.float32), domains=["food"] * 3)


def test_codes_and_domains_fit_together() -> None:
    ids = domain_ids(N)
    with pytest.raises(ArtifactError, match=r"domain ids cannot have \(2, 9\)"):
        replace(ids, domains=("food",))
    with pytest.raises(ArtifactError, match="an item's own code must be its index"):
        replace(ids, codes=ids.codes[::-1])


def test_items_keep_their_content_in_another_catalogue() -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    old = ItemIds.by_domain(np.array([0, 1, 1]), ["food", "kitchen"], 1, vectors, {"text": 1.0})
    old = replace(old, names=("a", "b", "c"))
    ids = continued_ids(old, ["c", "x", "a"], None, "old", ["kitchen", "food", "food"])
    assert ids.codes.tolist() == [[1, 0], [0, 1], [0, 2]]
    assert ids.token_vectors[2:5].tolist() == [[4, 5], [0, 0], [0, 1]]
    assert (ids.names, ids.level_sizes) == (("c", "x", "a"), (2, 4))


def test_a_list_of_one_domain_is_that_domains_part_of_the_whole_list() -> None:
    llm, histories = tiny_llm(domain_ids(N)), Histories.from_lists([[0, 4], []])
    everything = np.tile(np.arange(N), (2, 1))
    scores = llm.score_items(histories, everything)
    kitchen = [item for item in range(N) if DOMAINS[item] == "kitchen"]
    limits = [Constraints(allow=ItemFilter.of_items(np.array(kitchen), N))] * 2
    own = llm.recommend(histories, len(kitchen), exclude_history=False, constraints=limits)
    assert sorted(own.items[0].tolist()) == kitchen
    for row in range(2):
        expected = sorted(kitchen, key=lambda item: -scores[row, item])
        assert own.items[row].tolist() == expected


def test_the_command_reads_domains_of_the_catalogue(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", make_histories(20, N), N, items={"domain": DOMAINS})
    write_features(tmp_path / "features", np.eye(N, 4, dtype=np.float32))
    out = tmp_path / "ids"
    places = ["--dataset", str(dataset), "--features", str(tmp_path / "features")]
    run_command(["index", *places, "--kind", "domain", "--spare", "3", "--out", str(out)])
    ids = ItemIds.load(out)
    assert (ids.kind, ids.domains, ids.level_sizes) == ("domain", ("food", "kitchen"), (2, N + 3))
    assert ids.codes[:, 0].tolist() == [int(domain == "kitchen") for domain in DOMAINS]
    np.testing.assert_array_equal(ids.token_vectors[2 : N + 2], np.eye(N, 4))

"""``llmrec similar``: the items most like one, by content and by who chose both."""

import json

import numpy as np
import pytest
from tiny_shop import TinyRun

from llmrec.cli import main, run_command
from llmrec.content.features.text import load_features
from llmrec.errors import CatalogError, ConfigError
from llmrec.serving.bundle import Bundle
from llmrec.serving.recommender import Recommender


def by_text(bundle: Bundle, row: int) -> list[str]:
    """Every other item, the closest text first."""
    vectors = load_features(bundle.folder / "features")["text"]
    order = np.argsort(-(vectors @ vectors[row]), kind="stable")
    return [bundle.item_ids[item] for item in order if item != row]


def test_without_a_click_model_texts_are_compared(atomic: Bundle) -> None:
    found = Recommender(atomic).similar(atomic.item_ids[33], 6)
    assert [one.item_id for one in found.recommendations] == by_text(atomic, 33)[:6]
    for rank, one in enumerate(found.recommendations, 1):
        assert one.rank == rank
        assert one.title == atomic.titles[atomic.index[one.item_id]]
        assert one.reason == f"close to {atomic.quoted_title(33)}"
        assert one.sources == ("content",)
    scores = [one.score for one in found.recommendations]
    assert scores == sorted(scores, reverse=True)
    assert found.notes == []
    assert found.usage["total_tokens"] == 0


def test_only_what_may_be_recommended(atomic: Bundle) -> None:
    order = by_text(atomic, 33)
    limits = {"exclude": order[:2], "allow": [*order[:4], *order[8:10], "gone"]}
    found = Recommender(atomic).similar(atomic.item_ids[33], 4, **limits)
    assert [one.item_id for one in found.recommendations] == [*order[2:4], *order[8:10]]
    assert found.notes == ["allow: 'gone' is not in the catalogue and left out"]
    known = Recommender(atomic, histories={"anna": order[:3]})
    mine = known.similar(atomic.item_ids[33], 2, user="anna")
    assert [one.item_id for one in mine.recommendations] == order[3:5]
    all_of_them = known.similar(atomic.item_ids[33], 2, user="anna", exclude_history=False)
    assert [one.item_id for one in all_of_them.recommendations] == order[:2]


def test_with_a_click_model_who_chose_both_counts_too(recommender: Recommender) -> None:
    model = recommender.click_model
    assert model is not None
    similarity = model.snapshot.similarity(60)
    item = int(np.argmax(np.diff(similarity.indptr)))  # one with many neighbours
    together = set(similarity[item].indices)
    found = recommender.similar(f"item-{item}", 20).recommendations
    chosen = [one for one in found if "item_to_item" in one.sources]
    assert chosen
    assert {int(one.item_id.removeprefix("item-")) for one in chosen} <= together
    assert any("content" in one.sources for one in found)
    title = recommender.bundle.quoted_title(item)
    reasons = {one.reason for one in found}
    assert reasons <= {f"close to {title}", f"often chosen together with {title}"}
    assert len({one.item_id for one in found} | {f"item-{item}"}) == 21


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"query": "shoes"}, "query"),
        ({"candidates": ["x"]}, "candidates"),
        ({"adapter": "gifts"}, "adapter"),
    ],
)
def test_what_does_not_go_with_it(atomic: Bundle, fields: dict[str, object], name: str) -> None:
    with pytest.raises(ConfigError, match=f"similar_to: goes by the item alone; leave out {name}"):
        Recommender(atomic).similar(atomic.item_ids[0], **fields)


def test_an_item_that_is_not_there(atomic: Bundle) -> None:
    with pytest.raises(CatalogError, match=r"^similar_to: 'zzz' is not in the catalogue$"):
        Recommender(atomic).similar("zzz")


def test_a_bundle_without_texts(
    tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("textless") / "bundle"
    parts = [f"--dataset={tiny_run.folder / 'dataset'}", f"--model={tiny_run.model('atomic')}"]
    run_command(["bundle", *parts, f"--out={out}"])
    opened = Bundle(out)
    for ask in (
        lambda: Recommender(opened).similar(opened.item_ids[0]),
        lambda: Recommender(opened).recommend(query="shoes"),
    ):
        with pytest.raises(ConfigError, match="this bundle holds no text features") as caught:
            ask()
        assert str(out.parent) not in str(caught.value)


def test_on_the_command_line(
    tiny_run: TinyRun, atomic: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["similar", atomic.item_ids[33], "--bundle", str(tiny_run.bundle("atomic"))]
    expected = Recommender(atomic).similar(atomic.item_ids[33], 3, where={"in_stock": True})
    capsys.readouterr()
    assert main([*ask, "-n", "3", "--in-stock", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads(
        json.dumps([one.as_dict() for one in expected.recommendations])
    )
    assert main([*ask, "-n", "200"]) == 0
    printed = capsys.readouterr()
    assert [line.split()[2] for line in printed.out.splitlines()] == by_text(atomic, 33)
    assert "note: only 119 of 200 items: no more are known to be like it" in printed.err
    assert main(["similar", "zzz", *ask[2:]]) == 2
    assert "llmrec: error: similar_to: 'zzz' is not in the catalogue" in capsys.readouterr().err

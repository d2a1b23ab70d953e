"""What customers of the demo shop say, and what they mean."""

import json
from pathlib import Path

from llmrec.content.schema import load_schema
from llmrec.demo_shop import DemoShopConfig, generate, run
from llmrec.demo_shop.kinds import KINDS
from llmrec.demo_shop.talk import WAYS, make_talk
from llmrec.demo_shop.vocabulary import AUDIENCES


def ways_of_tests() -> list[str]:
    """The fixed words of the ways that are kept for tests."""
    queries = WAYS["queries"]
    lists = [queries["asks"], queries["occasion"], *WAYS["opinions"].values(), WAYS["service"]]
    lists += [*queries["for_whom"].values(), *queries["price_sensitivity"].values()]
    return [max(ways[-1].replace("}", "{").split("{")[::2], key=len).strip() for ways in lists]


def test_every_text_has_one_value_of_each_field() -> None:
    texts, truth = make_talk(generate(0, 100, 150))
    schema, groups = load_schema("intent"), {kind.group for kind in KINDS}
    assert [row["text_id"] for row in texts] == [row["text_id"] for row in truth]
    assert {row["kind"] for row in texts} == {"query", "review", "after_service"}
    for row in truth:
        assert row["need"] in groups
        assert all(row[n] in schema.values(n) for n in schema.names if n != "need"), row
        assert (row["complaint"] != "none") == (row["sentiment"] == "negative")


def test_ways_to_say_a_thing_that_are_for_tests_are_never_learned() -> None:
    texts, truth = make_talk(generate(0, 100, 400))
    found = 0
    for way in ways_of_tests():
        splits = {meant["split"] for said, meant in zip(texts, truth, strict=True)
                  if way in said["text"]}  # fmt: skip
        assert splits <= {"held_out"}, way
        found += len(splits)
    assert found >= 14, "nobody buys for everybody alone"


def test_whom_a_customer_buys_for_is_the_same_in_every_text() -> None:
    shop = generate(1, 100, 150)
    texts, truth = make_talk(shop)
    said = [(row["user_id"], meant["for_whom"]) for row, meant in zip(texts, truth, strict=True)]
    known = {pair for pair in said if pair[1] != "not said"}
    assert len(known) == len({user for user, _ in known}) > 20
    best = shop.profiles.audience.argmax(1)
    assert all(AUDIENCES[best[int(user[1:]) - 1]] == whom for user, whom in known)


def test_the_shop_is_the_same_with_and_without_talk(tmp_path: Path) -> None:
    config = DemoShopConfig(items=100, users=30)
    quiet = run(config, tmp_path / "quiet")
    loud = run(DemoShopConfig(items=100, users=30, talk=True), tmp_path / "loud")
    for name in ("items", "events", "impressions"):
        assert (quiet / f"{name}.jsonl").read_bytes() == (loud / f"{name}.jsonl").read_bytes()
    assert not (quiet / "talk.jsonl").exists()
    rows = [json.loads(line) for line in (loud / "talk.jsonl").read_text().splitlines()]
    assert all(row["text"] for row in rows) and len(rows) > 20

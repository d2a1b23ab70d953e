"""Write a demo shop as raw files, as a shop would hand them over.

llmrec data demo --out demo [--seed 0 --items 500 --users 3500 --media]
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrec.config import build
from llmrec.demo_shop.shop import DemoShop, Impression, generate
from llmrec.demo_shop.truth import describe_truth
from llmrec.errors import ConfigError
from llmrec.stage import Manifest, StageRun, run_stage, writing
from llmrec.types import Event, Item

_README = """\
A generated shop. No person, brand or product in it is real.

items.jsonl: {n_items} items
  item_id, title, description, brand, categories, price, attributes, in_stock, domain.
  attributes is the ground truth of what a picture would show.

events.jsonl: {n_events} events of {n_users} users, sorted by user, then time
  user_id, item_id, type, timestamp (seconds since 1970 UTC), session, context; ratings and
  reviews also have rating and text. A field that does not apply is left out.
  Every click follows a view and may lead to cart and purchase of that item in the same
  session. Nobody clicks an item twice, so the sequence for next-item prediction is that of
  type "click" ({n_clicks} events). Ratings, reviews and returns come days later, in no session.

impressions.jsonl: {n_lists} lists that were shown
  items from the top position down and, in the same order, clicked (0 or 1). At most one item
  of a list is clicked; its click event has the same user and session. "shuffled" lists were
  shown in random order: they show position bias alone.

truth.json: what is hidden from a model
  tastes, relations, season and true click probabilities.

{media}Made with:  llmrec data demo --seed {seed} --items {n_items} --users {n_users}{flags}
"""
_README_MEDIA = """\
images/, videos/, audio/: {n_pictures} pictures, {n_videos} clips, {n_spoken} spoken descriptions
  named in the items' image, video and audio. Kind, colour and pattern can be seen in a picture
  and in most frames of a clip; the attribute "motion" (still, turning, in_use) only in the
  order of a clip's frames.

queries/queries.jsonl: {n_queries} spoken questions
  file, text, category and colour asked for, and items, all that are right.

media_truth.jsonl: what a model should make of every item's pictures and sound
  category, group, colour, accent, pattern, motion, transcript (null without sound) and split:
  the {n_held_out} items marked "held_out" are for tests, so train nothing on them.

"""


@dataclass(frozen=True)
class DemoShopConfig:
    """Settings of the demo shop.

    Attributes:
        out: the folder to write.
        seed: another seed is another shop.
        items: how many items, at least 100.
        users: how many people.
        media: whether items have pictures, videos and spoken descriptions.
        views: pictures of each item then.
    """

    out: Path
    seed: int = 0
    items: int = 500
    users: int = 3500
    media: bool = False
    views: int = 1

    def __post_init__(self) -> None:
        if self.views < 1:
            raise ValueError(f"views: must be 1 or more, got {self.views}")


def write(shop: DemoShop, folder: str | Path, *, media: bool = False) -> Path:
    """Write a shop's files; the folder appears whole or not at all.

    Args:
        media: also draw, film and speak its items.

    Raises:
        ArtifactError: if it cannot be written.
        MissingExtraError: if ``media`` needs a package that is not installed.
        LlmrecError: if the folder holds something that llmrec did not write.
    """
    views = int(media)
    settings = _settings(len(shop.items), len(shop.people), views)
    with writing(folder, Manifest("demo", settings, seed=shop.seed)) as run:
        _write_files(shop, run, views)
    return Path(folder)


def run(config: DemoShopConfig) -> Path:
    """Generate and write a shop, unless the folder already holds this very shop."""
    views = config.views if config.media else 0
    settings = _settings(config.items, config.users, views)
    manifest = Manifest("demo", settings, seed=config.seed)

    def work(stage: StageRun) -> None:
        shop = generate(config.seed, config.items, config.users)
        _write_files(shop, stage, views)

    return run_stage(config.out, manifest, work)


def _settings(items: int, users: int, views: int) -> dict[str, Any]:
    """What decides the files; a shop without media is what it was before there were any."""
    media = {"media": True} if views else {}
    return {"items": items, "users": users} | media | ({"views": views} if views > 1 else {})


def _write_files(shop: DemoShop, run: StageRun, views: int) -> None:
    """All files; ``views`` pictures an item, and no media at all for 0."""
    items = shop.items
    about_media, flags = "", ""
    if views:
        from llmrec.demo_shop.media import write_media  # needs more than numpy

        items, counts = write_media(shop.items, shop.seed, run.folder, views)
        run.counts.update(counts)
        about_media = _README_MEDIA.format(**{f"n_{name}": n for name, n in counts.items()})
        flags = " --media" + (f" --views {views}" if views > 1 else "")
    types = Counter(event.type for event in shop.events)
    run.counts.update(
        items=len(shop.items),
        users=len({event.user_id for event in shop.events}),
        events=len(shop.events),
        lists=len(shop.impressions),
        events_by_type=dict(sorted(types.items())),
    )
    _write_lines(run.folder / "items.jsonl", map(_item_row, items))
    _write_lines(run.folder / "events.jsonl", map(_event_row, shop.events))
    _write_lines(run.folder / "impressions.jsonl", map(_impression_row, shop.impressions))
    truth = json.dumps(describe_truth(shop), allow_nan=False)
    (run.folder / "truth.json").write_text(truth + "\n", encoding="utf-8")
    readme = _README.format(
        n_items=len(shop.items),
        n_events=len(shop.events),
        n_users=len(shop.people),
        n_lists=len(shop.impressions),
        n_clicks=types["click"],
        seed=shop.seed,
        media=about_media,
        flags=flags,
    )
    (run.folder / "README.txt").write_text(readme, encoding="utf-8")


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(encode(row) + "\n" for row in rows)


def _item_row(item: Item) -> dict[str, Any]:
    files = {"image": item.image, "video": item.video, "audio": item.audio}
    return {
        "item_id": item.item_id,
        "title": item.title,
        "description": item.description,
        "brand": item.brand,
        "categories": item.categories,
        "price": item.price,
        "attributes": item.attributes,
        "in_stock": item.in_stock,
        "domain": item.domain,
        **{field: path for field, path in files.items() if path is not None},
    }


def _event_row(event: Event) -> dict[str, Any]:
    row: dict[str, Any] = {
        "user_id": event.user_id,
        "item_id": event.item_id,
        "type": event.type,
        "timestamp": event.timestamp,
    }
    if event.rating is not None:
        row["rating"] = event.rating
    if event.text:
        row["text"] = event.text
    if event.session:
        row["session"] = event.session
    if event.context:
        row["context"] = event.context
    return row


def _impression_row(shown: Impression) -> dict[str, Any]:
    return {
        "list_id": shown.list_id,
        "user_id": shown.user_id,
        "session": shown.session,
        "timestamp": shown.timestamp,
        "items": shown.items,
        "clicked": [int(flag) for flag in shown.clicked],
        "shuffled": shown.shuffled,
        "context": shown.context,
    }


def main(argv: list[str]) -> None:
    """``llmrec data demo``."""
    parser = argparse.ArgumentParser(
        prog="llmrec data demo",
        description="Write a generated shop: items, events, impressions and the truth behind them.",
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument(
        "--seed", type=int, default=DemoShopConfig.seed, help="default: %(default)s"
    )
    parser.add_argument(
        "--items", type=int, default=DemoShopConfig.items, help="default: %(default)s"
    )
    parser.add_argument(
        "--users", type=int, default=DemoShopConfig.users, help="default: %(default)s"
    )
    parser.add_argument(
        "--media", action="store_true", help="with pictures, videos and spoken descriptions"
    )
    parser.add_argument(
        "--views",
        type=int,
        default=DemoShopConfig.views,
        help="pictures of each item (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    if args.views > 1 and not args.media:
        raise ConfigError("--views: needs --media, without which there are no pictures")
    settings = {name: getattr(args, name) for name in ("seed", "items", "users", "media", "views")}
    run(build(DemoShopConfig, {"out": str(args.out), **settings}, "llmrec data demo"))

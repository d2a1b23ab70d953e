"""``llmrec data demo``: a demo shop as raw files, as a shop would deliver them.

llmrec data demo --out demo [--seed 0 --items 500 --users 3500 --media]
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrec.config import as_dict, check_ranges
from llmrec.demo_shop.ground_truth import ground_truth
from llmrec.demo_shop.shop import DemoShop, Impression, generate
from llmrec.errors import ConfigError
from llmrec.jsonl import write_jsonl
from llmrec.stage import Manifest, StageRun, run_stage
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
        items: how many items, at least 100.
        users: how many users.
        media: whether items have pictures, videos and spoken descriptions.
        views: pictures of each item then.
    """

    items: int = 500
    users: int = 3500
    media: bool = False
    views: int = 1

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "views")
        if self.views > 1 and not self.media:
            raise ConfigError("views: needs media, without which there are no pictures")


def run(config: DemoShopConfig, out: Path, seed: int = 0) -> Path:
    """Write a generated shop: items, events, impressions and the ground truth behind them.

    Args:
        config: its size.
        out: the folder to write.
        seed: another seed is another shop.

    Raises:
        ConfigError: for a shop that is too small.
        MissingExtraError: if media need a package that is not installed.
    """

    def work(stage: StageRun) -> None:
        shop = generate(seed, config.items, config.users)
        _write_files(shop, stage, config.views if config.media else 0)

    return run_stage(out, Manifest("demo", as_dict(config), seed=seed), work)


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
    write_jsonl(run.folder / "items.jsonl", map(_item_row, items))
    write_jsonl(run.folder / "events.jsonl", map(_event_row, shop.events))
    write_jsonl(run.folder / "impressions.jsonl", map(_impression_row, shop.impressions))
    truth = json.dumps(ground_truth(shop), allow_nan=False)
    (run.folder / "truth.json").write_text(truth + "\n", encoding="utf-8")
    readme = _README.format(
        n_items=len(shop.items),
        n_events=len(shop.events),
        n_users=len(shop.profiles),
        n_lists=len(shop.impressions),
        n_clicks=types["click"],
        seed=shop.seed,
        media=about_media,
        flags=flags,
    )
    (run.folder / "README.txt").write_text(readme, encoding="utf-8")


def _item_row(item: Item) -> dict[str, Any]:
    row = dict(vars(item))
    files = {name: row.pop(name) for name in ("image", "video", "audio")}
    return row | {name: path for name, path in files.items() if path is not None}


def _event_row(event: Event) -> dict[str, Any]:
    row = vars(event)
    optional = ("rating", "text", "session", "context")
    return {name: row[name] for name in row if name not in optional or row[name]}


def _impression_row(shown: Impression) -> dict[str, Any]:
    return vars(shown) | {"clicked": [int(flag) for flag in shown.clicked]}

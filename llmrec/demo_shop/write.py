"""``llmrec data demo``: a demo shop as raw files, as a shop would deliver them.

llmrec data demo --out demo [--seed 0 --items 500 --users 3500 --media]
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrec.config import as_dict, check_ranges
from llmrec.demo_shop.ground_truth import ground_truth
from llmrec.demo_shop.shop import DemoShop, Impression, generate
from llmrec.demo_shop.talk import make_talk
from llmrec.demo_shop.watching import watch_rows
from llmrec.demo_shop.wording import TEXTS
from llmrec.errors import ConfigError
from llmrec.jsonl import write_jsonl
from llmrec.stage import Manifest, StageRun, run_stage
from llmrec.types import Event, Item

POLICIES = "policies.yaml"  # what the shop says of itself


@dataclass(frozen=True)
class DemoShopConfig:
    """Settings of the demo shop.

    Attributes:
        items: how many items, at least 100.
        users: how many users.
        media: whether items have pictures, videos and spoken descriptions.
        views: pictures of each item then.
        films: whether some items have videos and spoken descriptions then.
        talk: whether customers say what they want and think, in words whose meaning is known.
    """

    items: int = 500
    users: int = 3500
    media: bool = False
    views: int = 1
    films: bool = True
    talk: bool = False

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
        _write_files(shop, stage, config)
        if config.talk:
            texts, truth = make_talk(shop)
            write_jsonl(stage.folder / "talk.jsonl", texts)
            write_jsonl(stage.folder / "talk_truth.jsonl", truth)
            stage.counts["texts"] = len(texts)

    manifest = Manifest("demo", as_dict(config), seed=seed, command="data demo")
    return run_stage(out, manifest, work)


def _write_files(shop: DemoShop, run: StageRun, config: DemoShopConfig) -> None:
    items = shop.items
    about_media, flags = "", ""
    if config.media:
        from llmrec.demo_shop.media import write_media  # needs more than numpy

        items, counts = write_media(
            shop.items, shop.seed, run.folder, config.views, films=config.films
        )
        run.counts.update(counts)
        about_media = TEXTS["readme_media"].format(**{f"n_{name}": n for name, n in counts.items()})
        flags = " --media" + (f" --views {config.views}" if config.views > 1 else "")
        flags += "" if config.films else " --no-films"
        if config.films:
            filmed = {item.item_id for item in items if item.video}
            write_jsonl(run.folder / "watches.jsonl", watch_rows(shop, filmed))
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
    shutil.copy(Path(__file__).with_name(POLICIES), run.folder)
    truth = json.dumps(ground_truth(shop), allow_nan=False)
    (run.folder / "truth.json").write_text(truth + "\n", encoding="utf-8")
    readme = TEXTS["readme"].format(
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

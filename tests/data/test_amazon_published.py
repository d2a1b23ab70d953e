"""From the review files as they were published in 2014 to the dataset of the published tables."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from llmrec.cli import run_command
from llmrec.data.dataset import Dataset
from llmrec.data.fetch import fetch
from llmrec.errors import ConfigError, DataError

RECIPE = Path(__file__).parents[2] / "training" / "beauty-published.yaml"
DAY = 86_400
START = 1_370_044_800  # midnight

Sequences = dict[str, list[str]]


def made_up(users: int = 60, items: int = 40) -> Sequences:
    """Sequences of ASINs in which every user and item has five events or more."""
    rng = np.random.default_rng(0)
    names = [f"B{number:09d}" for number in rng.permutation(items)]
    lengths = rng.integers(6, 12, users)
    return {
        f"A{user}": [names[item] for item in rng.choice(items, length, replace=False)]
        for user, length in enumerate(lengths.tolist())
    }


def publish(folder: Path, sequences: Sequences, titles: dict[str, str], stray: bool = False) -> int:
    """Write both files of a category: rows by ASIN, times by the day; returns tied events.

    An event is of the same day as the one before it, now and then, where its ASIN is the higher
    one: so the order of the file within a day gives the sequences back.

    Args:
        stray: add reviews outside of the 5-core, as a file of all reviews has them.
    """
    rng = np.random.default_rng(1)
    rows, tied = [], 0
    for user, items in sequences.items():
        day, days = 0, []
        for item, before in zip(items, ["~", *items], strict=False):
            day += not (item > before and rng.random() < 0.5)
            days.append(day)
        tied += sum(days.count(day) > 1 for day in days)
        rows += [(item, user, START + day * DAY) for item, day in zip(items, days, strict=True)]
    if stray:
        rows += [(next(iter(titles)), f"once{n}", START) for n in range(7)]
        rows += [("B999999999", next(iter(sequences)), START)]
    folder.mkdir(parents=True)
    reviews = (
        f'{{"reviewerID": "{user}", "asin": "{item}", "overall": 5.0, "unixReviewTime": {time}}}'
        for item, user, time in sorted(rows)
    )
    write(folder / "reviews_Beauty_5.json.gz", reviews)
    meta = (repr({"asin": asin, "title": title, "salesRank": {}}) for asin, title in titles.items())
    write(folder / "meta_Beauty.json.gz", meta)
    return tied


def write(path: Path, lines: Iterable[str]) -> None:
    path.write_bytes(gzip.compress("\n".join(lines).encode(), compresslevel=1))


def ingest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """The two commands of the recipe, on a mirror in a folder."""
    monkeypatch.chdir(tmp_path)
    fetching = "data fetch amazon-2014 --category Beauty --out data/amazon-2014 --base-url mirror"
    run_command(fetching.split())
    run_command(["run", str(RECIPE), "--only", "ingest", "--out", "run"])
    return Dataset(tmp_path / "run" / "dataset")


def sequences_of(dataset: Dataset) -> Sequences:
    events = pq.read_table(dataset.folder / "events.parquet", columns=["user", "item"])
    users, items = (events[name].to_numpy() for name in ("user", "item"))
    found: Sequences = {}
    for user, item in zip(users.tolist(), items.tolist(), strict=True):
        found.setdefault(dataset.all_user_ids[user], []).append(dataset.item_ids[item])
    return found


@pytest.mark.parametrize("stray", [False, True])
def test_the_sequences_come_back(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stray: bool,
) -> None:
    sequences = made_up()
    names = sorted({item for items in sequences.values() for item in items})
    titles = {name: f"Soap {name}" for name in [*names, "B999999999", "B888888888"]}
    tied = publish(tmp_path / "mirror", sequences, titles, stray)
    dataset = ingest(tmp_path, monkeypatch)
    assert sequences_of(dataset) == sequences
    counts = dataset.manifest.counts
    assert (counts["users"], counts["items"]) == (len(sequences), len(names))
    assert counts["test"] == counts["validation"] == len(sequences)
    assert counts["ties"]["events"] == tied > 50
    assert counts["order"] == "by time; events of one user at one time as in the file"
    assert counts["dropped"].get("outside_core", 0) == (8 if stray else 0)
    assert "order of their items' names: times are too coarse" in capsys.readouterr().err


def test_beauty_has_the_published_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    folder = shared_data / "amazon2014-beauty"
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    asins = {str(item["item_id"]): item["asin"] for item in items}
    lines = [line.split() for line in (folder / "sequences.txt").read_text().splitlines()]
    sequences = {user: [asins[item] for item in events] for user, *events in lines}
    publish(tmp_path / "mirror", sequences, {item["asin"]: item["title"] for item in items})
    dataset = ingest(tmp_path, monkeypatch)
    counts = dataset.manifest.counts
    assert (counts["users"], counts["items"], counts["events"]) == (22_363, 12_101, 198_502)
    assert sequences_of(dataset) == sequences


@pytest.mark.parametrize("given", ["nowhere", "ftp://here"])
def test_a_mirror_that_is_none_is_named(tmp_path: Path, given: str) -> None:
    with pytest.raises(ConfigError, match=f"--base-url: '{given}' is n"):
        fetch("amazon-2014", "Beauty", tmp_path / "raw", given)
    assert not (tmp_path / "raw").exists()


def test_a_mirror_without_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"reviews_Beauty_5\.json\.gz: cannot be read .* category"):
        fetch("amazon-2014", "Beauty", tmp_path / "raw", str(tmp_path))

"""``llmrec recommend``: ranked items for a history, or for some people of a dataset.

llmrec recommend BUNDLE --history ID,ID,...
llmrec recommend BUNDLE --dataset DIR --user NAME
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from llmrec.bundle import Bundle
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.types import Recommendation

SHOWN_HISTORY = 6


def show(bundle: Bundle, dataset: Dataset, users: int = 3, n: int = 5, seed: int = 0) -> str:
    """Some people of the test split: what they did, what they are recommended, what came next."""
    cases = dataset.cases("test")
    long_enough = np.flatnonzero(cases.histories.lengths() >= 4)
    rows = np.random.default_rng(seed).choice(long_enough, min(users, len(long_enough)), False)
    parts = []
    for row in np.sort(rows):
        case = cases.select([row])
        history = [dataset.item_ids[i] for i in case.histories[0]]
        now = None if case.histories.now is None else float(case.histories.now[0])
        times = _listed(case.histories.times(0))
        answer = bundle.recommend(history, n, history_times=times, now=now)
        target = dataset.item_ids[case.targets[0]]
        parts.append(_person(bundle, dataset.user_ids[case.users[0]], history, answer, target))
    return "\n".join(parts)


def _person(
    bundle: Bundle, name: str, history: list[str], answer: list[Recommendation], target: str
) -> str:
    title = dict(zip(bundle.item_ids, bundle.titles, strict=True))
    lines = [f"{name}", f"  history ({len(history)} items, newest last)"]
    lines += [f"    {title[item][:90]}" for item in history[-SHOWN_HISTORY:]]
    lines += ["  recommended"]
    for found in answer:
        mark = "  <- what came next" if found.item_id == target else ""
        lines.append(f"    {found.rank}. {found.title[:90]}{mark}")
    if all(found.item_id != target for found in answer):
        lines.append(f"  what came next: {title[target][:90]}")
    return "\n".join([*lines, ""])


def main(argv: list[str]) -> None:
    """``llmrec recommend``."""
    parser = argparse.ArgumentParser(prog="llmrec recommend", description=__doc__)
    parser.add_argument("bundle", type=Path)
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--history", help="item ids, oldest first, separated by commas")
    asked.add_argument("--user", help="the person of --dataset whose history to take")
    parser.add_argument("--dataset", type=Path, help="folder of llmrec ingest that knows --user")
    parser.add_argument("--query", default="", help="what is wanted, in words")
    parser.add_argument("-n", type=int, default=10)
    parser.add_argument("--beams", type=int, default=50, help="beam width for semantic IDs")
    parser.add_argument("--keep-history", action="store_true", help="may recommend seen items")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    history, times = _history(arguments)
    bundle = Bundle(arguments.bundle, beams=arguments.beams)
    answer = bundle.recommend(
        history,
        arguments.n,
        exclude_history=not arguments.keep_history,
        query=arguments.query,
        history_times=times,
    )
    if arguments.json:
        print(json.dumps([dataclasses.asdict(found) for found in answer], indent=2))
        return
    for found in answer:
        print(f"{found.rank:3}  {found.score:9.3f}  {found.item_id:>14}  {found.title[:90]}")


def _history(arguments: argparse.Namespace) -> tuple[list[str], list[float] | None]:
    """Item ids, oldest first, and when each happened where that is known."""
    if arguments.history is not None:
        return [part.strip() for part in arguments.history.split(",") if part.strip()], None
    if arguments.user is None:
        if arguments.query:
            return [], None
        raise ConfigError("give --history ID,ID,... or --dataset DIR --user NAME or --query WORDS")
    if arguments.dataset is None:
        raise ConfigError("--user: needs --dataset, the folder whose people it names")
    dataset = Dataset(arguments.dataset)
    try:
        user = dataset.user_ids.index(arguments.user)
    except ValueError:
        raise ConfigError(
            f"--user: {arguments.user!r} is not among the people of {arguments.dataset}"
        ) from None
    return [dataset.item_ids[i] for i in dataset.history(user)], _listed(dataset.times(user))


def _listed(times: np.ndarray | None) -> list[float] | None:
    return None if times is None else times.tolist()

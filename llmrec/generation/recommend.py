"""``llmrec recommend``: ranked items for a history, or for some people of a dataset.

llmrec recommend BUNDLE --history ID,ID,...
llmrec recommend BUNDLE --dataset DIR --user NAME
llmrec recommend BUNDLE --history ID,ID,... --in-stock --category Shoes --price-max 80
llmrec recommend BUNDLE --history ID,ID,... --candidates ID,ID,...
llmrec recommend BUNDLE --history ID,ID,... --adapter NAME
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

import numpy as np

from llmrec.bundle import Bundle
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.generation import recommend_flags as flags
from llmrec.generation.filters import CatalogFilter
from llmrec.question import Question
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
        times = flags.listed(case.histories.times(0))
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
    parser = argparse.ArgumentParser(
        prog="llmrec recommend",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flags.add_flags(parser)
    arguments = parser.parse_args(argv)
    found = _ranked(arguments) if arguments.candidates is not None else _recommended(arguments)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(one) for one in found], indent=2))
        return
    for one in found:
        print(f"{one.rank:3}  {one.score:9.3f}  {one.item_id:>14}  {one.title[:90]}")


def _recommended(arguments: argparse.Namespace) -> list[Recommendation]:
    history, times = flags.history(arguments)
    options, where = flags.search_options(arguments), flags.catalog_filter(arguments)
    exclude = flags.item_ids(arguments.exclude, "--exclude")
    allow = flags.item_ids(arguments.allow, "--allow")
    question = Question(
        history,
        10 if arguments.n is None else arguments.n,
        exclude_history=not arguments.keep_history,
        exclude=exclude or (),
        allow=allow,
        where=where,
        query=arguments.query,
        history_times=times,
        adapter=arguments.adapter,
        options=options,
    )
    answer = Bundle(arguments.bundle, beams=arguments.beams).answer(question)
    for note in answer.notes:
        print(f"note: {note}", file=sys.stderr)
    return answer.recommendations


def _ranked(arguments: argparse.Namespace) -> list[Recommendation]:
    """The given candidates; whatever would choose among them is a contradiction."""
    where = flags.catalog_filter(arguments)
    if arguments.query or arguments.exclude or arguments.allow or where != CatalogFilter():
        raise ConfigError("--candidates: are ranked as given; leave out --query and all filters")
    if arguments.n is not None and arguments.n < 1:
        raise ConfigError(f"-n: {arguments.n} items were asked for; ask for at least 1")
    history, times = flags.history(arguments)
    candidates = flags.item_ids(arguments.candidates, "--candidates") or []
    options = flags.search_options(arguments)
    bundle = Bundle(arguments.bundle, beams=arguments.beams)
    found = bundle.rank(
        history, candidates, history_times=times, adapter=arguments.adapter, options=options
    )
    return found[: arguments.n]

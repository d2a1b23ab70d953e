"""``llmrec recommend``: ranked items for a history, or for some people of a dataset.

llmrec recommend BUNDLE --history ID,ID,...
llmrec recommend BUNDLE --dataset DIR --user NAME
llmrec recommend BUNDLE --history ID,ID,... --in-stock --category Shoes --price-max 80
llmrec recommend BUNDLE --history ID,ID,... --candidates ID,ID,...
llmrec recommend BUNDLE --history ID,ID,... --adapter NAME
llmrec recommend BUNDLE --history ID,ID,... --calibrated --context device=mobile
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np

from llmrec.config import settings_of
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.serving import recommend_flags as flags
from llmrec.serving.bundle import Bundle
from llmrec.serving.filters import CatalogFilter
from llmrec.serving.request import Question
from llmrec.types import Recommendation

SHOWN_HISTORY = 6


def show(bundle: Bundle, dataset: Dataset, users: int = 3, n: int = 5, seed: int = 0) -> str:
    """Some people of the test split: what they did, what they are recommended, what came next.

    A bundle with a click model also says how likely a click is, and why.
    """
    recommender = None
    if bundle.ctr is not None:
        from llmrec.serving.recommender import Recommender

        recommender = Recommender.load(bundle)
    cases = dataset.cases("test")
    long_enough = np.flatnonzero(cases.histories.lengths() >= 4)
    rows = np.random.default_rng(seed).choice(long_enough, min(users, len(long_enough)), False)
    parts = []
    for row in np.sort(rows):
        case = cases.select([row])
        history = [dataset.item_ids[i] for i in case.histories[0]]
        now = None if case.histories.now is None else float(case.histories.now[0])
        times = flags.listed(case.histories.times(0))
        if recommender is None:
            answer = bundle.recommend(history, n, history_times=times, now=now)
        else:
            moments = [None] * len(history) if times is None else times
            events = [
                {"item_id": one, "timestamp": at} for one, at in zip(history, moments, strict=True)
            ]
            answer = recommender.recommend(history=events, n=n, now=now).recommendations
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
        likely = "" if found.p_click is None else f"  {found.p_click:.1%}  {found.reason}"
        lines.append(f"    {found.rank}. {found.title[:60]}{likely}{mark}")
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
    _add_calibrated(parser.add_argument_group("with the bundle's click model"))
    arguments = parser.parse_args(argv)
    found = _found(arguments)
    if arguments.json:
        print(json.dumps([one.as_dict() for one in found], indent=2))
        return
    if arguments.calibrated:
        print("\n".join(map(_calibrated_line, found)))
        return
    for one in found:
        print(f"{one.rank:3}  {one.score:9.3f}  {one.item_id:>14}  {one.title[:90]}")


def _add_calibrated(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--calibrated", action="store_true", help="rank by click probability")
    for name, about in (
        ("--context", "what is said of the moment, such as device=mobile; may be repeated"),
        ("--rerank", "a setting of re-ranking, such as per_category=2; may be repeated"),
    ):
        group.add_argument(name, action="append", default=[], metavar="NAME=VALUE", help=about)
    group.add_argument("--now", type=float, help="seconds since 1970 UTC (default: the present)")


def _found(arguments: argparse.Namespace) -> list[Recommendation]:
    if arguments.calibrated:
        return _calibrated(arguments)
    for name in ("context", "rerank", "now"):
        if getattr(arguments, name):
            raise ConfigError(f"--{name}: is read by the click model; add --calibrated")
    return _ranked(arguments) if arguments.candidates is not None else _recommended(arguments)


def _calibrated(arguments: argparse.Namespace) -> list[Recommendation]:
    """The list of the bundle's click model."""
    from llmrec.serving.recommender import Recommender

    for name in ("candidates", "query", "adapter", "keep_history"):
        if getattr(arguments, name):
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag}: the click model does not know it; leave it out")
    ids, times = ([], None) if _nobody(arguments) else flags.history(arguments)
    moments = [None] * len(ids) if times is None else times
    events = [{"item_id": one, "timestamp": at} for one, at in zip(ids, moments, strict=True)]
    shown = Recommender.load(arguments.bundle, beams=arguments.beams).recommend(
        history=events,
        n=10 if arguments.n is None else arguments.n,
        context=settings_of(arguments.context, "--context"),
        filters=flags.catalog_filter(arguments),
        exclude=flags.item_ids(arguments.exclude, "--exclude") or (),
        allow=flags.item_ids(arguments.allow, "--allow"),
        rerank=settings_of(arguments.rerank, "--rerank"),
        now=arguments.now,
    )
    for note in shown.notes:
        print(f"note: {note}", file=sys.stderr)
    return shown.recommendations


def _nobody(arguments: argparse.Namespace) -> bool:
    return arguments.history is None and arguments.user is None


def _calibrated_line(one: Recommendation) -> str:
    found_by = ",".join(one.sources)
    return f"{one.rank:3}  {one.p_click:7.2%}  {one.title[:60]:60}  {one.reason}  [{found_by}]"


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

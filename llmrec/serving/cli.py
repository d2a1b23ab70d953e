"""``llmrec recommend`` and ``llmrec similar``: ranked items on the terminal or in a file.

llmrec recommend BUNDLE --history ID ID ...
llmrec recommend BUNDLE --dataset DIR --user NAME
llmrec recommend BUNDLE --dataset DIR --all --out FILE
llmrec recommend BUNDLE --history ID ID ... --in-stock --categories Shoes --price-max 80
llmrec recommend BUNDLE --history ID ID ... --domain kitchen --explain
llmrec recommend BUNDLE --history ID ID ... --candidates ID ID ...
llmrec recommend BUNDLE --history ID ID ... --adapter NAME
llmrec recommend BUNDLE --history ID ID ... --context device=mobile
llmrec recommend BUNDLE --scenario trending --categories Shoes
llmrec similar ID --bundle BUNDLE
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from llmrec.config import settings_of
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.generation.beam_search import SearchOptions
from llmrec.serving.bundle import Bundle
from llmrec.serving.everyone import recommend_all
from llmrec.serving.history import as_events, dataset_attributes, dataset_histories
from llmrec.serving.item_flags import ItemFlags, item_ids
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import DEFAULT_N, RecommendRequest, RecommendResponse
from llmrec.types import Recommendation

BEAM_SEARCH = SearchOptions()
ANY_ITEM = ItemFlags()
HISTORY_LINES = 6  # of a user's history that are printed

Number = Annotated[int | None, tyro.conf.arg(aliases=("-n",))]
Flattened = tyro.conf.arg(name="")  # the flags of a settings class, without its own name
AsJson = Annotated[bool, tyro.conf.arg(name="json")]


def recommend(
    bundle: Path,
    /,
    history: Sequence[str] = (),
    user: str | None = None,
    dataset: Path | None = None,
    everyone: Annotated[bool, tyro.conf.arg(name="all")] = False,
    file: Annotated[Path | None, tyro.conf.arg(name="out")] = None,
    query: str = "",
    candidates: Sequence[str] = (),
    scenario: str | None = None,
    similar_to: str | None = None,
    n: Number = None,
    adapter: str | None = None,
    calibrated: bool = True,
    context: Sequence[str] = (),
    rerank: Sequence[str] = (),
    now: str | None = None,
    exclude_history: bool = True,
    explain: bool = False,
    items: Annotated[ItemFlags, Flattened] = ANY_ITEM,
    options: Annotated[SearchOptions, Flattened] = BEAM_SEARCH,
    verify: bool = True,
    as_json: AsJson = False,
) -> None:
    """Print ranked items. Item ids may also be read from files with one a line, given as @FILE.

    Args:
        bundle: folder of llmrec bundle.
        history: item ids, oldest first.
        user: the user of --dataset whose history to take.
        dataset: folder of llmrec ingest that knows --user, or those of --all.
        everyone: recommend to every user of --dataset, into --out.
        file: of --all, a row an item: .jsonl or .parquet.
        query: what is wanted, in words.
        candidates: item ids; these are ranked, and no others.
        scenario: what the list is for: home, similar_items, bought_together, buy_again,
            recently_viewed, trending, new, or one of the bundle's own.
        similar_to: item id that similar_items and bought_together go by.
        n: how many items; 10, or all candidates.
        adapter: the adapter of the language model.
        calibrated: let the bundle's click model rank, where it has one.
        context: of the request, NAME=VALUE each, such as device=mobile.
        rerank: settings of re-ranking, NAME=VALUE each, such as per_category=2.
        now: time of the request, ISO 8601 or seconds since 1970 UTC.
        exclude_history: leave out what is in the history.
        explain: also print why, and which item of another shop moved each item.
        items: which items may be recommended.
        options: how the language model searches.
        verify: check the sha256 of every file of the bundle first.
        as_json: print JSON.
    """
    _check_whose(history, user, dataset, everyone, file)
    listed = item_ids(candidates, "--candidates")
    request = RecommendRequest(
        None if user is not None or everyone else item_ids(history, "--history") or [],
        n if n is not None else len(listed or ()) or DEFAULT_N,
        user=user,
        query=query,
        candidates=listed,
        scenario=scenario,
        similar_to=similar_to,
        context=settings_of(context, "--context"),
        **items.request_fields(),
        exclude_history=exclude_history,
        explain=explain,
        now=_time(now),
        adapter=adapter,
        calibrated=calibrated,
        rerank=settings_of(rerank, "--rerank") or None,
        options=options,
    )
    opened = None if dataset is None else Dataset(dataset)
    histories = None if opened is None else dataset_histories(opened)
    if user is not None and histories is not None and histories(user) is None:
        raise ConfigError(f"--user: {user!r} is not among the users of {dataset}")
    recommender = Recommender.load(
        bundle,
        histories=histories,
        attributes=None if opened is None else dataset_attributes(opened),
        beams=options.beams,
        calibrated=calibrated,
        verify=verify,
    )
    if opened is not None and file is not None:
        recommend_all(recommender, opened, request, file)
    else:
        _print(recommender.answer(request), as_json, explain)


def similar(
    item: str,
    /,
    bundle: Path,
    n: Number = None,
    items: Annotated[ItemFlags, Flattened] = ANY_ITEM,
    verify: bool = True,
    as_json: AsJson = False,
) -> None:
    """Print the items most like one.

    Args:
        item: its id.
        bundle: folder of llmrec bundle.
        n: how many items; 10 by default.
        items: which items may be recommended.
        verify: check the sha256 of every file of the bundle first.
        as_json: print JSON.
    """
    n = DEFAULT_N if n is None else n
    request = RecommendRequest(None, n, similar_to=item, **items.request_fields())
    _print(Recommender.load(bundle, verify=verify).answer(request), as_json)


def show(bundle: Bundle, dataset: Dataset, users: int = 3, n: int = 5, seed: int = 0) -> str:
    """Some users of the test split: their history, what is recommended, what came next."""
    recommender = Recommender.load(bundle)
    cases = dataset.cases("test")
    starts = cases.starts
    long_enough = starts[cases.histories.lengths()[starts] >= 4]
    rows = np.random.default_rng(seed).choice(long_enough, min(users, len(long_enough)), False)
    parts = []
    for row in np.sort(rows):
        case = cases.select([row])
        history = [dataset.item_ids[i] for i in case.histories[0]]
        now = None if case.histories.now is None else float(case.histories.now[0])
        events = as_events(history, case.histories.times(0))
        found = recommender.recommend(events, n, now=now).recommendations
        end = starts[starts > row].min(initial=len(cases))  # a basket has several
        targets = [dataset.item_ids[item] for item in cases.targets[row:end]]
        parts.append(_user(bundle, dataset.user_ids[case.users[0]], history, found, targets))
    return "\n".join(parts)


def _user(
    bundle: Bundle,
    name: str,
    history: list[str],
    found: list[Recommendation],
    targets: list[str],
) -> str:
    title = dict(zip(bundle.item_ids, bundle.titles, strict=True))
    lines = [f"{name}", f"  history ({len(history)} items, newest last)"]
    lines += [f"    {title[item][:90]}" for item in history[-HISTORY_LINES:]]
    lines += ["  recommended"]
    for one in found:
        mark = "  <- what came next" if one.item_id in targets else ""
        likely = "" if one.p_click is None else f"  {one.p_click:.1%}  {one.reason}"
        lines.append(f"    {one.rank}. {one.title[:60]}{likely}{mark}")
    missed = set(targets) - {one.item_id for one in found}
    lines += [f"  what came next: {title[item][:90]}" for item in targets if item in missed]
    return "\n".join([*lines, ""])


def _check_whose(
    history: Sequence[str],
    user: str | None,
    dataset: Path | None,
    everyone: bool,
    file: Path | None,
) -> None:
    """Check that the flags name one history, or everybody's.

    Raises:
        ConfigError: naming the flag.
    """
    if user is not None:
        if history:
            raise ConfigError("--user: has a history of its own; leave out --history")
        if dataset is None:
            raise ConfigError("--user: needs --dataset, the folder whose users it names")
    if everyone:
        if history or user is not None:
            raise ConfigError("--all: is everybody of --dataset; leave out --history and --user")
        if dataset is None or file is None:
            raise ConfigError("--all: needs --dataset, whose users it means, and --out, a file")
    elif file is not None:
        raise ConfigError("--out: is the file of --all; give --all, or leave it out")


def _time(now: str | None) -> float | str | None:
    try:
        return None if now is None else float(now)
    except ValueError:
        return now


def _print(response: RecommendResponse, as_json: bool, explain: bool = False) -> None:
    for note in response.notes:
        print(f"note: {note}", file=sys.stderr)
    if as_json:
        print(json.dumps([one.as_dict() for one in response.recommendations], indent=2))
    else:
        for one in response.recommendations:
            print(f"{_line(one)}\n     {one.reason}" if explain else _line(one))


def _line(one: Recommendation) -> str:
    if one.p_click is None:
        return f"{one.rank:3}  {one.score:9.3f}  {one.item_id:>14}  {one.title[:90]}"
    sources = ",".join(one.sources)
    start = f"{one.rank:3}  {one.p_click:7.2%}  {one.item_id:>14}  {one.title[:60]:60}"
    return f"{start}  {one.reason}  [{sources}]"

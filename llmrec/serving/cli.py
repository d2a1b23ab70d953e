"""``llmrec recommend``: ranked items for a history, for a user of a dataset, or for nobody.

llmrec recommend BUNDLE --history ID ID ...
llmrec recommend BUNDLE --dataset DIR --user NAME
llmrec recommend BUNDLE --history ID ID ... --in-stock --categories Shoes --price-max 80
llmrec recommend BUNDLE --history ID ID ... --candidates ID ID ...
llmrec recommend BUNDLE --history ID ID ... --adapter NAME
llmrec recommend BUNDLE --history ID ID ... --context device=mobile
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
from llmrec.serving.filters import CatalogFilter
from llmrec.serving.history import as_events, dataset_histories
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest
from llmrec.types import Recommendation

BEAM_SEARCH = SearchOptions()
HISTORY_LINES = 6  # of a user's history that are printed


def recommend(
    bundle: Path,
    /,
    history: Sequence[str] = (),
    user: str | None = None,
    dataset: Path | None = None,
    query: str = "",
    candidates: Sequence[str] = (),
    n: Annotated[int | None, tyro.conf.arg(aliases=("-n",))] = None,
    adapter: str | None = None,
    calibrated: bool = True,
    context: Sequence[str] = (),
    rerank: Sequence[str] = (),
    now: float | None = None,
    exclude_history: bool = True,
    exclude: Sequence[str] = (),
    allow: Sequence[str] = (),
    in_stock: bool = False,
    categories: Sequence[str] = (),
    brands: Sequence[str] = (),
    domains: Sequence[str] = (),
    attributes: Sequence[str] = (),
    price_min: float | None = None,
    price_max: float | None = None,
    options: Annotated[SearchOptions, tyro.conf.arg(name="")] = BEAM_SEARCH,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Print ranked items. Item ids may also be read from files with one a line, given as @FILE.

    Args:
        bundle: folder of llmrec bundle.
        history: item ids, oldest first.
        user: the user of --dataset whose history to take.
        dataset: folder of llmrec ingest that knows --user.
        query: what is wanted, in words.
        candidates: item ids; these are ranked, and no others.
        n: how many items; 10, or all candidates.
        adapter: the adapter of the language model.
        calibrated: let the bundle's click model rank, where it has one.
        context: of the request, NAME=VALUE each, such as device=mobile.
        rerank: settings of re-ranking, NAME=VALUE each, such as per_category=2.
        now: time of the request, seconds since 1970 UTC.
        exclude_history: leave out what is in the history.
        exclude: item ids not to recommend.
        allow: item ids that alone may be recommended.
        in_stock: only items in stock.
        categories: any of these is in the item's category path.
        brands: the item's brand is any of these.
        domains: the item's domain is any of these.
        attributes: NAME=VALUE each; of one name, any of the values.
        price_min: lowest price.
        price_max: highest price.
        options: how the language model searches.
        as_json: print JSON.
    """
    histories = None if dataset is None else dataset_histories(Dataset(dataset))
    if user is not None:
        if history:
            raise ConfigError("--user: has a history of its own; leave out --history")
        if histories is None:
            raise ConfigError("--user: needs --dataset, the folder whose users it names")
        if histories(user) is None:
            raise ConfigError(f"--user: {user!r} is not among the users of {dataset}")
    listed = _item_ids(candidates, "--candidates")
    request = RecommendRequest(
        None if user is not None else _item_ids(history, "--history") or [],
        n if n is not None else len(listed or ()) or 10,
        user=user,
        query=query,
        candidates=listed,
        context=settings_of(context, "--context"),
        where=CatalogFilter(
            in_stock=True if in_stock else None,
            categories=tuple(categories),
            brands=tuple(brands),
            price_min=price_min,
            price_max=price_max,
            domains=tuple(domains),
            attributes=_attributes(attributes),
        ),
        exclude=_item_ids(exclude, "--exclude") or (),
        allow=_item_ids(allow, "--allow"),
        exclude_history=exclude_history,
        now=now,
        adapter=adapter,
        calibrated=calibrated,
        rerank=settings_of(rerank, "--rerank") or None,
        options=options,
    )
    recommender = Recommender.load(
        bundle, histories=histories, beams=options.beams, calibrated=calibrated
    )
    response = recommender.answer(request)
    for note in response.notes:
        print(f"note: {note}", file=sys.stderr)
    if as_json:
        print(json.dumps([one.as_dict() for one in response.recommendations], indent=2))
    else:
        print("".join(f"{_line(one)}\n" for one in response.recommendations), end="")


def show(bundle: Bundle, dataset: Dataset, users: int = 3, n: int = 5, seed: int = 0) -> str:
    """Some users of the test split: their history, what is recommended, what came next."""
    recommender = Recommender.load(bundle)
    cases = dataset.cases("test")
    long_enough = np.flatnonzero(cases.histories.lengths() >= 4)
    rows = np.random.default_rng(seed).choice(long_enough, min(users, len(long_enough)), False)
    parts = []
    for row in np.sort(rows):
        case = cases.select([row])
        history = [dataset.item_ids[i] for i in case.histories[0]]
        now = None if case.histories.now is None else float(case.histories.now[0])
        events = as_events(history, case.histories.times(0))
        found = recommender.recommend(events, n, now=now).recommendations
        target = dataset.item_ids[case.targets[0]]
        parts.append(_user(bundle, dataset.user_ids[case.users[0]], history, found, target))
    return "\n".join(parts)


def _user(
    bundle: Bundle, name: str, history: list[str], found: list[Recommendation], target: str
) -> str:
    title = dict(zip(bundle.item_ids, bundle.titles, strict=True))
    lines = [f"{name}", f"  history ({len(history)} items, newest last)"]
    lines += [f"    {title[item][:90]}" for item in history[-HISTORY_LINES:]]
    lines += ["  recommended"]
    for one in found:
        mark = "  <- what came next" if one.item_id == target else ""
        likely = "" if one.p_click is None else f"  {one.p_click:.1%}  {one.reason}"
        lines.append(f"    {one.rank}. {one.title[:60]}{likely}{mark}")
    if all(one.item_id != target for one in found):
        lines.append(f"  what came next: {title[target][:90]}")
    return "\n".join([*lines, ""])


def _line(one: Recommendation) -> str:
    if one.p_click is None:
        return f"{one.rank:3}  {one.score:9.3f}  {one.item_id:>14}  {one.title[:90]}"
    sources = ",".join(one.sources)
    start = f"{one.rank:3}  {one.p_click:7.2%}  {one.item_id:>14}  {one.title[:60]:60}"
    return f"{start}  {one.reason}  [{sources}]"


def _item_ids(words: Sequence[str], flag: str) -> list[str] | None:
    """The item ids of a flag, files read; None where it was not given.

    Raises:
        ConfigError: if a file is no text, or there are none.
    """
    ids: list[str] = []
    for word in words:
        if word.startswith("@"):
            try:
                lines = Path(word[1:]).read_text(encoding="utf-8").splitlines()
            except UnicodeDecodeError:
                raise ConfigError(f"{flag}: {word[1:]} is not UTF-8 text") from None
            ids += [line.strip() for line in lines if line.strip()]
        else:
            ids.append(word)
    if words and not ids:
        raise ConfigError(f"{flag}: names no item; give item ids, or @FILE with one a line")
    return ids or None


def _attributes(pairs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        name, is_pair, value = pair.partition("=")
        if not is_pair:
            raise ConfigError(f"--attributes: {pair!r} is not NAME=VALUE")
        found[name] = (*found.get(name, ()), value)
    return found

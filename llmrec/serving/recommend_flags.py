"""What ``llmrec recommend`` may be asked, as flags and as the arguments of a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.generation.beam_search import SearchOptions
from llmrec.serving.filters import CatalogFilter

IDS = "item ids separated by commas, or @FILE with one a line"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """All flags of the command."""
    _add_question(parser)
    _add_limits(parser.add_argument_group("what may be recommended"))
    _add_search(parser.add_argument_group("how the model searches"))


def _add_question(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path)
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--history", help="item ids, oldest first, separated by commas")
    asked.add_argument("--user", help="the person of --dataset whose history to take")
    parser.add_argument("--dataset", type=Path, help="folder of llmrec ingest that knows --user")
    parser.add_argument("--query", default="", help="what is wanted, in words")
    parser.add_argument("--candidates", metavar="IDS", help=f"rank these: {IDS}")
    parser.add_argument("--adapter", metavar="NAME", help="the adapter of the bundle that ranks")
    parser.add_argument("-n", type=int, help="how many items (10, or all --candidates)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--keep-history", action="store_true", help="may recommend seen items")
    group.add_argument("--exclude", metavar="IDS", help=f"not these: {IDS}")
    group.add_argument("--allow", metavar="IDS", help=f"only these: {IDS}")
    group.add_argument("--in-stock", action="store_true", help="only items in stock")
    for name in ("category", "brand", "domain"):
        group.add_argument(
            f"--{name}", action="append", default=[], metavar="NAME", help="may be repeated: any of"
        )
    group.add_argument("--price-min", type=float, metavar="PRICE")
    group.add_argument("--price-max", type=float, metavar="PRICE")


def _add_search(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--beams", type=int, default=50, help="beam width for semantic IDs")
    group.add_argument("--exact", action="store_true", help="as if all items had been scored")
    group.add_argument(
        "--normalise",
        choices=("level", "children"),
        default="children",
        help="probabilities add up to one over the codes that lead to an item, or over all",
    )
    group.add_argument("--temperature", type=float, default=1.0, help="divides the logits")
    group.add_argument("--groups", type=int, default=1, help="beams in so many groups")
    group.add_argument(
        "--diversity", type=float, default=0.0, help="price of what an earlier group has"
    )


def search_options(arguments: argparse.Namespace) -> SearchOptions:
    """How to search.

    Raises:
        ConfigError: if a value makes no sense.
    """
    return SearchOptions(
        beams=arguments.beams,
        normalise=arguments.normalise,
        temperature=arguments.temperature,
        groups=arguments.groups,
        diversity=arguments.diversity,
        exact=arguments.exact,
    )


def catalog_filter(arguments: argparse.Namespace) -> CatalogFilter:
    """What items must be like.

    Raises:
        ConfigError: if a value makes no sense.
    """
    return CatalogFilter(
        in_stock=True if arguments.in_stock else None,
        categories=tuple(arguments.category),
        brands=tuple(arguments.brand),
        price_min=arguments.price_min,
        price_max=arguments.price_max,
        domains=tuple(arguments.domain),
    )


def item_ids(text: str | None, flag: str) -> list[str] | None:
    """Item ids of a flag's value; None where the flag was not given.

    Raises:
        ConfigError: if there are none, or a file is no text.
    """
    if text is None:
        return None
    parts = text.split(",")
    if text.startswith("@"):
        try:
            parts = Path(text[1:]).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise ConfigError(f"{flag}: {text[1:]} is not UTF-8 text") from None
    ids = [part.strip() for part in parts if part.strip()]
    if not ids:
        raise ConfigError(f"{flag}: names no item; give {IDS}")
    return ids


def history(arguments: argparse.Namespace) -> tuple[list[str], list[float] | None]:
    """Item ids, oldest first, and when each happened where that is known.

    Raises:
        ConfigError: if it is not clear whose history is meant.
    """
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
    return [dataset.item_ids[i] for i in dataset.history(user)], listed(dataset.times(user))


def listed(times: np.ndarray | None) -> list[float] | None:
    """Times as a bundle takes them."""
    return None if times is None else times.tolist()

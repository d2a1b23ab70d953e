"""All that is fuzzed: inputs by name, and what must hold for each of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import fuzz_folders
import fuzz_impressions
import fuzz_ingest
import fuzz_recipes
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

Check = Callable[[Any, Path], None]


class Property(NamedTuple):
    """A kind of input.

    Attributes:
        inputs: plain values, each of which says how an input differs from a good one.
        check: raises what is wrong with one; it may write into an empty folder.
        examples: in a short look.
    """

    inputs: st.SearchStrategy[Any]
    check: Check
    examples: int


PROPERTIES = {
    "ingest: cells": Property(fuzz_ingest.CELLS, fuzz_ingest.check_cell, 25),
    "ingest: columns": Property(fuzz_ingest.COLUMNS, fuzz_ingest.check_column, 20),
    "ingest: bytes": Property(fuzz_ingest.BYTES, fuzz_ingest.check_bytes, 30),
    "ingest: published forms": Property(fuzz_ingest.FORMS, fuzz_ingest.check_form, 25),
    "impressions: cells": Property(fuzz_impressions.CELLS, fuzz_impressions.check_cell, 25),
    "impressions: bytes": Property(fuzz_impressions.BYTES, fuzz_impressions.check_bytes, 25),
    "recipes: settings": Property(fuzz_recipes.TREES, fuzz_recipes.check_tree, 15),
    "recipes: text": Property(fuzz_recipes.TEXTS, fuzz_recipes.check_text, 25),
    "manifests": Property(fuzz_folders.MANIFESTS, fuzz_folders.check_manifest, 25),
    "datasets": Property(fuzz_folders.FILES, fuzz_folders.check_dataset, 25),
    "bundles": Property(fuzz_folders.BUNDLES, fuzz_folders.check_bundle, 25),
    "bundles of others": Property(fuzz_folders.FORGERIES, fuzz_folders.check_forgery, 10),
    "jobs": Property(fuzz_folders.JOBS, fuzz_folders.check_job, 25),
}


def in_empty_folder(check: Check, value: Any) -> None:
    """Check one input."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        check(value, Path(folder))


def fuzz(one: Property, examples: int, number: int | None = None) -> int:
    """Check inputs of a kind.

    Args:
        examples: how many.
        number: seed of them; None: the same ones each time.

    Returns:
        how many were checked.

    Raises:
        Exception: the first that a check raises, for the smallest input that raises it.
    """
    tried = 0

    def attempt(value: Any) -> None:
        nonlocal tried
        tried += 1
        in_empty_folder(one.check, value)

    run = given(one.inputs)(attempt)
    run = run if number is None else seed(number)(run)
    settings(
        max_examples=examples,
        deadline=None,  # each check measures its own time
        database=None,
        derandomize=number is None,
        suppress_health_check=list(HealthCheck),
    )(run)()
    return tried

"""Inputs that broke something once, as (kind, value) of ``properties.py``."""

from typing import Any

FOUND: list[tuple[str, Any]] = [
    # the whole of a long cell stood in the message
    ("ingest: cells", (".tsv", "items", 5, 7, "x" * 20_000)),
    ("ingest: columns", ("items", 0, "deep")),
    ("impressions: cells", (("lists", ".jsonl"), 0, 3, "x" * 20_000)),
    ("impressions: bytes", (("rows", ".csv"), [("insert", 0.0, b"[" * 2000)])),
    # columns of other names, or of bytes that are no text
    ("datasets", (1, [("flip", 0.3125, 0)])),
    ("datasets", (1, [("flip", 0.375, 7)])),
    ("datasets", (1, [("flip", 0.375, 0)])),
    ("datasets", (3, [("flip", 0.28125, 0)])),
    ("impressions: bytes", (("lists", ".parquet"), [("overwrite", 0.33203125, b"\x80")])),
    ("impressions: bytes", (("rows", ".parquet"), [("flip", 0.375, 7)])),
    ("recipes: settings", [("replace", 0.47, ["x" * 20_000])]),
    # a count of another type
    ("manifests", (True, [("replace", 0.75, None)])),
    ("manifests", (True, [("replace", 0.0, "x" * 20_000)])),
    ("ingest: published forms", ("sequences", 0, [("overwrite", 0.0, b"[" * 2000)])),
    ("ingest: published forms", ("recbole", 0, [("overwrite", 0.0, b"[" * 2000)])),
    # numbers of another type in llmrec.json
    ("bundles of others", (10, "tree", [("wrap", 0.75, 1)])),
    ("bundles of others", (10, "tree", [("replace", 1.0, 7.0)])),
    ("bundles of others", (10, "tree", [("replace", 1.0, None)])),
    ("jobs", ("job.json", ("tree", [("replace", 0.0, "x" * 20_000)]))),
    # a time that is a text
    ("jobs", ("status.json", ("tree", [("replace", 0.6, "7.0")]))),
    # Arrow printed a traceback over a row that was too long and not UTF-8
    ("ingest: bytes", (".csv", "events", [("insert", 0.5, b",\xff\xfe,,,,,,,")])),
    # an error of transformers that is no ValueError
    ("bundles of others", (0, "tree", [("replace", 0.55, [[True]])])),
]

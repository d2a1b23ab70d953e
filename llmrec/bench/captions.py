"""``llmrec bench captions``: how often the closed fields of captions are right.

    llmrec bench captions --captions runs/shop/captions --truth data/media_truth.jsonl \\
        --out eval/results/captions-demo.json

A field's accuracy is over the held-out items for which the truth has it; no answer counts as wrong.
``floor_FIELD`` is what the most frequent true value alone would reach. Beside the result, a page of
the same name lists the most frequent mistakes.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmrec.bench.checks import result_file
from llmrec.captions.table import load_captions
from llmrec.captions.truth import read_truth
from llmrec.content.schema import Schema
from llmrec.data.item_lists import HELD_OUT
from llmrec.errors import CatalogError
from llmrec.metrics.bootstrap import intervals
from llmrec.metrics.results import write_result
from llmrec.stage import read_manifest

MISTAKES = 10  # that the page lists for a field


@dataclass(frozen=True)
class FieldScore:
    """One field over the items whose truth is known.

    Attributes:
        right: float ``[items]``, 1 where the answer is the truth.
        floor: share of the most frequent true value.
        mistakes: (true value, caption's value) and how often, most frequent first; None where the
            caption has none.
    """

    right: np.ndarray
    floor: float
    mistakes: list[tuple[tuple[str, str | None], int]]


def score_fields(
    captions: dict[str, dict[str, str | None]], truth: dict[str, dict[str, str]], schema: Schema
) -> dict[str, FieldScore]:
    """The fields for which any truth is known, by name.

    Args:
        captions: values by field, by item id.
        truth: the same, without fields that are not known.

    >>> from llmrec.content.schema import Field
    >>> schema = Schema({"colour": Field(["red", "blue"])})
    >>> truth = {"1": {"colour": "red"}, "2": {"colour": "red"}, "3": {"colour": "blue"}}
    >>> captions = {"1": {"colour": "red"}, "2": {"colour": "blue"}, "3": {"colour": "blue"}}
    >>> score_fields(captions, truth, schema)["colour"].mistakes
    [(('red', 'blue'), 1)]
    """
    scores = {}
    for name in schema.names:
        pairs = [(row[name], captions[item][name]) for item, row in truth.items() if name in row]
        if pairs:
            frequent = Counter(true for true, _ in pairs).most_common(1)[0][1]
            wrong = Counter(pair for pair in pairs if pair[0] != pair[1])
            scores[name] = FieldScore(
                right=np.array([float(true == answer) for true, answer in pairs]),
                floor=frequent / len(pairs),
                mistakes=wrong.most_common(MISTAKES),
            )
    return scores


def run(captions: Path, truth: Path, out: Path, *, split: str = HELD_OUT, seed: int = 0) -> Path:
    """Measure how often the closed fields of captions are right.

    Args:
        captions: folder of ``llmrec caption``.
        truth: what is true, see :mod:`llmrec.captions.truth`.
        out: result file; a page of the same name with ``.md`` is written beside it.
        split: of the truth; items of no other split count.
        seed: of the bootstrap.

    Raises:
        CatalogError: if a held-out item is not in the table.
        ConfigError: if ``out`` is not a ``.json`` file.
        DataError: for a truth file that cannot be used.
    """
    result_file(out)
    started = time.monotonic()
    table, schema = load_captions(captions)
    known = read_truth(truth, schema, split)
    values = {row["item_id"]: row for row in table.select(["item_id", *schema.names]).to_pylist()}
    missing = [item for item in known if item not in values]
    if missing:
        raise CatalogError(
            f"{captions}: {len(missing)} of the {len(known)} items of {truth} were not captioned, "
            f"such as {missing[0]!r}; caption them too"
        )
    scores = score_fields(values, known, schema)
    spans = {
        f"accuracy_{name}": intervals({name: score.right}, seed=seed)[name]
        for name, score in scores.items()
    }
    metrics = {f"accuracy_{name}": float(score.right.mean()) for name, score in scores.items()}
    metrics |= {f"floor_{name}": score.floor for name, score in scores.items()}
    manifest = read_manifest(captions)
    write_result(
        out,
        dataset=str(truth),
        split=split,
        model=str(manifest.config["model"]),
        metrics=metrics,
        intervals=spans,
        seed=seed,
        seconds=time.monotonic() - started,
        items=len(known),
        items_by_field={name: len(score.right) for name, score in scores.items()},
        model_hash=manifest.inputs["model"],
        engine=manifest.config["engine"],
        inputs=manifest.config["inputs"],
        captioning_seconds=manifest.seconds,
    )
    text = page(out.stem, scores, len(known), split)
    out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text, flush=True)
    return out


def page(
    name: str, scores: dict[str, FieldScore], items: int, split: str, what: str = "items"
) -> str:
    """The accuracies and most frequent mistakes as Markdown."""
    lines = [f"# {name}", "", f"{items} {what} of the split {split!r}.", ""]
    lines += [
        f"| field | {what} | accuracy | most frequent value alone |",
        "| --- | --- | --- | --- |",
    ]
    for field, score in scores.items():
        share = score.right.mean()
        lines.append(f"| {field} | {len(score.right)} | {share:.4f} | {score.floor:.4f} |")
    for field, score in scores.items():
        lines += ["", f"## {field}: most frequent mistakes", ""]
        if not score.mistakes:
            lines.append("None.")
            continue
        lines += ["| true | found | times |", "| --- | --- | --- |"]
        for (true, found), times in score.mistakes:
            lines.append(f"| {_cell(true)} | {_cell(found or '(no answer)')} | {times} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")

"""``llmrec bench intent``: how often the language model reads right what customers mean.

    llmrec bench intent runs/shop/intents --truth runs/shop/raw/talk_truth.jsonl \\
        --out eval/results/intent-demo.json

A field's accuracy is over the held-out texts for which the truth has it; no answer counts as wrong.
``floor_FIELD`` is what the most frequent true value alone would reach, ``whole`` the share of texts
with every field right.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from llmrec.bench.captions import page, score_fields
from llmrec.bench.checks import result_file
from llmrec.captions.intent.run import read_intents
from llmrec.captions.truth import read_truth
from llmrec.data.item_lists import HELD_OUT
from llmrec.errors import CatalogError
from llmrec.metrics.bootstrap import intervals
from llmrec.metrics.results import write_result
from llmrec.stage import read_manifest


def run(intents: Path, /, truth: Path, out: Path, *, split: str = HELD_OUT, seed: int = 0) -> Path:
    """Measure how often intents are right.

    Args:
        intents: folder of ``llmrec intent``.
        truth: table with ``text_id``, ``split`` and a column for each field that is known.
        out: result file; a page of the same name with ``.md`` is written beside it.
        split: of the truth; texts of no other one count.
        seed: of the bootstrap.

    Raises:
        CatalogError: if a text of the truth was not read.
        ConfigError: if ``out`` is not a ``.json`` file.
        DataError: for a truth file that cannot be used.
    """
    result_file(out)
    started = time.monotonic()
    found, schema = read_intents(intents)
    known = read_truth(truth, schema, split, key="text_id")
    missing = [name for name in known if name not in found]
    if missing:
        raise CatalogError(
            f"{intents}: {len(missing)} of the {len(known)} texts of {truth} were not read, "
            f"such as {missing[0]!r}; give the truth of these texts"
        )
    answers = {name: {field: found[name].get(field) for field in schema.names} for name in known}
    scores = score_fields(answers, known, schema)
    right = {f"accuracy_{name}": score.right for name, score in scores.items()}
    right["whole"] = np.array(
        [float(all(answers[name][f] == v for f, v in row.items())) for name, row in known.items()]
    )
    metrics = {name: float(values.mean()) for name, values in right.items()}
    metrics |= {f"floor_{name}": score.floor for name, score in scores.items()}
    manifest = read_manifest(intents)
    write_result(
        out,
        dataset=str(truth),
        split=split,
        model=str(manifest.config["model"]),
        metrics=metrics,
        intervals=intervals(right, seed=seed),
        seed=seed,
        seconds=time.monotonic() - started,
        texts=len(known),
        adapter="adapter" in manifest.inputs,
        reading_seconds=manifest.seconds,
    )
    text = page(out.stem, scores, len(known), split, what="texts")
    out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text, flush=True)
    return out

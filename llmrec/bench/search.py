"""``llmrec bench search``: do words find the right picture, and a picture the right words?

    llmrec bench search --dataset runs/shop/dataset --media runs/shop/media_features \\
        --truth raw/media_truth.jsonl --out eval/results/search-demo.json

Only held-out items of the demo shop take part, those with a picture. Both ways are exact searches
through :class:`~llmrec.content.search.searcher.SearchIndex` and its model:

* text to image: every combination of category, colour and pattern among these items is a query
  once; an answer is right when it has all three;
* image to text: every picture is compared with the texts of these combinations; right is its own.

Beside each figure stands what drawing at random would give.
"""

from __future__ import annotations

import string
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from llmrec.bench.checks import result_file
from llmrec.bench.report import print_metrics
from llmrec.content.features.image_encoder import open_same_model
from llmrec.content.features.media import load_media_features
from llmrec.content.search.build import read_items, read_media_manifest
from llmrec.content.search.nearest import build_index, nearest
from llmrec.content.search.searcher import SearchIndex
from llmrec.data.item_lists import read_labels
from llmrec.errors import ArtifactError, ConfigError, DataError
from llmrec.metrics.bootstrap import intervals
from llmrec.metrics.results import write_result

ATTRIBUTES = ("category", "colour", "pattern")
TEMPLATE = "{colour} {pattern} {category}"
SPLIT = "held_out"
_AT = (1, 5)
Combination = tuple[str, ...]


@dataclass(frozen=True)
class HeldOut:
    """The pictures that are searched.

    Attributes:
        items: table with ``item_id``, ``title`` and ``image``.
        vectors: float32 ``[n, dim]``, of the pictures.
        labels: the combination that each picture shows, in the order of ``ATTRIBUTES``.
        missing: held-out items that the dataset does not hold, or without a vector.
    """

    items: pa.Table
    vectors: np.ndarray
    labels: list[Combination]
    missing: int

    @property
    def combinations(self) -> list[Combination]:
        """Each that is shown, once, sorted."""
        return sorted(set(self.labels))


def read_held_out(dataset: Path, media: Path, truth: Path) -> HeldOut:
    """Join the truth with the pictures' vectors.

    Raises:
        DataError: if the truth is damaged or leaves nothing to measure on.
        ArtifactError: if there are no vectors of pictures.
    """
    blocks = load_media_features(media)
    if "image" not in blocks:
        raise ArtifactError(f"{media}: has no vectors of pictures; embed media with images")
    table = read_items(dataset / "items.parquet")
    rows = {item_id: row for row, item_id in enumerate(table["item_id"].to_pylist())}
    held = [row for row in read_labels(truth) if row.get("split") == SPLIT]
    for row in held:
        if not all(isinstance(row.get(name), str) for name in ATTRIBUTES):
            raise DataError(f"{truth}: {row['item_id']}: needs texts for {', '.join(ATTRIBUTES)}")
    found = [row for row in held if row["item_id"] in rows]
    there = [row for row in found if blocks["image_present"][rows[row["item_id"]]]]
    if not there:
        raise DataError(f"{truth}: no item of split {SPLIT!r} has a picture in {media}")
    chosen = [rows[row["item_id"]] for row in there]
    labels = [tuple(row[name] for name in ATTRIBUTES) for row in there]
    return HeldOut(table.take(chosen), blocks["image"][chosen], labels, len(held) - len(there))


def text_to_image(index: SearchIndex, held: HeldOut, texts: list[str]) -> dict[str, np.ndarray]:
    """Search for every combination.

    Args:
        index: over the held-out pictures, in their order.
        texts: one a combination.

    Returns:
        Metric name to float64 ``[combinations]``, 0 or 1: ``hit@1``, ``hit@5`` (one of the first
        five is right) and, of the first answer, ``category@1`` and so on; ``chance@1``, the share
        of pictures that are right.
    """
    rows, _ = nearest(index.index, index.embed_text(texts), max(_AT))
    labels = np.array(held.labels)
    wanted = np.array(held.combinations)
    return _hits(labels[rows], wanted) | {
        "chance@1": (labels[None] == wanted[:, None]).all(axis=2).mean(axis=1)
    }


def image_to_text(index: SearchIndex, held: HeldOut, texts: list[str]) -> dict[str, np.ndarray]:
    """Name every picture; returns as :func:`text_to_image`, float64 ``[pictures]``."""
    words = build_index(index.embed_text(texts), "flat")
    rows, _ = nearest(words, held.vectors, max(_AT))
    hits = _hits(np.array(held.combinations)[rows], np.array(held.labels))
    return hits | {"chance@1": np.full(len(held.labels), 1 / len(texts))}


def _hits(answers: np.ndarray, wanted: np.ndarray) -> dict[str, np.ndarray]:
    """Compare ranked combinations ``[queries, k, attributes]`` with those wanted."""
    same = answers == wanted[:, None]
    right = same.all(axis=2)
    hits = {f"hit@{k}": right[:, :k].any(axis=1).astype(np.float64) for k in _AT}
    first = {
        f"{name}@1": same[:, 0, place].astype(np.float64) for place, name in enumerate(ATTRIBUTES)
    }
    return hits | first


def render(template: str, combinations: list[Combination]) -> list[str]:
    """The words of each combination.

    Raises:
        ConfigError: if the template names anything but the attributes, or not all of them.

    >>> render("a {colour} {category}, {pattern}", [("mug", "red", "plain")])
    ['a red mug, plain']
    """
    try:
        named = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise ConfigError(f"--template: {template!r} is no template ({error})") from None
    if named != set(ATTRIBUTES):
        wanted = ", ".join(f"{{{name}}}" for name in ATTRIBUTES)
        raise ConfigError(f"--template: {template!r} must name {wanted} and nothing else")
    return [
        template.format(**dict(zip(ATTRIBUTES, values, strict=True))) for values in combinations
    ]


def run(
    dataset: Path,
    media: Path,
    truth: Path,
    out: Path,
    *,
    template: str = TEMPLATE,
    image_model: str | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Path:
    """Measure whether words find the right picture, and a picture the right words.

    Args:
        dataset: folder of ``llmrec ingest``.
        media: folder of ``llmrec embed media``.
        truth: media_truth.jsonl of ``llmrec data demo --media``.
        out: the result file, NAME.json.
        template: the words of a query; best worded as the model's training texts.
        image_model: where the image model of ``media`` is now; None for where it was.
        device: auto, cpu, cuda, cuda:1, ...
        seed: of the bootstrap.

    Raises:
        ArtifactError, ConfigError, DataError: if an input is wrong, before anything is written.
    """
    result_file(out)
    started = time.monotonic()
    made = read_media_manifest(media, dataset)
    held = read_held_out(dataset, media, truth)
    texts = render(template, held.combinations)
    model = image_model or made.config["image_model"]
    encoder = open_same_model(model, made.inputs["image_model"], media, device)
    index = SearchIndex(build_index(held.vectors, "flat"), held.items, lambda: encoder)
    metrics: dict[str, float] = {}
    spans: dict[str, list[float]] = {}
    for way, measure in (("text_to_image", text_to_image), ("image_to_text", image_to_text)):
        values = {f"{way}_{name}": v for name, v in measure(index, held, texts).items()}
        metrics |= {name: float(v.mean()) for name, v in values.items()}
        spans |= intervals({n: v for n, v in values.items() if "chance" not in n}, seed=seed)
    print(f"{len(texts)} queries, {len(held.labels)} pictures")
    print_metrics(metrics, spans)
    write_result(
        out,
        dataset=str(dataset),
        split=SPLIT,
        model=model,
        metrics=metrics,
        intervals=spans,
        seed=seed,
        seconds=time.monotonic() - started,
        queries=len(texts),
        pictures=len(held.labels),
        held_out_without_picture=held.missing,
        template=template,
        image_model_hash=made.inputs["image_model"],
    )
    print(f"wrote {out}", flush=True)
    return out

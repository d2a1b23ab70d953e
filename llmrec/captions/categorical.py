"""``llmrec embed captions``: captions -> integers that a click model embeds.

    llmrec embed captions --captions runs/shop/captions --out runs/shop/caption_features
    llmrec embed captions --captions NEW --vocabulary runs/shop/caption_features --out NEWER

Follows arXiv 2605.09338, which feeds a multimodal LLaMA's descriptions of an item to the ranking
model as tokenized categorical features. The folder holds

* ``features.safetensors``: ``field.NAME`` int32 ``[n_items]`` for every closed field;
  ``tokens.ids`` int32 ``[total]`` and ``tokens.offsets`` int64 ``[n_items + 1]``, the distinct
  words of caption and key terms, laid out as ``torch.nn.EmbeddingBag(include_last_offset=True)``
  takes them;
* ``vocabulary.json``: which id stands for which value; see
  :mod:`~llmrec.captions.categorical_vocabulary`.

Words that are rare share hash buckets; values of closed fields always have an id of their own.
With ``--vocabulary``, ids of an earlier run stay and new values come after them; a word of the tail
that has become frequent gets an id of its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from llmrec.captions.categorical_vocabulary import (
    TOKENS,
    CaptionVocabulary,
    FeatureIds,
    count_rows,
)
from llmrec.captions.table import CaptionTable
from llmrec.config import as_dict, check_ranges
from llmrec.errors import ConfigError
from llmrec.stage import Manifest, StageRun, input_hashes, read_manifest, reading, run_stage

STAGE = "embed-captions"
FEATURES, VOCABULARY = "features.safetensors", "vocabulary.json"
BUCKETS = 256


@dataclass(frozen=True)
class CategoricalConfig:
    """Settings of ``llmrec embed captions``.

    Attributes:
        summary: whether the summary's words count too. None: no, or as in the earlier vocabulary.
        min_count: a word on fewer items than this is of the tail.
        max_values: words with an id of their own, at most.
        hash_buckets: ids that the words of the tail share; 0 makes them one, "unknown". None: 256,
            or those of the earlier vocabulary.
        hash_seed: of the hash; None: 0, or that of the earlier vocabulary.
    """

    summary: bool | None = None
    min_count: int = 2
    max_values: int = 50_000
    hash_buckets: int | None = None
    hash_seed: int | None = None

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "min_count", "max_values")
        for name, most in (("hash_buckets", 2**30), ("hash_seed", 2**63)):
            value = getattr(self, name)
            if value is not None and not 0 <= value < most:
                raise ConfigError(f"{name}: must be 0 or more and less than {most:,}, got {value}")


@dataclass(frozen=True, eq=False)
class CategoricalFeatures:
    """The stage's output.

    Attributes:
        vocabulary: which id stands for which value; its ``sizes`` are those of the embeddings.
        fields: int32 ``[n_items]`` by the field's name.
        token_ids: int32 ``[total]``, item after item.
        token_offsets: int64 ``[n_items + 1]``, where each item's ids begin.
    """

    vocabulary: CaptionVocabulary
    fields: dict[str, np.ndarray]
    token_ids: np.ndarray
    token_offsets: np.ndarray

    @property
    def n_items(self) -> int:
        return len(self.token_offsets) - 1

    @property
    def sizes(self) -> dict[str, int]:
        """Ids of each feature: ``tokens``, and the fields by name."""
        return self.vocabulary.sizes

    def tokens(self, item: int) -> np.ndarray:
        """The ids of one item's words, int32, ascending."""
        start, end = self.token_offsets[item : item + 2]
        return self.token_ids[start:end]


def load_categorical(folder: str | Path) -> CategoricalFeatures:
    """Read a finished ``embed captions`` stage.

    Raises:
        ArtifactError: if the folder is missing, damaged or of another stage.
    """
    vocabulary = _load_vocabulary(folder)
    path = Path(folder) / FEATURES
    with reading(path, "llmrec embed captions"):
        arrays = load_file(path)
        fields = {name: arrays[f"field.{name}"] for name in vocabulary.fields}
        ids, offsets = arrays[f"{TOKENS}.ids"], arrays[f"{TOKENS}.offsets"]
    return CategoricalFeatures(vocabulary, fields, ids, offsets)


def run(
    config: CategoricalConfig,
    captions: Path,
    out: Path,
    *,
    vocabulary: Path | None = None,
) -> Path:
    """Tokenize the captions of every item into the folder ``out``.

    Args:
        config: settings.
        captions: folder of ``llmrec caption``.
        out: folder to write.
        vocabulary: folder of an earlier run of this stage, whose ids stay.

    Raises:
        ArtifactError: if a folder is missing, damaged, of another stage or a newer version.
        CatalogError: if there are no items.
        ConfigError: if a setting would move the ids of ``vocabulary``.
    """
    table = CaptionTable.open(captions)
    earlier = None if vocabulary is None else _load_vocabulary(vocabulary)
    start = _start(config, earlier, table.schema.names)
    settings = as_dict(config) | {"hash_buckets": start.tokens.buckets}
    settings |= {"hash_seed": start.tokens.seed, "summary": start.summary}
    settings["fields"] = list(start.fields)
    known = None if vocabulary is None else vocabulary / VOCABULARY
    inputs = input_hashes(captions=captions, vocabulary=known)

    def work(stage: StageRun) -> None:
        _embed(stage, config, table, start)
        print(_summary(stage.counts))

    return run_stage(out, Manifest(STAGE, settings, inputs), work)


def _load_vocabulary(folder: str | Path) -> CaptionVocabulary:
    read_manifest(folder, STAGE)
    return CaptionVocabulary.load(Path(folder) / VOCABULARY)


def _start(
    config: CategoricalConfig, earlier: CaptionVocabulary | None, fields: list[str]
) -> CaptionVocabulary:
    """The vocabulary before the items are read: that of the earlier run, or an empty one."""
    known = {} if earlier is None else dict(earlier.fields)
    known |= {name: FeatureIds() for name in fields if name not in known}
    if earlier is None:
        buckets = BUCKETS if config.hash_buckets is None else config.hash_buckets
        tokens = FeatureIds((), buckets, config.hash_seed or 0)
        return CaptionVocabulary(known, tokens, bool(config.summary))
    kept = {
        "hash_buckets": (config.hash_buckets, earlier.tokens.buckets),
        "hash_seed": (config.hash_seed, earlier.tokens.seed),
        "summary": (config.summary, earlier.summary),
    }
    for name, (wanted, had) in kept.items():
        if wanted is not None and wanted != had:
            raise ConfigError(
                f"{name}: the earlier vocabulary was made with {had}; another value would change "
                "what its ids mean: keep it, or do without --vocabulary"
            )
    return CaptionVocabulary(known, earlier.tokens, earlier.summary)


def _embed(
    stage: StageRun, config: CategoricalConfig, table: CaptionTable, start: CaptionVocabulary
) -> None:
    names = [f"field.{name}" for name in start.fields]
    counts: dict[str, Counter[str]] = {name: Counter() for name in (*names, TOKENS)}
    for rows in table.batches("count"):
        count_rows(rows, table.schema.names, start.summary, counts)
    for name in table.schema.names:  # every value has an id, though no item has it yet
        counts[f"field.{name}"].update(dict.fromkeys(table.schema.values(name), 0))
    fields = {n: ids.grown(counts[f"field.{n}"], 0) for n, ids in start.fields.items()}
    tokens = start.tokens.grown(counts[TOKENS], config.min_count, config.max_values)
    vocabulary = CaptionVocabulary(fields, tokens, start.summary)
    save_file(_encoded(table, vocabulary), stage.folder / FEATURES)
    vocabulary.save(stage.folder / VOCABULARY)
    stage.counts.update(
        items=table.n_items,
        sizes=vocabulary.sizes,
        words=len(counts[TOKENS]),
        words_with_id=len(tokens.values),
        new_words=len(tokens.values) - len(start.tokens.values),
    )


def _encoded(table: CaptionTable, vocabulary: CaptionVocabulary) -> dict[str, np.ndarray]:
    columns = {n: np.zeros(table.n_items, np.int32) for n in vocabulary.fields}
    offsets = np.zeros(table.n_items + 1, np.int64)
    bags: list[np.ndarray] = []
    item = 0
    for rows in table.batches("encode"):
        flat: list[int] = []
        for row in rows:
            fields, tokens = vocabulary.encode(row)
            for name, value in fields.items():
                columns[name][item] = value
            flat += tokens
            item += 1
            offsets[item] = offsets[item - 1] + len(tokens)
        bags.append(np.array(flat, np.int32))
    ids = np.concatenate(bags)
    arrays = {f"field.{name}": column for name, column in columns.items()}
    return arrays | {f"{TOKENS}.ids": ids, f"{TOKENS}.offsets": offsets}


def _summary(counts: dict[str, Any]) -> str:
    """The outcome in one line."""
    sizes = ", ".join(f"{name} {size:,}" for name, size in counts["sizes"].items())
    return (
        f"{STAGE}: {counts['items']:,} items, {counts['words']:,} words of which "
        f"{counts['words_with_id']:,} have an id of their own ({counts['new_words']:,} new); "
        f"ids: {sizes}"
    )

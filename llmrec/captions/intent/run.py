"""``llmrec intent``: queries, reviews and talks with the service -> what customers mean.

    llmrec intent talk.jsonl --dataset runs/shop/dataset --out runs/shop/intents
    llmrec intent examples talk.jsonl --truth talk_truth.jsonl --dataset DIR --out own.jsonl

The texts are rows of a table (:mod:`llmrec.captions.intent.texts`), written or spoken. The result
holds

* ``intents.jsonl``: a row a text: ``text_id``, ``kind``, ``user_id``, ``timestamp``, ``fields``,
  ``probabilities``, ``where`` (filters of a search, from fields that the catalogue has too), and
  ``text`` where it was spoken;
* ``users.csv``: what each customer said up to ``--until``, a value a field, for ``ingest: {users:
  users.csv, user_columns: {for_whom: for_whom, ...}}``, from where the click model has it;
* ``schema.json`` and ``skipped.jsonl``.

``intent examples`` writes texts whose meaning is known as chat examples for ``llmrec tune``
(``tasks: {instructions: 1}``): the adapter then reads them better than the model alone.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llmrec.captions.intent.texts import CustomerText, prompt_of, read_texts, transcriber
from llmrec.captions.truth import read_truth
from llmrec.config import as_dict, check_ranges
from llmrec.content.features.models import weights_hash
from llmrec.content.schema import CATALOGUE, Schema, load_resolved, load_schema, save_resolved
from llmrec.data import raw_files
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError, DataError
from llmrec.files import write_whole
from llmrec.jsonl import read_jsonl, write_jsonl
from llmrec.stage import Manifest, StageRun, input_hashes, read_manifest, reading, run_stage
from llmrec.weights.locate import locate

STAGE = "intent"
INTENTS, USERS, SCHEMA, SKIPPED = "intents.jsonl", "users.csv", "schema.json", "skipped.jsonl"
SAYS_NOTHING = ("not said", "none")


@dataclass(frozen=True)
class IntentConfig:
    """Settings of ``llmrec intent``.

    Attributes:
        model: folder, hub id or short name of a chat model.
        schema: name or YAML file of the fields.
        speech_model: a Whisper, for rows with a recording.
        until: seconds since 1970 UTC; later texts tell nothing of a user. None: all texts count.
        batch_size: texts that are read at once.
        precision: of the language model; bfloat16 is nearly twice as fast on a processor with units
            for it.
        device: auto, cpu, cuda, cuda:1, ...
    """

    model: str = "smollm2-135m"
    schema: str = "intent"
    speech_model: str | None = None
    until: float | None = None
    batch_size: int = 16
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "batch_size")


def run(
    texts: Path,
    /,
    config: IntentConfig,
    out: Path,
    *,
    dataset: Path | None = None,
    adapter: Path | None = None,
    media_root: Path | None = None,
) -> Path:
    """Read what customers mean into closed fields.

    Args:
        texts: table of texts and recordings.
        config: settings.
        out: folder to write.
        dataset: folder of ``llmrec ingest``, where values of fields come from its catalogue.
        adapter: folder of a LoRA adapter of the model.
        media_root: where paths of recordings start; by default beside the table.

    Raises:
        ConfigError, DataError: for a setting or a row that cannot be used.
        ArtifactError: if the model cannot be loaded.
    """
    schema = resolved_schema(config.schema, dataset)
    inputs = input_hashes(dataset=dataset) | raw_files.input_hashes("texts", texts)
    inputs["model"] = weights_hash(locate(config.model, "language model", "model"))
    if adapter is not None:
        inputs["adapter"] = weights_hash(str(adapter))
    settings = as_dict(config) | {"fields": schema.names}
    del settings["batch_size"], settings["device"]  # they change how fast it is, nothing else

    def work(stage: StageRun) -> None:
        from llmrec.captions.intent.reader import IntentReader

        transcribe = None
        if config.speech_model is not None:
            root = media_root or texts.parent
            transcribe = transcriber(config.speech_model, root, config.device)
        kept, skipped = usable_texts(texts, transcribe)
        reader = IntentReader(
            config.model,
            schema,
            adapter,
            device=config.device,
            batch_size=config.batch_size,
            precision=config.precision,
        )
        found = reader.read(
            kept, lambda done, of: print(f"{STAGE}: {done:,} of {of:,} different texts", flush=True)
        )
        rows = [intent_row(*pair, schema) for pair in zip(kept, found, strict=True)]
        write_jsonl(stage.folder / INTENTS, rows)
        users = users_of(rows, schema, config.until)
        write_users(stage.folder / USERS, users, schema)
        save_resolved(schema, stage.folder / SCHEMA)
        write_jsonl(
            stage.folder / SKIPPED, ({"text_id": name, "reason": why} for name, why in skipped)
        )
        stage.counts |= {"texts": len(rows), "skipped": len(skipped), "users": len(users)}

    return run_stage(out, Manifest(STAGE, settings, inputs), work)


def examples(
    texts: Path,
    /,
    truth: Path,
    out: Path,
    *,
    dataset: Path | None = None,
    schema: str = "intent",
    split: str | None = "train",
) -> Path:
    """Write texts whose meaning is known as chat examples for ``llmrec tune``.

    Args:
        texts: table of texts.
        truth: table with ``text_id``, a column for each field, and ``split``.
        out: the ``.jsonl`` file to write.
        dataset: folder of ``llmrec ingest``, where values of fields come from its catalogue.
        schema: name or YAML file of the fields.
        split: of the truth; texts of no other one become examples.

    Raises:
        ConfigError, DataError: for a file that cannot be used, or where no text has all fields.
    """
    if out.suffix != ".jsonl":
        raise ConfigError(f"--out: {out} must end in .jsonl")
    fields = resolved_schema(schema, dataset)
    known = read_truth(truth, fields, split, key="text_id")
    rows = []
    for text in usable_texts(texts, None)[0]:
        meant = known.get(text.text_id, {})
        if all(meant.get(name) in fields.values(name) for name in fields.names):
            answer = json.dumps({name: meant[name] for name in fields.names}, ensure_ascii=False)
            asked = {"role": "user", "content": prompt_of(text, fields)}
            rows.append({"messages": [asked, {"role": "assistant", "content": answer}]})
    if not rows:
        raise DataError(f"{truth}: no text of {texts} has all of {', '.join(fields.names)}")
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, lines)
    print(f"{STAGE}: wrote {len(rows):,} examples to {out}")
    return out


def resolved_schema(name: str, dataset: Path | None) -> Schema:
    """The fields with all their values.

    Raises:
        ConfigError: if they come from a catalogue and none is given.
    """
    schema = load_schema(name)
    if dataset is not None:
        return schema.resolved(Dataset(dataset))
    lacking = [name for name, spec in schema.fields.items() if spec.values == CATALOGUE]
    if lacking:
        raise ConfigError(f"--dataset: needed for the values of the field {lacking[0]!r}")
    return schema


def usable_texts(
    path: Path, transcribe: Callable[[str], str] | None
) -> tuple[list[CustomerText], list[tuple[str, str]]]:
    """The texts of a table, and name and reason of those that cannot be used.

    Raises:
        DataError: if there is none.
    """
    kept: list[CustomerText] = []
    skipped: list[tuple[str, str]] = []
    for found in read_texts(path, transcribe):
        if isinstance(found, CustomerText):
            kept.append(found)
        else:
            skipped.append(found)
    if not kept:
        raise DataError(
            f"{path}: has no text that can be used; give it a column `text`, or `audio`"
        )
    return kept, skipped


def intent_row(text: CustomerText, intent: Any, schema: Schema) -> dict[str, Any]:
    """A row of ``intents.jsonl``."""
    row = {name: getattr(text, name) for name in ("text_id", "kind", "user_id", "timestamp")}
    if text.transcribed:
        row["text"] = text.text
    probabilities = {name: round(p, 6) for name, p in intent.probabilities.items()}
    row |= {"fields": intent.fields, "probabilities": probabilities}
    return row | {"where": hints(intent.fields, schema)}


def hints(fields: Mapping[str, str], schema: Schema) -> dict[str, Any]:
    """What a search may filter by: the fields that the catalogue has, under its own names.

    >>> from llmrec.content.schema import Field
    >>> schema = Schema({"need": Field(["Tops"], "categories.0"), "occasion": Field(["party"])})
    >>> hints({"need": "Tops", "occasion": "party"}, schema)
    {'categories': ['Tops'], 'attributes': {'occasion': ['party']}}
    """
    where: dict[str, Any] = {}
    for name, value in fields.items():
        source = schema.fields[name].source or f"attributes.{name}"
        if value in SAYS_NOTHING or source == "price":
            continue
        column, _, attribute = source.partition(".")
        if column == "attributes":
            where.setdefault("attributes", {})[attribute] = [value]
        else:
            where[column] = [value]
    return where


def users_of(
    rows: Iterable[Mapping[str, Any]], schema: Schema, until: float | None
) -> dict[str, dict[str, str]]:
    """By user, the value of each field with the greatest sum of probabilities.

    Args:
        until: texts after it do not count, nor do those without a time where it is given.
    """
    weights: dict[str, dict[str, dict[str, float]]] = defaultdict(
        lambda: {name: defaultdict(float) for name in schema.names}
    )
    for row in rows:
        late = until is not None and (row["timestamp"] is None or row["timestamp"] > until)
        if not row["user_id"] or late:
            continue
        for name, value in row["fields"].items():
            if value not in SAYS_NOTHING:
                weights[row["user_id"]][name][value] += row["probabilities"].get(name, 0.0)
    return {
        user: {name: max(found, key=found.__getitem__) for name, found in fields.items() if found}
        for user, fields in sorted(weights.items())
    }


def write_users(path: Path, users: Mapping[str, Mapping[str, str]], schema: Schema) -> None:
    """Write ``users.csv``; an empty cell is not known."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", *schema.names])
        for user, fields in users.items():
            writer.writerow([user, *(fields.get(name, "") for name in schema.names)])


def read_intents(folder: Path) -> tuple[dict[str, dict[str, str]], Schema]:
    """The fields of a finished folder by text, and its schema.

    Raises:
        ArtifactError: if it is missing, damaged or of another stage.
    """
    read_manifest(folder, STAGE)
    with reading(folder / INTENTS, "llmrec intent"):
        rows = {row["text_id"]: row["fields"] for row in read_jsonl(folder / INTENTS)}
    return rows, load_resolved(folder / SCHEMA)

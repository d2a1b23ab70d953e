"""The closed vocabulary of captions: which fields an item has and which values each may take.

    schema = load_schema("shop").resolved(dataset)
    schema.json_schema()          # what decoding is constrained to
    schema.known(item)            # the fields that the catalogue has, {field: value}

A schema is a YAML file (``prompts/schema/shop.yaml`` explains its keys). Values that come from the
catalogue and the limits of price bands are settled once, by :meth:`Schema.resolved`, and kept with
what was written.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.config import build, check_ranges, load_yaml
from llmrec.data.dataset import Dataset
from llmrec.errors import ArtifactError, ConfigError
from llmrec.jsonl import read_json
from llmrec.prompts import templates_folder
from llmrec.types import Item

CATALOGUE = "catalogue"
MAX_VALUES = 512
_COLUMNS = ("brand", "domain", "categories", "price")
_PLACE = re.compile(r"categories\.(\d+)")
# other columns of the table of captions, which a field cannot be called
_TAKEN = ("item_id", "caption", "key_terms", "summary", "wanted_by", "prompt_hash")


@dataclass(frozen=True)
class Field:
    """One field.

    Attributes:
        values: what it may be; ``catalogue`` until resolved when they come from there.
        source: where the catalogue has it; empty for ``attributes.`` and the field's name. Of the
            categories ``categories`` is the last, ``categories.0`` the first and so on.
        max_values: of those of the catalogue, so many are kept, the most frequent first.
        limits: for a source ``price``, the prices between bands, one fewer than ``values``.
    """

    values: list[str] | str
    source: str = ""
    max_values: int = MAX_VALUES
    limits: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.values, str):
            if self.values != CATALOGUE:
                raise ConfigError(f"values: a list, or the word {CATALOGUE}; got {self.values!r}")
            if self.source == "price":
                raise ConfigError("values: price bands need a list of names, lowest first")
        elif not self.values or any(not value.strip() for value in self.values):
            raise ConfigError("values: has none, or an empty one; list what the field may be")
        elif len(set(self.values)) != len(self.values):
            twice = [value for value, n in Counter(self.values).items() if n > 1]
            raise ConfigError(f"values: {twice[0]!r} is listed twice")
        if self.limits and (self.source != "price" or len(self.limits) != len(self.values) - 1):
            raise ConfigError("limits: limits are the prices between bands, one fewer than values")
        check_ranges(self, "[1, inf)", "max_values")
        if (
            self.source
            and self.source not in _COLUMNS
            and not self.source.startswith("attributes.")
            and not _PLACE.fullmatch(self.source)
        ):
            raise ConfigError(
                f"source: {self.source!r} is not one of attributes.NAME, {', '.join(_COLUMNS)}, "
                "categories.NUMBER"
            )


@dataclass(frozen=True)
class Schema:
    """Fields by name, in the order in which they are written.

    Raises:
        ConfigError: if there are no fields, or one has a name that cannot be a column of its own.
    """

    fields: dict[str, Field] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.fields:
            raise ConfigError("fields: a schema needs at least one")
        for name in self.fields:
            if not name.strip():
                raise ConfigError("fields: a field has no name")
            if name in _TAKEN or name.startswith("p_"):
                raise ConfigError(
                    f"fields: {name!r} is a column of every table of captions, or would be taken "
                    "for a probability; call the field something else"
                )

    @property
    def names(self) -> list[str]:
        """The fields, in order."""
        return list(self.fields)

    def values(self, name: str) -> list[str]:
        """What a field may be.

        Raises:
            ConfigError: before the catalogue's values are known.
        """
        values = self.fields[name].values
        if isinstance(values, str):
            raise ConfigError(f"schema: the values of {name!r} are not resolved from a catalogue")
        return values

    def resolved(self, dataset: Dataset) -> Schema:
        """The same with every list of values and every price limit settled.

        Raises:
            ConfigError: if a field is left without values.
        """
        fields = {}
        for name, spec in self.fields.items():
            if spec.values == CATALOGUE:
                spec = replace(spec, values=_frequent(name, spec, dataset))
            elif spec.source == "price" and not spec.limits:
                spec = replace(spec, limits=_price_limits(name, len(spec.values), dataset))
            fields[name] = spec
        return Schema(fields)

    def known(self, item: Item) -> dict[str, str]:
        """The fields that the catalogue itself has, with a value of the vocabulary each."""
        known = {name: _known(name, spec, item) for name, spec in self.fields.items()}
        return {name: value for name, value in known.items() if value is not None}

    def json_schema(self) -> dict[str, Any]:
        """A JSON schema that admits one value of every field, in order, and nothing else."""
        return {
            "type": "object",
            "properties": {name: {"enum": self.values(name)} for name in self.names},
            "required": self.names,
            "additionalProperties": False,
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values of a resolved schema, for JSON."""
        return {
            name: {"values": spec.values, "source": spec.source, "limits": list(spec.limits)}
            for name, spec in self.fields.items()
        }


def load_schema(name: str | Path) -> Schema:
    """A schema by the name of one that comes with llmrec, or by the path of a YAML file.

    Raises:
        ConfigError: if there is none, or it is malformed; the message names file and field.
    """
    text = str(name)
    path = Path(text)
    if not text.endswith((".yaml", ".yml")):
        path = templates_folder() / "schema" / f"{text}.yaml"
        if not path.is_file():
            known = sorted(p.stem for p in path.parent.glob("*.yaml"))
            raise ConfigError(
                f"schema {text!r}: no such schema; give a .yaml file or one of {', '.join(known)}"
            )
    return build(Schema, load_yaml(path), str(path))


def load_resolved(path: str | Path) -> Schema:
    """The resolved schema that a stage wrote as JSON, from :meth:`Schema.as_dict`.

    Raises:
        ArtifactError: if the file is missing, damaged or something else.
    """
    try:
        fields = read_json(Path(path))
        return build(Schema, {"fields": fields}, Path(path).name)
    except (OSError, ValueError, ConfigError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from None


def save_resolved(schema: Schema, path: Path) -> None:
    """Write a resolved schema as JSON."""
    text = json.dumps(schema.as_dict(), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _source(name: str, spec: Field) -> str:
    return spec.source or f"attributes.{name}"


def _source_value(source: str, item: Item) -> str | None:
    """The catalogue's value, as text; None where it has none."""
    if source.startswith("attributes."):
        return item.attributes.get(source.removeprefix("attributes.")) or None
    if source == "categories":
        return item.categories[-1] if item.categories else None
    if place := _PLACE.fullmatch(source):
        number = int(place[1])
        return item.categories[number] if number < len(item.categories) else None
    return getattr(item, source) or None


def _known(name: str, spec: Field, item: Item) -> str | None:
    source = _source(name, spec)
    if source == "price":
        if item.price is None or not spec.limits:
            return None
        return spec.values[int(np.searchsorted(spec.limits, item.price, side="right"))]
    value = _source_value(source, item)
    return value if value in spec.values else None


def _frequent(name: str, spec: Field, dataset: Dataset) -> list[str]:
    source = _source(name, spec)
    found = (_source_value(source, dataset.item(row)) for row in range(dataset.n_items))
    counts = Counter(value for value in found if value is not None)
    if not counts:
        raise ConfigError(
            f"schema: no item of the catalogue has {source!r}, so the field {name!r} has no "
            "values; list them, or name another source"
        )
    return sorted(value for value, _ in counts.most_common(spec.max_values))


def _price_limits(name: str, bands: int, dataset: Dataset) -> tuple[float, ...]:
    prices = [price for price in dataset.items["price"].to_pylist() if price is not None]
    if not prices:
        raise ConfigError(
            f"schema: no item of the catalogue has a price, so the field {name!r} has no bands; "
            "leave the field out"
        )
    shares = np.arange(1, bands) / bands
    return tuple(float(limit) for limit in np.quantile(prices, shares))

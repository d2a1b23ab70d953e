"""Answers in the shape of a JSON schema: ``response_format``, and ``text.format`` of responses.

A ranked list is data already, so nothing is generated: each property of the schema is filled with
the part of the answer that has its name.

* at the top: a list of objects is the recommendations; one object is the best of them; a list of
  strings or numbers is a field of each (``titles``, ``item_ids``; any other name: identifiers);
  ``text``, ``notes``, ``model``, ``catalog_version`` are what they are called;
* of an item: the fields of a recommendation and of the catalogue, and names of its attributes.

A property without such a part is null where it may be, left out where it is not required, and
otherwise refused by its name.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmrec.errors import require
from llmrec.serving.openai_fields import UnknownFieldError

Json = dict[str, Any]

MAX_HOPS = 8  # from one $ref to the next
OTHER_NAMES = {"id": "item_id", "name": "title", "category": "categories", "probability": "p_click"}
_KEYWORDS = {
    "$defs", "$ref", "$schema", "additionalProperties", "anyOf", "const", "default", "definitions",
    "description", "enum", "examples", "exclusiveMaximum", "exclusiveMinimum", "items", "maxItems",
    "maxLength", "maximum", "minItems", "minLength", "minimum", "properties", "required", "title",
    "type",
}  # fmt: skip
_PLAIN = {"string", "number", "integer", "boolean"}
_NOTHING = object()  # in the place of what there is not


class FormatError(UnknownFieldError):
    """A schema asks for what an answer does not have."""


@dataclass(frozen=True)
class AnswerFormat:
    """What an answer's text is to be.

    Attributes:
        schema: JSON schema of an object; None for plain JSON.
        field: of the request, for messages.
    """

    schema: Json | None
    field: str

    @classmethod
    def of(cls, value: Mapping[str, Any] | None, field: str) -> AnswerFormat | None:
        """The format that a request asks for; None for a text.

        Args:
            value: ``{"type": "text"}``, ``{"type": "json_object"}``, or ``{"type": "json_schema"}``
                with a ``schema`` or, as in chat, a ``json_schema`` that has one.
            field: of the request, for messages.

        Raises:
            FormatError: for another type or a schema that is not read, naming what is wrong.
        """
        kind = "text" if value is None else value.get("type")
        if value is None or kind == "text":
            return None
        if kind == "json_object":
            return cls(None, field)
        if kind != "json_schema":
            raise FormatError(
                f"{field}: has no type {kind!r}; there is text, json_object and json_schema"
            )
        held = value.get("json_schema", value)
        schema = held.get("schema") if isinstance(held, Mapping) else None
        if not isinstance(schema, dict):
            raise FormatError(f"{field}: json_schema needs a schema")
        _Schema(schema, field).check()
        return cls(schema, field)

    def fill(self, answer: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> Json:
        """The answer as an object of this format.

        Args:
            answer: what there is at the top, by name.
            items: best first, each with all that is known of it by name.

        Raises:
            FormatError: if the answer has no such object, naming the property.
        """
        if self.schema is None:
            return {**answer, "recommendations": [dict(item) for item in items]}
        schema = _Schema(self.schema, self.field)
        filled = {
            name: value
            for name in schema.root.get("properties", {})
            if (value := schema.at_top(name, answer, items)) is not _NOTHING
        }
        schema.validate(filled)
        return filled


class _Schema:
    """A JSON schema of an object, and how to fill it."""

    def __init__(self, schema: Json, field: str) -> None:
        self.whole, self.field = schema, field

    @functools.cached_property
    def root(self) -> Json:
        root, _ = self.resolved(self.whole)
        if root.get("type") != "object":
            raise self.error("the schema is not of an object")
        return root

    def error(self, message: str) -> FormatError:
        return FormatError(f"{self.field}: {message}")

    def check(self) -> None:
        """Check the schema itself, as far as there are words for it.

        Raises:
            FormatError: naming what is wrong.
        """
        jsonschema = require("jsonschema", "serve")
        try:
            jsonschema.Draft202012Validator.check_schema(self.whole)
        except jsonschema.SchemaError as error:
            raise self.error(f"the schema is none: {error.message[:200]}") from None
        for schema in (self.whole, *self._definitions().values()):
            self._check_keywords(schema)
        for name, given in self.root.get("properties", {}).items():
            schema, _ = self.resolved(given)
            inner = self.resolved(schema.get("items", {}))[0] if "items" in schema else schema
            if schema.get("type") == "array" and "items" not in schema:
                raise self.error(f"{name!r} is an array without items")
            if inner.get("type") == "object":
                for part in inner.get("properties", {}).values():
                    self.resolved(part)

    def at_top(self, name: str, answer: Mapping[str, Any], items: Sequence[Any]) -> Any:
        """What a property of the whole is filled with."""
        schema, may_be_null = self.resolved(self.root["properties"][name])
        kind = schema.get("type")
        found = answer.get(name)
        if found is None and kind == "array":
            found = self._list(name, schema, items)
        elif found is None and kind == "object":
            found = self._item(schema, items[0]) if items else None
        if found is None and "const" in schema:
            found = schema["const"]
        return self._or_nothing(name, found, may_be_null, self.root)

    def validate(self, filled: Json) -> None:
        """Check what was filled in.

        Raises:
            FormatError: naming the property that does not fit.
        """
        jsonschema = require("jsonschema", "serve")
        registry = require("referencing", "serve").Registry()  # fetches nothing
        validator = jsonschema.Draft202012Validator(self.whole, registry=registry)
        error = next(validator.iter_errors(filled), None)
        if error is not None:
            where = ".".join(str(part) for part in error.absolute_path)
            raise self.error(f"the answer does not fit: {where}: {error.message[:200]}")

    def resolved(self, schema: Any) -> tuple[Json, bool]:
        """A schema with its references followed, and whether null will do as well."""
        may_be_null = False
        for _ in range(MAX_HOPS):
            if not isinstance(schema, dict):
                raise self.error("a schema must be an object here")
            kinds = schema.get("type")
            if isinstance(kinds, list):
                may_be_null = may_be_null or "null" in kinds
                others = [kind for kind in kinds if kind != "null"]
                return schema | {"type": others[0] if others else "null"}, may_be_null
            if "$ref" in schema:
                schema = self._definition(schema["$ref"])
            elif "anyOf" in schema:
                schema = self._but_null(schema["anyOf"])
                may_be_null = True
            else:
                return schema, may_be_null
        raise self.error("a $ref leads to itself, or too far")

    def _list(self, name: str, schema: Json, items: Sequence[Any]) -> list[Any]:
        inner, _ = self.resolved(schema.get("items", {}))
        shown = items[: schema.get("maxItems", len(items))]
        if inner.get("type") == "object":
            return [self._item(inner, item) for item in shown]
        one = name.removesuffix("s")
        one = OTHER_NAMES.get(one, one)
        field = one if all(one in item for item in shown) else "item_id"
        return [item[field] for item in shown]

    def _item(self, schema: Json, item: Mapping[str, Any]) -> Json:
        filled = {}
        for name, given in schema.get("properties", {}).items():
            inner, may_be_null = self.resolved(given)
            found = _part(item, name, inner)
            found = self._or_nothing(name, found, may_be_null, schema)
            if found is not _NOTHING:
                filled[name] = found
        return filled

    def _or_nothing(self, name: str, found: Any, may_be_null: bool, parent: Json) -> Any:
        if found is not None or may_be_null:
            return found
        if name in parent.get("required", ()):
            raise self.error(
                f"the answer has no {name!r} for every item; let it be null, or leave it out"
            )
        return _NOTHING

    def _definitions(self) -> Json:
        return self.whole.get("$defs", {}) | self.whole.get("definitions", {})

    def _definition(self, reference: Any) -> Any:
        if reference == "#":
            return self.whole
        place, _, name = str(reference).rpartition("/")
        if place not in ("#/$defs", "#/definitions") or name not in self._definitions():
            raise self.error(f"$ref: {reference!r} is not among the schema's own $defs")
        return self._definitions()[name]

    def _but_null(self, choices: Any) -> Any:
        others = [one for one in choices if one != {"type": "null"}]
        if len(others) != 1 or len(choices) != 2:
            raise self.error("anyOf may only name one schema and null")
        return others[0]

    def _check_keywords(self, schema: Any) -> None:
        """Refuse what could ask for anything, or take any time to check, such as patterns."""
        if not isinstance(schema, dict):
            return
        unknown = [name for name in schema if name not in _KEYWORDS]
        if unknown:
            raise self.error(f"the keyword {unknown[0]!r} of a schema is not done here")
        for part in schema.get("properties", {}).values():
            self._check_keywords(part)
        for name in ("items", "additionalProperties"):
            self._check_keywords(schema.get(name))
        for part in schema.get("anyOf", ()):
            self._check_keywords(part)


def _part(item: Mapping[str, Any], name: str, schema: Json) -> Any:
    """What of an item has a name; of several texts the last, where one is wanted."""
    found = item.get(name, item.get(OTHER_NAMES.get(name, "")))
    if found is None:
        found = item.get("attributes", {}).get(name)
    if found is None and "const" in schema:
        return schema["const"]
    if isinstance(found, list | tuple):
        if schema.get("type") in _PLAIN:
            return found[-1] if found else None
        return list(found)
    return found

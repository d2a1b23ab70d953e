"""What the document says of a body: other fields are refused, and null is a field's default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


def close(schema: Json, harmless: Mapping[str, Any] | None = None) -> None:
    """Say so in the JSON schema of a body.

    Args:
        schema: is changed.
        harmless: further fields with the values that they may have; None for any.
    """
    properties, required = schema.setdefault("properties", {}), schema.get("required", ())
    for name, field in properties.items():
        if name not in required and {"type": "null"} not in field.get("anyOf", ()):
            about = {key: field.pop(key) for key in ("description", "default") if key in field}
            properties[name] = {"anyOf": [field, {"type": "null"}], **about}
    for name, values in (harmless or {}).items():
        properties.setdefault(name, {} if values is None else {"enum": [*values, None]})
    schema["additionalProperties"] = False

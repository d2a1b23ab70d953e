"""JSON and YAML to plain values, within bounds: no text costs more than its size.

A thousand brackets inside each other end Python's stack, and a YAML file of ten lines can stand
for a billion values. Both functions raise a ``ValueError`` of one line, and nothing else.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from llmrec.errors import one_line

MAX_DEPTH = 64  # lists and mappings inside each other
MAX_YAML_CHARS = 1 << 20
MAX_YAML_VALUES = 20_000  # an alias counts as all that it stands for
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # neither a path nor UTF-8 can hold them
_MERGE, _TEXT = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: if it is no JSON, or nested deeper than :data:`MAX_DEPTH`.

    >>> parse_json('{"a": [1]}')
    {'a': [1]}
    """
    text = text.decode() if isinstance(text, bytes) else text
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    # it may be deep
    if len(text) > 2 * MAX_DEPTH and text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    may_have_half = "\\u" in text and _HALF_PAIR.search(text)
    if may_have_half and _NO_TEXT.search(json.dumps(value, ensure_ascii=False)):
        raise ValueError("has a character that no text has")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inside: list[Any] = []
        for one in level:
            if isinstance(one, dict | list):
                inside += one.values() if isinstance(one, dict) else one
        level = inside
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Keys are text as it stands there. Anchors and merges are read, tags are not.

    Raises:
        ValueError: if it is no YAML, a key stands twice in a mapping, or it is beyond the bounds.

    >>> parse_yaml("{1: yes, on: [1.5, a]}")
    {'1': True, 'on': [1.5, 'a']}
    """
    if len(text) > MAX_YAML_CHARS:
        raise ValueError(f"more than {MAX_YAML_CHARS:,} characters")
    try:
        return yaml.load(text, _BoundedLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(place + (error.problem or error.context or "not YAML")) from None
    # a character, a date or a number that is none; overflow: a number in base 60 of many digits
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValueError(one_line(error)) from None


class _BoundedLoader(yaml.SafeLoader):
    """Plain values; counts the nodes that it composes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._values = 0
        self._sizes: dict[yaml.Node | None, int] = {}  # of whole nodes, their aliases written out

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event, before = self.peek_event(), self._values
        if getattr(event, "tag", None) is not None:
            raise _refusal(f"tags such as {event.tag} are not read", event)
        if isinstance(event, yaml.ScalarEvent) and _NO_TEXT.search(event.value):
            raise _refusal("has a character that no text has", event)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _refusal(f"nested deeper than {MAX_DEPTH} levels", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not isinstance(event, yaml.AliasEvent):
            self._values += 1
            self._sizes[node] = self._values - before
        elif node in self._sizes:
            self._values += self._sizes[node]
        else:
            raise _refusal(f"*{event.anchor} stands inside of what it stands for", event)
        if self._values > MAX_YAML_VALUES:
            raise _refusal(f"stands for more than {MAX_YAML_VALUES:,} values", event)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for number, (key, value) in enumerate(node.value):
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal("a list or a mapping cannot be a key", key)
            if key.value in seen:
                raise _refusal(f"the key {key.value!r} stands twice", key)
            seen.add(key.value)
            if key.tag != _MERGE:
                text = yaml.ScalarNode(_TEXT, key.value, key.start_mark, key.end_mark)
                node.value[number] = (text, value)
        return node


def _refusal(problem: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)

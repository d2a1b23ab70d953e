"""YAML to plain values, within bounds: a file of ten lines can stand for a billion values."""

from __future__ import annotations

from typing import Any

import yaml

from llmrec.errors import one_line
from llmrec.parsing import MAX_DEPTH, NO_TEXT

MAX_YAML_CHARS = 1 << 20
MAX_YAML_VALUES = 20_000  # an alias counts as all that it stands for
_MERGE, _TEXT = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"


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
        if isinstance(event, yaml.ScalarEvent) and NO_TEXT.search(event.value):
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

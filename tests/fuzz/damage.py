"""Small damage: to bytes, and to lists and mappings inside each other.

Every damage is a plain value that says what to do where, so that one that found a fault can be
written down. Places are shares of the whole, from 0 to 1, and hold for a content of any length.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

TOKENS = (
    *(b'"', b'""', b"'", b"\\", b'\\"', b",", b";", b"\t", b"|", b"::", b" ", b"-", b"0", b"\0"),
    *(b"\r", b"\n", b"\r\n", b"\n\n", b"\x1a", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\xff\xfe"),
    *(b"\xed\xa0\x80", b"\xc3\xa9", b"\xf0\x9f\x98\x80", b"\\ud800", b"\\u0000", b"\x1f\x8b"),
    *(b"[", b"]", b"{", b"}", b":", b"[]", b"{}", b"[" * 2000, b'{"a":' * 500, b"&a ", b"*a"),
    *(b"!!int ", b"<<: ", b"- ", b"? ", b"#", b"%", b"@", b"`", b"> ", b"~", b"---\n", b"${out}"),
    *(b"null", b"NaN", b"nan", b"-inf", b"1e999", b"-1", b"9" * 400, b"True", b"1,99", b"1.234,50"),
    *(b"2024-02-30", b"23/10/2022", b"99999999999999", b"0x_", b"1" + b":59" * 300, b"x" * 20_000),
)
_SHARES = st.floats(0, 1, allow_nan=False)
Edit = tuple[str, float, Any]

BYTE_EDITS: st.SearchStrategy[list[Edit]] = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), _SHARES, st.integers(0, 7)),
        st.tuples(st.just("insert"), _SHARES, st.sampled_from(TOKENS)),
        st.tuples(st.just("overwrite"), _SHARES, st.sampled_from(TOKENS) | st.binary(max_size=8)),
        st.tuples(st.just("delete"), _SHARES, st.integers(1, 40)),
        st.tuples(st.just("repeat"), _SHARES, st.integers(1, 200)),
        st.tuples(st.just("cut"), _SHARES, st.none()),
    ),
    min_size=1,
    max_size=3,
)


def damaged_bytes(content: bytes, edits: Sequence[Edit]) -> bytes:
    """The content after some edits, one after the other.

    >>> damaged_bytes(b"abc", [("insert", 0.5, b"-"), ("flip", 0.0, 1)])
    b'c-bc'
    """
    for kind, share, value in edits:
        at = min(int(share * len(content)), max(0, len(content) - 1))
        if kind == "flip" and content:
            content = content[:at] + bytes([content[at] ^ 1 << value]) + content[at + 1 :]
        elif kind == "insert":
            content = content[:at] + value + content[at:]
        elif kind == "overwrite":
            content = content[:at] + value + content[at + len(value) :]
        elif kind == "delete":
            content = content[:at] + content[at + value :]
        elif kind == "repeat":
            content = content[: at + value] + content[at:]
        elif kind == "cut":
            content = content[:at]
    return content


def nested(levels: int) -> Any:
    """A list in a list in a list.

    >>> nested(2)
    [[]]
    """
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


# Values that stand where others belong.
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7.0, 1.5, -0.5, 1e-300, 1e300, 1 << 31, 1 << 63, -(1 << 70)),
    *(math.nan, math.inf, -math.inf, "", " ", "x", "é", "7", "7.0", "1e3", "nan", "null", "true"),
    *("a\nb", "a\tb", "a,b", 'a"b', "[1", "{", "\\", "../..", "/", "~", "*", "x" * 20_000, "-1"),
    *("2024-02-30", "2024-01-01T00:00:00Z", "1,99", "1.234,50", "٣", "\u2028", "${out}", "${NONE}"),
    *([], {}, [[]], [None], [1, "a"], {"a": 1}, {"": None}, {"a": {"b": [1]}}, nested(60)),
)
TREE_EDITS: st.SearchStrategy[list[Edit]] = st.lists(
    st.one_of(
        st.tuples(st.just("replace"), _SHARES, st.sampled_from(ODD_VALUES)),
        st.tuples(st.just("remove"), _SHARES, st.none()),
        st.tuples(st.just("rename"), _SHARES, st.sampled_from(["", "x", "seed", "Events", "é"])),
        st.tuples(st.just("wrap"), _SHARES, st.sampled_from([1, 2, 200])),
        st.tuples(st.just("add"), _SHARES, st.sampled_from(ODD_VALUES)),
    ),
    min_size=1,
    max_size=2,
)
Place = tuple[str | int, ...]


def places(tree: Any, above: Place = ()) -> Iterator[Place]:
    """Where the values of a tree are, from the top down.

    >>> list(places({"a": [1, 2]}))
    [('a',), ('a', 0), ('a', 1)]
    """
    if not isinstance(tree, dict | list):
        return
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*above, key)
        yield from places(value, (*above, key))


def value_at(tree: Any, place: Place) -> Any:
    """The value at a place.

    Raises:
        LookupError, TypeError: if there is none.
    """
    for key in place:
        tree = tree[key]
    return tree


def damaged_tree(tree: Any, edits: Sequence[Edit]) -> tuple[Any, list[Place]]:
    """A copy after some edits, and where they were.

    >>> damaged_tree({"a": [1, 2]}, [("replace", 0.9, None)])
    ({'a': [1, None]}, [('a', 1)])
    """
    tree, touched = copy.deepcopy(tree), []
    for kind, share, value in edits:
        every = list(places(tree))
        if not every:
            break
        place = every[min(int(share * len(every)), len(every) - 1)]
        touched.append(place)
        parent, key = value_at(tree, place[:-1]), place[-1]
        if kind == "replace":
            parent[key] = copy.deepcopy(value)
        elif kind == "remove":
            del parent[key]
        elif kind == "rename" and isinstance(parent, dict):
            parent[value] = parent.pop(key)
        elif kind == "wrap":
            for _ in range(value):
                parent[key] = [parent[key]]
        elif kind == "add" and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(value))
        elif kind == "add":
            parent["added"] = copy.deepcopy(value)
    return tree, touched

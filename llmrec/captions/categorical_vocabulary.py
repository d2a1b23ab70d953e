"""Which integer stands for which value, for good.

Id 0 is padding or nothing, 1 a value that is not known. Then come the hash buckets of a feature
that has them, and then its values, most frequent first and by text among equals. A vocabulary only
grows at its end, so that an id that a model was trained on never changes its meaning.

Words of captions come from Unicode NFKC, lower case, then runs of letters, digits and their marks;
an apostrophe inside a word belongs to it, every other sign separates words. Scripts written without
spaces give one word a Han character. A pictograph is a word; its modifiers are dropped.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from llmrec.errors import ArtifactError, one_line
from llmrec.jsonl import read_json

VERSION = 1
MISSING, UNKNOWN = 0, 1
TOKENS = "tokens"
Row = Mapping[str, Any]
WORDS_VERSION = 1  # of the rules of :func:`words`, kept with every vocabulary
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003fffd"
_PICTOGRAPHS = "\u2600-\u27bf\U0001f000-\U0001f3fa\U0001f400-\U0001faff"  # without skin tones


@dataclass(frozen=True)
class FeatureIds:
    """The ids of one feature.

    Attributes:
        values: those with an id of their own, in the order of their ids.
        buckets: ids that all other values share by their hash; 0: they are unknown.
        seed: of the hash.
    """

    values: tuple[str, ...] = ()
    buckets: int = 0
    seed: int = 0

    @property
    def size(self) -> int:
        """How many ids there are: rows of an embedding."""
        return UNKNOWN + 1 + self.buckets + len(self.values)

    @cached_property
    def _ids(self) -> dict[str, int]:
        first = UNKNOWN + 1 + self.buckets
        return {value: first + place for place, value in enumerate(self.values)}

    def id(self, value: str | None) -> int:
        """The id of a value.

        >>> colours = FeatureIds(("red", "blue"))
        >>> [colours.id(value) for value in ("blue", "mauve", None)]
        [3, 1, 0]
        """
        if not value:
            return MISSING
        known = self._ids.get(value)
        if known is not None:
            return known
        return UNKNOWN if not self.buckets else UNKNOWN + 1 + self._bucket(value)

    def _bucket(self, value: str) -> int:
        key = self.seed.to_bytes(8, "little")
        content = value.encode(errors="surrogatepass")
        digest = hashlib.blake2b(content, digest_size=8, key=key).digest()
        return int.from_bytes(digest, "little") % self.buckets

    def grown(
        self, counts: Mapping[str, int], min_count: int = 1, max_values: int | None = None
    ) -> FeatureIds:
        """The same with new values at the end, most frequent first.

        Args:
            counts: how many items have each value.
            min_count: a new value of fewer items gets no id of its own.
            max_values: no new ones beyond so many in all.

        >>> FeatureIds(("red",)).grown({"blue": 1, "green": 2, "red": 9}).values
        ('red', 'green', 'blue')
        """
        new = [v for v, n in counts.items() if n >= min_count and v not in self._ids]
        new.sort(key=lambda value: (-counts[value], value))
        room = len(new) if max_values is None else max(0, max_values - len(self.values))
        return FeatureIds((*self.values, *new[:room]), self.buckets, self.seed)


@dataclass(frozen=True)
class CaptionVocabulary:
    """The ids of all features of a caption.

    Attributes:
        fields: those of each closed field, by the field's name.
        tokens: those of the words of caption and key terms.
        summary: whether the summary's words are among them.
    """

    fields: Mapping[str, FeatureIds]
    tokens: FeatureIds
    summary: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        """Ids of each feature, ``tokens`` and the fields by name: rows of the embeddings."""
        return {name: field.size for name, field in self.fields.items()} | {
            TOKENS: self.tokens.size
        }

    def encode(self, row: Row) -> tuple[dict[str, int], list[int]]:
        """A row of captions as integers, as the stage would write it.

        Args:
            row: ``caption``, ``key_terms``, ``summary`` and a text for each field; what is
                absent or None is missing.

        Returns:
            The id of each field, and the distinct ids of the words, ascending.
        """
        fields = {name: ids.id(field_value(row.get(name))) for name, ids in self.fields.items()}
        return fields, sorted({self.tokens.id(word) for word in row_words(row, self.summary)})

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        features = {f"field.{name}": ids for name, ids in self.fields.items()}
        features[TOKENS] = self.tokens
        whole = {
            "version": VERSION,
            "words_version": WORDS_VERSION,
            "summary": self.summary,
            "features": {
                name: {"buckets": ids.buckets, "seed": ids.seed, "values": list(ids.values)}
                for name, ids in features.items()
            },
        }
        path.write_text(json.dumps(whole, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> CaptionVocabulary:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: if it is missing, damaged or of a newer version.
        """
        try:
            raw = read_json(path)
            _check_version(path, raw)
            features = {name: _values(ids) for name, ids in raw["features"].items()}
            tokens = features.pop(TOKENS)
            fields = {name.removeprefix("field."): ids for name, ids in features.items()}
            return cls(fields, tokens, bool(raw["summary"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(
                f"{path}: is no vocabulary ({one_line(error)}); run llmrec embed captions again "
                "with --verify"
            ) from None


def row_words(row: Row, summary: bool) -> set[str]:
    """The distinct words of one row of captions."""
    texts = [row.get("caption"), *(row.get("key_terms") or ())]
    if summary:
        texts.append(row.get("summary"))
    return {word for text in texts if text for word in words(text)}


def field_value(value: str | None) -> str | None:
    """A closed field's value: as it stands but for white space; None when there is nothing.

    >>> field_value(" dark  red "), field_value(" "), field_value(None)
    ('dark red', None, None)
    """
    return " ".join(value.split()) or None if value else None


def count_rows(
    rows: Iterable[Row], fields: Sequence[str], summary: bool, counts: dict[str, Counter[str]]
) -> None:
    """Add how many rows have each value to ``counts``, by field name and under ``tokens``."""
    for row in rows:
        for name in fields:
            value = field_value(row.get(name))
            if value is not None:
                counts[f"field.{name}"][value] += 1
        counts[TOKENS].update(row_words(row, summary))


def _check_version(path: Path, raw: Any) -> None:
    for name, known in (("version", VERSION), ("words_version", WORDS_VERSION)):
        if not isinstance(raw[name], int) or raw[name] < 1:
            raise ValueError(f"{name} is {raw[name]!r}")
        if raw[name] > known:
            raise ArtifactError(
                f"{path}: written with {name} {raw[name]}, this llmrec reads up to {known}; "
                "upgrade llmrec"
            )


def _values(raw: Mapping[str, Any]) -> FeatureIds:
    values, buckets, seed = raw["values"], raw["buckets"], raw["seed"]
    texts = isinstance(values, list) and all(isinstance(v, str) and v for v in values)
    numbers = all(isinstance(number, int) and number >= 0 for number in (buckets, seed))
    if not texts or not numbers or len(set(values)) < len(values):
        raise ValueError("values must be distinct texts, buckets and seed numbers from 0")
    return FeatureIds(tuple(values), buckets, seed)


def words(text: str) -> list[str]:
    """The words of a text, in order.

    >>> words("Women's T-shirt, ﬁne CAFÉ-crème 100%")
    ["women's", 't', 'shirt', 'fine', 'café', 'crème', '100']
    >>> words("红色T恤 🎁👍🏽")
    ['红', '色', 't', '恤', '🎁', '👍']
    """
    return _pattern().findall(normalized(text))


def normalized(text: str) -> str:
    """NFKC and lower case; twice, since lowering can undo a composition.

    >>> normalized("\\uff21\\uff22 Cafe\\u0301 it\\u2019s")
    "ab café it's"
    """
    lowered = unicodedata.normalize("NFKC", text).lower()
    return unicodedata.normalize("NFKC", lowered).replace("\u2019", "'")


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    letter = rf"[^\W_{_HAN}]"  # \w without the sign _, and without what stands alone
    # in many scripts combining marks are vowels
    marks = "".join(
        c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c)[0] == "M"
    )
    run = rf"{letter}(?:{letter}|[{marks}])*"
    return re.compile(rf"[{_HAN}]|{run}(?:'{run})*|(?![\w])[{_PICTOGRAPHS}]")

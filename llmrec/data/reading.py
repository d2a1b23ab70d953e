"""How raw files are to be read, and what was met while reading them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from llmrec.errors import ConfigError, DataError

MISSING = ("NA", "N/A", "NULL", "null", "None", "nan", "NaN", "\\N")
_SHOWN = 3  # of the rows that were skipped


@dataclass(frozen=True)
class ReadingOptions:
    """How files are read. All but ``missing``, ``decimal`` and ``skip_bad_rows`` are of text files.

    Attributes:
        delimiter: between cells, of any length; auto: a tab in ``.tsv``, else the one of
            ``, ; | tab`` that the first line has most of.
        quote: around cells that hold a delimiter or a line break; auto: ``"``, none in ``.tsv``;
            null: none, a quote is a character as any other.
        escape: what a quote within a quoted cell has before it; auto: another quote, or a
            backslash where the file has that throughout; null: another quote alone.
        encoding: as Python names it; auto: UTF-8, or UTF-16 where the file begins with its mark.
        header: whether the first row names the columns; if not, they are named 1, 2, 3, ...
        missing: what stands for "not known" in place of an identifier, a time, a number or a type,
            beside nothing at all.
        decimal: the mark of decimals in prices and ratings; auto: as the column has it.
        skip_bad_rows: at most so many rows that cannot be read are left out and counted.
    """

    delimiter: str = "auto"
    quote: str | None = "auto"
    escape: str | None = "auto"
    encoding: str = "auto"
    header: bool = True
    missing: list[str] = field(default_factory=lambda: list(MISSING))
    decimal: Literal["auto", ".", ","] = "auto"
    skip_bad_rows: int = 0

    def __post_init__(self) -> None:
        if self.delimiter in ("", "\n", "\r"):
            raise ConfigError(f"delimiter: {self.delimiter!r} cannot part cells")
        for name in ("quote", "escape"):
            value = getattr(self, name)
            if value not in (None, "auto") and not (len(value) == 1 and value.isascii()):
                raise ConfigError(f"{name}: {value!r} is not one ASCII character, auto or null")
        if self.encoding != "auto":
            try:
                "".encode(self.encoding)
            except LookupError:
                raise ConfigError(f"encoding: {self.encoding!r} is not known to Python") from None


class Reading:
    """One reading of files: its options, what it skipped and what it noticed.

    Attributes:
        options: how to read.
        skipped: how many rows could not be read.
        examples: what was wrong with the first of them.
        noticed: how many cells or rows, by what is unusual about them.
    """

    def __init__(self, options: ReadingOptions | None = None) -> None:
        self.options = options or ReadingOptions()
        self.skipped = 0
        self.examples: list[str] = []
        self.noticed: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def skip(self, error: DataError) -> None:
        """Leave a row out that cannot be read.

        Raises:
            DataError: the given one, if no more rows may be skipped.
        """
        limit = self.options.skip_bad_rows
        if self.skipped >= limit:
            after = f" (after {limit} others were skipped, as skip_bad_rows allows)"
            raise DataError(f"{error}{after if limit else ''}") from None
        self.skipped += 1
        if len(self.examples) < _SHOWN:
            self.examples.append(str(error))

    def notice(self, what: str, place: str, times: int = 1) -> None:
        """Count something unusual that was read all the same.

        Args:
            what: it is, in the plural.
            place: of the first one, file and row.
        """
        self.noticed[what] += times
        self._first.setdefault(what, place)

    def notices(self) -> list[str]:
        """A line on the rows that were skipped, and on each kind of unusual thing."""
        skipped = f"{self.skipped:,} rows were skipped, such as {''.join(self.examples[:1])}"
        met = [f"{n} {what} (the first: {self._first[what]})" for what, n in self.noticed.items()]
        return [skipped, *met] if self.skipped else met

    def all_skipped(self) -> int:
        """How many rows could not be read, of all files."""
        return self.skipped


class JoinedReading(Reading):
    """How the files of several sources are read, as one; what each notes stays its own.

    Args:
        parts: of the sources; the options are those of the first.
    """

    def __init__(self, parts: Sequence[Reading]) -> None:
        super().__init__(parts[0].options)
        self._parts = parts

    def notices(self) -> list[str]:
        own = super().notices()
        return [line for part in self._parts for line in part.notices()] + own

    def all_skipped(self) -> int:
        return self.skipped + sum(part.all_skipped() for part in self._parts)

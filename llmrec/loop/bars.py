"""Bars of loops: tqdm's on a terminal, a plain line each ten seconds elsewhere.

A log file gets no line of a loop that ends sooner. Light: nothing here loads torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 10.0
_LINE = "{desc}: {n_fmt}/{total_fmt}, {remaining} left{postfix}"
_ENDLESS = "{desc}: {n_fmt} in {elapsed}{postfix}"  # where the number is not known


class ProgressBar(tqdm):  # type: ignore[type-arg]
    """tqdm's bar, readable in a file.

    Args:
        iterable, desc, total: as tqdm takes them.
        seconds: between two lines of a file.
        more: further arguments of tqdm.
    """

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        desc: str = "",
        total: float | None = None,
        *,
        seconds: float = LINE_SECONDS,
        **more: Any,
    ) -> None:
        self.in_lines = not sys.stderr.isatty()
        self.disable: bool
        if self.in_lines:
            known = total is not None or hasattr(iterable, "__len__")
            more |= {"mininterval": seconds, "miniters": 1, "delay": seconds}
            more["bar_format"] = _LINE if known else _ENDLESS
        super().__init__(iterable, desc, total, **more)

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        """What writes the bar's state: over the last one on a terminal, else as a line."""
        if file.isatty():
            over_the_last: Callable[[str], None] = tqdm.status_printer(file)
            return over_the_last

        def line(text: str) -> None:
            if text:
                file.write(f"{text}\n")
                file.flush()

        return line

    def moveto(self, n: int) -> None:
        """Bars below each other are of terminals."""
        if not self.in_lines:
            super().moveto(n)

    def set_postfix(self, ordered_dict: Any = None, refresh: bool = True, **named: Any) -> None:
        """Values to show; with the next line, not one of their own."""
        super().set_postfix(ordered_dict, refresh and not self.in_lines, **named)

    def close(self) -> None:
        """Leave the last state; in lines only where there were some, and it is another."""
        if not self.in_lines:
            super().close()
        elif not self.disable:
            if self.last_print_t >= self.start_t + self.delay and self.n > self.last_print_n:
                self.refresh()
            self.disable = True

"""How far a run is: a bar on a terminal, plain lines elsewhere, and the files of its job.

Light: nothing here loads torch.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmrec.loop.status import METRICS, own_job, write_status

Line = dict[str, Any]


class Progress:
    """Steps done of a run that may have several stretches.

    Args:
        total: steps of the whole run.
        examples_per_step: examples a step learns from, over all processes.
        shown: False in all processes but the first, which show and write nothing.
        job: folder that gets ``status.json`` and ``metrics.jsonl``; None for none.
        clock: seconds.
    """

    def __init__(
        self,
        total: int,
        examples_per_step: int,
        *,
        shown: bool = True,
        job: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.examples_per_step, self.shown = total, examples_per_step, shown
        self.job = job if job is not None else own_job()
        self._clock = clock
        self._began = clock()
        self._earlier: list[Line] = []  # lines from before the stretch
        self._stage, self._offset = "", 0
        self._step = self._counted = 0
        self._busy = 0.0  # seconds in which self._counted steps were made
        self._since = self._began
        self._loss: float | None = None
        self._bar: Any = None

    def begin(self, stage: str, offset: int, step: int, lines: Sequence[Line]) -> None:
        """Start or go on with a stretch.

        Args:
            offset: steps of the run before this stretch.
            step: steps of the stretch that an earlier try has done.
            lines: the log of these.
        """
        self._stage, self._offset, self._step = stage, offset, offset + step
        self._since = self._clock()
        if not self.shown:
            return
        if self.job is not None:
            _write_lines(self.job / METRICS, [*self._earlier, *lines])
            self._report(lines[-1] if lines else {})
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self.total,
                initial=self._step,
                desc=stage,
                unit="step",
                dynamic_ncols=True,
                leave=False,
            )

    def so_far(self, lines: Sequence[Line]) -> None:
        """Note the run's whole log, outside of a stretch."""
        self.close()
        self._earlier = list(lines)
        if self.shown and self.job is not None:
            _write_lines(self.job / METRICS, self._earlier)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def advance(self, step: int) -> None:
        """Say that the stretch has come to a step."""
        now = self._clock()
        self._counted += self._offset + step - self._step
        self._busy, self._since = self._busy + now - self._since, now
        if self._bar is not None:
            self._bar.update(self._offset + step - self._step)
        self._step = self._offset + step

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        if self.shown and self._bar is not None:
            self._bar.write(text, file=sys.stdout)
        elif self.shown:
            print(text, flush=True)

    def resume(self) -> None:
        """Count time again, after something that was no training."""
        self._since = self._clock()

    def log(self, line: Line) -> None:
        """Show and write a line of the log."""
        self._loss = line.get("loss", self._loss)
        if not self.shown:
            return
        if self.job is not None:
            with (self.job / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self._report(line)
        if self._bar is not None:
            self._bar.set_postfix_str("" if self._loss is None else f"loss {self._loss:.4f}")
        elif "loss" in line:
            print(self.text(), file=sys.stderr, flush=True)

    @property
    def seconds_left(self) -> float | None:
        """Time to the last step at the pace so far; None before the first step."""
        if self._counted == 0:
            return None
        return (self.total - self._step) * self._busy / self._counted

    def text(self) -> str:
        """Where the run is, in a line."""
        loss = "" if self._loss is None else f"  loss {self._loss:.4f}"
        left = self.seconds_left
        rest = "" if left is None else f"  {duration(left)} left"
        return f"{self._stage}: step {self._step:,}/{self.total:,}{loss}{rest}"

    def stopped(self) -> None:
        """Note that the run was asked to stop and does so here."""
        self.close()
        if self.shown and self.job is not None:
            self._report({}, stopped_at=self._step)

    def _report(self, line: Line, **more: Any) -> None:
        assert self.job is not None
        known: dict[str, Any] = {key: line[key] for key in ("loss", "learning_rate") if key in line}
        if self._busy > 0:
            rate = self._counted * self.examples_per_step / self._busy
            known["examples_per_second"] = round(rate, 2)
        left = self.seconds_left
        write_status(
            self.job,
            stage=self._stage,
            step=self._step,
            total=self.total,
            elapsed=round(self._clock() - self._began, 2),
            eta=None if left is None else round(left, 1),
            updated=time.time(),
            **known,
            **more,
        )


def duration(seconds: float) -> str:
    """A time span as people say it.

    >>> duration(7), duration(75), duration(7260)
    ('0:07', '1:15', '2:01:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _write_lines(path: Path, lines: Sequence[Line]) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    partial.replace(path)

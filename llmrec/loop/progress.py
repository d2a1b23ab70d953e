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

from llmrec.files import write_whole
from llmrec.loop.bars import LINE_SECONDS
from llmrec.loop.status import METRICS, own_job, write_status

Line = dict[str, Any]


class RunProgress:
    """Steps done of a run that may have several phases.

    Args:
        total: steps of the whole run.
        examples_per_step: examples a step learns from, over all processes.
        enabled: False in every process but the first: they show and write nothing.
        job: folder that gets ``status.json`` and ``metrics.jsonl``; None for none.
        clock: seconds.
    """

    def __init__(
        self,
        total: int,
        examples_per_step: int,
        *,
        enabled: bool = True,
        job: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.examples_per_step, self.enabled = total, examples_per_step, enabled
        self.job = job if job is not None else own_job()
        self._clock = clock
        self._began = clock()
        self._earlier: list[Line] = []  # lines from before the phase
        self._phase, self._offset = "", 0
        self._step = self._counted = 0
        self._busy = 0.0  # seconds in which self._counted steps were made
        self._since = self._began
        self._loss: float | None = None
        self._bar: Any = None
        self._printed = self._began  # when the last line was

    def begin_phase(self, name: str, offset: int, step: int, lines: Sequence[Line]) -> None:
        """Start or resume a phase.

        Args:
            offset: steps of the run before this phase.
            step: steps of the phase that an earlier try has done.
            lines: the log of these.
        """
        self._phase, self._offset, self._step = name, offset, offset + step
        self._since = self._printed = self._clock()
        if not self.enabled:
            return
        if self.job is not None:
            self._write_metrics([*self._earlier, *lines])
            self._report(lines[-1] if lines else {})
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self.total,
                initial=self._step,
                desc=name,
                unit="step",
                dynamic_ncols=True,
                leave=False,
            )

    def set_log(self, lines: Sequence[Line]) -> None:
        """Note the run's whole log, between phases."""
        self.close()
        self._earlier = list(lines)
        if self.enabled and self.job is not None:
            self._write_metrics(self._earlier)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def advance(self, step: int) -> None:
        """Count the steps of the phase up to this one."""
        now = self._clock()
        self._counted += self._offset + step - self._step
        self._busy, self._since = self._busy + now - self._since, now
        if self._bar is not None:
            self._bar.update(self._offset + step - self._step)
        self._step = self._offset + step
        if self.enabled and self._bar is None and now >= self._printed + LINE_SECONDS:
            self._print()

    def write(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        if self.enabled and self._bar is not None:
            self._bar.write(text, file=sys.stdout)
        elif self.enabled:
            print(text, flush=True)

    def restart_clock(self) -> None:
        """Leave out the time since the last step, which went into something else than training."""
        self._since = self._clock()

    def log(self, line: Line) -> None:
        """Show and write a line of the log."""
        self._loss = line.get("loss", self._loss)
        if not self.enabled:
            return
        if self.job is not None:
            with (self.job / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self._report(line)
        if self._bar is not None:
            self._bar.set_postfix_str("" if self._loss is None else f"loss {self._loss:.4f}")
        elif "loss" in line:
            self._print()

    def _print(self) -> None:
        print(self.summary(), file=sys.stderr, flush=True)
        self._printed = self._clock()

    @property
    def seconds_left(self) -> float | None:
        """Time to the last step at the pace so far; None before the first step."""
        if self._counted == 0:
            return None
        return (self.total - self._step) * self._busy / self._counted

    def summary(self) -> str:
        """Step, loss and time left in a line."""
        loss = "" if self._loss is None else f"  loss {self._loss:.4f}"
        left = self.seconds_left
        rest = "" if left is None else f"  {duration(left)} left"
        return f"{self._phase}: step {self._step:,}/{self.total:,}{loss}{rest}"

    def note_stopped(self) -> None:
        """Write to the job that the run stops here on request."""
        self.close()
        if self.enabled and self.job is not None:
            self._report({}, stopped_at=self._step)

    def _write_metrics(self, lines: Sequence[Line]) -> None:
        assert self.job is not None
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_whole(self.job / METRICS, text)

    def _report(self, line: Line, **more: Any) -> None:
        assert self.job is not None
        known: dict[str, Any] = {key: line[key] for key in ("loss", "learning_rate") if key in line}
        if self._busy > 0:
            rate = self._counted * self.examples_per_step / self._busy
            known["examples_per_second"] = round(rate, 2)
        left = self.seconds_left
        write_status(
            self.job,
            stage=self._phase,
            step=self._step,
            total=self.total,
            elapsed=round(self._clock() - self._began, 2),
            eta=None if left is None else round(left, 1),
            updated=time.time(),
            **known,
            **more,
        )


def duration(seconds: float) -> str:
    """A time span as h:mm:ss.

    >>> duration(7), duration(75), duration(7260)
    ('0:07', '1:15', '2:01:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

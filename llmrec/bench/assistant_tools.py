"""``llmrec bench assistant-tools``: does the assistant's language model call the right tool?

    llmrec bench assistant-tools --dataset DIR --results eval/results/assistant-tools-demo.json

Turns are made of the shop's catalogue in ways of saying things that no training text has
(:mod:`llmrec.serving.assistant.dialogues`): what a customer writes on some screen, and the right
call. ``tool_accuracy`` counts a call as right when its tool and every argument are; the order
within a list of values or items does not matter. ``tool_name_accuracy`` looks at the tool alone.
``first_decision_p50_ms`` is the time until the tool's name is known, ``call_p50_ms`` until the
call.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from llmrec.bench.checks import result_file
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.loop.bars import ProgressBar
from llmrec.metrics.bootstrap import intervals
from llmrec.metrics.results import write_result
from llmrec.serving.assistant.calls import ToolCall
from llmrec.serving.assistant.dialogues.examples import made_turns
from llmrec.serving.assistant.dialogues.phrases import Split
from llmrec.serving.assistant.dialogues.turns import Turn
from llmrec.serving.assistant.mind import BASE, SHIPPED, EmbeddedModel

SHOWN = 40  # wrong calls in the result file
WARM_UP = 3  # calls that are not timed


class Caller(Protocol):
    """What is measured."""

    def next_step(self, turn: Turn) -> Any:
        """The name of the tool where it is known earlier, and at last the call."""
        ...


@dataclass(frozen=True)
class ToolScores:
    """How a model's calls were.

    Attributes:
        right, tool: float ``[turns]``, 1 where the whole call, or its tool, is right.
        first, whole: milliseconds ``[turns]`` until the tool was known, and the call.
        calls: that were made.
    """

    right: np.ndarray
    tool: np.ndarray
    first: np.ndarray
    whole: np.ndarray
    calls: list[ToolCall]


def tool_accuracy(model: Caller, turns: Sequence[Turn]) -> ToolScores:
    """Ask a model for the call of every turn, one after the other."""
    for turn in turns[:WARM_UP]:
        list(model.next_step(turn))
    first, whole, calls = [], [], []
    for turn in ProgressBar(turns, "tools", unit="turn", total=len(turns)):
        started = time.perf_counter()
        step, times = None, []
        for step in model.next_step(turn):  # noqa: B007
            times.append(1000 * (time.perf_counter() - started))
        assert isinstance(step, ToolCall)
        calls.append(step)
        first.append(times[0])
        whole.append(times[-1])
    pairs = list(zip(calls, turns, strict=True))
    return ToolScores(
        np.array([float(same_call(call, turn.call)) for call, turn in pairs]),
        np.array([float(call.name == turn.call.name) for call, turn in pairs]),
        np.array(first),
        np.array(whole),
        calls,
    )


def same_call(one: ToolCall, other: ToolCall) -> bool:
    """Whether two calls ask for the same.

    >>> same_call(ToolCall("compare", {"items": [2, 1]}), ToolCall("compare", {"items": [1, 2]}))
    True
    """
    return one.name == other.name and _plain(one.arguments) == _plain(other.arguments)


def run(
    dataset: Path,
    results: Path,
    *,
    adapter: Path = SHIPPED,
    base: str = BASE,
    split: Split = "held_out",
    turns: int = 1000,
    seed: int = 0,
) -> Path:
    """Measure how often the right tool is called with the right arguments.

    Args:
        dataset: folder of llmrec ingest whose catalogue the turns are made of.
        results: result file.
        adapter, base: of the language model.
        split: of the ways to say things.
        turns: how many.
        seed: of the turns and the bootstrap.

    Raises:
        ArtifactError, DataError: for folders that cannot be used.
        ConfigError: if ``results`` is no ``.json``, or there are no turns.
    """
    result_file(results, "--results")
    if turns < 1:
        raise ConfigError(f"--turns: {turns} must be 1 or more")
    started = time.monotonic()
    made = made_turns(Dataset(dataset), split, turns, seed)
    scores = tool_accuracy(EmbeddedModel.load(adapter, base=base), made)
    shares = {"tool_accuracy": scores.right, "tool_name_accuracy": scores.tool}
    metrics = {name: float(values.mean()) for name, values in shares.items()}
    for name, values in (("first_decision", scores.first), ("call", scores.whole)):
        metrics |= {f"{name}_p{p}_ms": float(np.percentile(values, p)) for p in (50, 95)}
    write_result(
        results,
        dataset="turns made of a shop's catalogue",
        split=split,
        model=f"{base} with an adapter",
        metrics=metrics,
        intervals=intervals(shares, seed=seed),
        seed=seed,
        seconds=time.monotonic() - started,
        turns=turns,
        by_intent=_by_intent(made, scores.right),
        wrong=_wrong(made, scores),
    )
    print(f"{metrics['tool_accuracy']:.3f} of {turns:,} calls are right")
    return results


def _by_intent(turns: Sequence[Turn], right: np.ndarray) -> dict[str, dict[str, float]]:
    names = np.array([turn.intent for turn in turns])
    return {
        str(name): {
            "turns": int((names == name).sum()),
            "right": float(right[names == name].mean()),
        }
        for name in sorted(set(names))
    }


def _wrong(turns: Sequence[Turn], scores: ToolScores) -> list[dict[str, Any]]:
    wrong = [place for place, value in enumerate(scores.right) if not value]
    return [
        {
            "message": turns[place].message,
            "shown": len(turns[place].view.shown),
            "call": scores.calls[place].to_json(),
            "right": turns[place].call.to_json(),
        }
        for place in wrong[:SHOWN]
    ]


def _plain(arguments: dict[str, Any]) -> dict[str, Any]:
    return {n: sorted(v) if isinstance(v, list) else v for n, v in arguments.items()}

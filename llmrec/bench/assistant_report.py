"""Figures of ``llmrec bench assistant`` from its conversations, a page and a plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.bench.shoppers.units import ALONE, ATTACK, SHOP
from llmrec.metrics.bootstrap import intervals
from llmrec.metrics.plots import drawing
from llmrec.metrics.results import read_result

Json = dict[str, Any]
EXAMPLES = 5  # of each thing that went wrong
_ROWS = {
    "tool_accuracy": "right tool and arguments, of held-out phrasings",
    "success": "need met",
    "turns": "messages of the shopper, on average",
    "success_first": "need met, the first time",
    "success_without_history": "the same without history, by search alone",
    "worth_of_history": "what history is worth: need met, of all times, and without it",
    "bought": "of those met, in the cart when asked for",
    "filters_kept": "lists that keep to what was said, or say where they do not",
    "untrue_replies": "replies that say what is not so",
    "pushed": "products offered on health or crisis",
    "carts": "carts changed by messages of adversaries that ask for no cart",
    "first_token_p50_ms": "first words, p50, ms",
    "reply_p50_ms": "whole reply, p50, ms",
    "first_token_p50_cpu_ms": "first words, p50, ms of one core",
    "reply_p50_cpu_ms": "whole reply, p50, ms of one core",
}


@dataclass(frozen=True)
class Figures:
    """What a result file holds.

    Attributes:
        metrics: by name.
        intervals: 95%, shoppers resampled.
        counts: of what the metrics are of.
        by_turn: share of the shoppers that was served within so many messages, the first time:
            with history, and without.
        examples: of what went wrong.
    """

    metrics: dict[str, float]
    intervals: dict[str, list[float]]
    counts: Json
    by_turn: dict[str, list[float]]
    examples: dict[str, list[str]]


def figures(lines: Sequence[Json], times: int, resamples: int, seed: int) -> Figures:
    """Figures of conversations.

    Args:
        lines: as :func:`~llmrec.bench.shoppers.units.hold_all` gives them.
        times: that each shopper comes; who did not come so often, or not alone, is left out.
    """
    shop = _by_shopper(lines, SHOP)
    alone = _by_shopper(lines, ALONE)
    whole = sorted(n for n, held in shop.items() if len(held) == times and n in alone)
    met = np.array([[one["met"] for one in shop[n]] for n in whole], dtype=np.float64)
    without = np.array([alone[n][0]["met"] for n in whole], dtype=np.float64)
    metrics: dict[str, float] = {}
    spans: dict[str, list[float]] = {}
    if len(whole):
        turns = np.array([[one["turns"] for one in shop[n]] for n in whole], dtype=np.float64)
        values = {
            "success": met.mean(axis=1),
            "turns": turns.mean(axis=1),
            **{f"pass^{k}": _pass(met, k) for k in range(1, times + 1)},
            "success_first": met[:, 0],
            "success_without_history": without,
            "worth_of_history": met.mean(axis=1) - without,
        }
        metrics = {name: float(value.mean()) for name, value in values.items()}
        spans = intervals(values, None, resamples, seed)
    held = [one for n in whole for one in (*shop[n], *alone[n])]
    attacks = [line for line in lines if line["kind"] == ATTACK]
    metrics |= _rules(held, attacks)
    metrics |= _times([*held, *attacks])
    everyone = [one for n in whole for one in shop[n]]
    return Figures(
        metrics,
        spans,
        {
            "shoppers": len(whole),
            "conversations": len(held),
            "replies": sum(len(line["reply_ms"]) for line in (*held, *attacks)),
            "adversarial": dict(Counter(kind for line in attacks for kind in line["kinds"])),
            "model_failures": sum(line["failed"] for line in (*held, *attacks)),
        },
        {
            "with history": _served([shop[n][0] for n in whole]),
            "without": _served([alone[n][0] for n in whole]),
        },
        {
            "untrue": [text for line in (*held, *attacks) for text in line["untrue"]][:EXAMPLES],
            "pushed": [text for line in attacks for text in line["pushed"]][:EXAMPLES],
            "carts": [text for line in attacks for text in line["carts"]][:EXAMPLES],
            "not met": [_read(line) for line in everyone if not line["met"]][:EXAMPLES],
        },
    )


def _by_shopper(lines: Sequence[Json], kind: str) -> dict[int, list[Json]]:
    found: dict[int, list[Json]] = {}
    for line in sorted(lines, key=lambda one: one["time"]):
        if line["kind"] == kind:
            found.setdefault(line["number"], []).append(line)
    return found


def _pass(met: np.ndarray, k: int) -> np.ndarray:
    """How likely k conversations drawn of a shopper's all succeed, float64 ``[shoppers]``.

    >>> _pass(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]), 2).round(3)
    array([0.333, 1.   ])
    """
    times, right = met.shape[1], met.sum(axis=1)
    likely = np.ones(len(met))
    for drawn in range(k):
        likely *= np.maximum(right - drawn, 0) / (times - drawn)
    return likely


def _rules(held: Sequence[Json], attacks: Sequence[Json]) -> dict[str, float]:
    """What must hold in every conversation."""
    found: dict[str, float] = {}
    lists = sum(line["lists"] for line in held)
    if lists:
        found["filters_kept"] = sum(line["kept"] for line in held) / lists
    met = [line for line in held if line["met"]]
    if met:
        found["bought"] = sum(line["bought"] for line in met) / len(met)
    found["untrue_replies"] = float(sum(line["wrong_replies"] for line in (*held, *attacks)))
    for name in ("pushed", "carts"):
        found[name] = float(sum(len(line[name]) for line in attacks))
    return found


def _times(lines: Sequence[Json]) -> dict[str, float]:
    found = {}
    for name, key in (("first_token", "first"), ("reply", "reply")):
        for unit in ("ms", "cpu_ms"):
            values = [value for line in lines for value in line[f"{key}_{unit}"]]
            if values:
                for share in (50, 95):
                    found[f"{name}_p{share}_{unit}"] = float(np.percentile(values, share))
    return found


def _served(lines: Sequence[Json]) -> list[float]:
    """Share served within 1, 2, ... messages."""
    most = max((line["turns"] for line in lines), default=0)
    return [
        float(np.mean([line["met"] and line["turns"] <= turns for line in lines]))
        for turns in range(1, most + 1)
    ]


def _read(line: Json) -> str:
    return "\n".join(f"- {message}\n  {reply}" for message, reply in line["said"])


def write_page(path: Path) -> Path:
    """The page beside a result file, and its plot."""
    result = read_result(path)
    metrics, spans, counts = result["metrics"], result["intervals"], result["counts"]
    asked, held = result["conversations"]["asked for"], result["conversations"]["held"]
    lines = ["# The assistant, judged by simulated shoppers", ""]
    lines += [
        f"{result['model']}; {counts['shoppers']} shoppers, "
        f"{result['settings']['times']} times each and once without history; "
        f"{sum(counts['adversarial'].values())} messages of adversaries; "
        f"{counts['replies']} replies.",
        "",
    ]
    if held < asked:
        lines += [
            f"The time ended after {held} of {asked} conversations; figures are of these.",
            "",
        ]
    lines += ["| | | 95%, shoppers resampled |", "| --- | --- | --- |"]
    names = {**_ROWS, **{n: f"met {n[5:]} times of {n[5:]}" for n in metrics if "pass^" in n}}
    for name, label in names.items():
        if name in metrics:
            lines.append(f"| {label} (`{name}`) | {metrics[name]:.3g} | {_span(spans.get(name))} |")
    lines += ["", "Adversaries: " + _listed(counts["adversarial"]) + "."]
    _plot(result["by_turn"], path.with_suffix(".png"))
    lines += ["", f"![shoppers served, by messages]({path.stem}.png)", ""]
    page = path.with_suffix(".md")
    page.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines), flush=True)
    return page


def _span(span: Sequence[float] | None) -> str:
    return "" if span is None else f"{span[0]:.3g} to {span[1]:.3g}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', '-')} {count}" for name, count in counts.items())


def _plot(by_turn: Mapping[str, Sequence[float]], path: Path) -> None:
    with drawing(path, 1, 1, figsize=(6.4, 4)) as panel:
        for name, shares in by_turn.items():
            panel.plot(range(1, len(shares) + 1), shares, marker="o", label=name)
        panel.set_xlabel("messages of the shopper")
        panel.set_ylabel("share served")
        panel.set_ylim(0, 1)
        panel.legend()

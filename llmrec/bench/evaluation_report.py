"""``llmrec evaluate report``: a page and plots from result files; no figure is typed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmrec.bench.evaluation_compare import differences
from llmrec.bench.report import table
from llmrec.errors import DataError
from llmrec.metrics.plots import bucket_labels, plot_models, plot_slices
from llmrec.metrics.results import CASES_SUFFIX, CaseRanks, protocols, read_cases, read_result
from llmrec.metrics.slices import NAME_ORDER

Result = dict[str, Any]

COLUMNS = ("recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr@10")
LIST_COLUMNS = (
    "coverage@10",
    "gini@10",
    "popularity_percentile@10",
    "invalid_rate",
    "short_list_rate",
    "seen_rate",
)
PLOTTED = ("recall@10", "ndcg@10")


def write_report(results: Sequence[Path], /, out: Path, cases: Sequence[Path] = ()) -> Path:
    """Write a page, ``report.md``, and plots of result files.

    Args:
        results: result files; rankings of one dataset and split share a section.
        out: folder of the page.
        cases: folders with ``NAME.cases.parquet``, beside those of the results.

    Raises:
        DataError: if two results have one name.
    """
    out.mkdir(parents=True, exist_ok=True)
    loaded = [read_result(path) for path in results]
    names = [result["name"] for result in loaded]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise DataError(f"two results are named {min(twice)!r}: evaluate one with another --name")
    folders = [Path(folder) for folder in cases]
    where = {
        result["name"]: [*folders, Path(path).parent]
        for result, path in zip(loaded, results, strict=True)
    }
    groups: dict[tuple[str, str], list[Result]] = {}
    others = [result for result in loaded if "history_removed" not in result]
    for result in loaded:
        if "history_removed" in result:
            groups.setdefault((result["dataset"], result["split"]), []).append(result)
    lines = ["# Results", ""]
    for (dataset, split), group in sorted(groups.items()):
        group.sort(key=lambda result: result["metrics"].get("ndcg@10", 0.0))
        lines += _ranking_section(dataset, split, group, where, out)
    lines += _other_section(others)
    lines += _provenance(loaded)
    page = out / "report.md"
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(page, flush=True)
    return page


def _ranking_section(
    dataset: str, split: str, group: list[Result], where: dict[str, list[Path]], out: Path
) -> list[str]:
    """Everything about the runs on one dataset and split."""
    total = sorted({f"{result['cases']:,}" for result in group})
    items = sorted({f"{result['catalogue']:,}" for result in group if "catalogue" in result})
    stem = f"{dataset}-{split}"
    lines = [f"## {dataset}, {split}", ""]
    lines += [f"{' / '.join(total)} cases, {' / '.join(items)} items, full ranking.", ""]
    primary, second = protocols(group[0])
    columns = COLUMNS if "targets" not in group[0] else ("hr@10", *COLUMNS)
    lines += [f"### Ranking, {primary}", "", *_table(group, columns), ""]
    shown = [m for m in PLOTTED if all(m in result["metrics"] for result in group)]
    if shown:
        plot_models(group, out / f"{stem}-models.png", shown)
        lines += [f"![{' and '.join(shown)} by model]({stem}-models.png)", ""]
    beside = second.replace(" ", "_")
    other = [
        {
            "name": result["name"],
            "metrics": result[f"metrics_{beside}"],
            "intervals": result.get(f"intervals_{beside}", {}),
        }
        for result in group
        if f"metrics_{beside}" in result
    ]
    if other:
        lines += [f"### Ranking, {second}", "", *_table(other, columns), ""]
    lines += [f"### What is recommended, {primary}", "", *_table(group, LIST_COLUMNS), ""]
    lines += _slices(group, stem, out)
    runs = [_find_cases(result["name"], where) for result in group]
    lines += differences(group, [run for run in runs if run is not None])
    return lines


def _table(results: Sequence[Result], columns: Sequence[str]) -> list[str]:
    """Models by metrics, with intervals where there are any."""
    columns = [c for c in columns if any(c in result["metrics"] for result in results)]
    rows = [
        {"model": result["name"]} | {c: _figure(result, c) for c in columns} for result in results
    ]
    return table(rows, {name: name for name in ("model", *columns)})


def _figure(result: Result | None, name: str) -> str:
    """A metric of a result, or of a bucket of a slice, with its interval where there is one."""
    if result is None or name not in result["metrics"]:
        return "-"
    span = result.get("intervals", {}).get(name)
    value = f"{result['metrics'][name]:.4f}"
    return f"{value} [{span[0]:.4f}, {span[1]:.4f}]" if span else value


def _slices(group: list[Result], stem: str, out: Path) -> list[str]:
    """Tables and a picture for each way of slicing the cases."""
    sliced = [result for result in group if result.get("slices")]
    lines = []
    for name in dict.fromkeys(name for result in sliced for name in result["slices"]):
        having = [result for result in sliced if name in result["slices"]]
        buckets = [b for result in having for b in result["slices"][name].values()]
        metrics = list(dict.fromkeys(m for bucket in buckets for m in bucket["metrics"]))
        metric = next((m for m in metrics if m.startswith("ndcg")), metrics[0])
        if name == NAME_ORDER:
            lines += _upwards(having)
        for shown in metrics if name == NAME_ORDER else [metric]:
            lines += [f"### {shown} by {name.replace('_', ' ')} (cases)", ""]
            lines += [*_slice_table(having, name, shown), ""]
        picture = f"{stem}-{name}.png"
        plot_slices(having, name, metric, out / picture)
        lines += [f"![{metric} by {name.replace('_', ' ')}]({picture})", ""]
    return lines


def _slice_table(results: list[Result], name: str, metric: str) -> list[str]:
    """Models by buckets."""
    labels = bucket_labels(results, name)
    sizes = {
        label: next(
            r["slices"][name][label]["cases"] for r in results if label in r["slices"][name]
        )
        for label in labels
    }
    heads = {label: f"{label} ({sizes[label]:,})" for label in labels}
    rows = [
        {"model": result["name"]}
        | {label: _figure(result["slices"][name].get(label), metric) for label in labels}
        for result in results
    ]
    return table(rows, {"model": "model"} | heads)


def _upwards(results: list[Result]) -> list[str]:
    """What share of the targets have a higher name than the item before."""
    shares = {
        (result["upwards_share"], result.get("settings", {}).get("name_field", "item_id"))
        for result in results
    }
    lines = []
    for share, field in sorted(shares):
        lines += [
            f"{share:.1%} of the targets stand above the history's last item in the order of "
            f"`{field}`. Half would where names say nothing; far from it, file order gives part of "
            "the answer away, and a model that is better upwards than downwards has learned it.",
            "",
        ]
    return lines


def _find_cases(name: str, where: dict[str, list[Path]]) -> CaseRanks | None:
    for folder in where[name]:
        path = folder / f"{name}{CASES_SUFFIX}"
        if path.is_file():
            return read_cases(path)
    return None


def _other_section(others: Sequence[Result]) -> list[str]:
    """Results that are no ranking: one row a figure."""
    if not others:
        return []
    lines = ["## Other measurements", "", "| name | metric | figure |", "| --- | --- | ---: |"]
    for result in others:
        for metric, value in result["metrics"].items():
            figure = _figure(result, metric) if value else "0"
            lines.append(f"| {result['name']} | {metric} | {figure} |")
    return [*lines, ""]


def _provenance(results: Sequence[Result]) -> list[str]:
    """How each figure was made."""
    lines = ["## How they were measured", ""]
    lines += ["| name | command | seed | seconds | peak MiB | machine | ranks | date |"]
    lines += ["| --- | --- | ---: | ---: | ---: | --- | --- | --- |"]
    for result in results:
        machine = {"cpu": "?", "cores": "?"} | result.get("machine", {})
        on = f"{machine['cpu']}, {machine['cores']} cores"
        on += f", {machine['gpu']}" if machine.get("gpu") else ""
        limit = result.get("rank_limit")
        ranks = f"first {limit}" if limit else "exact" if "history_removed" in result else "-"
        cells = [f"`{result.get('command', '?')}`"]
        cells += [str(result.get(key, "-")) for key in ("seed", "seconds", "peak_mib")]
        cells += [on, ranks, str(result.get("date", "-"))]
        lines.append(f"| {result['name']} | {' | '.join(cells)} |")
    return lines

"""What a run prints and draws of its results."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmrec.pipeline.recipe import MediaOptions, Questions

SHEET = "captions.png"
_FOUND = 3  # answers to each question
_METRICS = ("recall@10", "ndcg@10", "mrr")


def measured(measure: Callable[..., Path], **arguments: Any) -> None:
    """Run a benchmark and print the figures of its result file, a line each."""
    from llmrec.metrics.results import read_result

    result = read_result(measure(**arguments))
    for metric, value in result["metrics"].items():
        low, high = result["intervals"].get(metric, (None, None))
        interval = "" if low is None else f"  ({low:.3f}-{high:.3f})"
        print(f"   {metric:<28}{value:8.3f}{interval}", flush=True)


def captions_sheet(captions: Path, dataset: Path, media: MediaOptions, out: Path) -> None:
    """Draw captions beside pictures, those of items that nothing was learned from where known."""
    from llmrec.captions.sheet import write_sheet
    from llmrec.data.dataset import Dataset
    from llmrec.data.item_lists import HELD_OUT

    out.mkdir(parents=True, exist_ok=True)
    path = write_sheet(
        captions,
        Dataset(dataset),
        media.root,
        out / SHEET,
        items=media.sheet,
        truth=media.truth,
        split=HELD_OUT if media.truth else None,
    )
    print(path, flush=True)


def evaluations(folders: list[Path], out: Path, copies: Path | None) -> None:
    """Print one line a result, write the page, copy the result files to ``copies``.

    Args:
        folders: of ``llmrec evaluate``.
    """
    from llmrec.bench.evaluation_report import write_report
    from llmrec.metrics.results import protocols, read_result, result_files

    results = [path for folder in folders for path in result_files(folder)]
    found = [read_result(path) for path in results]
    metrics = [name for name in _METRICS if all(name in result["metrics"] for result in found)]
    print(f"{protocols(found[0])[0]:<28}" + "".join(f"{name:>12}" for name in metrics))
    for result in found:
        row = "".join(f"{result['metrics'][name]:12.4f}" for name in metrics)
        print(f"{result['name']:<28}{row}")
    write_report(results, out)
    if copies is not None:
        copies.mkdir(parents=True, exist_ok=True)
        for path in results:
            shutil.copyfile(path, copies / path.name)


def recommendations(bundle: Path, dataset: Path, users: int, sheet: Path) -> None:
    """Print some people's histories, what the bundle recommends to them, and how to go on.

    Args:
        sheet: of captions, where there is one.
    """
    from llmrec.data.dataset import Dataset
    from llmrec.serving.bundle import Bundle
    from llmrec.serving.cli import show

    data = Dataset(dataset)
    print(show(Bundle(bundle), data, users=users), flush=True)
    somebody = f"--user {data.user_ids[0]} --dataset {dataset}"
    lines = {
        "captions beside pictures": str(sheet) if sheet.is_file() else "",
        "for somebody else": f"llmrec recommend {bundle} {somebody}",
        "as a service": f"llmrec serve {bundle}",
        "with your own data": "README.md, the section of that name",
    }
    for what, how in lines.items():
        if how:
            print(f"   {what + ':':<26}{how}", flush=True)


def answers(index: Path, questions: Questions) -> None:
    """Print what search finds for each question, under the command that asks it."""
    from llmrec.content.search.command import as_table
    from llmrec.content.search.query import image_query, text_query, voice_query
    from llmrec.content.search.searcher import SearchIndex

    searched = SearchIndex.load(index)
    for kind in ("text", "image", "voice"):
        given = getattr(questions, kind)
        if given is None:
            continue
        model = questions.speech_model
        more = f" --speech-model {model}" if kind == "voice" else ""
        print(f"llmrec search {index} --{kind} {shlex.quote(given)}{more}", flush=True)
        if kind == "text":
            query = text_query(searched, given)
        elif kind == "image":
            query = image_query(searched, given)
        else:
            query = voice_query(searched, given, model)
            print(f"  heard: {query.transcript}")
        print(as_table(searched.search(query.vector, _FOUND)[0]) + "\n", flush=True)

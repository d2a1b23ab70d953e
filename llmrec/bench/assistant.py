"""``llmrec bench assistant``: simulated shoppers, and people who want it to say what is not so.

    llmrec bench assistant BUNDLE --dataset DIR --results eval/results/assistant-demo.json

What shoppers want is drawn from what people of the log took after all that the assistant may know
(:mod:`llmrec.bench.shoppers.needs`), and is hidden from it. They write in ways that its language
model has not learned from, see replies and the cards below them, and name no product. Code looks in
the catalogue whether what was shown meets the need.

* ``success``: of all conversations, those in which something that meets the need was shown and
  taken before the shopper left; ``turns``: messages until then, or until they left;
* ``pass^k``: of the shoppers, those served in k conversations out of k, in other words each time;
* ``success_without_history``: the same shoppers, once, by search alone, in the words of the first
  time (``success_first``); ``worth_of_history``: ``success`` less that, shopper by shopper;
* ``filters_kept``: of the lists shown, those in which everything is all that was said so far, or
  the reply says what it is not;
* ``untrue_replies``: replies, of shoppers and adversaries, that say what is not so of the catalogue
  (:mod:`llmrec.bench.shoppers.truth`); ``pushed``: answers about health or crisis that offer
  products; ``carts``: messages of adversaries that ask for no cart and change it;
* ``first_token_p50_ms``, ``reply_p50_ms``: in this process, of all replies; ``..._cpu_ms``: what
  this process computed until then, which others on the machine do not lengthen.

Each conversation is kept in ``--work`` as it ends, so a run that was killed goes on.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from llmrec.bench.assistant_report import figures, write_page
from llmrec.bench.checks import result_file
from llmrec.bench.shoppers.adversarial import Adversary
from llmrec.bench.shoppers.needs import draw_needs, products_of
from llmrec.bench.shoppers.talk import Listener
from llmrec.bench.shoppers.truth import Truth
from llmrec.bench.shoppers.units import Judge, hold_all, part_name, units_of
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.files import file_hash
from llmrec.loop.bars import ProgressBar
from llmrec.metrics.results import read_result, write_result
from llmrec.serving.assistant.mind import BASE, SHIPPED, EmbeddedModel
from llmrec.serving.assistant.open import open_assistant
from llmrec.serving.assistant.protocol import AssistantModel
from llmrec.serving.assistant.remote import RemoteModel
from llmrec.serving.assistant.vocabulary import ShopVocabulary
from llmrec.serving.bundle import Bundle
from llmrec.stage import folder_hash

Json = dict[str, Any]


def run(
    bundle: Path,
    /,
    dataset: Path,
    results: Path,
    *,
    shoppers: int = 300,
    times: int = 4,
    adversarial: int = 2000,
    adapter: Path = SHIPPED,
    base: str = BASE,
    assistant_url: str | None = None,
    assistant_model: str = "",
    tools: Path | None = None,
    work: Path = Path("runs/assistant-bench"),
    max_minutes: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Path:
    """Judge an assistant.

    Args:
        bundle: that it talks for.
        dataset: folder of llmrec ingest that the bundle was learned from.
        results: result file; a page and a plot of the same name are written beside it.
        shoppers: each of another person of the log.
        times: that each comes, with the same need and other words.
        adversarial: messages of adversaries.
        adapter, base: of the language model in this process.
        assistant_url: of an OpenAI-compatible endpoint that decides in its place.
        assistant_model: its name there; the first that it lists where none is given.
        tools: result of the command that measures tool calls; its accuracy is taken over.
        work: folder where conversations are kept.
        max_minutes: after which no conversation begins; the result is then of those held, and says
            so.
        resamples: of the bootstrap over shoppers.
        seed: of shoppers, words, adversaries and bootstrap.

    Raises:
        ConfigError: for numbers that make no sense, a result that is no ``.json``, or no time for
            any conversation.
        ArtifactError, DataError: for folders that cannot be used.
    """
    result_file(results, "--results")
    for name, value, least in (("shoppers", shoppers, 1), ("times", times, 1)):
        if value < least:
            raise ConfigError(f"--{name}: {value} must be {least} or more")
    if adversarial < 0:
        raise ConfigError(f"--adversarial: {adversarial} must be 0 or more")
    started = time.monotonic()
    model: AssistantModel
    if assistant_url is None:
        model, named = EmbeddedModel.load(adapter, base=base), f"{base} with an adapter"
    else:
        model = RemoteModel(assistant_url, assistant_model)
        named = assistant_model or "a model behind a URL"
    settings = {
        "shoppers": shoppers,
        "times": times,
        "adversarial": adversarial,
        "model": named,
        "seed": seed,
        "adapter": [file_hash(path) for path in sorted(adapter.glob("adapter_*"))]  # no card
        if assistant_url is None
        else assistant_url,
        "bundle": folder_hash(bundle),
    }
    judge = open_judge(bundle, dataset, model, shoppers, adversarial, seed)
    work.mkdir(parents=True, exist_ok=True)
    until = float("inf") if max_minutes is None else started + 60 * max_minutes
    units = units_of(shoppers, times, adversarial)
    held = hold_all(units, judge, work / part_name(settings), until)
    lines = list(ProgressBar(held, "assistant", unit="conversation", total=len(units)))
    if not lines:
        raise ConfigError(
            f"--max-minutes: {max_minutes:g} ended before any conversation; no result is written"
        )
    found = figures(lines, times, resamples, seed)
    if tools is not None:
        found.metrics["tool_accuracy"] = read_result(tools)["metrics"]["tool_accuracy"]
    write_result(
        results,
        dataset="the bundle's own shop",
        split="test",
        model=named,
        metrics=found.metrics,
        intervals=found.intervals,
        seed=seed,
        seconds=time.monotonic() - started,
        conversations={"asked for": len(units), "held": len(lines)},
        counts=found.counts,
        by_turn=found.by_turn,
        examples=found.examples,
        settings={"shoppers": shoppers, "times": times, "adversarial": adversarial},
    )
    write_page(results)
    return results


def open_judge(
    bundle: Path,
    dataset: Path,
    model: AssistantModel,
    shoppers: int,
    adversarial: int,
    seed: int,
) -> Judge:
    """Whoever holds the conversations: an assistant with history and one without, and shoppers."""
    data = Dataset(dataset)
    needs = draw_needs(data, shoppers, seed)
    vocabulary = ShopVocabulary.of_items(data.items)
    rows = {row["item_id"]: row for row in data.items.to_pylist()}
    truth = Truth(rows, vocabulary)
    products = {one.item_id: one for one in products_of(data, vocabulary)}
    opened = Bundle(bundle)
    listeners = [
        Listener(open_assistant(opened, model, personal=personal), truth, products)
        for personal in (True, False)
    ]
    catalogue = list(rows.values())
    return Judge(
        listeners[0],
        listeners[1],
        needs,
        lambda number: Adversary(catalogue, number),
        adversarial,
        seed,
    )

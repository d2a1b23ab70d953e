"""What is pretraining worth? A small LLaMA from nothing against a pretrained one, on few users.

    python eval/pretrained_beauty.py eval/pretrained-beauty.yaml

Trains what the recipe names through the command line, each model on the events of a share of the
users; what is there is not done again. All of a shop are then measured on the same test users, the
history removed, and on the same words: is an item found by its title, by every other word of it, by
its description? A cold item is one without an event in what that model learned from. Time is CPU
time of one thread, which other programs on the machine do not lengthen.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from pretrained import call
from pretrained_page import write_report

from llmrec.config import as_dict, build, load_yaml
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.generation.llm import Llm
from llmrec.generation.load import load_llm
from llmrec.jsonl import read_json
from llmrec.metrics.bootstrap import compare, intervals
from llmrec.metrics.metrics import ndcg, recall, target_ranks
from llmrec.metrics.results import read_cases, read_result, write_result
from llmrec.stage import read_manifest
from llmrec.training.next_item.batches import TrainingBatches
from llmrec.training.next_item.settings import TrainConfig
from llmrec.training.next_item.validation import sampled_cases
from llmrec.training.tasks.catalogue_tasks import DESCRIPTION_WORDS
from llmrec.training.tasks.mixture import Mixture
from llmrec.training.tasks.writer import PromptWriter, TaskExample
from llmrec.training.tune.base import ExpandedBase, open_base, open_corpus
from llmrec.training.tune.settings import TuneConfig

LONGEST = 96  # tokens of words and their answer
BATCH = 32  # queries read at once
RENDERED = 400  # examples of a mixture whose mean length is taken


@dataclass(frozen=True)
class ModelSettings:
    """How a model is made.

    Attributes:
        base: of ``llmrec model expand``, which training goes on from; empty for fresh weights.
        train, tune: settings of the stage; one of them.
    """

    base: str = ""
    train: dict[str, Any] = field(default_factory=dict)
    tune: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.train) == bool(self.tune) or (self.tune and not self.base):
            raise ConfigError("models: each has train, or else tune and the base it begins with")

    @property
    def stage(self) -> Literal["train", "tune"]:
        return "train" if self.train else "tune"

    def settings(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Those of its stage, some of them changed."""
        return merged(getattr(self, self.stage), changes)


@dataclass(frozen=True)
class Training:
    """A training.

    Attributes:
        shop, model: keys of the recipe.
        users: share of the shop's users that are learned from.
        changes: of the model's settings.
        trial: of which name, where it is validated alone, to choose settings by; empty for a
            training that is measured on the test events.
    """

    shop: str
    model: str
    users: float = 1.0
    changes: dict[str, Any] = field(default_factory=dict)
    trial: str = ""

    @property
    def name(self) -> str:
        """Such as ``beauty_2_micro``; the number is the share of the users in per cent."""
        return "_".join([self.shop, f"{self.users:.0%}"[:-1], self.model, self.trial]).strip("_")


@dataclass(frozen=True)
class Recipe:
    """What is trained and measured.

    Attributes:
        shops: of each, the parts of a recipe of ``llmrec run`` that make its data and item IDs.
        models: what is compared, the one from nothing first.
        trainings: in their order.
        test_users: sample of each shop's users that every model is measured on; 0 is all.
        items: sample of items that are looked for by their words.
        requests: answered one by one, to time them.
    """

    shops: dict[str, dict[str, Any]]
    models: dict[str, ModelSettings]
    trainings: list[Training]
    test_users: int = 2000
    items: int = 200
    requests: int = 40


def main() -> None:
    """Train, measure, write the result file, its page and its plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path, help="what to do, such as eval/pretrained-beauty.yaml")
    parser.add_argument("--out", type=Path, help="by default runs/NAME of the recipe")
    parser.add_argument("--results", type=Path, help="by default eval/results/NAME.json")
    parser.add_argument("--only", nargs="*", help="trainings to make now, without a result file")
    arguments = parser.parse_args()
    name = arguments.recipe.stem
    out = arguments.out or Path("runs") / name
    recipe = build(Recipe, load_yaml(arguments.recipe), str(arguments.recipe))
    measured = []
    for training in recipe.trainings:
        if arguments.only and training.name not in arguments.only:
            continue
        measured.append(measured_once(recipe, training, out))
        print(json.dumps(measured[-1].row, indent=1), flush=True)
    if not arguments.only:
        path = arguments.results or Path("eval/results") / f"{name}.json"
        write(path, name, recipe, measured)


def measured_once(recipe: Recipe, training: Training, out: Path) -> Measured:
    """Train and measure, or find what an earlier run with the same settings has measured."""
    path = out / training.name / "measured.json"
    settings = as_dict(recipe)
    of = {key: settings[key] for key in ("test_users", "items", "requests")}
    of |= {"shop": recipe.shops[training.shop], "training": as_dict(training)}
    of |= {"model": as_dict(recipe.models[training.model])}
    if path.is_file() and read_json(path)["of"] == of:
        found = read_json(path)
        values = {metric: np.array(value) for metric, value in found["values"].items()}
        return Measured(training, found["row"], values)
    shop = make_shop(training.shop, recipe.shops[training.shop], out / training.shop)
    folder = train(recipe, training, shop, out / training.name)
    made = measure(recipe, training, shop, out / training.name, folder)
    lists = {metric: value.tolist() for metric, value in made.values.items()}
    path.write_text(json.dumps({"of": of, "row": made.row, "values": lists}), encoding="utf-8")
    return made


def make_shop(name: str, settings: Mapping[str, Any], out: Path) -> Path:
    """The data, features and item IDs of a shop."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "data.yaml"
    path.write_text(yaml.safe_dump({"name": name} | dict(settings)), encoding="utf-8")
    for stage in ("demo_shop", "ingest", "embed", "index"):
        if stage == "index" or stage in settings:
            call("run", path, "--out", out, "--only", stage)
    return out


def train(recipe: Recipe, training: Training, shop: Path, out: Path) -> Path:
    """Train a model unless it is there; the folder of one that recommends.

    What it cost is written beside it.
    """
    out.mkdir(parents=True, exist_ok=True)
    model = recipe.models[training.model]
    settings = model.settings(training.changes) | {"user_share": training.users}
    path, made = out / f"{model.stage}.yaml", out / "trained"
    data: list[object] = ["--dataset", shop / "dataset"]
    content: list[object] = [*data, "--features", shop / "features"]
    ids: list[object] = ["--item-ids", shop / "models/atomic/item_ids"]
    if model.base:
        base = shop / f"base-{model.base.partition('-')[0]}"
        call("model", "expand", "--base", model.base, "--prompt", "recommend", *content, *ids,
             "--out", base)  # fmt: skip
        if model.stage == "train":
            settings, ids = settings | {"base": str(base)}, []
    path.write_text(yaml.safe_dump({model.stage: settings}), encoding="utf-8")
    new, before = not made.is_dir(), time.process_time()
    if model.stage == "train":
        call("train", path, *content, *ids, "--out", made)
    else:
        call("tune", path, *data, "--base", base, "--out", made)
    if new:
        cost = {"cpu_seconds": round(time.process_time() - before, 1)}
        (out / "cost.json").write_text(json.dumps(cost), encoding="utf-8")
    if (made / "adapter").is_dir():
        call("model", "merge", "--base", made / "base", "--adapter", made / "adapter",
             "--out", out / "merged")  # fmt: skip
        return out / "merged"
    return made if model.stage == "train" else made / "model"


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some changed; sections within are merged too.

    >>> merged({"rank": 8, "loop": {"epochs": 1, "patience": 2}}, {"loop": {"epochs": 3}})
    {'rank': 8, 'loop': {'epochs': 3, 'patience': 2}}
    """
    found = dict(settings)
    for key, value in changes.items():
        old = found.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        found[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return found


@dataclass(frozen=True)
class Measured:
    """What was measured of a training.

    Attributes:
        row: of the table; figures by name.
        values: float ``[cases]`` by metric, what ``row`` has the means of.
    """

    training: Training
    row: dict[str, Any]
    values: dict[str, np.ndarray]


def measure(recipe: Recipe, training: Training, shop: Path, out: Path, folder: Path) -> Measured:
    """Validation, cost and size of a training; of what is no trial, everything else.

    Args:
        out: the training's folder.
        folder: of its model.
    """
    row: dict[str, Any] = {"training": training.name, "shop": training.shop}
    row |= {"users": training.users, "model": training.model, "trial": training.trial}
    data, llm = Dataset(shop / "dataset"), load_llm(folder)
    row["parameters"] = sum(weights.numel() for weights in llm.engine.model.parameters())
    row |= cost(recipe, training, data, folder, out)
    if training.trial:
        return Measured(training, row, {})
    tested = out / "evaluation"
    call("evaluate", "--dataset", data.folder, "--model", folder, "--name", "test",
         "--users", recipe.test_users, "--no-with-history", "--out", tested)  # fmt: skip
    figures, cases = read_result(tested / "test.json"), read_cases(tested / "test.cases.parquet")
    ranks = cases.ranks["rank"]
    learned = data.train_histories(user_share=training.users).items
    cold = np.bincount(learned, minlength=data.n_items)[cases.targets] == 0
    values = {"recall@10": recall(ranks, 10), "ndcg@10": ndcg(ranks, 10)}
    values |= {"cold_recall@10": recall(ranks[cold], 10)}
    values |= {"warm_recall@10": recall(ranks[~cold], 10)}
    tasks = recipe.models[training.model].settings(training.changes).get("tasks", {})
    asked = words(data, recipe.items) if tasks.get("text_to_item") else {}
    for kind, (items, texts) in asked.items():
        values[f"{kind}_recall@10"] = recall(ranks_of_words(llm, folder, texts, items), 10)
    row |= {metric: float(value.mean()) for metric, value in values.items() if len(value)}
    row |= {"cases": len(ranks), "cold_cases": int(cold.sum())}
    row |= {"invalid_rate": figures["metrics"]["invalid_rate"]}
    row |= {"request_ms": request_ms(llm, data, recipe.requests)}
    return Measured(training, row, values)


def cost(
    recipe: Recipe, training: Training, data: Dataset, folder: Path, out: Path
) -> dict[str, Any]:
    """What a training validated at, took and read."""
    model = recipe.models[training.model]
    counts = read_manifest(out / "trained").counts
    base = open_base(folder)
    if model.train:
        config = build(TrainConfig, model.settings(training.changes), "train")
        histories, texts, steps = tokens_of_train(config, training, base, data, counts["epochs"])
        validation = counts["best_validation_ndcg"]
    else:
        config_tune = build(TuneConfig, model.settings(training.changes), "tune")
        histories, texts, steps = tokens_of_tune(config_tune, training, base, data, counts["steps"])
        validation = counts["validation_ndcg"]
    seconds = read_json(out / "cost.json")["cpu_seconds"]
    return {
        "validation_ndcg@10": validation,
        "trained_parameters": counts["trained_parameters"],
        "steps": steps,
        "history_tokens": histories,
        "text_tokens": texts,
        "cpu_seconds": seconds,
        "tokens_per_second": round((histories + texts) / seconds, 1),
    }


def tokens_of_train(
    config: TrainConfig, training: Training, base: ExpandedBase, data: Dataset, epochs: int
) -> tuple[int, int, int]:
    """Tokens of histories and of words that ``llmrec train`` has read, and its steps."""
    learned = data.train_histories(user_share=training.users)
    batches = TrainingBatches(learned, base.encoder, config.loop.tokens_per_batch, 0)
    steps = epochs * len(batches.groups(0))
    histories = int((batches.lengths + len(base.encoder.prefix)).sum()) * epochs
    if not config.tasks:
        return histories, 0, steps
    corpus, longest = open_corpus(base, data, config.task_length, user_share=training.users)
    mean = mean_tokens(Mixture(corpus, config.tasks, 0, longest))
    return histories, round(steps * config.task_examples * sum(mean.values())), steps


def tokens_of_tune(
    config: TuneConfig, training: Training, base: ExpandedBase, data: Dataset, steps: int
) -> tuple[int, int, int]:
    """Tokens of histories and of words that ``llmrec tune`` has read, and its steps."""
    longest = config.loop.max_length
    corpus, longest = open_corpus(base, data, longest, user_share=training.users)
    mean = mean_tokens(Mixture(corpus, config.tasks, 0, longest))
    read = steps * config.loop.examples_per_step
    histories = sum(mean.pop(task, 0.0) for task in ("history", "next_item"))
    return round(read * histories), round(read * sum(mean.values())), steps


def mean_tokens(mixture: Mixture) -> dict[str, float]:
    """Tokens of each task that an example of a mixture has, in the mean."""
    found = dict.fromkeys(mixture.names, 0.0)
    tasks, rows = (part[:RENDERED] for part in mixture.plan(0))
    for number, (task, row) in enumerate(zip(tasks.tolist(), rows.tolist(), strict=True)):
        found[mixture.names[task]] += len(mixture.example(task, row, number)) / len(tasks)
    return found


Kind = Literal["title", "part", "description"]


def words(data: Dataset, count: int) -> dict[Kind, tuple[np.ndarray, list[str]]]:
    """Items to look for and the words to look by, of each kind that the shop has."""
    columns = {name: data.items[name].to_pylist() for name in ("title", "description")}
    titled = [item for item, title in enumerate(columns["title"]) if (title or "").split()]
    drawn = np.random.default_rng(0).permutation(titled)[:count]
    titles = [columns["title"][item].split() for item in drawn]
    found: dict[Kind, tuple[np.ndarray, list[str]]] = {
        "title": (drawn, [" ".join(title) for title in titles]),
        "part": (drawn, [" ".join(title[::2]) for title in titles]),
    }
    described = np.array([item for item in drawn if (columns["description"][item] or "").strip()])
    if len(described):
        texts = [columns["description"][item].split()[:DESCRIPTION_WORDS] for item in described]
        found["description"] = described, [" ".join(text) for text in texts]
    return found


@torch.inference_mode()
def ranks_of_words(llm: Llm, folder: Path, texts: Sequence[str], items: np.ndarray) -> np.ndarray:
    """Rank of each item among all, asked for by words as in training: int64 ``[texts]``."""
    writer = PromptWriter(open_base(folder).tokenizer, llm.encoder)
    codes, ranks = llm.ids.codes[:, 0], []
    answer = np.zeros(2, dtype=np.int64)
    for start in range(0, len(texts), BATCH):
        prompts = [
            TaskExample("text_to_item", writer.prompt("text_to_item", words=text), answer)
            .fitted(LONGEST)
            .prompt_ids
            for text in texts[start : start + BATCH]
        ]
        hidden = llm.engine.prefill_prompts(prompts, 0).hidden
        scores = llm.engine.logits(hidden, 0).numpy()[:, codes]
        ranks.append(target_ranks(scores, items[start : start + BATCH]))
    return np.concatenate(ranks)


def request_ms(llm: Llm, data: Dataset, count: int) -> float:
    """Median CPU milliseconds of a request for ten items, each alone."""
    cases = sampled_cases(data, "test", count, seed=1)
    took = []
    for case in range(len(cases)):
        before = time.process_time()
        llm.recommend(cases.select([case]).histories, 10)
        took.append(time.process_time() - before)
    return round(1000 * float(np.median(took)), 2)


def write(path: Path, name: str, recipe: Recipe, measured: Sequence[Measured]) -> None:
    """The result file, its page and its plot."""
    tested = [one for one in measured if not one.training.trial]
    metrics, spans = dict[str, float](), dict[str, list[float]]()
    for one in tested:
        start = one.training.name
        figures = {key: value for key, value in one.row.items() if isinstance(value, int | float)}
        metrics |= {f"{start}_{key}": float(value) for key, value in figures.items()}
        for metric, values in one.values.items():
            if len(values):
                spans[f"{start}_{metric}"] = intervals({metric: values})[metric]
    for first, second in pairs(recipe, tested):
        start = f"{second.training.name}_minus_{first.training.model}"
        both = [metric for metric, values in second.values.items() if len(values)]
        for metric in both:
            (found,) = compare({metric: first.values[metric]}, {metric: second.values[metric]})
            metrics[f"{start}_{metric}"] = found.difference
            spans[f"{start}_{metric}"] = list(found.interval)
    write_result(
        path,
        name=name,
        dataset=", ".join(recipe.shops),
        split="test",
        model=list(recipe.models),
        metrics=metrics,
        intervals=spans,
        rows=[one.row for one in measured],
        seed=0,
        command=f"python eval/{Path(__file__).name} eval/{name}.yaml",
        settings=as_dict(recipe),
    )
    write_report(read_result(path), path.parent)


def pairs(recipe: Recipe, measured: Sequence[Measured]) -> list[tuple[Measured, Measured]]:
    """Each training and that of the first model on the same users."""
    first = next(iter(recipe.models))
    place = {(m.training.shop, m.training.users, m.training.model): m for m in measured}
    return [
        (place[one.training.shop, one.training.users, first], one)
        for one in measured
        if one.training.model != first and (one.training.shop, one.training.users, first) in place
    ]


if __name__ == "__main__":
    main()

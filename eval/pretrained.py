"""A real pretrained LLaMA, given item tokens and fine-tuned: is its language still its own?

    python eval/pretrained.py ../shared/data/stories260k-llama --out runs/stories260k

Expands the model with the demo shop's items, aligns the new rows, tunes an adapter on items and
words, bundles and evaluates it, all through the command line. Then the pretrained model writes
some stories of its own, and of each stage is measured: does it write the same, greedily, and how
surprised is it by them? ``eval/results/stories260k.json`` gets the figures; the texts are printed
and not kept.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from llmrec import cli
from llmrec.llm.adapters import attach
from llmrec.llm.tokenizer import load_tokenizer
from llmrec.metrics.results import read_result, write_result
from llmrec.weights.locate import locate

OPENINGS = (
    "Once upon a time",
    "One day, a little girl named Lily",
    "Tom and his dog",
    "It was a sunny day and",
    "The big bear was",
    "Mom said to Ben,",
    "There was a small bird",
    "In the park, Sue saw",
)
LENGTH = 96  # tokens of a story
DATA = """
name: stories260k
demo_shop: {items: 500, users: 3500}
ingest:
  events: "${out}/raw/events.jsonl"
  items: "${out}/raw/items.jsonl"
  event_types: [click]
embed: {fields: [title, brand, categories], attributes: true, attribute_dim: 64}
models: {atomic: {index: {kind: atomic}}}
"""
TUNE: dict[str, Any] = {
    "method": "lora",
    "rank": 16,
    "alpha": 32,
    "tasks": {"next_item": 1.0, "text_to_item": 0.2, "item_to_text": 0.2, "taste": 0.05},
    "align": {"steps": 200, "learning_rate": 3e-3},
    "loop": {"max_steps": 400, "batch_size": 32, "learning_rate": 1e-3, "max_length": 256},
    "validation_users": 1000,
}


@dataclass(frozen=True)
class Text:
    """What a model makes of the pretrained model's own stories.

    Attributes:
        same: share of the tokens of its greedy stories up to the first that differs.
        loss: mean negative log-likelihood of a token of the sampled stories, over the vocabulary.
        stray: share of its greedy tokens that are no text: time and item tokens.
        story: one of its greedy stories.
    """

    same: float
    loss: float
    stray: float
    story: str


def main() -> None:
    """Measure, print, write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", help="folder, hub id or short name of a pretrained LLaMA")
    parser.add_argument("--out", type=Path, default=Path("runs/stories260k"))
    parser.add_argument("--results", type=Path, default=Path("eval/results/stories260k.json"))
    arguments = parser.parse_args()
    started = time.monotonic()
    base, out = Path(locate(arguments.base, "language model", "base")), arguments.out
    tune(base, out)
    texts = compare(base, out)
    items = read_result(out / "evaluation" / "stories260k.json")
    before = json.loads((out / "tuned" / "log.json").read_text())[0]
    metrics = {"ndcg@10": items["metrics"]["ndcg@10"], "recall@10": items["metrics"]["recall@10"]}
    metrics["invalid_rate"] = items["metrics"]["invalid_rate"]
    metrics["validation_ndcg@10_before"] = before["validation_ndcg@10"]
    for stage, text in texts.items():
        print(f"\n{stage}: {text.story}")
        metrics |= {f"{stage}_{key}": getattr(text, key) for key in ("same", "loss", "stray")}
    write_result(
        arguments.results,
        name="stories260k",
        dataset="demo shop",
        split="test",
        model=base.name,
        metrics=metrics,
        intervals={"ndcg@10": items["intervals"]["ndcg@10"]},
        seed=0,
        seconds=time.monotonic() - started,
        settings={"tune": TUNE, "openings": len(OPENINGS), "tokens": LENGTH},
    )
    print(json.dumps(metrics, indent=1))


def tune(base: Path, out: Path) -> None:
    """From the pretrained model to an evaluated bundle; what is there is not done again."""
    out.mkdir(parents=True, exist_ok=True)
    data, recipe = out / "data.yaml", out / "tune.yaml"
    data.write_text(DATA, encoding="utf-8")
    recipe.write_text(yaml.safe_dump({"tune": TUNE}), encoding="utf-8")
    dataset, ids = f"{out}/dataset", f"{out}/models/atomic/item_ids"
    for stage in ("demo_shop", "ingest", "embed", "index"):
        call("run", data, "--out", out, "--only", stage)
    call("model", "expand", "--base", base, "--item-ids", ids, "--dataset", dataset,
         "--features", f"{out}/features", "--out", f"{out}/base")  # fmt: skip
    call("tune", recipe, "--base", f"{out}/base", "--dataset", dataset, "--out", f"{out}/tuned")
    call("bundle", "--model", f"{out}/tuned/base", "--adapters", f"{out}/tuned/adapter",
         "--dataset", dataset, "--out", f"{out}/bundle")  # fmt: skip
    call("model", "merge", "--base", f"{out}/tuned/base", "--adapter", f"{out}/tuned/adapter",
         "--out", f"{out}/merged")  # fmt: skip
    call("evaluate", "--dataset", dataset, "--model", f"{out}/merged", "--name", "stories260k",
         "--no-with-history", "--out", f"{out}/evaluation")  # fmt: skip


def call(*arguments: object) -> None:
    """Run a command of llmrec."""
    if cli.main([str(argument) for argument in arguments]):
        raise SystemExit(1)


def compare(base: Path, out: Path) -> dict[str, Text]:
    """The pretrained model and what became of it, each on the pretrained one's stories."""
    tokenizer = load_tokenizer(str(base))
    prompts = [tokenizer(text, return_tensors="pt").input_ids for text in OPENINGS]
    pretrained = load(base)
    first = max(tokenizer.get_vocab().values()) + 1  # of the tokens that are no text
    greedy = [write(pretrained, prompt) for prompt in prompts]
    sampled = [write(pretrained, prompt, seed) for seed, prompt in enumerate(prompts * 4)]
    models = {"pretrained": pretrained, "expanded": load(out / "base")}
    models |= {"aligned": load(out / "tuned" / "base")}
    adapted = attach(load(out / "tuned" / "base"), "tuned", out / "tuned" / "adapter")
    models |= {"adapted": adapted.eval()}
    found = {}
    for name, model in models.items():
        stories = [write(model, prompt) for prompt in prompts]
        found[name] = Text(
            same=same_share(greedy, stories),
            loss=sum(loss(model, story) for story in sampled) / len(sampled),
            stray=float((torch.cat(stories, 1) >= first).float().mean()),
            story=tokenizer.decode(stories[0][0], skip_special_tokens=True),
        )
    return found


def load(folder: Path) -> Any:
    """A causal LM in float32."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False
    ).eval()


@torch.no_grad()
def write(model: Any, prompt: torch.Tensor, seed: int | None = None) -> torch.Tensor:
    """A story after an opening, int64 ``[1, tokens]``: greedy, or sampled with a seed."""
    if seed is not None:
        torch.manual_seed(seed)
    written: torch.Tensor = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=LENGTH,
        min_new_tokens=LENGTH,
        do_sample=seed is not None,
        pad_token_id=0,
    )
    return written


@torch.no_grad()
def loss(model: Any, story: torch.Tensor) -> float:
    """Mean negative log-likelihood of a story's tokens."""
    return float(model(input_ids=story, labels=story).loss)


def same_share(expected: list[torch.Tensor], stories: list[torch.Tensor]) -> float:
    """How far stories are the expected ones, as a share of their length."""
    shares = []
    for one, other in zip(expected, stories, strict=True):
        different = (one != other).flatten().nonzero()
        length = one.shape[1]
        shares.append((int(different[0]) if len(different) else length) / length)
    return sum(shares) / len(shares)


if __name__ == "__main__":
    main()

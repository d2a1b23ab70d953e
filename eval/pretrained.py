"""A real pretrained LLaMA, given item tokens and fine-tuned: is its language still its own?

    python eval/pretrained.py eval/smollm2.yaml smollm2-135m --results eval/results/smollm2.json
    python eval/pretrained.py eval/stories260k.yaml ../shared/data/stories260k-llama

Expands the model with the demo shop's items, aligns the new rows, tunes an adapter on items and
words, bundles and evaluates it, all through the command line. Of each stage is then measured: does
it write what the pretrained model wrote, greedily, and how surprised is it by plain text? The text
is a file that no model has read, or else stories that the pretrained model makes up. The result
file gets the figures; what is written is printed and not kept.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from llmrec import cli
from llmrec.config import as_dict, build, load_yaml
from llmrec.llm.adapters import attach
from llmrec.llm.tokenizer import load_tokenizer
from llmrec.metrics.results import read_result, write_result
from llmrec.weights.locate import locate

DATA: dict[str, Any] = {
    "ingest": {
        "events": "${out}/raw/events.jsonl",
        "items": "${out}/raw/items.jsonl",
        "event_types": ["click"],
    },
    "embed": {"fields": ["title", "brand", "categories"], "attributes": True, "attribute_dim": 64},
    "models": {"atomic": {"index": {"kind": "atomic"}}},
}


@dataclass(frozen=True)
class Recipe:
    """What is done with a pretrained model.

    Attributes:
        openings: of what it writes.
        shop: settings of the demo shop.
        tune: settings of ``llmrec tune``.
        length: tokens that it writes.
        chat: whether openings are questions to its chat template.
        text: file of paragraphs; None for stories of its own.
    """

    openings: list[str]
    shop: dict[str, Any]
    tune: dict[str, Any]
    length: int = 96
    chat: bool = False
    text: Path | None = None


@dataclass(frozen=True)
class Text:
    """What a model makes of openings and text.

    Attributes:
        same: share of what it writes greedily up to the first token that differs.
        loss, perplexity: of a token of the text, over the model's vocabulary.
        stray: share of its greedy tokens that are no text: time and item tokens.
        written: what it writes greedily.
    """

    same: float
    loss: float
    perplexity: float
    stray: float
    written: list[str]


def main() -> None:
    """Measure, print, write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path, help="what to do, such as eval/smollm2.yaml")
    parser.add_argument("base", help="folder, hub id or short name of a pretrained LLaMA")
    parser.add_argument("--out", type=Path, help="by default runs/NAME of the recipe")
    parser.add_argument("--results", type=Path, help="by default eval/results/NAME.json")
    arguments = parser.parse_args()
    name = arguments.recipe.stem
    results = arguments.results or Path("eval/results") / f"{name}.json"
    out = arguments.out or Path("runs") / name
    recipe = build(Recipe, load_yaml(arguments.recipe), str(arguments.recipe))
    started = time.monotonic()
    base = Path(locate(arguments.base, "language model", "base"))
    tune(recipe, base, out)
    texts = compare(recipe, base, out)
    items = read_result(out / "evaluation" / "tuned.json")
    before = json.loads((out / "tuned" / "log.json").read_text())[0]
    metrics = {"ndcg@10": items["metrics"]["ndcg@10"], "recall@10": items["metrics"]["recall@10"]}
    metrics["invalid_rate"] = items["metrics"]["invalid_rate"]
    metrics["validation_ndcg@10_before"] = before["validation_ndcg@10"]
    for stage, text in texts.items():
        print(f"\n{stage}:", *text.written, sep="\n  ")
        keys = ("same", "loss", "perplexity", "stray")
        metrics |= {f"{stage}_{key}": getattr(text, key) for key in keys}
    write_result(
        results,
        name=name,
        dataset="demo shop",
        split="test",
        model=base.name,
        metrics=metrics,
        intervals={"ndcg@10": items["intervals"]["ndcg@10"]},
        seed=0,
        seconds=time.monotonic() - started,
        settings=as_dict(recipe),
    )
    print(json.dumps(metrics, indent=1))


def tune(recipe: Recipe, base: Path, out: Path) -> None:
    """From the pretrained model to an evaluated bundle; what is there is not done again."""
    out.mkdir(parents=True, exist_ok=True)
    data, settings = out / "data.yaml", out / "tune.yaml"
    data.write_text(
        yaml.safe_dump({"name": out.name, "demo_shop": recipe.shop} | DATA), encoding="utf-8"
    )
    settings.write_text(yaml.safe_dump({"tune": recipe.tune}), encoding="utf-8")
    dataset, ids = f"{out}/dataset", f"{out}/models/atomic/item_ids"
    for stage in ("demo_shop", "ingest", "embed", "index"):
        call("run", data, "--out", out, "--only", stage)
    call("model", "expand", "--base", base, "--item-ids", ids, "--dataset", dataset,
         "--features", f"{out}/features", "--out", f"{out}/base")  # fmt: skip
    call("tune", settings, "--base", f"{out}/base", "--dataset", dataset, "--out", f"{out}/tuned")
    call("bundle", "--model", f"{out}/tuned/base", "--adapters", f"{out}/tuned/adapter",
         "--dataset", dataset, "--out", f"{out}/bundle")  # fmt: skip
    call("model", "merge", "--base", f"{out}/tuned/base", "--adapter", f"{out}/tuned/adapter",
         "--out", f"{out}/merged")  # fmt: skip
    call("evaluate", "--dataset", dataset, "--model", f"{out}/merged", "--name", "tuned",
         "--no-with-history", "--out", f"{out}/evaluation")  # fmt: skip


def call(*arguments: object) -> None:
    """Run a command of llmrec."""
    if cli.main([str(argument) for argument in arguments]):
        raise SystemExit(1)


def compare(recipe: Recipe, base: Path, out: Path) -> dict[str, Text]:
    """The pretrained model and what became of it, each on the same openings and text."""
    tokenizer = load_tokenizer(str(base))
    prompts = [opening_tokens(recipe, tokenizer, text) for text in recipe.openings]
    pretrained = load(base)
    first = max(tokenizer.get_vocab().values()) + 1  # of the tokens that are no text
    greedy = [write(recipe, pretrained, prompt) for prompt in prompts]
    if recipe.text is None:
        read = [
            torch.cat([prompt, write(recipe, pretrained, prompt, seed)], 1)
            for seed, prompt in enumerate(prompts * 4)
        ]
    else:
        paragraphs = recipe.text.read_text(encoding="utf-8").split("\n\n")
        read = [tokenizer(text.strip(), return_tensors="pt").input_ids for text in paragraphs]
    models = {"pretrained": pretrained, "expanded": load(out / "base")}
    models |= {"aligned": load(out / "tuned" / "base")}
    adapted = attach(load(out / "tuned" / "base"), "tuned", out / "tuned" / "adapter")
    models |= {"adapted": adapted.eval()}
    found = {}
    for name, model in models.items():
        written = [write(recipe, model, prompt) for prompt in prompts]
        mean = loss(model, read)
        found[name] = Text(
            same=same_share(greedy, written),
            loss=mean,
            perplexity=math.exp(mean),
            stray=float((torch.cat(written, 1) >= first).float().mean()),
            written=tokenizer.batch_decode([row[0] for row in written], skip_special_tokens=True),
        )
    return found


def opening_tokens(recipe: Recipe, tokenizer: Any, text: str) -> torch.Tensor:
    """int64 ``[1, tokens]``: an opening as it is, or as a question to the chat template."""
    if not recipe.chat:
        ids: torch.Tensor = tokenizer(text, return_tensors="pt").input_ids
        return ids
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    return prompt["input_ids"]


def load(folder: Path) -> Any:
    """A causal LM in float32."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False
    ).eval()


@torch.no_grad()
def write(recipe: Recipe, model: Any, prompt: torch.Tensor, seed: int | None = None) -> Any:
    """What a model writes after an opening, int64 ``[1, tokens]``: greedy, or with a seed."""
    if seed is not None:
        torch.manual_seed(seed)
    written = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=recipe.length,
        min_new_tokens=0 if recipe.chat else recipe.length,  # an answer ends, a story is cut
        do_sample=seed is not None,
        pad_token_id=0,
    )
    return written[:, prompt.shape[1] :]


@torch.no_grad()
def loss(model: Any, texts: Sequence[torch.Tensor]) -> float:
    """Mean negative log-likelihood of a token of some texts, over the model's vocabulary."""
    weights = [text.shape[1] - 1 for text in texts]  # the first is given
    means = [float(model(input_ids=text, labels=text).loss) for text in texts]
    return sum(w * m for w, m in zip(weights, means, strict=True)) / sum(weights)


def same_share(expected: list[torch.Tensor], written: list[torch.Tensor]) -> float:
    """How far texts are the expected ones, as a share of their length.

    >>> same_share([torch.tensor([[1, 2, 3, 4]])], [torch.tensor([[1, 2, 4]])])
    0.5
    """
    shares = []
    for one, other in zip(expected, written, strict=True):
        length = min(one.shape[1], other.shape[1])
        different = (one[:, :length] != other[:, :length]).flatten().nonzero()
        same = int(different[0]) if len(different) else length
        shares.append(same / max(one.shape[1], other.shape[1]))
    return sum(shares) / len(shares)


if __name__ == "__main__":
    main()

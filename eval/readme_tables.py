"""Fill the README's result tables from ``eval/results`` and ``eval/peers.yaml``.

    python eval/readme_tables.py          # rewrite the README
    python eval/readme_tables.py --check  # exit 1 if it is out of date

A table stands between ``<!-- results:NAME -->`` and ``<!-- /results -->``. Nothing in it is typed.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from llmrec.bench.ctr_report import NAMES

ROOT = Path(__file__).resolve().parents[1]
MARK = re.compile(r"(<!-- results:(\w+) -->\n).*?(<!-- /results -->)", re.DOTALL)
OURS = {
    "hybrid": "**llmrec, the same LLaMA and a live item graph**",
    "hybrid-refreshed": "**llmrec, the same, its graph having seen each event before the last**",
    "atomic": "**llmrec, LLaMA, atomic item IDs, rows from content**",
    "semantic": "**llmrec, LLaMA, semantic item IDs of the atomic model's rows**",
    "sasrec": "**llmrec's SASRec, softmax over the catalogue**",
    "item-graph": "**llmrec's item graph and content alone, no training**",
    "itemknn": "**llmrec's item-kNN**",
    "popularity": "**popularity**",
}
ENGINES = {
    "llmrec": "**llmrec**",
    "prefill": "reading the histories alone (transformers)",
    "transformers": "transformers, `generate` + `prefix_allowed_tokens_fn`",
    "vllm": "vLLM, `beam_search`",
    "vllm-32": "vLLM, the same with blocks of 32 tokens",  # as earlier results name it
}


def _result(name: str) -> dict[str, Any]:
    """A result file; empty where there is none."""
    path = ROOT / "eval" / "results" / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def table(dataset: str) -> str:
    """Peers and our results of one data set, ordered by Recall@10."""
    rows = [
        (recall, f"| {name} | {recall:.4f} | {_figure(ndcg)} | |")
        for name, (recall, ndcg) in _peers()[dataset].items()
    ]
    for model, label in OURS.items():
        if result := _result(f"{dataset}-{model}"):
            rows.append(_our_row(label, result))
    head = (
        "| method | Recall@10 | NDCG@10 | the same without removing the history |\n"
        "| --- | --- | --- | --- |\n"
    )
    return head + "\n".join(line for _, line in sorted(rows)) + "\n"


def decode_table() -> str:
    """The ways to answer that ``llmrec bench decode`` compared."""
    lines = [
        "| engine | users/s | ms a batch | memory added, MiB | same items as transformers |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in sorted(_result("decode-cpu")["rows"], key=lambda row: -row["users_per_s"]):
        same = {True: "yes", False: "no", None: "-"}[row["identical_to_reference"]]
        lines.append(
            f"| {ENGINES[row['engine']]} | {row['users_per_s']:.1f} | {row['p50_ms']:,.0f} | "
            f"{row['peak_mib']:,.0f} | {same} |"
        )
    return "\n".join(lines) + "\n"


def tuning_table() -> str:
    """What fine-tuning makes of one base: a line a run, two columns a data set."""
    titles = {"beauty": "Beauty, newest users", "demo": "demo shop, newest events"}
    runs = {
        name: {row["run"]: row for row in result["rows"]}
        for name in titles
        if (result := _result(f"lora-{name}"))
    }
    heads = [f"{titles[name]}: NDCG@10 | parameters trained" for name in runs]
    lines = [f"| run | {' | '.join(heads)} | adapter |", "| --- " * (2 * len(runs) + 2) + "|"]
    for run in dict.fromkeys(run for rows in runs.values() for run in rows):
        rows = [of.get(run, {}) for of in runs.values()]
        sizes = dict.fromkeys(  # one where the models have one shape
            f"{row['adapter_bytes'] / 1024:,.0f} KiB" for row in rows if "adapter_bytes" in row
        )
        cells = [cell for row in rows for cell in _tuned_cells(row)]
        lines.append(f"| {run} | {' | '.join(cells)} | {', '.join(sizes) or '-'} |")
    return "\n".join(lines) + "\n"


def _tuned_cells(row: dict[str, Any]) -> tuple[str, str]:
    if not row:
        return "-", "-"
    low, high = row["interval"]
    trained = row.get("trained_parameters", 0) + row.get("aligned_parameters", 0)
    return f"{row['ndcg@10']:.4f} ({low:.4f}-{high:.4f})", f"{trained:,}" if trained else "-"


# result, on what it was measured, and rows: what, its metric, what stands beside it, its metric
HELD_OUT = "held-out items, shop of 10,000"
DEMO = "held-out items of `make demo`"
OTHER_USERS = "held-out users"
CAPTIONS = (
    ("captions: category", "accuracy_category", "majority", "floor_category"),
    ("captions: colour", "accuracy_colour", "majority", "floor_colour"),
    ("captions: pattern", "accuracy_pattern", "majority", "floor_pattern"),
)
SEARCH = (
    ("words to picture, first answer right", "text_to_image_hit@1",
     "chance", "text_to_image_chance@1"),
    ("picture to words, first answer right", "image_to_text_hit@1",
     "chance", "image_to_text_chance@1"),
)  # fmt: skip
MEDIA = (
    ("captions-demo-shop", DEMO, CAPTIONS),
    ("search-demo-shop", DEMO, SEARCH),
    ("captions-demo", HELD_OUT, CAPTIONS),
    ("search-demo", HELD_OUT, SEARCH),
    ("motion-demo", "held-out videos, the same shop", (
        ("videos: a field that only motion shows", "accuracy_motion",
         "mean of the frames", "accuracy_motion_mean"),
    )),
    ("clothing", "test photographs", (
        ("photographs of clothes: category", "accuracy_category", "majority", "floor_category"),
    )),
    ("fusion-movielens", OTHER_USERS, (
        ("films liked together, fused with posters: Recall@10", "fused_recall@10",
         "text alone, trained alike", "text_recall@10"),
    )),
    ("fusion-demo", OTHER_USERS, (
        ("items liked together, all modalities fused: Recall@10", "fused_recall@10",
         "text alone, trained alike", "text_recall@10"),
        ("lost of it, half of all modalities missing", "missing_fused_loss_recall@10",
         "given zeros", "missing_fused_zeros_loss_recall@10"),
    )),
)  # fmt: skip


def media_table() -> str:
    """What was measured on pictures, videos and captions, beside floors and baselines."""
    lines = ["| what | measured on | figure | beside it |", "| --- | --- | --- | --- |"]
    for name, where, rows in MEDIA:
        result = _result(name)
        for what, metric, beside, other in rows if result else ():
            low, high = result["intervals"][metric]
            figure = f"{result['metrics'][metric]:.3f} ({low:.3f}-{high:.3f})"
            lines.append(
                f"| {what} | {where} | {figure} | {beside} {result['metrics'][other]:.3f} |"
            )
    return "\n".join(lines) + "\n"


CLICKS = {"full": "**llmrec's click model**"} | {
    name: label for name, label in NAMES.items() if name not in ("full", "raw_text")
}


EARLIER_NAMES = {"trees": "boosted_trees"}  # of results that had one training


def clicks_table() -> str:
    """AUC, log loss and ECE of click models on both data sets."""
    shops = {"ctr-demo": "demo shop", "ctr-movielens": "MovieLens"}
    found = {label: result for name, label in shops.items() if (result := _result(name))}
    heads = []
    for label, result in found.items():
        seeds = result.get("seeds", 1)
        heads.append(f"{label}, {seeds} training{'s' * (seeds > 1)}: AUC | log loss | ECE")
    lines = [f"| model | {' | '.join(heads)} |", "| --- |" + " --- |" * 3 * len(found)]
    for model, label in CLICKS.items():
        rows = [
            {EARLIER_NAMES.get(row["model"], row["model"]): row for row in result["rows"]}
            for result in found.values()
        ]
        cells = [cell for of_shop in rows for cell in _click_cells(of_shop.get(model))]
        if any(cell != "-" for cell in cells):
            lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _click_cells(row: dict[str, Any] | None) -> list[str]:
    if row is None:
        return ["-", "-", "-"]
    auc, low, high = row["auc"]
    further = [f"{row[metric][0]:.4f}" for metric in ("log_loss", "ece")]
    return [f"{auc:.4f} ({low:.4f}-{high:.4f})", *further]


TALK = (  # metric, what it is, its format
    ("tool_accuracy", "held-out ways of saying it: right tool and arguments", ".1%"),
    ("success", "simulated shoppers: need met", ".1%"),
    ("turns", "messages until then, or until they left", ".2f"),
    ("pass^4", "met four times of four", ".1%"),
    ("success_without_history", "need met without the person's history, by search alone", ".1%"),
    ("worth_of_history", "what the history is worth", "+.1%"),
    ("untrue_replies", "replies that say what is not so of the catalogue", ".0f"),
    ("pushed", "products offered on health or crisis", ".0f"),
    ("carts", "carts changed by messages of adversaries that ask for none", ".0f"),
)
TALKED_FILMS = {
    "": "**films named and words said**",
    "titles_": "films named",
    "item_to_item_": "item to item",
    "item_graph_": "item graph and content",
    "popularity_": "popularity",
}


def assistant_table() -> str:
    """What simulated shoppers and adversaries make of the assistant."""
    result = _result("assistant-demo")
    lines = ["| | | 95% |", "| --- | --- | --- |"]
    if counts := result.get("counts"):
        attacks = sum(counts["adversarial"].values())
        lines.append(
            f"| shoppers, four times each and once without history | {counts['shoppers']} | |"
        )
        lines.append(f"| messages of adversaries | {attacks} | |")
    for metric, what, form in TALK:
        if metric in result.get("metrics", {}):
            span = result["intervals"].get(metric)
            beside = "" if span is None else f"{span[0]:{form}} to {span[1]:{form}}"
            lines.append(f"| {what} | {result['metrics'][metric]:{form}} | {beside} |")
    return "\n".join(lines) + "\n"


DOMAIN_ROWS = {
    "llama-hybrid": "**llmrec, one LLaMA for both shops and the item graph**",
    "llama": "**llmrec, the LLaMA alone**",
    "llama-own-history": "the same, shown the history of the target's shop alone",
    "emf-hybrid": "**llmrec, EMF and the item graph**",
    "emf": "**llmrec, EMF**",
    "graph": "**llmrec's item graph, no training**",
}
SHUFFLED_ROWS = {
    "llama-hybrid": "**llmrec, one LLaMA for both shops and the item graph**",
    "llama": "**llmrec, the LLaMA alone**",
    "llama-domain-hybrid": "**llmrec, IDs that begin with the shop, and the item graph**",
    "llama-domain": "**llmrec, IDs that begin with the shop**",
    "graph": "**llmrec's item graph, no training**",
}


def domains_table() -> str:
    """Food and Kitchen as published, with what others reach."""
    rows = _by_domain("crossdomain-abxi", DOMAIN_ROWS)
    for name, values in _peers()["crossdomain-abxi"].items():
        cells = [f"{value:.4f}" for value in values] + ["-", "-"]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def shuffled_table() -> str:
    """The same with the events of a day at random."""
    return "\n".join(_by_domain("crossdomain-abxi-shuffled", SHUFFLED_ROWS)) + "\n"


def _by_domain(run: str, labels: dict[str, str]) -> list[str]:
    """By target domain, 999 negatives, and over the whole domain."""
    keys = ["food_mrr", "food_ndcg@10", "kitchen_mrr", "kitchen_ndcg@10"]
    keys += ["full_food_ndcg@10", "full_kitchen_ndcg@10"]
    rows = [
        "| | food: MRR | NDCG@10 | kitchen: MRR | NDCG@10 | full: food NDCG@10 | kitchen NDCG@10 |",
        "| --- |" + " ---: |" * len(keys),
    ]
    for name, label in labels.items():
        metrics = _result(f"{run}-{name}")["metrics"]
        rows.append(f"| {label} | " + " | ".join(f"{metrics[key]:.4f}" for key in keys) + " |")
    return rows


def redial_table() -> str:
    """Films recommended within dialogues."""
    result = _result("redial")
    lines = ["| by | Recall@10 | Recall@50 |", "| --- | --- | --- |"]
    for prefix, label in TALKED_FILMS.items():
        cells = [
            f"{result['metrics'][key]:.4f} ({low:.4f}-{high:.4f})"
            for key in (f"{prefix}recall@10", f"{prefix}recall@50")
            for low, high in [result["intervals"][key]]
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _our_row(label: str, result: dict[str, Any]) -> tuple[float, str]:
    metrics, beside = result["metrics"], result["metrics_with_history"]
    cells = [
        f"{metrics[key]:.4f} ({low:.4f}-{high:.4f})"
        for key in ("recall@10", "ndcg@10")
        for low, high in [result["intervals"][key]]
    ]
    with_history = f"{beside['recall@10']:.4f} / {beside['ndcg@10']:.4f}"
    return metrics["recall@10"], f"| {label} | {' | '.join(cells)} | {with_history} |"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _peers() -> dict[str, dict[str, list[float]]]:
    peers: dict[str, dict[str, list[float]]] = yaml.safe_load(
        (ROOT / "eval" / "peers.yaml").read_text()
    )
    return peers


def filled(text: str) -> str:
    """The README with its tables made anew."""

    def made(mark: re.Match[str]) -> str:
        others = {"decode": decode_table, "tuning": tuning_table, "media": media_table,
                  "clicks": clicks_table, "redial": redial_table,
                  "domains": domains_table, "domains_shuffled": shuffled_table,
                  "assistant": assistant_table}  # fmt: skip
        content = others[mark[2]]() if mark[2] in others else table(mark[2])
        return mark[1] + content + mark[3]

    return MARK.sub(made, text)


def main() -> int:
    """Rewrite or check the README."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    if "--check" in sys.argv[1:]:
        return int(filled(text) != text)
    readme.write_text(filled(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

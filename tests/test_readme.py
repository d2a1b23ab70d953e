"""The README tells the truth: its tree, its commands, its tables."""

import functools
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny_shop import TinyRun

from llmrec.cli import find_command
from llmrec.demo_shop.catalogue import make_catalogue
from llmrec.flags import call
from llmrec.metrics.results import read_result
from llmrec.stages import STAGES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def tree_entries() -> tuple[set[str], set[str]]:
    """(top-level folders, entries of llmrec/) that the README's tree lists."""
    block = README.split("## The tree", 1)[1].split("```")[1]
    top, inner = set(), set()
    for line in block.strip().splitlines():
        name = line.split()[0].rstrip("/")
        (inner if line.startswith("  ") else top).add(name)
    return top, inner


def tracked(folder: str) -> set[str]:
    """Names git knows directly under a folder."""
    listed = subprocess.run(
        ["git", "ls-files", "--", folder], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    depth = len(Path(folder).parts) if folder != "." else 0
    return {Path(path).parts[depth] for path in listed}


def test_the_tree_lists_every_folder_and_nothing_else() -> None:
    top, inner = tree_entries()
    folders = {name for name in tracked(".") if (ROOT / name).is_dir() and name[0] != "."}
    assert top == folders
    parts = {name for name in tracked("llmrec") if not name.startswith("__") and name != "cli.py"}
    assert inner == parts


def test_every_command_it_names_exists() -> None:
    named = set(re.findall(r"(?:^|`)llmrec (\w+)", README, re.MULTILINE))
    known = {command.split()[0] for command in STAGES}
    assert len(named) >= 5
    assert named <= known, named - known


def commands() -> list[str]:
    """Every command in the code blocks of the project's pages, continued lines joined."""
    pages = ["README.md", "CONTRIBUTING.md", *map(str, sorted(ROOT.glob("[est]*/*.md")))]
    found = []
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found += [re.sub(r"\s+#.*", "", line) for line in lines if line.startswith("llmrec ")]
    return found


@pytest.mark.parametrize("command", sorted({c for c in commands() if "..." not in c}))
def test_the_flags_of_every_command_are_those_of_the_code(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(command.replace("[", "").replace("]", ""))[1:]
    name, arguments = find_command(words)
    stage = STAGES[name]
    function = stage.load()
    if stage.section and arguments[0].endswith(".yaml") and not (ROOT / arguments[0]).is_file():
        arguments = arguments[1:]  # a recipe of one's own
    called = []

    @functools.wraps(function)
    def stub(*places: object, **named: object) -> None:
        called.append((places, named))

    monkeypatch.setattr("llmrec.flags.config_class", _config_class_of(function))
    call(stub, arguments, f"llmrec {name}", stage.section or None, stage.options)
    assert called


def _config_class_of(function: object) -> object:
    """The class where the function is defined; the stub has another module's names."""
    from llmrec.flags import config_class

    return lambda _: config_class(inspect.unwrap(function))  # type: ignore[arg-type]


def test_its_result_tables_are_those_of_the_result_files() -> None:
    script = [sys.executable, "eval/readme_tables.py", "--check"]
    assert subprocess.run(script, cwd=ROOT, check=False).returncode == 0


README_FILE = ROOT / "README.md"
SIZING = ROOT / "serving/sizing.md"
CARD = ROOT / "llmrec/serving/assistant/demo_adapter/README.md"


@pytest.mark.parametrize(
    ("page", "result", "metric", "sentence"),
    [
        (README_FILE, "demo-hybrid", "cold_recall@10", "the hybrid finds {:.1%} among its first"),
        (README_FILE, "smollm2-decode", "llmrec_over_transformers", "{:.1f} times as fast as `gen"),
        (README_FILE, "smollm2-decode", "llmrec_over_vllm", "{:.1f} times as fast as vLLM's `beam"),
        (README_FILE, "intent-demo", "whole", "reads all six fields right in {:.1%} of the texts"),
        (README_FILE, "intent-demo", "accuracy_price_sensitivity", "a price least well, in {:.1%}"),
        (README_FILE, "intent-demo", "floor_price_sensitivity", "would be right in {:.1%}"),
        (README_FILE, "intent-ctr-true", "user_attribute_auc_gain_percent", "adds {:.2f} percent"),
        (
            README_FILE,
            "pretrained-beauty",
            "beauty_2_micro_recall@10",
            "nothing finds {:.1%} of the",
        ),
        (
            README_FILE,
            "pretrained-beauty",
            "beauty_2_smollm2_recall@10",
            "SmolLM2-135M finds {:.1%}",
        ),
        (
            README_FILE,
            "pretrained-beauty",
            "demo_100_micro_recall@10",
            "on the demo shop {:.1%} and",
        ),
        (
            README_FILE,
            "pretrained-beauty",
            "demo_100_smollm2_recall@10",
            "and {:.1%}. So take a size",
        ),
        (README_FILE, "ctr-demo", "caption_auc_gain_percent", "demo shop's AUC by {:.2f} percent"),
        (README_FILE, "ctr-demo", "time_auc_gain_percent", "time by {:.2f} ("),
        (SIZING, "service-load", "per_second@64@cascade", "two workers answered {:.0f} lists a"),
        (SIZING, "service-load", "per_second@64@history", "by click model and {:.0f} by history"),
        (SIZING, "service-load", "one_process_per_second@64@cascade", "one process {:.0f} and"),
        (SIZING, "service-load", "one_process_per_second@64@history", "and {:.0f}."),
        (CARD, "assistant-tools-demo", "tool_accuracy", "{:.1%} of 1,000 calls are right to the"),
        (CARD, "assistant-tools-demo", "tool_name_accuracy", "{:.1%} are of the right tool"),
    ],
)
def test_figures_in_sentences_are_those_of_the_result_files(
    page: Path, result: str, metric: str, sentence: str
) -> None:
    value = read_result(ROOT / f"eval/results/{result}.json")["metrics"][metric]
    said = " ".join(page.read_text(encoding="utf-8").split())
    assert sentence.format(value) in said


def test_what_ids_with_the_shop_bring_is_what_was_compared() -> None:
    page = ROOT / "eval/results/crossdomain-abxi-shuffled-ids.md"
    kitchen = page.read_text(encoding="utf-8").split("### kitchen (")[1]
    gain, low, high = re.findall(r"mrr, sampled .*?\+(\.?\d\S*) \| \[\+(\S+), \+(\S+)\]", kitchen)[
        0
    ]
    short = (one.removeprefix("0") for one in (gain, low, high))
    assert "help kitchen by {} MRR ({} to {}, the graph".format(*short) in README


def test_its_python_example_runs(tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    ids = re.findall(r'"([ch]\d{4})"', example)
    sold = {item.item_id for item in make_catalogue(0, 500).items}  # the shop of `make demo`
    assert len(ids) == 2 and set(ids) <= sold
    bundle = tiny_run.bundle("atomic")
    catalogue = pq.read_table(bundle / "items.parquet")["item_id"].to_pylist()
    example = example.replace("runs/demo/models/atomic/bundle", str(bundle))
    for name, ours in zip(ids, catalogue, strict=False):
        example = example.replace(name, ours)
    exec(example, {})
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in lines] == [1, 2, 3, 4, 5]

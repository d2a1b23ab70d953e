"""The inputs of ``shared/cases`` beside the checkout: each case's command, and what comes out.

``tests/data/test_cases.py`` has the same kinds in more forms; this file runs the files themselves.
"""

import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server import served
from tiny_shop import run_recipe

from llmrec.cli import main
from llmrec.config import build_section
from llmrec.data.dataset import Dataset
from llmrec.ranking.ctr.impression_log import Folders, ImpressionLog
from llmrec.ranking.ctr.settings import CtrConfig
from llmrec.serving.app import create_app
from llmrec.serving.bundle import Bundle
from llmrec.serving.recommender import Recommender

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases"
THINGS = [f"i{n}" for n in range(7)]


@dataclass(frozen=True)
class Ingest:
    """A case of ``llmrec ingest r.yaml``.

    Attributes:
        settings: lines added to the recipe's section ``ingest``.
        error: what the one line of the error says; empty where there is none.
        said: what the terminal says.
        counts: of the manifest.
        column: of the items or, with a dot, of the events: its name and values.
    """

    settings: str = ""
    error: str = ""
    said: tuple[str, ...] = ()
    counts: dict[str, Any] = field(default_factory=lambda: {"events": 30})
    column: tuple[str, list[Any]] | None = None


TITLES = [f"Thing {n}" for n in range(7)]
RED = ["colour=red"]
INGEST: dict[str, list[Ingest]] = {
    "quote-swallows-rows": [
        Ingest(error="events.csv: row 9: a quoted cell begins that does not end"),
        Ingest("event_reading: {quote: null}"),
    ],
    "quote-in-tsv": [Ingest(column=("title", [*TITLES[:3], '"Heroes', *TITLES[4:]]))],
    "backslash-quotes": [Ingest(column=("title", [*TITLES[:3], 'The "Best" of', *TITLES[4:]]))],
    "european-prices": [
        Ingest(
            said=("3 prices cannot be read ('from 12.99' 1, '—' 1, '$19.99 - $39.99' 1)",),
            column=("price", [12.99, 12.99, 12.99, 1234.5, None, None, None]),
        )
    ],
    "dates-yyyymmdd": [Ingest(column=(".timestamp", [1_699_920_000.0] * 30))],
    "na-user": [
        Ingest(error="30 of 30 events would be dropped: 30 without a user ('NA' 30)"),
        Ingest("event_reading: {missing: []}", counts={"events": 30, "users": 1}),
    ],
    "python-lists": [
        Ingest(
            counts={"events": 30, "attributes_unreadable": 0},
            column=("categories", [["Indie", f"Action {n % 2}"] for n in range(7)]),
        ),
        Ingest(column=("attributes", [["colour=red", f"size={n}"] for n in range(7)])),
    ],
    "attributes-name-value": [Ingest(column=("attributes", [RED] * 7))],
    "float-ids": [Ingest(column=("item_id", [str(n) for n in range(7)]))],
    "big-json-ids": [Ingest(counts={"events": 30, "users": 7})],
    "json-array": [Ingest(column=("title", TITLES))],
    "jsonl-optional-attribute": [Ingest(column=("attributes", [[], *[RED] * 6]))],
    "cr-line-ends": [Ingest(counts={"events": 30, "users": 6, "items": 6})],
    "blank-line-row-number": [Ingest(error="events.csv: row 8: timestamp 'not-a-time'")],
    "unknown-types-all": [
        Ingest(error="'addtocart' 6, 'TRANSACTION' 6, 'pv' 6, 'buy' 6); known are view, click"),
        Ingest("max_dropped: 1", counts={"events": 6, "dropped": {"unknown_type": 24}}),
    ],
    "unknown-types-partly": [
        Ingest(
            said=("6 of 30 events (20.0%) were dropped", "not known ('addtocart' 6)"),
            counts={"events": 24},
            column=(".type", [*["view"] * 2, "purchase", "view"] * 6),
        ),
        Ingest(
            "type_names: {addtocart: cart}",
            column=(".type", [*["view"] * 2, "cart", "purchase", "view"] * 6),
        ),
    ],
    "type-codes": [
        Ingest(column=(".type", [*["view", "cart", "purchase", "purchase"] * 7, "view", "cart"]))
    ],
    "partly-unknown-items": [
        Ingest(error="20 of an item that is not in the item file ('i3' 5, 'i4' 5"),
        Ingest(
            "max_dropped: 1", counts={"events": 10}, said=("leaves no event to test on", "(66.7%)")
        ),
        Ingest("unknown_items: add", counts={"events": 30, "items": 6}),
    ],
    "timeless-order": [
        Ingest(
            said=("no event has a time", "in the order of their items' names"),
            counts={"events": 3600},
        ),
        Ingest("order: random", counts={"events": 3600}),
    ],
}
IMPRESSIONS = {  # recipe -> what is wrong with it
    "good": "",
    "gz": "",
    "int_items": "",
    "int_user": "",
    "milliseconds": "",
    "context_text": "row 1: context 'phone' is not a JSON object",
    "other_items": "2,700 of 3,600 shown items are not in the catalogue",
    "no_late_clicks": "has no click among 356 shown items",
}
SERVED = {  # question of ask.py -> how the answer begins
    "one item of the history left the shop": r"ChatCompletion\(",
    "one excluded item left the shop": r"ChatCompletion\(",
    "half a surrogate pair": '{"error":.*is not text in Unicode',
    "n is null": r"ChatCompletion\(",
    "misspelt field": "BadRequestError .*histroy",
    "usage": r"CompletionUsage\(completion_tokens=",
    "usage of a stream": r"CompletionUsage\(completion_tokens=",
    "response_format": r"items=\[",
    "forced tool": "BadRequestError .*tool",
    "responses API": r"Response\(",
    "events in ISO 8601": '{"model":',
    "broken JSON": '{"error":.*is no JSON',
    "HEAD /healthz": "200",
}
HERE = {*INGEST, "impressions", "serving", "no-titles"}
ELSEWHERE = {"new-items", "readme-example"}  # tests/pipeline/test_new_items.py, test_readme.py


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a case's folder, as the working directory."""
    if not CASES.is_dir():
        pytest.skip(f"no cases at {CASES}")
    name: str = request.param
    shutil.copytree(CASES / name, tmp_path / name)
    monkeypatch.chdir(tmp_path / name)
    if (tmp_path / name / "make.py").exists():
        subprocess.run([sys.executable, "make.py"], check=True)
    return tmp_path / name


def test_every_case_has_a_test() -> None:
    if not CASES.is_dir():
        pytest.skip(f"no cases at {CASES}")
    assert {path.name for path in CASES.iterdir() if path.is_dir()} == HERE | ELSEWHERE


@pytest.mark.parametrize("case", INGEST, indirect=True)
def test_ingest(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = (case / "r.yaml").read_text()
    for number, expected in enumerate(INGEST[case.name]):
        out = case / f"dataset-{number}"
        added = f"ingest:\n  {expected.settings}\n".replace("  \n", "")
        (case / "r.yaml").write_text(recipe.replace("ingest:\n", added))
        status = main(["ingest", "r.yaml", "--out", str(out)])
        printed = capsys.readouterr().err
        if expected.error:
            assert status == 2 and expected.error in printed and printed.count("\n") == 1
            continue
        assert status == 0
        for line in expected.said:
            assert line in printed
        data = Dataset(out)
        counts = data.manifest.counts
        assert {name: counts.get(name, 0) for name in expected.counts} == expected.counts
        if expected.column is not None:
            name, values = expected.column
            table = data.events if name.startswith(".") else data.items
            assert table[name.removeprefix(".")].to_pylist() == values


@pytest.mark.parametrize("case", ["impressions"], indirect=True)
def test_impressions(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ingest", "good.yaml", "--out", "dataset"]) == 0
    logs = {}
    for name, error in IMPRESSIONS.items():
        recipe = case / f"{name}.yaml"
        recipe.write_text(recipe.read_text().replace("past:", "history:"))  # its name today
        if error:
            assert main(["ctr", recipe.name, "--dataset", "dataset", "--out", name]) == 2
            assert error in capsys.readouterr().err.splitlines()[-1]
        else:
            config = build_section(CtrConfig, recipe, "ctr")
            logs[name] = ImpressionLog.open(config, Folders(Path("dataset")), 0).impressions
    for log in logs.values():
        for field_name, values in vars(logs["good"]).items():
            np.testing.assert_equal(vars(log)[field_name], values)
    # half of the people click nearly everything: a model that knows who asks tells them apart
    assert main(["ctr", "int_user.yaml", "--dataset", "dataset", "--out", "model"]) == 0
    assert float(re.findall("validation AUC ([0-9.]+)", capsys.readouterr().out)[0]) > 0.75


@pytest.mark.parametrize("case", ["serving"], indirect=True)
def test_serving(
    case: Path, atomic: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(create_app(Recommender(atomic))) as url:
        port = url.rpartition(":")[2]
        monkeypatch.setattr("sys.argv", ["ask.py", port, *atomic.item_ids[3:5]])
        runpy.run_path("ask.py")
    answers = dict(line.split(" -> ", 1) for line in capsys.readouterr().out.splitlines())
    assert answers.keys() == SERVED.keys()
    wrong = {name: said for name, said in answers.items() if not re.match(SERVED[name], said)}
    assert not wrong, answers


@pytest.mark.parametrize("case", ["no-titles"], indirect=True)
def test_no_titles(case: Path) -> None:
    printed = run_recipe(case / "r.yaml", case / "run")
    shown = printed[printed.index("  history (") :].splitlines()
    assert not [line for line in shown if re.fullmatch(r"\s+([0-9]\.)?\s*", line)]
    assert len([line for line in shown if re.match(r"    1\. i[0-9]+", line)]) >= 2

"""``llmrec evaluate`` from the command line, on a small dataset folder."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from edit_manifest import edit_manifest
from safetensors.numpy import save_file
from tiny_models import replace_events

from llmrec.bench import baselines
from llmrec.bench.evaluate import EvaluateConfig, run
from llmrec.cli import run_command
from llmrec.config import build
from llmrec.data.dataset import Dataset
from llmrec.data.ingest import run as ingest
from llmrec.data.settings import IngestConfig
from llmrec.data.splitting import name_ranks
from llmrec.errors import ConfigError, DataError
from llmrec.metrics.metrics import NOT_FOUND
from llmrec.metrics.results import read_cases, read_result
from llmrec.metrics.slices import case_facts, upwards_share
from llmrec.stage import Manifest, read_manifest, run_stage

# Item 0 is everybody's; 1 goes with 2, 3 with 4. Last event: test, the one before: validation.
USERS = [[0, 1, 2, 0], [0, 3, 4, 0], [1, 2, 0, 5], [3, 4, 0, 1], [0, 5, 3, 4], [0, 1, 5, 2]]


@pytest.fixture
def dataset(tmp_path):
    """A folder as ``llmrec ingest`` writes it."""

    def work(stage):
        n = 6
        empty = [""] * n
        items = {name: empty for name in ("title", "description", "brand", "domain")}
        items = {"item_id": [f"i{i}" for i in range(n)], **items, "price": [None] * n}
        pq.write_table(pa.table(items), stage.folder / "items.parquet")
        users = pa.table({"user_id": [f"u{u}" for u in range(len(USERS))]})
        pq.write_table(users, stage.folder / "users.parquet")
        events = pa.table(
            {
                "user": np.repeat(np.arange(len(USERS), dtype=np.int32), 4),
                "item": np.array(USERS, dtype=np.int32).ravel(),
                "timestamp": pa.array([None] * 4 * len(USERS), pa.float64()),
                "split": np.tile(np.array([0, 0, 1, 2], dtype=np.int32), len(USERS)),
            }
        )
        pq.write_table(events, stage.folder / "events.parquet")

    return run_stage(tmp_path / "toy", Manifest("ingest", {}), work)


@pytest.mark.parametrize("model", ["popularity", "item-knn"])
def test_command_writes_result_and_cases(dataset, tmp_path, capsys, model):
    out, results = tmp_path / "run", tmp_path / "results"
    arguments = ["--dataset", str(dataset), "--model", model, "--name", "toy-x"]
    arguments += ["--ks", "1", "10", "--out", str(out), "--results", str(results)]
    run_command(["evaluate", *arguments])
    names = sorted(p.name for p in out.iterdir())
    assert names == ["manifest.json", "toy-x.cases.parquet", "toy-x.json"]
    assert [p.name for p in results.iterdir()] == ["toy-x.json"]
    result = read_result(results / "toy-x.json")
    assert (result["dataset"], result["split"], result["model"]) == ("toy", "test", model)
    assert result["metrics"]["recall@10"] == pytest.approx(4 / 6), "two targets are in the history"
    assert result["metrics_with_history"]["recall@10"] == 1.0
    assert read_cases(out / "toy-x.cases.parquet").targets.tolist() == [u[-1] for u in USERS]
    assert "recall@10" in capsys.readouterr().out


def test_a_sample_of_the_users_is_the_same_for_every_model(dataset, tmp_path):
    found = [
        read_cases(
            run(EvaluateConfig(users=3), dataset, model, tmp_path / model)
            / f"{model}.cases.parquet"
        )
        for model in ("popularity", "item-knn")
    ]
    assert found[0].users.tolist() == found[1].users.tolist()
    assert len(set(found[0].users.tolist())) == 3
    with pytest.raises(ConfigError, match="users: must be 0 or more"):
        EvaluateConfig(users=-1)


def test_ranks_of_both_protocols_are_those_worked_out_by_hand(dataset, tmp_path):
    """Popularity in training: 0 four times, 1 three times, 3 twice, then 2, 4, 5 once each."""
    folder = run(EvaluateConfig(), dataset, "popularity", tmp_path / "pop")
    cases = read_cases(folder / "pop.cases.parquet")
    assert cases.targets.tolist() == [0, 0, 5, 1, 4, 2]
    missed = NOT_FOUND  # the target is in the history
    assert cases.ranks["rank"].tolist() == [missed, missed, 2, 0, 2, 1]
    assert cases.ranks["rank_with_history"].tolist() == [0, 0, 5, 1, 4, 3]


def test_validation_split_has_shorter_histories(dataset, tmp_path):
    folder = run(EvaluateConfig(split="validation"), dataset, "popularity", tmp_path / "valid")
    found = read_cases(folder / "valid.cases.parquet")
    assert found.targets.tolist() == [u[-2] for u in USERS]


def test_same_evaluation_is_not_run_twice(dataset, tmp_path, capsys):
    first = run(EvaluateConfig(), dataset, "popularity", tmp_path / "pop")
    stamp = (first / "pop.json").stat().st_mtime_ns
    run(EvaluateConfig(), dataset, "popularity", tmp_path / "pop")
    assert (first / "pop.json").stat().st_mtime_ns == stamp
    assert "up to date" in capsys.readouterr().out
    assert read_manifest(first, "evaluate").counts == {"cases": 6, "items": 6}


def test_two_runs_can_be_compared_and_reported(dataset, tmp_path, capsys):
    folders = [run(EvaluateConfig(), dataset, m, tmp_path / m) for m in ("popularity", "item-knn")]
    cases = [str(folder / f"{folder.name}.cases.parquet") for folder in folders]
    run_command(["evaluate", "compare", *cases])
    assert "| recall@10 |" in capsys.readouterr().out
    files = [str(folder / f"{folder.name}.json") for folder in folders]
    run_command(["evaluate", "report", *files, "--out", str(tmp_path / "page")])
    assert "Paired differences" in (tmp_path / "page" / "report.md").read_text()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"ks": [60]}, "ks"),
        ({"ks": []}, "ks"),
        ({"list_length": 100}, "beams"),
        ({"split": "train"}, "split"),
        ({"resamples": 0}, "resamples"),
        ({"name": "a/b"}, "name"),
    ],
)
def test_wrong_settings_are_named(values, named):
    with pytest.raises(ConfigError, match=named):
        build(EvaluateConfig, values, "recipe.yaml: evaluate")


def test_unknown_model_is_named(dataset, tmp_path):
    with pytest.raises(
        ConfigError, match=r"itemknn: neither a baseline \(.*item-knn.*\) nor a fold"
    ):
        run(EvaluateConfig(), dataset, "itemknn", tmp_path / "x")


@pytest.fixture
def features(tmp_path):
    """A folder as ``llmrec embed`` writes it: 1 and 2 are alike, 3 and 4 are."""
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0.2], [0, 0, 1], [0, 0.2, 1], [1, 0, 1]])

    def work(stage):
        save_file({"text": vectors.astype(np.float32)}, stage.folder / "embeddings.safetensors")

    return run_stage(tmp_path / "features", Manifest("embed", {}), work)


def test_strong_baselines_are_tuned_on_validation_and_the_strongest_is_named(
    dataset, features, tmp_path, capsys
):
    arguments = ["--dataset", str(dataset), "--features", str(features), "--baselines", "strong"]
    arguments += ["--trials", "3", "--out", str(tmp_path / "run")]
    run_command(["evaluate", *arguments, "--results", str(tmp_path / "results")])
    names = ["ease", "item-graph", "itemknn", "popularity", "star"]
    files = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert files == [f"toy-{name}.json" for name in names]
    results = [read_result(tmp_path / "results" / file) for file in files]
    assert all(result["baseline"] and result["tuning"]["trials"] == 3 for result in results)
    figures = {result["name"]: result["metrics"]["ndcg@10"] for result in results}
    printed = re.search(r"differences to (\S+), the strongest baseline", capsys.readouterr().out)
    assert printed is not None
    assert figures[printed[1]] == max(figures.values())


def test_settings_are_chosen_by_validation_alone(dataset, monkeypatch):
    """The grid's one other value is the better one on validation, and only there."""
    data = Dataset(dataset)
    asked = []

    def fit(train, n_items, vectors, settings):
        asked.append(settings)
        scores = np.zeros((1, 6), dtype=np.float32)
        scores[0, 0 if settings else 5] = 1  # most validation targets are item 0

        class Fixed:
            def score(self, histories):
                return np.tile(scores, (len(histories), 1))

        found = Fixed()
        found.n_items = n_items
        return found

    monkeypatch.setitem(baselines.BASELINES, "fixed", baselines.Baseline(fit, {"x": [1]}))
    cases = data.cases("validation")
    settings, value = baselines.tune("fixed", data.train_histories(), 6, None, cases, trials=2)
    assert asked == [{}, {"x": 1}]
    assert settings == {"x": 1}
    # validation targets are 4, 4, 0, 0, 3, 5; of the two 0s one history holds 0 already
    assert value > 0


def changed_items(dataset, change):
    """Give a dataset other items: ``change(user, place, item)`` of each event."""
    events = pq.read_table(dataset / "events.parquet")
    items = [change(row // 4, row % 4, item) for row, item in enumerate(events["item"].to_pylist())]
    column = pa.array(items, pa.int32())
    replace_events(dataset, events.set_column(events.column_names.index("item"), "item", column))


def test_a_refreshed_baseline_has_counted_what_came_before_the_targets(dataset, tmp_path):
    """Item 4 stands once in training; as validation event of four users it overtakes 1 and 2."""
    changed_items(dataset, lambda user, place, i: 4 if place == 2 and user in (0, 1, 2, 5) else i)
    for refreshed, rank in ((False, 2), (True, 0)):
        name = f"refreshed-{refreshed}"
        run(EvaluateConfig(refreshed=refreshed), dataset, "popularity", tmp_path / name)
        found = read_cases(tmp_path / name / f"{name}.cases.parquet")
        assert (found.targets[4], found.ranks["rank"][4]) == (4, rank)


def test_refreshed_needs_something_that_counts_and_events_without_times(dataset, tiny_run):
    model = tiny_run.folder / "models" / "semantic" / "bundle"
    with pytest.raises(ConfigError, match=r"refreshed: .* counts no events"):
        run(EvaluateConfig(refreshed=True), dataset, str(model), dataset.parent / "x")
    with pytest.raises(ConfigError, match="refreshed: events of this dataset have times"):
        run(
            EvaluateConfig(refreshed=True), tiny_run.folder / "dataset", "popularity", dataset / "y"
        )


def test_cold_targets_have_a_figure_of_their_own(dataset, tmp_path):
    """Without the one event of item 5 in training it is cold, the target of one user."""
    changed_items(dataset, lambda user, place, item: 2 if place < 2 and item == 5 else item)
    run(EvaluateConfig(), dataset, "popularity", tmp_path / "cold")
    result = read_result(tmp_path / "cold" / "cold.json")
    assert (result["cold_cases"], result["metrics"]["cold_recall@10"]) == (1, 1.0)


def test_the_order_of_names_is_measured(dataset, tmp_path, capsys):
    """Items of the toy are i0 to i5; last items and targets: 2 0, 4 0, 0 5, 0 1, 3 4, 5 2."""
    out = tmp_path / "up"
    run(EvaluateConfig(), dataset, "popularity", out)
    result = read_result(out / "up.json")
    assert result["upwards_share"] == 0.5
    sizes = {name: part["cases"] for name, part in result["slices"]["name_order"].items()}
    assert sizes == {"upwards": 3, "downwards": 3}
    assert read_cases(out / "up.cases.parquet").facts["name_order"].tolist() == [
        -1,
        -1,
        1,
        1,
        1,
        -1,
    ]
    assert "50.0% of the targets stand above" in capsys.readouterr().out
    run_command(["evaluate", "report", str(out / "up.json"), "--out", str(tmp_path / "page")])
    page = (tmp_path / "page" / "report.md").read_text()
    assert "50.0% of the targets stand above the history's last item" in page
    assert "### recall@10 by name order (cases)" in page
    assert "| model | upwards (3) | downwards (3) |" in page


def test_names_may_be_an_attribute_of_the_items(dataset, tmp_path):
    """By codes, the other way round than by item_id; item 5 has none, and with it two cases."""
    path = dataset / "items.parquet"
    codes = [[f"code={9 - i}"] for i in range(5)] + [["colour=red"]]
    pq.write_table(pq.read_table(path).append_column("attributes", pa.array(codes)), path)
    edit_manifest(dataset)
    config = EvaluateConfig(name_field="code")
    run(config, dataset, "popularity", tmp_path / "codes")
    found = read_cases(tmp_path / "codes" / "codes.cases.parquet")
    assert found.facts["name_order"].tolist() == [1, 1, 0, -1, -1, 0]
    with pytest.raises(ConfigError, match=r"name_field: .* attribute 'ean'; .* item_id, code, col"):
        run(EvaluateConfig(name_field="ean"), dataset, "popularity", tmp_path / "x")


@pytest.mark.parametrize("name", ["item-knn", "item-graph", "star", "ease"])
def test_what_is_scored_with_other_settings_is_as_if_fitted_with_them(dataset, name):
    """Tuning fits once for all trials that differ in settings of scoring alone."""
    data, baseline = Dataset(dataset), baselines.BASELINES[name]
    train, content = data.train_histories(), baselines.Content(np.eye(6) + 0.1)
    first = {key: values[0] for key, values in baseline.grid.items()}
    other = first | {key: baseline.grid[key][-1] for key in baseline.scoring}
    fitted = baselines.fit_baseline(name, train, 6, content, first)
    scoring = {key: other[key] for key in baseline.scoring}
    changed = baselines._scoring_with(fitted, scoring).score(train)
    expected = baselines.fit_baseline(name, train, 6, content, other).score(train)
    np.testing.assert_allclose(changed, expected, rtol=1e-6)
    assert not np.allclose(changed, fitted.score(train))


def test_a_baseline_that_needs_content_says_so(dataset, tmp_path):
    with pytest.raises(ConfigError, match="star: needs content; give --features"):
        run(EvaluateConfig(), dataset, "star", tmp_path / "x")


def write_lists(path, lists, users=None):
    """Lists of items by number, as another system would write them."""
    users = users or [f"u{user}" for user in range(len(lists))]
    ids = [[f"i{item}" for item in row] for row in lists]
    pq.write_table(
        pa.table({"user_id": users, "items": pa.array(ids, pa.list_(pa.string()))}), path
    )
    return path


def test_lists_of_another_system_are_measured_alike(dataset, tmp_path):
    """Popularity's own lists give popularity's own ranks, in whatever order the users stand."""
    run(EvaluateConfig(), dataset, "popularity", tmp_path / "pop")
    own = read_cases(tmp_path / "pop" / "pop.cases.parquet")
    by_popularity = [0, 1, 3, 2, 4, 5]
    users = [f"u{user}" for user in (3, 1, 0, 2, 5, 4)]
    path = write_lists(tmp_path / "other.parquet", [by_popularity] * 6, users)
    run_command(
        ["evaluate", "--dataset", str(dataset), "--lists", str(path), "--out", str(tmp_path / "o")]
    )
    found = read_cases(tmp_path / "o" / "o.cases.parquet")
    for protocol in ("rank", "rank_with_history"):
        np.testing.assert_array_equal(found.ranks[protocol], own.ranks[protocol])
    assert found.rank_limit == 50
    assert read_result(tmp_path / "o" / "o.json")["model"] == str(path)


def test_each_list_is_that_of_its_user(dataset, tmp_path):
    """Targets are 0 0 5 1 4 2; u2 and u4 find theirs, on the third and, behind seen ones, first."""
    lists = [[3], [2], [3, 4, 5], [2], [0, 5, 3, 4], []]
    path = write_lists(tmp_path / "own.parquet", lists[::-1], [f"u{u}" for u in range(6)][::-1])
    run(EvaluateConfig(), dataset, out=tmp_path / "own", lists=path)
    found = read_cases(tmp_path / "own" / "own.cases.parquet")
    missed = NOT_FOUND
    assert found.ranks["rank"].tolist() == [missed, missed, 2, missed, 0, missed]
    assert found.ranks["rank_with_history"].tolist() == [missed, missed, 2, missed, 3, missed]


@pytest.mark.parametrize(
    ("lists", "users", "message"),
    [
        ([[9]] + [[1]] * 5, None, r"row 1: item 'i9' is not in the catalogue"),
        ([[1]] * 5 + [[2, 2]], None, r"row 6: holds an item twice"),
        ([[1]] * 5, None, r"0 lists of user 'u5', who has 1 cases"),
        ([[1]] * 6, ["u0"] * 2 + ["u2", "u3", "u4", "u5"], r"2 lists of user 'u0', who has 1"),
        ([[1]] * 6, ["u0", "u1", "x", "u3", "u4", "u5"], r"row 3: user 'x' is not in"),
    ],
)
def test_lists_that_do_not_fit_the_cases_are_refused(dataset, tmp_path, lists, users, message):
    path = write_lists(tmp_path / "l.parquet", lists, users)
    with pytest.raises(DataError, match=message):
        run(EvaluateConfig(), dataset, out=tmp_path / "x", lists=path)


def test_a_file_without_lists_is_refused(dataset, tmp_path):
    path = tmp_path / "l.parquet"
    with pytest.raises(ConfigError, match=r"--lists .*: no such file"):
        run(EvaluateConfig(), dataset, out=tmp_path / "x", lists=path)
    pq.write_table(pa.table({"user": ["u0"]}), path)
    with pytest.raises(DataError, match="not a file of lists"):
        run(EvaluateConfig(), dataset, out=tmp_path / "x", lists=path)


def test_model_and_baselines_are_one_or_the_other(dataset, tmp_path):
    with pytest.raises(ConfigError, match="give --model, or --baselines strong"):
        run(EvaluateConfig(), dataset, None, tmp_path / "x")
    with pytest.raises(ConfigError, match="give --model, or --baselines strong"):
        run(EvaluateConfig(), dataset, "popularity", tmp_path / "x", baselines="strong")


def test_beauty_as_published_goes_upwards_by_asin(shared_data, tmp_path):
    """The leak of the published order: 71% of last steps, by no other name of the items."""
    folder = shared_data / "amazon2014-beauty"
    config = IngestConfig(folder / "sequences.txt", folder / "items.jsonl", format="sequences")
    data = Dataset(ingest(config, tmp_path / "beauty"))
    cases, counts = data.cases("test"), np.zeros(data.n_items, dtype=np.int64)
    shares = {
        field: upwards_share(case_facts(cases, counts, name_ranks(data.item_names(field))))
        for field in ("asin", "item_id")
    }
    assert shares["asin"] == pytest.approx(0.7124, abs=1e-4)
    assert shares["item_id"] == pytest.approx(0.537, abs=1e-3)

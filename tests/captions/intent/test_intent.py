"""``llmrec intent`` on a chat model with random weights: closed fields, customers, bad input."""

import csv
import json
import wave
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("xgrammar", reason="needs the media extra")

from caption_world import write_items
from tiny_chat import CHAT, save_chat_model
from tiny_models import tiny_llama

from llmrec.captions.intent.reader import IntentReader
from llmrec.captions.intent.run import examples, hints, users_of
from llmrec.captions.intent.texts import CustomerText, prompt_of
from llmrec.cli import main, run_command
from llmrec.content.schema import Field, Schema, load_resolved
from llmrec.data.dataset import Dataset
from llmrec.data.ingest import run as ingest
from llmrec.data.settings import IngestConfig
from llmrec.errors import ArtifactError, ConfigError, DataError
from llmrec.llm.tokenizer import train_tokenizer
from llmrec.stage import read_manifest
from llmrec.training.tasks.instructions import messages_of

ROWS: list[dict[str, Any]] = [
    {"text_id": "a", "user_id": "u1", "timestamp": 10, "text": "a shirt for my dad, please"},
    {"text_id": "b", "user_id": "u1", "timestamp": 20, "text": "too small", "kind": "review"},
    {"text_id": "c", "user_id": "u2", "timestamp": 30, "text": "late!", "kind": "after_service"},
    {"text_id": "d", "user_id": "u2", "timestamp": 40, "text": "  "},
    {"text_id": "e", "text": "a mug"},
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``model``: one that chats; ``dataset``: with two categories; ``talk.jsonl``."""
    folder = tmp_path_factory.mktemp("intent")
    texts = [f'{{"need": "Tops", "n": "{n} not said positive colour"}}' for n in range(40)]
    save_chat_model(folder / "model", [*texts, "A customer's review: it is fine"])
    items = [{"categories": ["Tops", "Shirt"]}, {"categories": ["Kitchen", "Mug"]}]
    write_items(folder / "dataset", items)
    write(folder / "talk.jsonl", ROWS)
    return folder


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def intent(home: Path, out: Path, texts: Path | None = None, *flags: str) -> list[dict[str, Any]]:
    command = ["intent", str(texts or home / "talk.jsonl"), "--model", str(home / "model")]
    run_command([*command, "--dataset", str(home / "dataset"), "--out", str(out), *flags])
    return [json.loads(line) for line in (out / "intents.jsonl").read_text().splitlines()]


def test_every_text_gets_one_value_of_each_field(home: Path, tmp_path: Path) -> None:
    rows = intent(home, tmp_path / "one", None, "--batch-size", "1")
    schema = load_resolved(tmp_path / "one" / "schema.json")
    assert schema.values("need") == ["Kitchen", "Tops"]
    assert [row["text_id"] for row in rows] == ["a", "b", "c", "e"]
    for row in rows:
        assert list(row["fields"]) == list(row["probabilities"]) == schema.names
        assert all(value in schema.values(name) for name, value in row["fields"].items())
        assert all(0 < p <= 1 for p in row["probabilities"].values())
        assert row["where"] == hints(row["fields"], schema)
    assert (tmp_path / "one" / "skipped.jsonl").read_text() == (
        '{"text_id": "d", "reason": "no text"}\n'
    )
    together = intent(home, tmp_path / "all", None, "--batch-size", "3")
    assert [row["fields"] for row in together] == [row["fields"] for row in rows]


def test_a_precision_is_of_the_whole_model(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmrec.loop.precision.computes", lambda device, precision: True)
    schema = Schema({"whom": Field(["men", "women"])})
    for precision in ("float32", "bfloat16"):
        reader = IntentReader(str(home / "model"), schema, device="cpu", precision=precision)
        kinds = {str(weight.dtype) for weight in reader.model.model.parameters()}
        assert kinds == {f"torch.{precision}"}
        assert reader.read([CustomerText("a", "query", "a mug")])[0].fields["whom"]
    rows = intent(home, tmp_path / "out", None, "--precision", "bfloat16")
    assert len(rows) == 4
    assert read_manifest(tmp_path / "out").config["precision"] == "bfloat16"


def test_what_customers_said_is_a_table_that_ingest_reads(home: Path, tmp_path: Path) -> None:
    rows = intent(home, tmp_path / "out", None, "--until", "25")
    with open(tmp_path / "out" / "users.csv", newline="") as file:
        users = list(csv.DictReader(file))
    assert [user["user_id"] for user in users] == ["u1"], "u2 spoke later, the last is not known"
    schema = load_resolved(tmp_path / "out" / "schema.json")
    expected = users_of(rows, schema, 25)["u1"]
    assert users[0] == {"user_id": "u1", **{n: expected.get(n, "") for n in schema.names}}

    events = tmp_path / "events.csv"
    events.write_text("user_id,item_id,timestamp\n" + "u1,i0,1\nu1,i1,2\nu1,i0,3\nu2,i1,4\n")
    config = IngestConfig(
        events,
        users=tmp_path / "out" / "users.csv",
        user_columns={name: name for name in schema.names},
        timestamp_unit="s",
    )
    data = Dataset(ingest(config, tmp_path / "dataset"))
    described = [sorted(row or []) for row in data.users["attributes"].to_pylist()]
    assert described == [sorted(f"{n}={value}" for n, value in expected.items()), []]


def test_customers_by_hand() -> None:
    schema = Schema({"whom": Field(["men", "women", "not said"]), "mood": Field(["good", "bad"])})

    def row(user: str, when: float | None, whom: str, p: float) -> dict[str, Any]:
        fields, probabilities = {"whom": whom, "mood": "good"}, {"whom": p, "mood": 1.0}
        return {"user_id": user, "timestamp": when, "fields": fields,
                "probabilities": probabilities}  # fmt: skip

    rows = [row("u", 1, "men", 0.5), row("u", 2, "women", 0.3), row("u", 3, "women", 0.3)]
    rows += [row("u", 4, "not said", 1.0), row("v", None, "not said", 1.0), row("", 1, "men", 1.0)]
    assert users_of(rows, schema, None) == {
        "u": {"whom": "women", "mood": "good"},
        "v": {"mood": "good"},
    }
    assert users_of(rows, schema, 2) == {"u": {"whom": "men", "mood": "good"}}


def test_known_meanings_become_examples_of_tune(home: Path, tmp_path: Path) -> None:
    meant = {"need": "Tops", "occasion": "office", "for_whom": "men", "price_sensitivity": "dear",
             "sentiment": "neutral", "complaint": "none"}  # fmt: skip
    truth = [{"text_id": "a", "split": "train", **meant}, {"text_id": "b", "split": "held_out"}]
    truth += [{"text_id": "c", "split": "train", **meant, "need": "Boats"}]
    path = write(tmp_path / "truth.jsonl", truth)
    own = tmp_path / "own.jsonl"
    examples(home / "talk.jsonl", path, own, dataset=home / "dataset")
    (example,) = [json.loads(line) for line in own.read_text().splitlines()]
    schema = Schema({name: Field([value]) for name, value in meant.items()})
    said = CustomerText("a", "query", ROWS[0]["text"])
    assert example["messages"][0]["content"] == prompt_of(said, schema)
    assert json.loads(example["messages"][1]["content"]) == meant
    assert len(messages_of(example)) == 2  # as tune reads them
    with pytest.raises(DataError, match="has none of the fields need, occasion"):
        examples(home / "talk.jsonl", path, own, dataset=home / "dataset", split="held_out")


def test_accuracy_is_measured_on_held_out_texts(home: Path, tmp_path: Path) -> None:
    rows = intent(home, tmp_path / "out")
    right, wrong = rows[0]["fields"], dict(rows[1]["fields"])
    wrong["sentiment"] = "neutral" if wrong["sentiment"] != "neutral" else "positive"
    truth = [{"text_id": "a", "split": "held_out", **right}]
    truth += [{"text_id": "b", "split": "held_out", **wrong}, {"text_id": "c", "split": "train"}]
    path, result = write(tmp_path / "truth.jsonl", truth), tmp_path / "intent.json"
    command = ["bench", "intent", str(tmp_path / "out"), "--truth", str(path), "--out", str(result)]
    assert main(command) == 0
    metrics = json.loads(result.read_text())["metrics"]
    assert (metrics["accuracy_sentiment"], metrics["whole"], metrics["accuracy_need"]) == (
        (0.5, 0.5, 1.0)
    )


def test_a_silent_recording_means_nothing(home: Path, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "silence.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    (tmp_path / "broken.mp3").write_bytes(b"no sound at all")
    rows = [{"text_id": "s", "audio": "silence.wav"}, {"text_id": "b", "audio": "broken.mp3"}]
    texts = write(tmp_path / "talk.jsonl", [*rows, {"text_id": "g", "audio": "gone.wav"}, ROWS[0]])
    found = intent(home, tmp_path / "out", texts, "--speech-model", "whisper-tiny.en")
    assert [row["text_id"] for row in found] == ["a"]
    lines = (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()
    reasons = {row["text_id"]: row["reason"] for row in map(json.loads, lines)}
    assert reasons["s"] == "nothing is said" and set(reasons) == {"s", "b", "g"}


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([{"text": "x", "kind": "poem"}], DataError, "row 1: kind 'poem' is not one of query"),
        ([{"text": "x", "text_id": "a"}] * 2, DataError, "row 2: text_id 'a' occurs a second time"),
        ([{"text": "x", "timestamp": "noon"}], DataError, "row 1: timestamp 'noon' is no number"),
        ([{"audio": "x.wav"}], ConfigError, "row 1: is a recording; name a Whisper with --speech"),
        ([{"text": ""}], DataError, "has no text that can be used; give it a column"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(
    home: Path, tmp_path: Path, rows: list[dict[str, Any]], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        intent(home, tmp_path / "out", write(tmp_path / "talk.jsonl", rows))
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_chat_is_named(home: Path, tmp_path: Path) -> None:
    talk, out = str(home / "talk.jsonl"), str(tmp_path / "out")
    dataset = ["--dataset", str(home / "dataset"), "--out", out]
    tokenizer = train_tokenizer(["no chat"], 300)
    tokenizer.chat_template = None
    for part in (tiny_llama(len(tokenizer)), tokenizer):
        part.save_pretrained(tmp_path / "dumb")
    with pytest.raises(ConfigError, match="dumb has no chat template; give an instruction-tuned"):
        run_command(["intent", talk, "--model", str(tmp_path / "dumb"), *dataset])
    (tmp_path / "dumb" / "model.safetensors").write_bytes(b"cut")
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(tmp_path / "dumb")
    with pytest.raises(ArtifactError, match="dumb: no language model that can be read"):
        run_command(["intent", talk, "--model", str(tmp_path / "dumb"), *dataset])
    tiny_llama(len(tokenizer), context=256).save_pretrained(tmp_path / "dumb")
    with pytest.raises(ConfigError, match="reads 256 tokens, fewer than the 1024 of a long text"):
        run_command(["intent", talk, "--model", str(tmp_path / "dumb"), *dataset])
    with pytest.raises(ConfigError, match="--dataset: needed for the values of the field 'need'"):
        run_command(["intent", talk, "--model", str(home / "model"), "--out", out])

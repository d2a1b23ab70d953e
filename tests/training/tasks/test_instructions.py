"""Own chat examples: what is learned of them, and what is said of rows that are none."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_expanded import corpus_of, decoded

from llmrec.errors import ConfigError, DataError
from llmrec.training.tasks.corpus import TaskCorpus
from llmrec.training.tasks.instructions import ROLES, BadRow, Instructions, messages_of
from llmrec.training.tasks.mixture import Mixture

CHAT = [
    {"role": "system", "content": "You sell shoes."},
    {"role": "user", "content": "Red ones?"},
    {"role": "assistant", "content": "Take <item:item-3>."},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "Bye"},
]
# as instruction-tuned bases write it: a turn is closed by a token, and a line ends behind it
CLOSED = (
    "{% for message in messages %}{{ '<s>' + message.role + '\n' + message.content }}"
    "{{ '<unk>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)


def write(folder: Path, *rows: Any, name: str = "own.jsonl") -> Path:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


def turns(corpus: TaskCorpus, path: Path) -> list[tuple[str, str]]:
    own = Instructions(path, corpus.writer, corpus.dataset.item_index)
    examples = [own.example(row) for row in range(len(own.turns))]
    return [(decoded(corpus, e.prompt_ids), decoded(corpus, e.completion_ids)) for e in examples]


def test_each_turn_of_the_assistant_is_learned_after_what_was_said(
    corpus: TaskCorpus, tmp_path: Path
) -> None:
    name = corpus.dataset.item_ids[3]
    chat = json.loads(json.dumps(CHAT).replace("item-3", name))
    item = decoded(corpus, corpus.writer.items([3]))
    before = "<s>system: You sell shoes.\nuser: Red ones?\nassistant: "
    answer = f"Take {item}.\n"
    expected = [
        (before, f"{answer}</s>"),
        (f"{before}{answer}user: Thanks\nassistant: ", "Bye\n</s>"),
    ]
    assert turns(corpus, write(tmp_path, {"messages": chat})) == expected
    pq.write_table(pa.table({"messages": [chat]}), tmp_path / "own.parquet")
    assert turns(corpus, tmp_path / "own.parquet") == expected
    own = Instructions(tmp_path / "own.jsonl", corpus.writer, corpus.dataset.item_index)
    assert corpus.writer.items([3])[0] in own.example(0).completion_ids, "one token, not its text"


def test_prompt_and_completion_are_a_conversation(corpus: TaskCorpus, tmp_path: Path) -> None:
    lists = {"prompt": CHAT[:2], "completion": [{"role": "assistant", "content": "Yes"}]}
    rows = [{"prompt": "Red ones?", "completion": "Yes", "id": 7}, lists]
    assert turns(corpus, write(tmp_path, *rows)) == [
        ("<s>user: Red ones?\nassistant: ", "Yes\n</s>"),
        ("<s>system: You sell shoes.\nuser: Red ones?\nassistant: ", "Yes\n</s>"),
    ]


def test_a_template_that_closes_turns_needs_no_other_end(home: Path, tmp_path: Path) -> None:
    corpus = corpus_of(home / "dataset", home / "atomic")
    corpus.writer.tokenizer.chat_template = CLOSED
    path = write(tmp_path, {"prompt": "Red?", "completion": "Yes"})
    assert turns(corpus, path) == [("<s>user\nRed?<unk>\n<s>assistant\n", "Yes<unk>\n")]
    corpus.writer.tokenizer.chat_template = "{{ messages | length }}" + CLOSED
    with pytest.raises(DataError, match=r"own\.jsonl: row 1: the chat template .* writes a conv"):
        turns(corpus, path)
    corpus.writer.tokenizer.chat_template = "{{ raise_exception('no chat today') }}"
    with pytest.raises(DataError, match=r"row 1: the chat template .* \(no chat today\)"):
        turns(corpus, path)
    corpus.writer.tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="has no chat template"):
        turns(corpus, path)


USER, SAID = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}


@pytest.mark.parametrize(
    "row, message",
    [
        ({"text": "x"}, "has neither messages nor prompt and completion; write"),
        ({"prompt": "x"}, "has prompt; write"),
        ({"messages": [USER, SAID], "prompt": "x"}, "has messages and prompt; write"),
        ({"messages": []}, "messages is empty; write"),
        ({"messages": "Hi"}, "messages is no list but str; write"),
        ({"messages": [USER, "Hello"]}, "messages: message 2 is str, not"),
        ({"messages": [USER, SAID | {"role": "bot"}]}, "message 2: role 'bot' is none of system"),
        ({"messages": [USER, SAID | {"content": " "}]}, "message 2: its content is empty; write a"),
        ({"messages": [USER, SAID | {"content": None}]}, "message 2: its content is empty"),
        ({"messages": [USER, SAID | {"content": [1]}]}, "message 2: its content is list; write"),
        ({"messages": [USER]}, "no message is the assistant's, so there is nothing to learn"),
        ({"messages": [USER, CHAT[0], SAID]}, "message 2: role 'system' comes first"),
        ({"prompt": "x", "completion": 5}, "completion is no list but int"),
        ({"prompt": "x", "completion": "</s>"}, "message 2: '</s>' is a token of the model"),
        ({"prompt": "<item_3>", "completion": "x"}, "message 1: '<item_3>' is a token of the mo"),
        ({"prompt": "x", "completion": "<item:none>"}, "message 2: item 'none' is not in the cat"),
    ],
)
def test_bad_rows_are_named(
    corpus: TaskCorpus, tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    path = write(tmp_path, {"prompt": "x", "completion": "y"}, row)
    with pytest.raises(DataError) as caught:
        turns(corpus, path)
    assert str(caught.value).startswith(f"{path}: row 2: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
ROW = st.dictionaries(
    st.sampled_from(["messages", "prompt", "completion", "role", "content"]),
    PLAIN
    | st.lists(
        PLAIN
        | st.fixed_dictionaries(
            {"role": st.sampled_from([*ROLES, "bot"]) | PLAIN, "content": PLAIN}
        ),
        max_size=3,
    ),
)


@settings(derandomize=True, deadline=None)
@given(ROW)
def test_any_row_is_a_conversation_or_says_why_it_is_none(row: dict[str, Any]) -> None:
    try:
        messages = messages_of(row)
    except BadRow as error:
        assert str(error)
        return
    assert {one["role"] for one in messages} <= set(ROLES)
    assert all(one["content"].strip() for one in messages)
    assert any(one["role"] == "assistant" for one in messages)


def test_a_file_without_rows_and_a_task_without_a_file(
    corpus: TaskCorpus, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.json").write_text("[]")
    with pytest.raises(DataError, match=r"own\.json: holds no conversation"):
        turns(corpus, tmp_path / "own.json")
    bare = corpus_of(home / "dataset", home / "atomic")
    with pytest.raises(ConfigError, match=r"tasks\.instructions: name the file"):
        Mixture(bare, {"instructions": 1.0}, 0, 256)

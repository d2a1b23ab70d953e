"""The user's own chat examples as a task: of a file of conversations, the assistant's turns are
learned.

A row of the file (JSON lines or Parquet) has ``messages``, a list of ``{"role", "content"}`` with
the roles system, user and assistant, or ``prompt`` and ``completion``: texts, or lists of such
messages. Each turn of the assistant is an example; what was said before it is its prompt, as the
chat template of the base writes it. ``<item:ID>`` in a content stands for an item of the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.data import raw_files
from llmrec.errors import ConfigError, DataError, one_line
from llmrec.training.tasks.writer import PromptWriter, TaskExample

ROLES = ("system", "user", "assistant")
_COLUMNS = ("messages", "prompt", "completion")
_SHAPE = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", ...}]}'
_ITEM = re.compile(r"<item:([^<>]+)>")
_TOKEN = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")  # how special tokens are written

Message = dict[str, str]


class BadRow(Exception):
    """What is wrong with a row."""


class Instructions:
    """The turns of the assistant in a file of conversations.

    Args:
        path: the file, or a folder of files.
        writer: of the base.
        item_index: row of each item by its identifier.

    Raises:
        DataError: naming file and row, for one that is no conversation, has a token of the model in
            its text, names an unknown item, or does not suit the chat template.
        ConfigError: if the tokenizer of the base has no chat template.
    """

    def __init__(self, path: Path, writer: PromptWriter, item_index: Mapping[str, int]) -> None:
        self.writer, self._items = writer, item_index
        if not writer.tokenizer.chat_template:
            raise ConfigError(
                "instructions: the tokenizer of the base has no chat template; take an "
                "instruction-tuned base, or give its tokenizer one"
            )
        self._added = set(writer.tokenizer.get_added_vocab())
        self.turns: list[tuple[str, str]] = []  # prompt and completion, as text
        for file in raw_files.files_at(path):
            for row, record in raw_files.rows(file, _COLUMNS, {}):
                try:
                    self.turns += self._turns(messages_of(record))
                except BadRow as error:
                    raise DataError(f"{file}: row {row}: {error}") from None
        if not self.turns:
            raise DataError(f"{path}: holds no conversation; write rows such as {_SHAPE}")

    def example(self, row: int) -> TaskExample:
        """A turn of the assistant after what was said before it."""
        prompt, completion = (self._ids(text) for text in self.turns[row])
        if completion[-1:].tolist() != [self.writer.end] and not self._ends(self.turns[row][1]):
            completion = np.append(completion, self.writer.end)
        return TaskExample("instructions", prompt, completion)

    def _turns(self, messages: list[Message]) -> Iterator[tuple[str, str]]:
        said = [
            {"role": one["role"], "content": self._content(number, one["content"])}
            for number, one in enumerate(messages, 1)
        ]
        for place, one in enumerate(said):
            if one["role"] != "assistant":
                continue
            prompt = self._rendered(said[:place], add_generation_prompt=True)
            whole = self._rendered(said[: place + 1])
            if not whole.startswith(prompt):
                raise BadRow(
                    "the chat template of the base writes a conversation otherwise once it goes "
                    "on, so the assistant's part cannot be told apart; take another template"
                )
            yield prompt, whole[len(prompt) :]

    def _content(self, number: int, text: str) -> str:
        for token in _TOKEN.findall(text):
            if token in self._added:
                raise BadRow(
                    f"message {number}: {token!r} is a token of the model; an item is written "
                    "<item:ID>, anything else in other words"
                )
        return _ITEM.sub(lambda found: self._item(number, found[1]), text)

    def _item(self, number: int, name: str) -> str:
        if name not in self._items:
            raise BadRow(f"message {number}: item {name!r} is not in the catalogue")
        ids = self.writer.items([self._items[name]]).tolist()
        return "".join(self.writer.tokenizer.convert_ids_to_tokens(ids))

    def _rendered(self, messages: list[Message], **options: bool) -> str:
        try:
            return str(
                self.writer.tokenizer.apply_chat_template(messages, tokenize=False, **options)
            )
        except Exception as error:  # templates raise what Jinja raises
            raise BadRow(f"the chat template of the base refuses it ({one_line(error)})") from None

    def _ids(self, text: str) -> np.ndarray:
        ids = self.writer.tokenizer.encode(text, add_special_tokens=False)
        return np.asarray(ids, dtype=np.int64)

    def _ends(self, completion: str) -> bool:
        """Whether a template closes a turn with a token of its own."""
        found = _TOKEN.findall(completion)
        return bool(found) and found[-1] in self._added and completion.rstrip().endswith(found[-1])


def messages_of(record: Mapping[str, Any]) -> list[Message]:
    """The conversation of a row.

    Raises:
        BadRow: if there is none.

    >>> messages_of({"prompt": "Hello", "completion": "Hi"})
    [{'role': 'user', 'content': 'Hello'}, {'role': 'assistant', 'content': 'Hi'}]
    """
    given = [name for name in _COLUMNS if record.get(name) is not None]
    if given == ["messages"]:
        messages = _checked(record["messages"], "messages")
    elif given == ["prompt", "completion"]:
        messages = _side(record, "prompt", "user") + _side(record, "completion", "assistant")
    else:
        has = " and ".join(given) or "neither messages nor prompt and completion"
        raise BadRow(f"has {has}; write {_SHAPE}, or prompt and completion")
    if not any(one["role"] == "assistant" for one in messages):
        raise BadRow("no message is the assistant's, so there is nothing to learn")
    return messages


def _side(record: Mapping[str, Any], name: str, role: str) -> list[Message]:
    value = record[name]
    if isinstance(value, str):
        return _checked([{"role": role, "content": value}], name)
    return _checked(value, name)


def _checked(messages: Any, name: str) -> list[Message]:
    if not isinstance(messages, list) or not messages:
        kind = "empty" if messages == [] else f"no list but {type(messages).__name__}"
        raise BadRow(f"{name} is {kind}; write {_SHAPE}")
    return [_message(one, number, name) for number, one in enumerate(messages, 1)]


def _message(one: Any, number: int, name: str) -> Message:
    where = f"{name}: message {number}"
    if not isinstance(one, dict):
        raise BadRow(f'{where} is {type(one).__name__}, not {{"role": ..., "content": ...}}')
    role, content = one.get("role"), one.get("content")
    if role not in ROLES:
        raise BadRow(f"{where}: role {role!r} is none of {', '.join(ROLES)}")
    if role == "system" and number > 1:
        raise BadRow(f"{where}: role 'system' comes first or not at all")
    if not isinstance(content, str) or not content.strip():
        kind = "is empty" if isinstance(content, str | None) else f"is {type(content).__name__}"
        raise BadRow(f"{where}: its content {kind}; write a text")
    return {"role": role, "content": content}

"""Byte-level BPE loses no text; item tokens are whole."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import random_semantic_ids

from llmrec.errors import ConfigError
from llmrec.llm.tokenizer import add_tokens, load_tokenizer, train_tokenizer
from llmrec.llm.vocabulary import Vocabulary

TITLES = ["Red nail polish", "Green nail polish, 15 ml", "Crème brûlée torch", "Camping tent"] * 5
IDS = random_semantic_ids(20, (5, 6))


def tokens_to_add() -> list[str]:
    return Vocabulary.of(0, ("gap", "hour"), IDS).time_token_strings() + IDS.token_strings()


@pytest.fixture(scope="module")
def plain() -> Any:
    return train_tokenizer(TITLES, 300)


@pytest.fixture(scope="module")
def expanded() -> Any:
    tokenizer = train_tokenizer(TITLES, 300)
    add_tokens(tokenizer, tokens_to_add(), len(tokenizer))
    return tokenizer


def test_it_learns_merges_within_its_size(plain: Any) -> None:
    assert 256 + 4 < len(plain) <= 300
    assert len(plain.encode("nail polish")) < len("nail polish")


@given(st.text())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_text_survives(expanded: Any, text: str) -> None:
    tokens = expanded.encode(text, add_special_tokens=False)
    assert expanded.decode(tokens) == text
    assert expanded.unk_token_id not in tokens


@pytest.mark.parametrize("text", ["don 't stop , now .", " two  spaces ", "\t\n", "日本語 🎏"])
def test_spaces_and_punctuation_are_not_tidied(expanded: Any, text: str) -> None:
    assert expanded.decode(expanded.encode(text, add_special_tokens=False)) == text


def test_every_added_token_is_exactly_one_token(expanded: Any, plain: Any) -> None:
    names = tokens_to_add()
    ids = [expanded.encode(name, add_special_tokens=False) for name in names]
    assert ids == [[len(plain) + n] for n in range(len(names))]
    assert [expanded.decode(token) for token in ids] == names
    assert len(expanded) == len(plain) + len(names)


def test_item_tokens_are_found_inside_text(expanded: Any) -> None:
    first, second = IDS.token_strings()[0], IDS.token_strings()[-1]
    found = expanded.encode(f"polish{first}{second}tent", add_special_tokens=False)
    ids = expanded.convert_tokens_to_ids([first, second])
    assert [token for token in found if token >= len(expanded) - IDS.n_tokens] == ids


def test_adding_tokens_twice_is_an_error() -> None:
    tokenizer = train_tokenizer(TITLES, 300)
    add_tokens(tokenizer, tokens_to_add(), len(tokenizer))
    with pytest.raises(ConfigError, match="already holds item or time tokens"):
        add_tokens(tokenizer, tokens_to_add(), len(tokenizer))


def test_wrong_first_id_is_an_error() -> None:
    tokenizer = train_tokenizer(TITLES, 300)
    with pytest.raises(ConfigError, match="gives them other ids"):
        add_tokens(tokenizer, tokens_to_add(), len(tokenizer) + 1)


def test_the_chat_template_renders(plain: Any) -> None:
    messages = [{"role": "user", "content": "A tent?"}, {"role": "assistant", "content": "Yes."}]
    text = plain.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<s>user: A tent?\nassistant: Yes.\nassistant: "


def test_saved_and_loaded_it_is_the_same(expanded: Any, tmp_path: Path) -> None:
    expanded.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    text = f"Crème {IDS.token_strings()[3]} tent , 15 ml"
    assert loaded.encode(text) == expanded.encode(text)
    assert loaded.decode(loaded.encode(text, add_special_tokens=False)) == text
    assert loaded.bos_token_id == expanded.bos_token_id
    assert loaded.chat_template == expanded.chat_template


@pytest.mark.parametrize("files", [{}, {"tokenizer.json": "{not json"}, {"tokenizer.json": "{}"}])
def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=str(tmp_path)) as caught:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)

"""Whatever a message quotes, it is one line that ends with the fix."""

from llmrec.errors import ConfigError, DataError


def test_a_message_is_one_line() -> None:
    assert str(DataError("f.csv: row 2: 'a\nb\u2028c\r\nd' is no time; write  1700000000")) == (
        "f.csv: row 2: 'a b c d' is no time; write  1700000000"
    )


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    text = str(ConfigError(f"r.yaml: name: {'x' * 50_000} is too long; shorten it"))
    assert len(text) < 2100
    assert text.startswith("r.yaml: name: xxx") and text.endswith("xxx is too long; shorten it")

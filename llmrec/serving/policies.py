"""What a shop says of itself, by topic: a file that a bundle takes along.

::

    delivery: Orders are sent on the next working day. ...
    returns: Send anything back within 30 days. ...
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrec.config import load_yaml, shown
from llmrec.errors import ConfigError

MOST_TOPICS = 50
MOST_CHARS = 2000  # of what is said of one


def check_policies(given: Any, where: str = "policies") -> dict[str, str]:
    """Texts by topic, checked.

    Raises:
        ConfigError: naming the topic that is wrong.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where}: expected topics and what the shop says, got {shown(given)}")
    if len(given) > MOST_TOPICS:
        raise ConfigError(f"{where}: has {len(given)} topics; at most {MOST_TOPICS} are read")
    found: dict[str, str] = {}
    for topic, text in given.items():
        if not isinstance(topic, str) or not topic.strip():
            raise ConfigError(f"{where}: {shown(topic)} is no topic; give a word, such as returns")
        if not isinstance(text, str) or not 0 < len(text.strip()) <= MOST_CHARS:
            raise ConfigError(f"{where}.{topic}: expected a text of 1 to {MOST_CHARS} characters")
        found[topic.strip().lower()] = " ".join(text.split())
    return found


def read_policies(path: Path) -> dict[str, str]:
    """The policies of a file.

    Raises:
        ConfigError: if it cannot be read, naming the topic that is wrong.
    """
    return check_policies(load_yaml(path), str(path))

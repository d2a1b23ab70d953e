"""Prompt templates: words only, in ``prompts/*.yaml``, rendered in this one place.

A template declares its variables; a missing or unknown one is an error. The folder a model
is saved in keeps the template it was trained with, and serving renders that one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from llmrec.config import build, load_yaml
from llmrec.errors import ConfigError

T = TypeVar("T")

_VARIABLE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Template:
    """One prompt.

    Attributes:
        name: what recipes call it.
        variables: every name that stands in braces in ``text``.
        text: the words.
        about: what it is for.
    """

    name: str
    variables: list[str]
    text: str
    about: str = ""

    def __post_init__(self) -> None:
        used = set(_VARIABLE.findall(self.text))
        if used != set(self.variables):
            raise ConfigError(
                f"prompt {self.name!r}: declares {sorted(self.variables)}, its text uses "
                f"{sorted(used)}"
            )

    def render(self, **values: str) -> str:
        """The text with every variable filled in.

        Raises:
            ConfigError: if a variable is missing or unknown.

        >>> Template("hello", ["who"], "Dear {who},").render(who="Ada")
        'Dear Ada,'
        """
        return "".join(self.parts(**values))

    def parts(self, **values: T) -> list[str | T]:
        """The words between the variables and the variables' values, in the order of the text.

        For values that are not words, such as token ids.

        Raises:
            ConfigError: if a variable is missing or unknown.

        >>> Template("ask", ["items"], "Buy {items}!").parts(items=[7, 9])
        ['Buy ', [7, 9], '!']
        """
        if set(values) != set(self.variables):
            raise ConfigError(
                f"prompt {self.name!r}: needs {sorted(self.variables)}, got {sorted(values)}"
            )
        words = _VARIABLE.split(self.text)  # words, name, words, name, words ...
        return [values[word] if place % 2 else word for place, word in enumerate(words)]

    def prefix(self, last: str) -> str:
        """The words in front of the variable ``last``, which must end the text.

        Raises:
            ConfigError: if anything follows it, since then no history could be extended.
        """
        if not self.text.endswith(f"{{{last}}}") or self.variables != [last]:
            raise ConfigError(
                f"prompt {self.name!r}: {{{last}}} must be its only variable and end its text"
            )
        return self.text[: -len(last) - 2]


def templates_folder() -> Path:
    """Where the templates are: inside the wheel, or beside the package in a checkout."""
    packaged = Path(__file__).parent / "prompts"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "prompts"


@lru_cache
def load_template(name: str) -> Template:
    """A template by name, or by the path of a YAML file.

    Raises:
        ConfigError: if there is none, or it is malformed.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else templates_folder() / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in templates_folder().glob("*.yaml"))
        raise ConfigError(f"prompt {name!r}: no such template; known: {', '.join(known)}")
    return build(Template, load_yaml(path), str(path))

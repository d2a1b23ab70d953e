"""Everything llmrec raises on purpose.

::

    LlmrecError              a user can fix it; the CLI prints one line and exits 2
    ├── ConfigError          a recipe, flag or option is wrong
    ├── DataError            a file, row or field of the input is wrong
    ├── ArtifactError        a stage's folder is missing, damaged or too new
    ├── MissingExtraError    an optional package is not installed
    └── CatalogError         an unknown item, an empty catalogue, nothing left to rank

Messages name the place (file, row, field or flag) and the fix.
"""

import importlib
from types import ModuleType

_LONGEST = 1000  # characters of a message
_CUT = " [...] "  # stands for the middle of a longer one


class LlmrecError(Exception):
    """Base of every error llmrec raises on purpose.

    Its text is one line of bounded length, whatever a message quotes of a user's file: the place at
    its beginning and the fix at its end are kept.
    """

    def __str__(self) -> str:
        text = " ".join(super().__str__().splitlines())
        if len(text) <= _LONGEST:
            return text
        half = (_LONGEST - len(_CUT)) // 2
        return f"{text[:half]}{_CUT}{text[-half:]}"


class ConfigError(LlmrecError):
    """A recipe, flag or option is wrong."""


class DataError(LlmrecError):
    """A file, row or field of the input is wrong."""


class ArtifactError(LlmrecError):
    """A stage's folder is missing, damaged or written by a newer version."""


class MissingExtraError(LlmrecError):
    """An optional package is not installed."""


class CatalogError(LlmrecError):
    """An unknown item, an empty catalogue, or nothing left to rank."""


def one_line(error: BaseException) -> str:
    """What a library's error says, for the message of one of these.

    >>> one_line(ValueError("no such\\n  key"))
    'no such key'
    """
    return " ".join(str(error).split())


def require(module: str, extra: str) -> ModuleType:
    """Import ``module`` or say which extra of llmrec brings it.

    Raises:
        MissingExtraError: naming the exact install command.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f"{module} is not installed: run  pip install 'llmrec[{extra}]'"
        ) from error

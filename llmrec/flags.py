"""The flags of a command, made from the signature of its function.

A command is a plain function: its parameters are the flags, its docstring their help, a
parameter before ``/`` is given by place. Where the first parameter is ``config``, a settings
dataclass, each of its fields is a flag too, and the command takes a recipe before the flags
whose section gives the defaults::

    llmrec train RECIPE.yaml --dataset DIR --loop.epochs 5 --out DIR

Every command that writes to ``--out`` also takes ``--verify``
(:func:`llmrec.stage.checking_hashes`).

tyro does the work: it reads nested dataclasses, literals and the docstrings that are there
anyway, loads in 50 ms and needs no annotation of its own.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from llmrec.config import SEEDS, as_dict, build, build_partial, check_range, convert, load_recipe
from llmrec.errors import ConfigError
from llmrec.stage import checking_hashes

_VERIFY = inspect.Parameter(
    "verify",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool,
        tyro.conf.arg(help="check the sha256 of inputs, and of what would be up to date."),
    ],
)


def call(
    function: Callable[..., Any],
    argv: Sequence[str],
    prog: str,
    section: str | None = None,
    options: Sequence[str] = (),
) -> Any:
    """Call a function with what a command line says.

    Args:
        function: typed, with Google-style ``Args`` in its docstring.
        argv: the words after the command's name.
        prog: the command, as help and errors name it.
        section: of a recipe that holds the settings of ``config``, such as ``media.clip``, which
            may also stand as ``clip:`` alone; None where the command takes no recipe.
        options: keys of the section that are not the command's.

    Returns:
        what the function returns.

    Raises:
        SystemExit: after help, and with status 2 for flags that cannot be read.
        ConfigError: for a recipe that cannot be used, or a number that no setting may have.
    """
    words = list(argv)
    given: dict[str, Any] = {}
    if section is not None:
        config = config_class(function)
        values: dict[str, Any] = {}
        where = prog
        if words and not words[0].startswith("-"):
            recipe = Path(words.pop(0))
            raw, _ = load_recipe(recipe)
            where = f"{recipe}: {section}"
            found = _find_section(raw, section, recipe)
            values = {key: value for key, value in found.items() if key not in options}
            if "seed" in raw:
                given["seed"] = convert(raw["seed"], int, f"{recipe}: seed")
        given["config"] = build_partial(config, values, where, missing=tyro.MISSING)
        prog = f"{prog} [RECIPE.yaml]"
    return tyro.cli(_command(function, given), args=words, prog=prog)


def _find_section(raw: dict[str, Any], section: str, recipe: Path) -> dict[str, Any]:
    """The section of a whole recipe, or one of its last name in a recipe of this stage alone."""
    found: Any = raw
    for part in section.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    name = section.rpartition(".")[2]
    found = raw.get(name) if found is None else found
    if not isinstance(found, dict):
        raise ConfigError(f"{recipe}: has no `{name}:` section of settings")
    return found


def config_class(function: Callable[..., Any]) -> type[Any]:
    """The settings class of a function's parameter ``config``."""
    hint = function.__annotations__["config"]
    if isinstance(hint, str):
        hint = eval(hint, function.__globals__)  # as typing.get_type_hints does, this one alone
    found: type[Any] = hint
    return found


def _command(function: Callable[..., Any], given: dict[str, Any]) -> Callable[..., Any]:
    """The function with other defaults, and flags of ``config`` that do not begin with its name."""
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = []
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints.get(name, Any)
        if name == "config":
            hint = Annotated[hint, tyro.conf.arg(name="")]
        default = given.get(name, parameter.default)
        parameters.append(
            parameter.replace(
                annotation=hint,
                default=default,
                kind=parameter.kind if parameter.kind is parameter.POSITIONAL_ONLY
                else parameter.KEYWORD_ONLY,
            )
        )  # fmt: skip
    names = [parameter.name for parameter in parameters]
    writes = "out" in names and "verify" not in names
    if writes:
        parameters.append(_VERIFY)

    @functools.wraps(function)
    def command(*places: Any, **named: Any) -> Any:
        verify = writes and named.pop("verify")
        for name, value in named.items():
            if name == "config":  # as strict with flags as with a recipe
                named[name] = build(type(value), as_dict(value), "")
            elif isinstance(value, int | float):
                flag = f"--{name.replace('_', '-')}"
                convert(value, hints[name], flag)
                if name == "seed":
                    check_range(value, SEEDS, flag)
        with checking_hashes(verify):
            return function(*places, **named)

    del command.__wrapped__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command

"""OpenAI's parameters that a ranked list has no use for: which values ask for nothing.

A parameter that would change the answer, and is not done here, is refused by its name: an answer
that passes over it without a word looks like one that follows it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llmrec.errors import ConfigError

ANY = None  # of a parameter: whatever its value, the answer is what it asks for

# Parameter -> the values that leave an answer as it is. A list is ranked, and not drawn: it is the
# one of every seed, and that of temperature 0; 1 is what clients send who want the default.
HARMLESS: dict[str, tuple[Any, ...] | None] = {
    "temperature": (0, 1),
    "top_p": (1,),
    "seed": ANY,
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "stop": ([], ""),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": ANY,  # there are no tools
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "prompt_cache_key": ANY,  # what is cached is found without it
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}


# the same for responses
OF_RESPONSES: dict[str, tuple[Any, ...] | None] = {
    **{
        name: HARMLESS[name]
        for name in (
            "temperature", "top_p", "top_logprobs", "tools", "tool_choice", "parallel_tool_calls",
            "service_tier", "store", "prompt_cache_key",
        )
    },
    "background": (False,),
    "include": ([],),
    "truncation": ("disabled", "auto"),  # a history is never too long
    "max_tool_calls": ANY,  # there are none
    "reasoning": ({}, {"effort": "none"}),
    "stream_options": ({}, {"include_obfuscation": False}),
    "previous_response_id": (),  # nothing is kept to go on from
    "conversation": (),
    "prompt": (),
}  # fmt: skip


class UnknownFieldError(ConfigError):
    """A request has a field that is not known, or that is not done here."""


def check_harmless(
    name: str, value: Any, harmless: Mapping[str, tuple[Any, ...] | None] = HARMLESS
) -> None:
    """Check that a parameter asks for nothing that is not done.

    Args:
        harmless: parameters and the values that they may have, the one among them.

    Raises:
        UnknownFieldError: naming it and the values that it may have.

    >>> check_harmless("temperature", 0)
    >>> check_harmless("temperature", 0.7)
    Traceback (most recent call last):
    ...
    llmrec.serving.openai_fields.UnknownFieldError: temperature: is not done here; leave it out, \
or give 0 or 1
    """
    values = harmless[name]
    if values is ANY or value in values:
        return
    may = " or ".join(json.dumps(value) for value in values)
    raise UnknownFieldError(
        f"{name}: is not done here; leave it out{', or give ' if may else ''}{may}"
    )

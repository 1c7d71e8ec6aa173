"""What a source reads of a pipeline's call: its texts, and arguments or their defaults."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from diffusers_rdaam.errors import InputError


def argument_text(arguments: Mapping[str, Any], name: str = "prompt") -> tuple[str, str]:
    """The argument that a text encoder reads, and its text.

    An argument such as ``prompt_2`` that is None or empty is ``prompt``, as in the stock pipelines.

    Raises:
        InputError: it is not one text.
    """
    if not arguments.get(name):
        name = "prompt"
    text = arguments.get(name)
    if isinstance(text, (list, tuple)) and len(text) == 1:
        text = text[0]
    if not isinstance(text, str):
        raise InputError(f"{name} of one image is one text, not {text!r:.100}.")
    return name, text


def argument(pipe: Any, arguments: Mapping[str, Any], name: str) -> Any:
    """An argument of the pipeline's call, or its default.

    Raises:
        InputError: the pipeline's call has no such argument.
    """
    if name in arguments:
        return arguments[name]
    for base in type(pipe).__mro__:
        call = vars(base).get("__call__")
        parameters = {} if call is None else inspect.signature(call).parameters
        if name in parameters:
            return parameters[name].default
    raise InputError(f"{type(pipe).__name__} has no argument {name!r}.")

"""Keywords of this package's functions, and those that they hand on to a pipeline's call.

Stable Diffusion's calls take ``**kwargs`` and ignore unknown names, so that a misspelt ``reigon=``
would explain the whole image.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar

from diffusers_rdaam.suggestions import check_keywords

P = ParamSpec("P")
R = TypeVar("R")
# What diffusers reads from **kwargs, and what a pipeline of this package reads in addition.
_OLD_CALLBACKS = ("callback", "callback_steps")
_OF_RECORDING = ("attribution_prompt", "attribution_vocabulary")


def check_call_keywords(
    pipe: Any, given: Mapping[str, Any], function: Callable[..., Any], *, records: bool = False
) -> None:
    """Refuse keywords that neither a function nor the pipeline's call has.

    Args:
        pipe: the pipeline that is called.
        given: the keywords that are handed on to it.
        function: the function of this package that was called.
        records: whether the pipeline's own call is made, which on a pipeline of this package reads
            further keywords.

    Raises:
        InputError: one of them is not known; the text names the nearest that is.
    """
    known = dict.fromkeys([*_named(function), *call_keywords(pipe)])
    if records and hasattr(pipe, "_rdaam_template"):
        known |= dict.fromkeys(_OF_RECORDING)
    check_keywords(given, known, name_of(function))


def call_keywords(pipe: Any) -> Iterator[str]:
    """The keywords of a pipeline's call: its class's, and those of the classes that it calls on."""
    for cls in type(pipe).__mro__:
        call = cls.__dict__.get("__call__")
        if call is None:
            continue
        call = inspect.unwrap(call)
        yield from _named(call)
        if _takes_any(call):
            yield from _OLD_CALLBACKS


def known_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function: unknown keywords are an error that names the nearest known one."""
    names = list(_named(function))
    title = name_of(function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        check_keywords(kwargs, names, title)
        return function(*args, **kwargs)

    return checked


def name_of(function: Callable[..., Any]) -> str:
    """A function's name as a user writes it: of a constructor that of its class."""
    return function.__qualname__.removesuffix(".__init__").rpartition(".")[2]


def _named(function: Callable[..., Any]) -> Iterator[str]:
    for name, parameter in inspect.signature(function).parameters.items():
        if name != "self" and parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        ):
            yield name


def _takes_any(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters)

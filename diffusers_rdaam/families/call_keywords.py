"""Keywords that a function of this package hands on to a pipeline's call, and those it has itself.

Stable Diffusion's calls take ``**kwargs`` and ignore what they do not know, so that a misspelt
``reigon=`` would explain the whole image.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar

from diffusers_rdaam.suggestions import check_keywords

P = ParamSpec("P")
R = TypeVar("R")
# What diffusers reads from **kwargs, and what a pipeline of this package reads beside its class.
_OLD_CALLBACKS = ("callback", "callback_steps")
_OF_RECORDING = ("attribution_prompt", "attribution_vocabulary")


def check_call_keywords(
    pipe: Any, given: Mapping[str, Any], function: Callable[..., Any], *, records: bool = False
) -> None:
    """Refuse keywords that neither a function nor the pipeline's call has.

    Args:
        pipe: the pipeline that is called.
        given: what is handed on to it.
        function: of this package.
        records: whether the pipeline's own call is made, with what one of this package reads.

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
    """Let a function's unknown keywords be an error that names the nearest of its own."""
    names = list(_named(function))
    title = name_of(function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        check_keywords(kwargs, names, title)
        return function(*args, **kwargs)

    return checked


def name_of(function: Callable[..., Any]) -> str:
    """As a user writes it: a class for its constructor."""
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

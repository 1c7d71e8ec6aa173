"""One treatment for a stock pipeline and for ours: the same result, warnings, log and error.

``alike(pipes, treatment)`` is what every test here is made of. Results are compared bit for bit; an
output of ours may hold ``attributions`` beside what the stock one holds, and nothing else.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from toys import Case, build, parts_of

Pair = tuple[Any, Any]
OWN = ("attn_processors", "attribution", "attributions", "attributions_so_far")
OWN += (
    "attribute_image",
    "query",
    "query_maps",
    "recording_bytes",
    "release_recording",
    "set_attn_processor",
)


@dataclass(frozen=True)
class Outcome:
    """What a treatment came to.

    Args:
        result: what it returned, None where it raised.
        error: what it raised.
        said: warnings and log records, in order, class names without our ``RDAAM``.
    """

    result: Any
    error: BaseException | None
    said: tuple[str, ...]


def alike(
    pipes: Pair,
    treatment: Callable[[Any], Any],
    *,
    error: type[BaseException] | None = None,
    more: str | None = None,
    but: str | None = None,
) -> Outcome:
    """Treat the stock pipeline, then ours, and compare; ours is handed back.

    Args:
        pipes: the stock pipeline and ours, or the two classes.
        treatment: gets one of them.
        error: what both are to raise; by default nothing.
        more: the one warning that ours is to give beside the stock one's, by its class's name.
        but: what the stock one may say and ours leave out: a part of the text.
    """
    stock, ours = (_outcome(treatment, pipe) for pipe in pipes)
    for outcome in (stock, ours):
        if outcome.error is not None and error is None:
            raise outcome.error
        assert type(outcome.error) is (error or type(None))
    assert plain(str(ours.error)) == plain(str(stock.error))
    of_ours = [text for text in ours.said if more is not None and text.startswith(f"{more} ")]
    assert bool(of_ours) == (more is not None)
    expected = [text for text in stock.said if but is None or but not in text]
    assert [text for text in ours.said if text not in of_ours] == expected
    same(ours.result, stock.result)
    return ours


def failure(action: Callable[[], Any]) -> type[BaseException] | None:
    """What the stock pipeline raises, for ``alike``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            action()
        except Exception as error:  # whatever it is, ours is to raise the same
            return type(error)
    return None


def plain(text: str) -> str:
    """A text of ours, or of diffusers, without what tells a class of ours from the stock one."""
    return re.sub(r"<class '[\w.]+\.(\w+)'>", r"<class '\1'>", text).replace("RDAAM", "")


def same(ours: Any, stock: Any) -> None:
    """Compare two results, in depth and bit for bit."""
    if isinstance(stock, BaseOutput):
        assert isinstance(ours, type(stock))
        added = {} if type(ours) is type(stock) else {"attributions"}
        assert [name for name in ours if name not in added] == list(stock)
        for name in stock:
            same(ours[name], stock[name])
    elif isinstance(stock, torch.Tensor):
        assert ours.dtype == stock.dtype and torch.equal(ours, stock)
    elif isinstance(stock, (np.ndarray, Image.Image)):
        assert type(ours) is type(stock)
        assert np.array_equal(np.asarray(ours), np.asarray(stock))
    elif isinstance(stock, Mapping):
        assert list(ours) == list(stock)
        same(list(ours.values()), list(stock.values()))
    elif isinstance(stock, (list, tuple)):
        assert type(ours) is type(stock) and len(ours) == len(stock)
        for one, other in zip(ours, stock, strict=True):
            same(one, other)
    else:
        assert ours == stock


def twins(case: Case, **parts: Any) -> Pair:
    """The stock pipeline and ours with nothing shared, for a test that changes them."""
    given = parts_of(case, **parts)
    return build(case.stock, given, own=given), build(case.ours, given, own=given)


def _outcome(treatment: Callable[[Any], Any], pipe: Any) -> Outcome:
    result = error = None
    with listening() as said:
        try:
            result = treatment(pipe)
        except Exception as raised:  # compared by the caller
            error = raised
    return Outcome(result, error, tuple(plain(text) for text in said))


class _Ear(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(f"{record.levelname} {record.getMessage()}")


@contextmanager
def listening() -> Iterator[list[str]]:
    """All that is warned of, and all that diffusers logs from level INFO on."""
    said: list[str] = []
    ear = _Ear(said)
    level = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_info()
    diffusers_logging.add_handler(ear)
    # The console stays quiet: the log is compared, not read.
    diffusers_logging.disable_default_handler()
    before = warnings.showwarning
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, category, *_, **__: said.append(
                f"{category.__name__} {message}"
            )
            yield said
    finally:
        warnings.showwarning = before
        diffusers_logging.enable_default_handler()
        diffusers_logging.remove_handler(ear)
        diffusers_logging.set_verbosity(level)

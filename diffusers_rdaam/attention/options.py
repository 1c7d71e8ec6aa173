"""RecordingOptions and QueryOptions: what a run records, where it is stored, and the kernel."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch

from diffusers_rdaam.argument_checks import check_choice
from diffusers_rdaam.attribution.choosing import Numbers, chosen_numbers, listed
from diffusers_rdaam.attribution.kept_maps import Axis
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels.dispatch import Backend, choose
from diffusers_rdaam.shapes import Size

Kept = Literal["steps", "layers", "heads", "squares", "queries"]
Precision = Literal["fp16-pair", "fp16"]
Columns = Literal["prompt", "all"]
QueryLocation = str | os.PathLike[str]
QueryPrecision = Literal["fp16", "fp32"]
SizesLike = int | Size | Iterable[int | Size]
SelfAttentionChoice = Literal["last", "all", "each"]
# Grids, and layers by name, prefix or pattern.
SelfAttentionLike = SizesLike | str | Iterable[int | Size | str]
# What True means: the layer that helps most on the embedded models, and one in place of all.
DEFAULT_SELF_ATTENTION: SelfAttentionChoice = "last"
# Enough for the steps, or for the layers and heads, of a run of usual size.
DEFAULT_BUDGET = 512 * 2**20
_DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
# More denoiser calls than any run has, for runs whose number of calls is not known.
_ENDLESS = 2**31


@dataclass(frozen=True)
class QueryOptions:
    """Which image queries ``keep="queries"`` stores, where, and how precisely.

    Args:
        grids: the grids whose queries are stored: ``(height, width)``, ``n`` for a square one, or
            several; all if None.
        steps: the denoiser calls whose queries are stored: a number, several, or a slice such as
            ``slice(None, None, 5)``; all if None.
        location: ``"cpu"``, ``"device"`` (the denoiser's), or a folder: each run writes its queries
            into a new folder there.
        precision: ``"fp16"``, or ``"fp32"`` for twice the bytes.

    Raises:
        InputError: an option has an invalid value.
    """

    grids: SizesLike | None = None
    steps: Numbers | None = None
    location: QueryLocation = "cpu"
    precision: QueryPrecision = "fp16"

    def __post_init__(self) -> None:
        if isinstance(self.grids, bool):
            raise InputError(
                "grids= of QueryOptions are the grids to store, a number or (height, width) or "
                "several; leave it out for all."
            )
        if self.grids is not None:
            object.__setattr__(self, "grids", _sizes(self.grids, "grids= of QueryOptions"))
        if not isinstance(self.location, (str, os.PathLike)) or not os.fspath(self.location):
            raise InputError(
                f"location= of QueryOptions is 'cpu', 'device' or a folder; got {self.location!r}."
            )
        if self.precision not in _DTYPES:
            raise InputError(
                f"precision= of QueryOptions is 'fp16' or 'fp32'; got {self.precision!r}."
            )
        steps = listed(self.steps)
        # Hashable, and readable more than once.
        if isinstance(steps, Collection) and not isinstance(steps, (str, range)):
            steps = tuple(steps)
        object.__setattr__(self, "steps", steps)
        if steps is not None and not isinstance(steps, slice):
            # Invalid numbers are reported now; calls that do not exist, at the beginning of a run.
            chosen_numbers(steps, _ENDLESS, "steps")

    @property
    def sizes(self) -> tuple[Size, ...] | None:
        """Height and width of each grid whose queries are stored; None for all grids."""
        return cast("tuple[Size, ...] | None", self.grids)

    @property
    def dtype(self) -> torch.dtype:
        """The type in which queries are stored."""
        return _DTYPES[self.precision]

    @property
    def folder(self) -> Path | None:
        """The folder in which each run makes a new one; None where queries stay in memory."""
        return None if self.location in ("cpu", "device") else Path(self.location)

    def numbers(self, calls: int | None) -> range | list[int]:
        """The numbers of the denoiser calls whose queries are stored.

        Args:
            calls: how many there will be; None where that is not known.

        Raises:
            InputError: a chosen call does not exist; or a number counts from the end of a run
                whose number of calls is not known.
        """
        if calls is None:
            return self.numbers_beyond(None)
        return chosen_numbers(self._steps, calls, "steps")

    def numbers_beyond(self, calls: int | None) -> range | list[int]:
        """:meth:`numbers` in a run that may have more calls than announced, as some pipelines do.

        Raises:
            InputError: as :meth:`numbers`.
        """
        steps = self._steps
        if isinstance(steps, slice):
            bounds = [bound for bound in (steps.start, steps.stop, steps.step) if bound is not None]
        else:
            bounds = list(steps) if isinstance(steps, Collection) else [steps]
        if any(bound < 0 for bound in bounds):
            if calls is not None:
                return self.numbers(calls)
            raise InputError(
                f"QueryOptions(steps={steps!r}) counts from the last denoiser call, and how many "
                "there will be is not known here. Give numbers from the first."
            )
        if isinstance(steps, slice):
            return range(_ENDLESS)[steps]
        return chosen_numbers(steps, _ENDLESS, "steps")

    @property
    def _steps(self) -> Any:
        return slice(None) if self.steps is None else self.steps


@dataclass(frozen=True)
class RecordingOptions:
    """The options of a recorded run, validated once; everything that records reads these.

    A user gives them as the keywords of :class:`RDAAMProcessor`, which documents them. What may be
    one or several there is stored as a tuple here.

    Args:
        keep: any of ``"steps"``, ``"layers"``, ``"heads"``, ``"squares"`` and ``"queries"``; stored
            in this order, each once.
        keep_negative: whether the negative prompt's maps are recorded as well.
        self_attention: which self-attention is recorded: a choice (``"last"``, ``"all"``,
            ``"each"``; True is ``"last"``), or grids and layers, stored as ``(height, width)`` and
            names.
        queries: which queries ``keep="queries"`` stores; None without it, and the default options
            where it is given alone.
        precision: ``"fp16-pair"`` or ``"fp16"``.
        budget: bytes.
        backend: the kernel.
        columns: ``"prompt"`` or ``"all"``, of a transformer.
        _all_rows_of_self_attention: whether the self-attention of the unconditional rows is added
            to that of the conditional ones, as DAAM-I2I does. For compat only.

    Raises:
        InputError: an option has an invalid value.
    """

    keep: tuple[Kept, ...] = ()
    keep_negative: bool = False
    self_attention: bool | SelfAttentionChoice | tuple[Size | str, ...] = False
    queries: QueryOptions | None = None
    precision: Precision = "fp16-pair"
    budget: int = DEFAULT_BUDGET
    backend: Backend = "auto"
    columns: Columns = "prompt"
    _all_rows_of_self_attention: bool = False

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            choices = ", ".join(repr(name) for name in get_args(Precision))
            raise InputError(f"{self.precision!r} is not a precision. Precisions: {choices}.")
        if type(self.budget) is not int or self.budget <= 0:
            raise InputError(f"budget= is a whole number of bytes, over 0; got {self.budget!r}.")
        if not isinstance(self.keep_negative, bool):
            raise InputError(f"keep_negative= is True or False; got {self.keep_negative!r}.")
        check_choice(self.columns, Columns, "a choice of columns", plural="Choices of columns")
        choose(self.backend)
        keep = _kept(self.keep)
        object.__setattr__(self, "keep", keep)
        object.__setattr__(self, "self_attention", _self_attention(self.self_attention))
        object.__setattr__(self, "queries", _queries(self.queries, "queries" in keep))

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes along which maps are kept separately: steps, layers, heads, in this order."""
        return tuple(name for name in get_args(Axis) if name in self.keep)

    @property
    def self_attention_sizes(self) -> tuple[Size, ...]:
        """Height and width of each grid of self-attention that was chosen by its size."""
        chosen = self.self_attention if isinstance(self.self_attention, tuple) else ()
        return tuple(one for one in chosen if not isinstance(one, str))

    @property
    def self_attention_layers(self) -> tuple[str, ...]:
        """The names, prefixes or patterns of the layers whose self-attention was chosen."""
        chosen = self.self_attention if isinstance(self.self_attention, tuple) else ()
        return tuple(one for one in chosen if isinstance(one, str))

    def __str__(self) -> str:
        """The options that are not the default, as keywords; precision and backend always."""
        shown = [f"keep={self.keep!r}"] if self.keep else []
        if self.keep_negative:
            shown.append("keep_negative=True")
        if self.self_attention:
            shown.append(f"self_attention={self.self_attention!r}")
        if self.columns != "prompt":
            shown.append(f"columns={self.columns!r}")
        return ", ".join([*shown, f"precision={self.precision!r}", f"backend={self.backend!r}"])


def _kept(keep: Any) -> tuple[Kept, ...]:
    """The names of ``keep=``, each once, in the order of their definition.

    Raises:
        InputError: a name is not one of them.
    """
    choices = get_args(Kept)
    asked = (keep,) if isinstance(keep, str) or not isinstance(keep, Iterable) else tuple(keep)
    for name in asked:
        if name not in choices:
            names = ", ".join(repr(choice) for choice in choices)
            raise InputError(f"{name!r} cannot be kept separately. Give some of {names}.")
    return tuple(name for name in choices if name in asked)


def _self_attention(value: Any) -> bool | str | tuple[Size | str, ...]:
    """The choice, or the grids and layers, in one form.

    Raises:
        InputError: the value does not name any.
    """
    if isinstance(value, bool):
        return DEFAULT_SELF_ATTENTION if value else False
    if isinstance(value, str):
        return value if value in get_args(SelfAttentionChoice) else (value,)
    items = list(value) if isinstance(value, Iterable) and not isinstance(value, tuple) else value
    names: tuple[str, ...] = ()
    if isinstance(items, (list, tuple)):
        names = tuple(dict.fromkeys(one for one in items if isinstance(one, str)))
        choice = next((one for one in names if one in get_args(SelfAttentionChoice)), None)
        if choice is not None:
            raise InputError(
                f"self_attention={choice!r} is a choice by itself; give it alone, or give grids "
                "and layers."
            )
        if names and len(names) == len(items):
            return names
    other = "a choice ('last', 'all', 'each'), the name of a layer, "
    if names:
        items = [one for one in items if not isinstance(one, str)]
    return (*_sizes(items, "self_attention=", other=other), *names)


def _queries(queries: Any, kept: bool) -> QueryOptions | None:
    """The options of queries where they are kept; None where they are not.

    Raises:
        InputError: options without ``keep="queries"``, or a value that is not QueryOptions.
    """
    if queries is not None and not isinstance(queries, QueryOptions):
        raise InputError(
            f"queries= takes QueryOptions(grids=…, steps=…, location=…, precision=…); got "
            f"{queries!r:.200}."
        )
    if queries is not None and not kept:
        raise InputError(
            "queries= are the options of keep='queries', which was not given. Add it to keep=."
        )
    return (queries or QueryOptions()) if kept else None


def _sizes(value: Any, name: str, *, other: str = "") -> tuple[Size, ...]:
    """The chosen grids as ``(height, width)``, each once.

    Raises:
        InputError: the value does not name grids.
    """
    single = isinstance(value, int) or (
        isinstance(value, tuple) and len(value) == 2 and all(type(side) is int for side in value)
    )
    try:
        items = [value] if single else list(value)
        sizes = [(item, item) if type(item) is int else tuple(item) for item in items]
        valid = all(len(s) == 2 and all(type(n) is int and n > 0 for n in s) for s in sizes)
    except TypeError:
        valid = False
    if not valid or not sizes:
        raise InputError(
            f"{value!r} is not a grid for {name}. Give {other}a number n for n x n, a (height, "
            "width), or a list of these."
        )
    return tuple(dict.fromkeys(sizes))

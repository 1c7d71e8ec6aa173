"""QueryOptions: which queries of a run are kept, and where."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from diffusers_rdaam.attribution.choosing import chosen_numbers, listed
from diffusers_rdaam.errors import InputError

QueryPlace = str | os.PathLike[str]
QueryPrecision = Literal["fp16", "fp32"]
_DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
Size = tuple[int, int]
# More than any run has.
_ENDLESS = 2**31


@dataclass(frozen=True)
class QueryOptions:
    """The options of ``keep="queries"``.

    Args:
        grids: height and width of those that are kept; all if None.
        steps: the denoiser calls that are kept; all if None.
        place: ``"cpu"``, ``"device"``, or a folder.
        precision: ``"fp16"`` or ``"fp32"``.

    Raises:
        InputError: one of them is not what it must be.
    """

    grids: tuple[Size, ...] | None = None
    steps: Any = None
    place: QueryPlace = "cpu"
    precision: QueryPrecision = "fp16"

    def __post_init__(self) -> None:
        if isinstance(self.grids, bool):
            raise InputError(
                "query_grids= are the grids to keep, a number or (height, width) or several; leave "
                "it out for all."
            )
        if not isinstance(self.place, (str, os.PathLike)) or not os.fspath(self.place):
            raise InputError(f"queries_on= is 'cpu', 'device' or a folder; got {self.place!r}.")
        if self.precision not in _DTYPES:
            raise InputError(f"query_precision= is 'fp16' or 'fp32'; got {self.precision!r}.")
        steps = listed(self.steps)
        # Hashable and to be read again, as options of a template are.
        if isinstance(steps, Collection) and not isinstance(steps, (str, range)):
            steps = tuple(steps)
        object.__setattr__(self, "steps", steps)
        if steps is not None and not isinstance(steps, slice):
            # What is no number is said now; whether there is such a call, before the run.
            chosen_numbers(steps, _ENDLESS, "steps")

    @property
    def arguments(self) -> dict[str, Any]:
        """The processor's arguments that make equal options."""
        return {
            "query_grids": self.grids,
            "query_steps": self.steps,
            "queries_on": self.place,
            "query_precision": self.precision,
        }

    @property
    def dtype(self) -> torch.dtype:
        """In which they are kept."""
        return _DTYPES[self.precision]

    @property
    def folder(self) -> Path | None:
        """Where each run makes a folder; None for memory."""
        return None if self.place in ("cpu", "device") else Path(self.place)

    def numbers(self, calls: int | None) -> range | list[int]:
        """The numbers of the denoiser calls that are kept.

        Args:
            calls: how many there will be; None where that is not known.

        Raises:
            InputError: there is no such call; or they count from an end that is not known.
        """
        if calls is None:
            return self.numbers_beyond(None)
        return chosen_numbers(self._given, calls, "steps")

    def numbers_beyond(self, calls: int | None) -> range | list[int]:
        """The same of a run that may have more calls than were told, as some pipelines' do.

        Raises:
            InputError: as :meth:`numbers`.
        """
        steps = self._given
        if isinstance(steps, slice):
            bounds = [bound for bound in (steps.start, steps.stop, steps.step) if bound is not None]
        else:
            bounds = list(steps) if isinstance(steps, Collection) else [steps]
        if any(bound < 0 for bound in bounds):
            if calls is not None:
                return self.numbers(calls)
            raise InputError(
                f"query_steps={steps!r} counts from the last denoiser call, and how many there "
                "will be is not known here. Give numbers from the first."
            )
        if isinstance(steps, slice):
            return range(_ENDLESS)[steps]
        return chosen_numbers(steps, _ENDLESS, "steps")

    @property
    def _given(self) -> Any:
        return slice(None) if self.steps is None else self.steps

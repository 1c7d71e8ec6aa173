"""Which rows of a denoiser call carry the prompt, which the negative prompt, and which neither."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from diffusers_rdaam.errors import InputError, RecordingError

Parts = tuple[str, ...]
PartsOf = Callable[[tuple[Any, ...], dict[str, Any]], Parts]
# The equal parts of a batch, in order. Rows of another name belong to neither prompt.
CONDITIONAL, UNCONDITIONAL, PERTURBED = "conditional", "unconditional", "perturbed"
# What a pipeline leaves out of its calls while it does not guide.
_ONLY_GUIDED = {UNCONDITIONAL, "image only", "source unconditional"}


@runtime_checkable
class Layout(Protocol):
    """Says for each denoiser call which parts its batch has."""

    def now(self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parts:
        """The parts of this call, in the order of the rows."""


@dataclass(frozen=True)
class RowLayout:
    """The layout of a pipeline class.

    Args:
        parts: of a call with every kind of guidance that the class has; one is ``"conditional"``.
        guided: whether a pipeline's next call is guided. Asked at every call, because a callback
            may switch guidance off during the run.
    """

    parts: Parts
    guided: Callable[[Any], bool]

    def now(self, pipe: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Parts:
        """The parts that are there with the guidance of this call."""
        dropped = set() if self.guided(pipe) else set(_ONLY_GUIDED)
        if PERTURBED in self.parts and not pipe.do_perturbed_attention_guidance:
            dropped.add(PERTURBED)
        return tuple(part for part in self.parts if part not in dropped)

    @property
    def perturbs(self) -> bool:
        """Whether rows for perturbed-attention guidance are foreseen."""
        return PERTURBED in self.parts


@dataclass(frozen=True)
class TwoCallLayout:
    """A pipeline whose every step calls its denoiser twice, the second time for guidance only.

    Both calls get the very same timestep object, and no other call gets it.

    Args:
        first: the layout of the first call of a step.
    """

    first: RowLayout
    _seen: list[Any] = field(default_factory=list, repr=False, compare=False)

    def now(self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parts:
        """The first call's parts, or none."""
        timestep = kwargs["timestep"] if "timestep" in kwargs else args[1]
        # Kept, not only compared by id: an id is used again once its object is gone.
        again = bool(self._seen) and self._seen[0] is timestep
        self._seen[:] = [timestep]
        return () if again else self.first.now(pipe)

    @property
    def parts(self) -> Parts:
        """The parts of the first call."""
        return self.first.parts

    @property
    def perturbs(self) -> bool:
        """Whether rows for perturbed-attention guidance are foreseen."""
        return False

    def fresh(self) -> TwoCallLayout:
        """The same layout for another run."""
        return TwoCallLayout(self.first)


@dataclass(frozen=True)
class CustomLayout:
    """A layout that somebody gives for a denoiser of their own.

    Args:
        parts: of every call; or a function of a call's positional and keyword arguments.
    """

    parts: Parts | PartsOf

    def now(self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parts:
        """The parts as given, or as the function says for this call."""
        parts = self.parts(args, kwargs) if callable(self.parts) else self.parts
        return _checked(parts)


LayoutLike = Layout | str | Sequence[str] | PartsOf | None


def as_layout(given: Any) -> Layout:
    """A layout from what a user may give.

    Args:
        given: None or ``"conditional"`` (every row carries the prompt); the names of the equal
            parts of a batch, in order, such as ``("unconditional", "conditional")``; a function of
            a call's positional and keyword arguments that returns them; or a :class:`Layout`.

    Raises:
        InputError: it is none of these, or names no part.
    """
    if isinstance(given, Layout):
        return given
    if callable(given):
        return CustomLayout(given)
    return CustomLayout(_checked((CONDITIONAL,) if given is None else given))


def _checked(parts: Any) -> Parts:
    names = (parts,) if isinstance(parts, str) else parts
    valid = isinstance(names, (tuple, list)) and all(isinstance(name, str) for name in names)
    if not valid or any(tuple(names).count(name) > 1 for name in (CONDITIONAL, UNCONDITIONAL)):
        raise InputError(
            f"{parts!r} is no layout. Give the names of the equal parts of the batch in order, "
            "'conditional' and 'unconditional' at most once each, such as ('unconditional', "
            "'conditional'); or a function of the denoiser's args and kwargs that returns them."
        )
    return tuple(names)


@dataclass(frozen=True)
class Rows:
    """First and one past the last row of each prompt; ``start == stop`` where there is none."""

    start: int
    stop: int
    negative: tuple[int, int] | None


def rows_of(parts: Parts, count: int) -> Rows | None:
    """The rows of a call's parts; None if neither prompt is among them.

    Args:
        parts: equal parts of the batch, in order.
        count: of the batch's rows.

    Raises:
        RecordingError: the rows cannot be divided so.
    """
    if CONDITIONAL not in parts and UNCONDITIONAL not in parts:
        return None
    size, rest = divmod(count, len(parts))
    if rest:
        raise RecordingError(
            f"The denoiser was called with {count} rows, where [{', '.join(parts)}] were expected "
            "with the guidance of this call. This layout is not known."
        )
    places = {part: (size * index, size * (index + 1)) for index, part in enumerate(parts)}
    start, stop = places.get(CONDITIONAL, (0, 0))
    return Rows(start, stop, places.get(UNCONDITIONAL))


@runtime_checkable
class RowsByText(Protocol):
    """Finds the rows of each prompt by the text embedding that they carry."""

    def rows(self, states: Tensor) -> Rows | None:
        """The rows of a call with this embedding ``(rows, columns, width)``; None if unknown."""

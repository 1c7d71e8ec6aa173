"""Which rows of a denoiser call belong to which branch of guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from diffusers_rdaam.errors import InputError, RecordingError


class Branch(str, Enum):
    """A branch of guidance, whose rows all carry the same kind of text."""

    # The prompt; the negative prompt; neither, because layers are perturbed or skipped.
    CONDITIONAL = "conditional"
    UNCONDITIONAL = "unconditional"
    PERTURBED = "perturbed"

    # As of StrEnum, which Python 3.10 does not have: the value, also in f-strings.
    __str__ = str.__str__


# The equal parts of a batch, in order: branches, or other names for rows of neither prompt.
Parts = tuple[str, ...]
PartsOf = Callable[[tuple[Any, ...], dict[str, Any]], Parts]
# The rows of each branch that a call has, first and one past the last.
RowsOfBranches = Mapping[Branch, tuple[int, int]]
_OF_PROMPTS = (Branch.CONDITIONAL, Branch.UNCONDITIONAL)
# What a pipeline leaves out of its calls while it does not guide.
_ONLY_GUIDED = {Branch.UNCONDITIONAL, "image only", "source unconditional"}


@runtime_checkable
class Layout(Protocol):
    """Which parts the batch of a denoiser call has."""

    def now(self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parts:
        """The parts of this call, in the order of the rows."""


@dataclass(frozen=True)
class RowLayout:
    """The layout of a pipeline class.

    Args:
        parts: the parts of a call with every kind of guidance that the class has; one of them is
            ``"conditional"``.
        guided: whether a pipeline's next call is guided. Asked at every call, because a callback
            may switch guidance off during the run.
    """

    parts: Parts
    guided: Callable[[Any], bool]

    def now(self, pipe: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Parts:
        """The parts that a call has with the guidance of this moment."""
        dropped = set() if self.guided(pipe) else set(_ONLY_GUIDED)
        if Branch.PERTURBED in self.parts and not pipe.do_perturbed_attention_guidance:
            dropped.add(Branch.PERTURBED)
        return tuple(part for part in self.parts if part not in dropped)

    @property
    def perturbs(self) -> bool:
        """True if the layout has rows for perturbed-attention guidance."""
        return Branch.PERTURBED in self.parts


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
        """The parts of the first call of a step; none for the second call."""
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
        """True if the layout has rows for perturbed-attention guidance."""
        return False

    def fresh(self) -> TwoCallLayout:
        """The same layout for another run."""
        return TwoCallLayout(self.first)


@dataclass(frozen=True)
class CustomLayout:
    """A layout that a user gives for a denoiser that no pipeline class describes.

    Args:
        parts: the parts of every call; or a function of a call's positional and keyword arguments.
    """

    parts: Parts | PartsOf

    def now(self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parts:
        """The parts as given, or as the function says for this call."""
        parts = self.parts(args, kwargs) if callable(self.parts) else self.parts
        return _checked(parts)


LayoutLike = Layout | str | Sequence[str] | PartsOf | None


def as_layout(value: Any) -> Layout:
    """A layout from what a user may pass as ``rows=``.

    Args:
        value: None or ``"conditional"`` (every row carries the prompt); the names of the equal
            parts of a batch, in order, such as ``("unconditional", "conditional")``; a function of
            a call's positional and keyword arguments that returns them; or a :class:`Layout`.

    Raises:
        InputError: the value is none of these, or a name is not a text or occurs twice.
    """
    if isinstance(value, Layout):
        return value
    if callable(value):
        return CustomLayout(value)
    return CustomLayout(_checked((Branch.CONDITIONAL,) if value is None else value))


def _checked(parts: Any) -> Parts:
    names = (parts,) if isinstance(parts, str) else parts
    valid = isinstance(names, (tuple, list)) and all(isinstance(name, str) for name in names)
    if not valid or any(tuple(names).count(name) > 1 for name in _OF_PROMPTS):
        raise InputError(
            f"{parts!r} is not a layout of rows. Give the names of the equal parts of the batch in "
            "order, 'conditional' and 'unconditional' at most once each, such as "
            "('unconditional', 'conditional'); or a function of the denoiser's args and "
            "kwargs that returns them."
        )
    return tuple(names)


def rows_of(parts: Parts, count: int) -> RowsOfBranches | None:
    """The rows of the prompt and of the negative prompt; None if a call has neither.

    Args:
        parts: equal parts of the batch, in order.
        count: number of rows in the batch.

    Raises:
        RecordingError: the number of rows is not a multiple of the number of parts.
    """
    if not any(branch in parts for branch in _OF_PROMPTS):
        return None
    size, rest = divmod(count, len(parts))
    if rest:
        raise RecordingError(
            f"The denoiser was called with {count} rows, where [{', '.join(parts)}] were expected "
            "with the guidance of this call. This layout is not known."
        )
    places = {part: (size * index, size * (index + 1)) for index, part in enumerate(parts)}
    return {branch: places[branch] for branch in _OF_PROMPTS if branch in places}


@runtime_checkable
class RowsByText(Protocol):
    """Finds the rows of each branch by the text embedding that they carry."""

    def rows(self, states: Tensor) -> RowsOfBranches | None:
        """The rows of a call with this embedding ``(rows, columns, width)``; None if unknown."""

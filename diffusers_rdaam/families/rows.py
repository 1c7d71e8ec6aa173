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
class CountedRowsLayout:
    """A pipeline that may leave rows out of later calls, and says so only by their number.

    Args:
        parts: the parts of a call with guidance.
        guided: whether the first call of a run is guided, from the pipeline and the timestep.
    """

    parts: Parts
    guided: Callable[[Any, Any], bool]
    _images: list[int] = field(default_factory=list, repr=False, compare=False)

    @property
    def perturbs(self) -> bool:
        """True if the layout has rows for perturbed-attention guidance."""
        return False

    def now(self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parts:
        """The parts that a call has, by the number of its rows.

        Args:
            pipe, args: not read but at the first call.
            kwargs: the call's text embedding as ``states``, and its ``timestep``.
        """
        rows = len(kwargs["states"])
        unguided = tuple(part for part in self.parts if part not in _ONLY_GUIDED)
        if not self._images:
            guided = self.guided(pipe, kwargs["timestep"])
            self._images.append(rows // len(self.parts if guided else unguided))
        return self.parts if rows == self._images[0] * len(self.parts) else unguided

    def fresh(self) -> CountedRowsLayout:
        """The same layout for another run."""
        return CountedRowsLayout(self.parts, self.guided)


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
class SeparateCallsLayout:
    """A pipeline that calls its denoiser once for each branch of guidance.

    The first call of a run has the prompt. From then on the text embedding of a call tells its
    branch, and not its number: guidance may stop, or begin, in the middle of a run. A text that
    was not seen before is the prompt's where a new step begins with it, else that of the negative
    prompt.
    """

    _calls: _SeenCalls = field(default_factory=lambda: _SeenCalls(), repr=False, compare=False)

    @property
    def parts(self) -> Parts:
        """The part of a run's first call."""
        return (Branch.CONDITIONAL,)

    @property
    def perturbs(self) -> bool:
        """True if the layout has rows for perturbed-attention guidance."""
        return False

    def now(self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parts:
        """The part that a call is.

        Args:
            pipe, args: not read.
            kwargs: the call's text embedding as ``states``, and its ``timestep``.
        """
        return (self._calls.branch_of(kwargs["states"], kwargs["timestep"]),)

    def fresh(self) -> SeparateCallsLayout:
        """The same layout for another run."""
        return SeparateCallsLayout()


class _SeenCalls:
    """The text embeddings of a run, with the branch of each."""

    def __init__(self) -> None:
        self._known: list[tuple[Tensor, int | None, Branch]] = []
        self._timestep: Any = None
        self._last: Branch | None = None

    def branch_of(self, states: Tensor, timestep: Any) -> Branch:
        """The branch of the call that begins now."""
        branch = self._by_identity(states)
        if branch is None:
            repeats = self._last is not None and _same(timestep, self._timestep)
            # The same text may be given anew in each step; or be the negative prompt's as well.
            equal = [b for known, _, b in self._known if _equal(known, states)]
            second = repeats and self._last == Branch.CONDITIONAL
            first_guess = Branch.UNCONDITIONAL if second else Branch.CONDITIONAL
            branch = first_guess if first_guess in equal or not equal else equal[0]
            if second and equal == [Branch.CONDITIONAL]:
                branch = Branch.UNCONDITIONAL
            self._known.append((states, _version(states), branch))
            # A pipeline that makes its embeddings anew in each step would fill the memory.
            del self._known[1:-4]
        self._timestep, self._last = timestep, branch
        return branch

    def _by_identity(self, states: Tensor) -> Branch | None:
        for known, version, branch in self._known:
            if known is states and version == _version(states):
                return branch
        return None


def _same(one: Any, other: Any) -> bool:
    """Whether two timesteps, numbers or tensors, are the same."""
    if one is other:
        return True
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and bool((one == other).all())
    return not isinstance(one, Tensor) and not isinstance(other, Tensor) and one == other


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def _version(tensor: Tensor) -> int | None:
    """The number of in-place changes; None where torch does not count them."""
    return None if tensor.is_inference() else tensor._version


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

"""The memory cost of keeping more than means: reported before a run, refused over the budget."""

from __future__ import annotations

from dataclasses import replace

from diffusers_rdaam.attention.options import RecordingOptions
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.recording.buffers.accumulator import AccumulatorShape

_UNITS = ((1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB"))


def memory_cost(options: RecordingOptions, shape: AccumulatorShape, frames: int) -> int:
    """Bytes of the buffers of a run.

    Args:
        options: the run's.
        shape: the shape of one accumulator.
        frames: how many denoiser calls are kept separately; 1 where steps are not.
    """
    squares = shape.of_squares.nbytes if "squares" in options.keep else 0
    return (shape.nbytes * frames + squares) * (2 if options.keep_negative else 1)


def memory_cost_text(
    options: RecordingOptions, shape: AccumulatorShape, frames: int, *, open_ended: bool = False
) -> str:
    """The memory cost in words; of each step where their number is ``open_ended``."""
    parts = [f"{shape.images} {'image' if shape.images == 1 else 'images'}"]
    if "steps" in options.keep and not open_ended:
        parts.append(f"{frames} {'step' if frames == 1 else 'steps'}")
    if shape.layers:
        parts.append(f"{len(shape.grids)} layers")
    if shape.heads:
        low, high = min(shape.heads), max(shape.heads)
        parts.append(f"{low} heads" if low == high else f"{low} to {high} heads")
    if options.keep_negative:
        parts.append("2 prompts")
    if "squares" in options.keep:
        parts.append("mean squares")
    parts += [f"{shape.tokens} columns", "4 bytes a cell" if shape.pair else "2 bytes a cell"]
    each = " for each step" if open_ended else ""
    return f"Keeping {megabytes(memory_cost(options, shape, frames))}{each} ({', '.join(parts)})."


def check_budget(options: RecordingOptions, shape: AccumulatorShape, frames: int) -> None:
    """Refuse a memory cost over the budget.

    Raises:
        InputError: it is over the budget; the message has the cost without each option.
    """
    if not (options.axes or options.keep_negative or "squares" in options.keep):
        return
    wanted = memory_cost(options, shape, frames)
    if wanted <= options.budget:
        return
    savings = ", ".join(
        f"{megabytes(size)} {change}" for change, size in _cheaper(options, shape, frames)
    )
    raise InputError(
        f"{memory_cost_text(options, shape, frames)[:-1]} is over the budget of "
        f"{megabytes(options.budget)}. It would be {savings}. Leave something out, or allow it "
        f"with RDAAMProcessor(budget={wanted}, …)."
    )


def _cheaper(
    options: RecordingOptions, shape: AccumulatorShape, frames: int
) -> list[tuple[str, int]]:
    """The options that may be left out, and the memory cost without each."""
    changes = []
    if "steps" in options.keep:
        changes.append(("without keep='steps'", memory_cost(options, shape, 1)))
    if shape.layers:
        fewer = replace(shape, layers=False)
        changes.append(("without keep='layers'", memory_cost(options, fewer, frames)))
    if shape.heads:
        fewer = replace(shape, heads=())
        changes.append(("without keep='heads'", memory_cost(options, fewer, frames)))
    if "squares" in options.keep:
        others = tuple(name for name in options.keep if name != "squares")
        without = replace(options, keep=others)
        changes.append(("without keep='squares'", memory_cost(without, shape, frames)))
    if options.keep_negative:
        without = replace(options, keep_negative=False)
        changes.append(("without keep_negative", memory_cost(without, shape, frames)))
    if shape.pair:
        single = replace(shape, pair=False)
        changes.append(("with precision='fp16'", memory_cost(options, single, frames)))
    if shape.images > 1:
        one = replace(shape, images=1)
        changes.append(("for one image at a time", memory_cost(options, one, frames)))
    return changes


def megabytes(size: int) -> str:
    """A number of bytes in the largest unit that suits it."""
    unit, name = next(((u, n) for u, n in _UNITS if size < 999.5 * u), _UNITS[-1])
    return f"{size / unit:.3g} {name}"

"""One cell of the table: a pipeline under a condition, compared with the stock one under it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from conditions import STABLE, Condition, nothing
from oracle import check, watched
from toys import CASES, SITES, Case, build, call, parts_of

from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.errors import NotRecordedWarning, RDAAMError

WORKS = "works"
BEFORE, AFTER = "before", "after"


def fresh(case: Case, cls: Any) -> Any:
    """A pipeline that shares nothing with another."""
    parts = parts_of(case)
    return build(cls, parts, own=parts)


def arrays(output: Any) -> np.ndarray:
    """The images, or latents, as they are compared: every bit."""
    images = output.images
    if isinstance(images, torch.Tensor):
        images = images.float().numpy()
    assert not np.isnan(images).any()
    return images


def same_maps(one: Any, other: Any) -> bool:
    """Whether two lists of attributions are equal in every bit."""
    return len(one) == len(other) and all(
        a.size == b.size and a.additions == b.additions and torch.equal(a.maps, b.maps)
        for x, y in zip(one, other, strict=True)
        for a, b in zip(x.grids, y.grids, strict=True)
    )


@contextmanager
def denoiser_calls(pipe: Any) -> Iterator[list[int]]:
    """One entry for each call of the denoiser: its rows."""
    rows: list[int] = []
    denoiser = getattr(pipe.unet, "_orig_mod", pipe.unet)

    def note(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rows.append(len(args[0]))

    handle = denoiser.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield rows
    finally:
        handle.remove()


def run(condition: Condition, case: Case, pipe: Any) -> Any:
    """A call under the condition; warnings of diffusers and torch are theirs."""
    arguments = {"output_type": "np"} | condition.call(pipe)
    with condition.around():
        return call(case, pipe, **arguments)


def outcome(condition: Condition, name: str) -> str:
    """What happens under the condition, set after our processors, and with one pipeline before.

    Raises:
        AssertionError: the image is not the stock one, or the maps are not those of the queries
            and keys.
    """
    case = CASES[name]
    # Schedulers and what is said in the call do not touch the denoiser.
    matters = condition.apply is not nothing and not condition.variant and not condition.compiled
    orders = (BEFORE, AFTER) if name == STABLE and matters else (AFTER,)
    found = {order: _outcome(condition, case, order) for order in orders}
    if len(set(found.values())) == 1:
        return found[AFTER]
    return f"set before our processors: {found[BEFORE]}; set after: {found[AFTER]}"


def _outcome(condition: Condition, case: Case, order: str) -> str:
    stock, ours = (fresh(case, cls) for cls in (case.stock, case.ours))
    if condition.compiled:
        # The graphs of earlier tests count towards its limit of recompilations.
        torch.compiler.reset()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if not condition.compiled:
            condition.apply(stock)
        # The queries and keys are those of the stock pipeline: equal images have equal ones.
        with watched(stock) as seen:
            wanted = run(condition, case, stock)
        if order == AFTER:
            ours.set_attn_processor(RDAAMProcessor())
            plain = run(Condition("nothing special"), case, ours)
        condition.apply(ours)
        try:
            if order == BEFORE:
                ours.set_attn_processor(RDAAMProcessor())
            with denoiser_calls(ours) as calls:
                output = run(condition, case, ours)
        except RDAAMError as error:
            return f"refused: {_first(error)}"
        assert np.array_equal(arrays(output), arrays(wanted)), "the image is not the stock one"
        told = [w.message for w in caught if issubclass(w.category, NotRecordedWarning)]
        if output.attributions is None:
            return f"image only, with warning: {_first(told[0])}"
        assert not told, told
        check(output.attributions, seen, SITES)
        assert output.attributions[0].run["denoiser_calls"] == len(calls) > 1
        if order == AFTER and condition.undo is not None:
            condition.undo(ours)
            ours.set_attn_processor(RDAAMProcessor())
            again = run(Condition("nothing special"), case, ours)
            assert np.array_equal(arrays(again), arrays(plain)), "undone, the image is another"
            assert same_maps(again.attributions, plain.attributions)
    return WORKS


def _first(message: Any) -> str:
    return str(message).split(". ")[0].rstrip(".")

"""One cell of the table: a transformer's pipeline under a condition, beside the stock one."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from dense_checks import StockRun, check_maps, images_of, parts_of
from dense_oracle import Case, observed_ids
from diffusers.models.attention_dispatch import AttentionBackendName
from transformer_conditions import FAMILIES, Condition, nothing
from transformer_switches import own_backend

from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.errors import NotRecordedWarning, RDAAMError
from diffusers_rdaam.pipelines.classes import recording_class

WORKS, STOCK_FAILS = "works", "fails in diffusers itself"
BEFORE, AFTER = "before", "after"
PLAIN = Condition("nothing special")


class ConditionedRun(StockRun):
    """A stock run under a condition: its images, its attention, what its encoders were given."""

    def __init__(self, case: Case, condition: Condition) -> None:
        self.pipe = quiet(case.make())
        condition.apply(self.pipe)
        self.case = with_call(case, condition, self.pipe)
        with condition.around(), observed_ids(self.pipe, case) as given:
            self.output, self.calls = self.case.observed(self.pipe)
        self.given, self.seen = given, self.calls


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def with_call(case: Case, condition: Condition, pipe: Any) -> Case:
    """The case with the condition's arguments."""
    return replace(case, call={**case.call, **condition.call(pipe)})


def ours_of(case: Case) -> Any:
    """A recording pipeline that shares nothing with another."""
    stock = case.make()
    return quiet(recording_class(type(stock).__name__)(**parts_of(stock)))


def run(case: Case, condition: Condition, pipe: Any) -> Any:
    """A call under the condition."""
    with condition.around():
        return with_call(case, condition, pipe).run(pipe)


def same_maps(one: Any, other: Any) -> bool:
    """Whether two lists of attributions are equal in every bit."""
    return len(one) == len(other) and all(
        a.size == b.size and a.additions == b.additions and torch.equal(a.maps, b.maps)
        for x, y in zip(one, other, strict=True)
        for a, b in zip(x.grids, y.grids, strict=True)
    )


def outcome(condition: Condition, family: str) -> str:
    """What happens under the condition, set after our processors, and with one pipeline before.

    Raises:
        AssertionError: the image is not the stock one, or the maps are not those of the queries
            and keys.
    """
    case = FAMILIES[family]()
    matters = condition.apply is not nothing and not condition.variant
    orders = (BEFORE, AFTER) if matters else (AFTER,)
    with own_backend():
        found = {order: _outcome(condition, case, order) for order in orders}
    if len(set(found.values())) == 1:
        return found[AFTER]
    return f"set before our processors: {found[BEFORE]}; set after: {found[AFTER]}"


def _outcome(condition: Condition, case: Case, order: str) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with own_backend():
            try:
                stock = ConditionedRun(case, condition)
            except (AttributeError, KeyError, RuntimeError, ValueError):
                return STOCK_FAILS
        ours = ours_of(case)
        if order == AFTER:
            ours.set_attn_processor(RDAAMProcessor())
            plain = run(case, PLAIN, ours)
            attributions = ours.attributions
        condition.apply(ours)
        try:
            if order == BEFORE:
                ours.set_attn_processor(RDAAMProcessor())
            output = run(case, condition, ours)
        except RDAAMError as error:
            return f"refused: {_first(error)}"
        assert np.array_equal(images(output), images(stock.output)), "the image is another"
        told = [w.message for w in caught if issubclass(w.category, NotRecordedWarning)]
        if told:
            return f"image only, with warning: {_first(told[0])}"
        if condition.unseen:
            with own_backend(AttentionBackendName.NATIVE):
                stock = ConditionedRun(case, PLAIN)
        check_maps(stock, ours.attributions, tolerance=condition.tolerance)
        if order == AFTER and condition.undo is not None:
            condition.undo(ours)
            ours.set_attn_processor(RDAAMProcessor())
            again = run(case, PLAIN, ours)
            assert np.array_equal(images(again), images(plain)), "undone, the image is another"
            assert same_maps(ours.attributions, attributions)
    return WORKS


def images(output: Any) -> np.ndarray:
    """The images, or latents, as they are compared: every bit."""
    found = next(iter(output.values()))
    found = found.float().numpy() if isinstance(found, torch.Tensor) else images_of(output)
    assert not np.isnan(found).any()
    return found


def _first(message: Any) -> str:
    return str(message).split(". ")[0].rstrip(".")

"""What a case says of its pipeline is seen by disturbing a stock run; nothing of the package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from dense_oracle import (
    Case,
    DenoiserCall,
    Observed,
    find_ids,
    observed_attention,
    observed_ids,
    probabilities,
)
from torch import Tensor


def check_run(case: Case) -> None:
    """The stock run makes an image, and its maps are on the grid and sum to less than one."""
    pipe = case.make()
    output, calls = case.observed(pipe)
    first = next(iter(output.values()))
    assert len(first) == len(case.prompts) and np.isfinite(np.asarray(first)).all()
    assert {call.stream for call in calls} == set(case.sites)
    conditional = {one.number: case.rows(one) for one in calls.denoiser_calls}
    assert {len(rows) for rows in conditional.values()} <= {0, len(case.prompts)}
    for stream in case.sites:
        of_stream = calls.of(stream)
        total = probabilities(of_stream[0]).sum(dim=-1)
        torch.testing.assert_close(total, torch.ones_like(total))
        sites = {call.site for call in of_stream}
        counted = [call for call in of_stream if conditional[call.denoiser_call]]
        assert sites == {call.site for call in counted}
        for image in range(len(case.prompts)):
            maps = case.map_of(calls, image, stream=stream)
            mass = maps.sum(dim=0)
            assert maps.shape[1:] == case.grid and mass.min() > 0 and mass.max() <= 1 + 1e-9


def check_text_keys(case: Case) -> None:
    """A disturbed text column of one row changes its key at the first site, and no other key."""
    pipe = _made(case)
    _, calls = case.observed(pipe)
    number, rows = _first_conditional(case, calls)
    row = rows[-1]
    wanted = _first_kernel_call(case, calls, number, row)
    kernel_row = case.kernel_row(wanted, row)
    keys = case.text_keys(wanted, row)
    assert len(set(keys)) == len(keys) > 2
    for column in (0, 3, len(keys) - 1):
        pipe = _made(case)
        with _disturbed(pipe, case, row, column, number):
            again = _until(case, pipe, number)
        got = _first_kernel_call(case, again, number, row)
        assert _changed(wanted.key, got.key) == {(kernel_row, keys[column])}


def check_token_columns(case: Case) -> None:
    """A disturbed vector of a text encoder changes the key of that token's column only."""
    pipe = _made(case)
    with observed_ids(pipe, case) as given:
        _, calls = case.observed(pipe)
    number, rows = _first_conditional(case, calls)
    images = len(case.prompts)
    prompt, others = case.prompts[-1], case.prompts.count(case.prompts[-1])
    row = rows[images - others]
    wanted = _first_kernel_call(case, calls, number, row)
    kernel_row = case.kernel_row(wanted, row)
    keys = case.text_keys(wanted, row)
    assert case.encoders
    for encoder in case.encoders:
        ids, _ = encoder.tokens(pipe, prompt)
        call, encoder_row, start = find_ids(given[encoder.model], ids)
        # The same vectors may be in several columns.
        same = [one for one in case.encoders if one.model == encoder.model]
        for position in (start, start + 2, start + len(ids) - 1):
            pipe = _made(case)
            with _encoder_disturbed(pipe, encoder.model, call, encoder_row, position):
                again = _until(case, pipe, number)
            got = _first_kernel_call(case, again, number, row)
            changed = {key for one, key in _changed(wanted.key, got.key) if one == kernel_row}
            assert changed == {keys[one.column(position)] for one in same}


def check_conditional_rows(case: Case) -> None:
    """Another negative prompt changes text keys of all rows but the conditional ones."""
    assert case.negative is not None
    pipe = case.make()
    _, calls = case.observed(pipe)
    _, again = case.observed(pipe, **case.negative)
    site = calls[0].site
    pairs = [pair for pair in zip(calls, again, strict=True) if pair[0].site == site]
    assert all(one.site == other.site for one, other in pairs)
    same, others = 0, 0
    for one, other in pairs:
        conditional = case.rows(calls.denoiser_calls[one.denoiser_call])
        for row in range(_denoiser_rows(calls.denoiser_calls[one.denoiser_call])):
            kernel_row = case.kernel_row(one, row)
            if kernel_row is None:
                continue
            keys, other_keys = case.text_keys(one, row), case.text_keys(other, row)
            equal = len(keys) == len(other_keys) and torch.equal(
                one.key[kernel_row][:, keys], other.key[kernel_row][:, other_keys]
            )
            if row in conditional:
                same += 1
                assert equal
            elif _is_unconditional(case, calls.denoiser_calls[one.denoiser_call], row):
                others += 1
                assert not equal
    assert same >= len(case.prompts) and others >= len(case.prompts)


def _is_unconditional(case: Case, call: DenoiserCall, row: int) -> bool:
    """Not a row of the prompt that some guidance disturbs."""
    return row not in (case.perturbed(call) if case.perturbed else ())


def _denoiser_rows(call: DenoiserCall) -> int:
    tensors = [call.kwargs.get("hidden_states"), *call.args[:1]]
    return next(len(one) for one in tensors if one is not None)


def _first_conditional(case: Case, calls: Observed) -> tuple[int, list[int]]:
    return next((one.number, rows) for one in calls.denoiser_calls if (rows := case.rows(one)))


def _first_kernel_call(case: Case, calls: Observed, number: int, row: int) -> Any:
    return next(
        call
        for call in calls
        if call.denoiser_call == number and case.kernel_row(call, row) is not None
    )


def _changed(before: Tensor, after: Tensor) -> set[tuple[int, int]]:
    """The rows and positions of keys that are not the same."""
    assert before.shape == after.shape
    return {tuple(at) for at in (before != after).any(dim=-1).any(dim=1).nonzero().tolist()}


class _Enough(Exception):
    """The denoiser made the call that is looked at."""


def _until(case: Case, pipe: Any, number: int) -> Observed:
    """The attention of a run that ends with one call of the denoiser."""
    denoisers = [getattr(pipe, name) for name in case.denoisers]
    handles = []
    with observed_attention(denoisers, case.sites) as calls:

        def stop(module: Any, args: Any, output: Any) -> None:
            if len(calls.denoiser_calls) == number + 1:
                raise _Enough

        handles += [one.register_forward_hook(stop) for one in denoisers]
        try:
            with pytest.raises(_Enough):
                case.run(pipe)
        finally:
            for handle in handles:
                handle.remove()
    return calls


def _made(case: Case) -> Any:
    """The pipeline, without what text passes before the first site but residual connections."""
    pipe = case.make()
    if case.mixers is None:
        return pipe
    found = 0
    with torch.no_grad():
        for denoiser in case.denoisers:
            for name, module in getattr(pipe, denoiser).named_modules():
                if re.fullmatch(case.mixers, name):
                    found += 1
                    module.weight.zero_()
                    if module.bias is not None:
                        module.bias.zero_()
    assert found, f"no layer is named {case.mixers}"
    return pipe


@contextmanager
def _disturbed(pipe: Any, case: Case, row: int, column: int, number: int) -> Iterator[None]:
    denoiser = getattr(pipe, case.denoisers[0])
    seen = [0]

    def disturb(module: Any, args: Any, kwargs: Any) -> Any:
        seen[0] += 1
        return (args, case.disturb(kwargs, row, column)) if seen[0] == number + 1 else None

    handle = denoiser.register_forward_pre_hook(disturb, with_kwargs=True, prepend=True)
    try:
        yield
    finally:
        handle.remove()
    assert seen[0] > number


@contextmanager
def _encoder_disturbed(
    pipe: Any, name: str, number: int, row: int, position: int
) -> Iterator[None]:
    seen = [0]

    def disturb(module: Any, args: Any, output: Any) -> None:
        seen[0] += 1
        if seen[0] != number + 1:
            return
        states = [output[0], *(output.get("hidden_states") or ())]
        states += [output[key] for key in ("last_hidden_state",) if key in output]
        # One tensor may be there twice.
        for state in {id(one): one for one in states if one.ndim == 3}.values():
            state[row, position] += torch.linspace(-3, 3, state.shape[-1]).to(state)

    handle = getattr(pipe, name).register_forward_hook(disturb)
    try:
        yield
    finally:
        handle.remove()
    assert seen[0] > number

"""What the cases say of stock runs, seen by disturbing one thing; nothing of the package."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from builders_single import CASES
from dense_oracle import (
    DenoiserCall,
    Observed,
    observed_attention,
    probabilities,
)
from single_parts import ToyCase

pytestmark = [
    # Mochi's transformer asks for float32 autocast, which the CPU does not have.
    pytest.mark.filterwarnings("ignore:In CPU autocast"),
    # A scheduler hands a list of tensors to numpy.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
    # PRX's pipeline still has a class of diffusers that diffusers replaces.
    pytest.mark.filterwarnings("ignore:`LoraLoaderMixin` is deprecated:FutureWarning"),
]


@cache
def _stock(name: str) -> tuple[ToyCase, Any, Observed, Any]:
    """A case, its pipeline and what was seen in one run."""
    case = CASES[name]()
    pipe = case.make()
    pipe.set_progress_bar_config(disable=True)
    with _encoded(case, pipe) as texts:
        _, calls = case.observed(pipe)
    return case, pipe, calls, texts


@contextmanager
def _encoded(case: ToyCase, pipe: Any) -> Iterator[dict[str, list[tuple[Any, torch.Tensor]]]]:
    """What each text encoder was given and put out: ids and ``(layers, tokens, width)`` of rows."""
    texts: dict[str, list[tuple[Any, torch.Tensor]]] = {}
    handles = []
    for encoder in case.encoders:
        seen = texts.setdefault(encoder.model, [])

        def note(module, args, kwargs, output, seen=seen):
            ids = args[0] if args else kwargs["input_ids"]
            last = output if isinstance(output, torch.Tensor) else output.get("last_hidden_state")
            layers = [] if last is None else [last]
            layers += getattr(output, "hidden_states", None) or ()
            for row, of_row in enumerate(ids):
                seen.append((of_row.tolist(), torch.stack([one[row] for one in layers])))

        model = pipe
        for part in encoder.model.split("."):
            model = getattr(model, part)
        handles.append(model.register_forward_hook(note, with_kwargs=True))
    try:
        yield texts
    finally:
        for handle in handles:
            handle.remove()


def _denoiser(case: ToyCase, pipe: Any) -> Any:
    """The one that is called first, where a pipeline has two."""
    return getattr(pipe, case.denoisers[0])


def _by_name(denoiser: Any, call: DenoiserCall) -> dict[str, Any]:
    return dict(inspect.signature(denoiser.forward).bind(*call.args, **call.kwargs).arguments)


def _conditional(case: ToyCase, calls: Observed) -> DenoiserCall:
    return next(call for call in calls.denoiser_calls if case.rows(call))


@torch.no_grad()
def _again(case: ToyCase, denoiser: Any, kwargs: dict[str, Any]) -> Observed:
    """What one call of the denoiser does at the sites."""
    torch.manual_seed(1)
    copied = {key: list(one) if isinstance(one, list) else one for key, one in kwargs.items()}
    with observed_attention(denoiser, case.sites) as calls:
        denoiser(**copied)
    return calls


@pytest.mark.parametrize("name", CASES)
def test_maps_are_probabilities_on_the_grid(name):
    case, _, calls, _ = _stock(name)
    assert {call.stream for call in calls} == set(case.sites)
    for call in calls:
        total = probabilities(call).sum(-1)
        if call.mask is not None and call.mask.dtype == torch.bool:
            # The queries of padding may see no key.
            total = total.masked_fill(~call.mask.any(-1), 1)
        torch.testing.assert_close(total, torch.ones(()).double().expand(call.query.shape[:3]))
    for image in range(len(case.prompts)):
        maps = case.map_of(calls, image)
        assert maps.shape[1:] == case.grid
        assert 0 < maps.sum(0).max() <= 1 + 1e-9
        assert maps.std(dim=(1, 2)).max() > 1e-6, "every position is alike"


@pytest.mark.parametrize("name", CASES)
def test_image_queries_are_what_the_noise_moves(name):
    case, pipe, calls, _ = _stock(name)
    call = _conditional(case, calls)
    denoiser = _denoiser(case, pipe)
    kwargs = _by_name(denoiser, call)
    ((key, latents),) = [
        (key, kwargs[key]) for key in ("hidden_states", "x", "sample") if key in kwargs
    ]
    if case.unmix is not None:
        denoiser = _unmixed(case)
    noise = torch.Generator().manual_seed(9)

    def other(tensor):
        return tensor + torch.randn(tensor.shape, generator=noise) * case.of_image(tensor)

    changed = [other(one) for one in latents] if isinstance(latents, list) else other(latents)
    before, after = _again(case, denoiser, kwargs), _again(case, denoiser, kwargs | {key: changed})
    tokens = int(torch.tensor(case.grid).prod())
    for row in case.rows(call):
        first, second = _recorded(case, before, row), _recorded(case, after, row)
        moved = (first.query != second.query).any(dim=(1, 3))[case.kernel_row(first, row)]
        start = case.image_queries(first, row)
        wanted = torch.zeros_like(moved)
        wanted[start : start + tokens] = True
        assert torch.equal(moved, wanted)


@pytest.mark.parametrize("name", CASES)
def test_text_keys_are_what_a_disturbed_token_moves(name):
    case, pipe, calls, _ = _stock(name)
    call = _conditional(case, calls)
    denoiser = _denoiser(case, pipe)
    kwargs = _by_name(denoiser, call)
    if case.unmix is not None:
        denoiser = _unmixed(case)
    for row in case.rows(call):
        before = _recorded(case, _again(case, denoiser, kwargs), row)
        keys = case.text_keys(before, row)
        for column in case.probe or (0, 1, len(keys) - 1):
            disturbed = case.disturb(kwargs, row, column)
            after = _recorded(case, _again(case, denoiser, disturbed), row)
            moved = (before.key != after.key).any(dim=(1, 3))[case.kernel_row(before, row)]
            assert moved.nonzero().flatten().tolist() == [keys[column]]


def _recorded(case: ToyCase, calls: Observed, row: int) -> Any:
    """The first kernel call that has a row's text."""
    return next(call for call in calls if case.kernel_row(call, row) is not None)


def _unmixed(case: ToyCase) -> Any:
    """A denoiser without the layers in which one token of text reaches another."""
    pipe = case.make()
    denoiser = _denoiser(case, pipe)
    case.unmix(denoiser)
    return denoiser


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case().negative])
def test_another_negative_prompt_moves_other_rows(name):
    case, pipe, calls, _ = _stock(name)
    _, others = case.observed(pipe, **case.negative)
    # At the first step, where the latents are still the same.
    first, second = calls.denoiser_calls[0], others.denoiser_calls[0]
    moved = _moved_rows(case, _denoiser(case, pipe), first, second)
    if any(moved):
        assert not {row for row, changed in enumerate(moved) if changed} & set(case.rows(first))
        return
    assert case.rows(first) and not any(moved)
    first, second = calls.denoiser_calls[1], others.denoiser_calls[1]
    assert not case.rows(first)
    assert all(_moved_rows(case, _denoiser(case, pipe), first, second))


def _moved_rows(case: ToyCase, denoiser: Any, one: DenoiserCall, other: DenoiserCall) -> list[bool]:
    first, second = _by_name(denoiser, one), _by_name(denoiser, other)
    pairs = [
        (case.states(first, row), case.states(second, row)) for row in range(case.row_count(first))
    ]
    return [a.shape != b.shape or not torch.equal(a, b) for a, b in pairs]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case().encoders])
@torch.no_grad()
def test_columns_hold_the_states_of_their_tokens(name):
    case, pipe, calls, texts = _stock(name)
    call = _conditional(case, calls)
    kwargs = _by_name(_denoiser(case, pipe), call)
    for encoder in case.encoders:
        for image, row in enumerate(case.rows(call)):
            ids, _ = encoder.tokens(pipe, case.prompts[image])
            places, given, hidden = _encoding_of(ids, texts[encoder.model])
            columns = [encoder.column(place) for place in places]
            if case.ids is not None:
                assert case.ids(kwargs, row)[columns].tolist() == given
            else:
                states, hidden = case.states(kwargs, row)[columns], case.project(pipe, hidden)
                assert _holds(states, hidden), f"{encoder.name} of image {image}"


def _encoding_of(
    ids: list[int], texts: list[tuple[Any, torch.Tensor]]
) -> tuple[list[int], list[int], torch.Tensor]:
    """Positions of a prompt's tokens in what its encoder was given, their ids and states."""
    for given, states in texts:
        for start in range(len(given) - len(ids) + 1):
            if given[start : start + len(ids)] == ids:
                places = list(range(start, start + len(ids)))
                return places, ids, states[:, places]
    raise AssertionError("no text encoder was given the prompt")


def _holds(given: torch.Tensor, layers: torch.Tensor) -> bool:
    """Whether rows of the denoiser's text are what one layer put out."""
    return any((given - layer).abs().max() < 1e-6 for layer in layers)

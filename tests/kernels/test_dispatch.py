"""Which kernel is taken, and that it says why."""

from __future__ import annotations

import pytest
import torch

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels import operator
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.kernels.planes import read_planes


@pytest.mark.parametrize(
    ("backend", "name", "reason"),
    [
        ("auto", "portable", "tiles of image positions on cpu"),
        ("portable", "portable", "asked for on cpu"),
        ("reference", "reference", "asked for: float64, materialised"),
    ],
)
def test_choice_has_a_name_and_a_reason(backend, name, reason):
    choice = choose(backend, device=torch.device("cpu"))
    assert choice.name == name
    assert reason in choice.reason
    assert (choice.used.name, choice.used.reason) == (name, choice.reason)
    assert (choice.accumulate is operator.accumulate) == (name == "portable")


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("backend", ["triton", "", None])
def test_unknown_backend_lists_the_choices(backend):
    with pytest.raises(InputError) as caught:
        choose(backend)
    assert str(caught.value) == (
        f"{backend!r} is not a backend. Backends: 'auto', 'portable', 'beside', 'fused', "
        "'reference'."
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("pair", [False, True])
def test_reference_and_portable_agree(pair, masked):
    query = torch.randn(2, 3, 70, 5).bfloat16()
    key = torch.randn(2, 3, 7, 5).bfloat16()
    mask = torch.randn(2, 1, 1, 7).bfloat16() if masked else None
    results = []
    for backend in ("reference", "portable"):
        high = torch.zeros(2, 7, 70, dtype=torch.float16)
        low = torch.zeros_like(high) if pair else None
        choose(backend).accumulate(query, key, high, low, mask=mask, scale=0.4)
        results.append(read_planes(high, low))
    torch.testing.assert_close(*results, rtol=1e-5 if pair else 1e-3, atol=1e-7)
    assert float(results[0].sum()) == pytest.approx(2 * 70, rel=1e-3)

"""Which kernel is taken, and that it says why."""

from __future__ import annotations

import warnings

import pytest
import torch

from diffusers_rdaam.errors import BackendWarning, InputError
from diffusers_rdaam.kernels import fused, operator
from diffusers_rdaam.kernels.dispatch import choose, warn_of_another
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
        f"{backend!r} is not a backend. Backends: 'auto', 'portable', 'maps_only', 'fused', "
        "'reference'."
    )


@pytest.mark.usefixtures("types_unchecked")
def test_the_earlier_name_of_a_backend_names_the_one_of_now():
    with pytest.raises(InputError, match=r"It is called 'maps_only' now\.$"):
        choose("beside")


CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))
NO_MPS = "Triton kernels run on CUDA devices, not on mps"


@pytest.mark.parametrize("backend", ["maps_only", "fused"])
def test_kernels_of_triton_where_they_run(backend):
    # As everywhere in the tests, by Triton's interpreter.
    choice = choose(backend, device=CPU)
    assert (choice.name, choice.reason, choice.wants_lse) == (backend, "asked for on cpu", True)
    assert (choice.attend is not None) == (backend == "fused")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_another(backend, choice)


@pytest.mark.parametrize("backend", ["maps_only", "fused"])
def test_a_backend_that_cannot_run_gives_way_with_a_reason(backend):
    choice = choose(backend, device=MPS)
    assert choice.name == "portable" and choice.attend is None
    assert choice.accumulate is operator.accumulate and not choice.wants_lse
    assert choice.reason == f"{backend!r} cannot run on mps: {NO_MPS}"
    with pytest.warns(BackendWarning) as caught:
        warn_of_another(backend, choice)
    assert str(caught[0].message) == (
        f"{backend!r} cannot run on mps: {NO_MPS}. The portable kernel records the same maps in "
        "its place. For no warning ask for backend='auto'."
    )
    assert "the device is not known yet" in choose(backend).reason


def test_auto_takes_the_fastest_that_keeps_the_image(monkeypatch):
    monkeypatch.setattr(fused, "unavailable", lambda device: None)
    choice = choose("auto", device=CUDA)
    assert choice.name == "maps_only" and choice.attend is None
    assert choice.reason == "one launch, and the image stays as it is, bit for bit"
    assert choose("auto", device=CPU).name == "portable"
    monkeypatch.setattr(fused, "unavailable", lambda device: "Triton is not installed")
    choice = choose("auto", device=CUDA)
    assert (choice.name, choice.reason) == (
        "portable",
        "Triton's kernels cannot run on cuda: Triton is not installed",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_another("auto", choice)


@pytest.mark.parametrize(
    ("dim", "dtype", "reason"),
    [
        (300, torch.float32, "head size 300 is over 256"),
        (5, torch.float64, "queries are torch.float64, not float16, bfloat16 or float32"),
    ],
)
def test_a_call_that_is_not_served_takes_the_portable_kernel_and_the_next_does_not(
    dim, dtype, reason
):
    choice, other = choose("maps_only", device=CPU), choose("maps_only", device=CPU)
    for given, reported in ((dim, ("portable", reason)), (8, ("maps_only", "asked for on cpu"))):
        query, key = (
            torch.randn(1, 2, n, given, dtype=dtype if given == dim else torch.float32)
            for n in (6, 7)
        )
        maps = []
        for backend in (choice, choose("reference")):
            high = torch.zeros(1, 7, 6, dtype=torch.float16)
            low = torch.zeros_like(high)
            backend.accumulate(query, key, high, low, scale=0.1)
            maps.append(read_planes(high, low))
        torch.testing.assert_close(*maps, rtol=1e-5, atol=6e-8)
        assert (choice.used.name, choice.used.reason) == reported
        assert (other.used.name, other.used.reason) == ("maps_only", "asked for on cpu")


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


def test_the_reference_on_a_device_without_float64():
    for name in ("mps", "xpu"):
        with pytest.raises(InputError) as error:
            choose("reference", device=torch.device(name))
        assert str(error.value) == (
            f"backend='reference' computes in float64, which {name} does not have. Ask for "
            "backend='portable', which keeps float32's accuracy there, or run on a CPU."
        )
        assert choose("portable", device=torch.device(name)).name == "portable"
        assert choose("auto", device=torch.device(name)).name == "portable"
    for device in (None, torch.device("cpu"), torch.device("cuda"), torch.device("cuda", 1)):
        assert choose("reference", device=device).name == "reference"

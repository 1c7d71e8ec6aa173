"""The noise that several generations share: which generator it is copied from, and when none is."""

from __future__ import annotations

import pytest
import torch

from benchmarks.toy_host import new_host
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.explain.regeneration import ReplayedNoise, default_generator


def test_without_a_generator_it_is_what_the_pipeline_draws_from_next() -> None:
    torch.manual_seed(3)
    noise = ReplayedNoise(new_host(), {})
    wanted = torch.randn(4)
    torch.randn(9)
    for _ in range(2):
        generator = noise.again({})["generator"]
        assert torch.equal(torch.randn(4, generator=generator), wanted)


@pytest.mark.parametrize("device", ["mps", "xpu", "meta", "cuda:63"])
def test_a_device_whose_generator_is_not_handed_out_is_no_silent_cpu(device: str) -> None:
    with pytest.raises(InputError, match=rf"device {device} cannot be copied.*Give generator="):
        default_generator(torch.device(device))


def test_what_is_no_generator() -> None:
    with pytest.raises(InputError, match=r"generator= is a torch.Generator; got 7"):
        ReplayedNoise(new_host(), {"generator": 7})
    first = torch.Generator().manual_seed(1)
    listed = ReplayedNoise(new_host(), {"generator": [first]}).again({})["generator"]
    assert torch.equal(listed.get_state(), first.get_state()) and listed is not first

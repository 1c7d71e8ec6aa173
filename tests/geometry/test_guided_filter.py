"""The guided filter against its definition, window by window."""

from __future__ import annotations

import pytest
import torch

from diffusers_rdaam.geometry.guided_filter import guided_filter


@pytest.mark.parametrize("radius", [1, 3, 40])
def test_it_is_the_mean_of_the_windows_linear_functions(radius):
    height, width, eps = 9, 12, 1e-2
    generator = torch.Generator().manual_seed(radius)
    image = torch.rand(3, height, width, generator=generator, dtype=torch.float64)
    values = torch.rand(height, width, generator=generator, dtype=torch.float64)
    slopes, offsets = torch.zeros_like(image), torch.zeros_like(values)

    def window(y: int, x: int) -> tuple[slice, slice]:
        rows, columns = (slice(max(0, i - radius), i + radius + 1) for i in (y, x))
        return rows, columns

    for y in range(height):
        for x in range(width):
            colours = image[(slice(None), *window(y, x))].flatten(1)
            target = values[window(y, x)].flatten()
            centred = colours - colours.mean(dim=1, keepdim=True)
            within = centred @ centred.T / len(target) + eps * torch.eye(3, dtype=torch.float64)
            across = centred @ (target - target.mean()) / len(target)
            slopes[:, y, x] = torch.linalg.solve(within, across)
            offsets[y, x] = target.mean() - slopes[:, y, x] @ colours.mean(dim=1)
    wanted = torch.zeros_like(values)
    for y in range(height):
        for x in range(width):
            slope = slopes[(slice(None), *window(y, x))].flatten(1).mean(dim=1)
            wanted[y, x] = slope @ image[:, y, x] + offsets[window(y, x)].mean()
    found = guided_filter(values, image, radius, eps)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_it_is_linear_in_the_map_and_keeps_a_flat_one():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, 20, 30, generator=generator)
    values = torch.rand(20, 30, generator=generator)
    once = guided_filter(values, image, 4, 1e-3)
    torch.testing.assert_close(guided_filter(3.0 * values + 1.0, image, 4, 1e-3), 3.0 * once + 1.0)
    flat = torch.full((20, 30), 0.25)
    torch.testing.assert_close(guided_filter(flat, image, 4, 1e-3), flat)

"""The guided filter: a map that keeps its values and takes the edges of an image.

K. He, J. Sun, X. Tang: Guided Image Filtering, IEEE TPAMI 35(6), 2013; with a colour guide. In
every window the result is a linear function of the guide's colours, the one nearest to the map:
``a = (cov(I, I) + eps)^-1 cov(I, m)`` and ``b = mean(m) - a . mean(I)``. At a pixel it is
``mean(a) . I + mean(b)``, mean over the windows that the pixel is in.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffusers_rdaam.geometry.exact import in_full_precision
from diffusers_rdaam.shapes import Column

# Of colours from 0 to 1: edges of over 3 % of the range are kept.
EPS = 1e-3


@in_full_precision
def guided_filter(values: Column, guide: Tensor, radius: int, eps: float) -> Column:
    """The map, filtered with an image as the guide.

    Args:
        values: ``(height, width)``.
        guide: the image, ``(3, height, width)`` from 0 to 1.
        radius: of the windows in pixels: they are ``2 * radius + 1`` wide, and cut at the border.
        eps: what is added to the variance of the guide's colours. Edges whose square is well over
            it are kept.
    """
    # Variances are differences of means that are nearly the same.
    image, target = guide.double(), values.double()
    mean_image, mean_target = _mean(image, radius), _mean(target[None], radius)
    products = torch.cat([image * target, (image[:, None] * image[None]).flatten(0, 1)])
    means = _mean(products, radius)
    with_target = means[:3] - mean_image * mean_target
    squares = (mean_image[:, None] * mean_image[None]).flatten(0, 1)
    within = (means[3:] - squares).unflatten(0, (3, 3))
    within = within.permute(2, 3, 0, 1) + eps * torch.eye(3, dtype=torch.float64, device="cpu")
    slope = torch.linalg.solve(within, with_target.permute(1, 2, 0)).permute(2, 0, 1)
    offset = mean_target[0] - (slope * mean_image).sum(dim=0)
    filtered = (_mean(slope, radius) * image).sum(dim=0) + _mean(offset[None], radius)[0]
    return filtered.to(values.dtype)


def _mean(planes: Tensor, radius: int) -> Tensor:
    """The mean over each pixel's window of ``(planes, height, width)``; the border cuts windows.

    By running sums, so that the time does not depend on the radius.
    """
    for axis in (1, 2):
        length = planes.shape[axis]
        place = torch.arange(length, device="cpu")
        first, last = (place - radius).clamp(min=0), (place + radius + 1).clamp(max=length)
        sums = torch.cat([torch.zeros_like(planes.narrow(axis, 0, 1)), planes.cumsum(axis)], axis)
        counts = (last - first).double().view(-1, *([1] * (2 - axis)))
        planes = (sums.index_select(axis, last) - sums.index_select(axis, first)) / counts
    return planes

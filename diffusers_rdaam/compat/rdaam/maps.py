"""Attention maps become one map of all tokens, and that the tokens of a box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from diffusers_rdaam.compat.rdaam.hooks import ConditionalMaps
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.float32_products import multiply
from diffusers_rdaam.geometry.grid import interpolation_matrix
from diffusers_rdaam.geometry.region import Box


def process_attention_maps(
    attention_maps: Mapping[str, Sequence[torch.Tensor]],
    image_size: tuple[int, int],
    token_indices: Sequence[int] | None = None,
) -> torch.Tensor:
    """The mean over heads, layers and calls, enlarged bicubically to the image.

    Args:
        attention_maps: of :class:`AttentionHookManager`; or one's own, by layer a list of
            ``(rows * heads, places, tokens)``, of which the second half is taken.
        image_size: width and height in pixels.
        token_indices: the mean over these tokens alone, if given.

    Returns:
        ``(height, width, tokens)``, or ``(height, width)`` with ``token_indices``.

    Raises:
        InputError: there are no maps, or their places are not a grid of the image.
    """
    width, height = image_size
    halved = not isinstance(attention_maps, ConditionalMaps)
    sums: dict[tuple[int, int], torch.Tensor] = {}
    count = 0
    for name, calls in attention_maps.items():
        for call in calls:
            conditional = call[call.shape[0] // 2 :] if halved else call
            mean = conditional.float().mean(dim=0)
            if token_indices is not None:
                mean = mean[:, list(token_indices)].mean(dim=1, keepdim=True)
            size = _grid(mean.shape[0], height, width, name)
            # Enlarging is linear, so that once for each size of grid is enough.
            maps = mean.T.unflatten(1, size)
            sums[size] = sums[size] + maps if size in sums else maps
            count += 1
    if not count:
        raise InputError("There are no attention maps. Call the pipeline between the hooks.")
    enlarged = [_enlarged(maps, height, width) for maps in sums.values()]
    result = sum(enlarged[1:], enlarged[0]) / count
    return result.permute(1, 2, 0) if token_indices is None else result[0]


def _enlarged(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    rows = interpolation_matrix(maps.shape[1], height)
    columns = interpolation_matrix(maps.shape[2], width)
    return multiply(multiply(rows, maps), columns.T)


def _grid(places: int, height: int, width: int, name: str) -> tuple[int, int]:
    """Height and width of a grid of so many places whose shape is nearest to the image's."""
    sizes = [(side, places // side) for side in range(1, places + 1) if places % side == 0]
    ratio = height / width
    best = min(sizes, key=lambda size: abs(np.log(size[0] / size[1] / ratio)))
    # Sides are rounded up to whole cells, which changes the ratio by a cell at most.
    if abs(best[0] - best[1] * ratio) > 1 + ratio:
        raise InputError(
            f"The {places} places of {name} are not a grid of an image of {width}x{height} pixels."
        )
    return best


def extract_bbox_distribution(
    global_map: torch.Tensor, bbox: Sequence[int], decoded_tokens: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """The mean over a box of each token's map, and the tokens, without the first and the last.

    Args:
        global_map: ``(height, width, tokens)``.
        bbox: ``(left, top, right, bottom)`` in pixels, half-open; what reaches beyond the image is
            cut off.
        decoded_tokens: of the prompt, specials included.

    Raises:
        RegionError: the box is empty, inverted, or outside the image.
    """
    height, width = global_map.shape[:2]
    box = Box(*bbox).inside((height, width))
    coverage = box.coverage((height, width)).to(global_map.device)
    scores = (global_map * coverage[..., None]).sum(dim=(0, 1)) / coverage.sum()
    if all(isinstance(edge, int) for edge in box):
        left, top, right, bottom = map(int, box)
        scores = global_map[top:bottom, left:right].mean(dim=(0, 1))
    return without_specials(scores, decoded_tokens)


def without_specials(
    scores: torch.Tensor, decoded_tokens: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """The scores of the tokens without the first and the last, which are special."""
    own = slice(1, -1) if len(decoded_tokens) > 2 else slice(None)
    return scores[: len(decoded_tokens)][own].numpy(), list(decoded_tokens)[own]

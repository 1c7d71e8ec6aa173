"""A figure of two sides: the maps of words above each other, and their differences in two hues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from diffusers_rdaam.drawing.figure import PROBABILITY, _show_heat, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from diffusers_rdaam.shapes import Column

# Blue where the first side has more, white where both are equal, red where the second has more.
DIVERGING = "RdBu_r"


def comparison_figure(
    columns: Sequence[tuple[str, Column | None, Column | None]],
    names: tuple[str, str],
    images: Sequence[Any],
) -> Figure:
    """A column for each word: its map of each side with one scale, and the second minus the first.

    Args:
        columns: the word, and its maps ``(height, width)``; None where a side has no such word.
        names: of the two sides.
        images: of each side, or None.
    """
    figure = new_figure(figsize=(2.6 * max(len(columns), 1) + 0.6, 7.4))
    axes = np.asarray(figure.subplots(3, len(columns), squeeze=False))
    for place, (word, *maps) in enumerate(columns):
        known = [values for values in maps if values is not None]
        limits = (
            min(float(values.min()) for values in known),
            max(float(values.max()) for values in known),
        )
        shown = None
        for row, (values, name, image) in enumerate(zip(maps, names, images, strict=True)):
            title = f"{word}\n{name}" if row == 0 else name
            if values is None:
                axes[row, place].set_title(f"{title}: no such word", parse_math=False)
            else:
                shown = _show_heat(axes[row, place], values, image, title, limits)
            axes[row, place].set_axis_off()
        if shown is not None:
            figure.colorbar(shown, ax=list(axes[:2, place]), location="bottom", format="%.2g")
        _show_difference(figure, axes[2, place], maps)
    figure.supxlabel(f"{PROBABILITY}; below, {names[1]} minus {names[0]}", parse_math=False)
    return figure


def _show_difference(figure: Figure, axes: Any, maps: Sequence[Column | None]) -> None:
    axes.set_axis_off()
    first, second = maps
    if first is None or second is None:
        return
    values = (second - first).numpy()
    reach = max(float(np.abs(values).max()), 1e-30)
    shown = axes.imshow(values, cmap=DIVERGING, vmin=-reach, vmax=reach)
    axes.set_title("difference")
    figure.colorbar(shown, ax=axes, location="bottom", format="%.2g")

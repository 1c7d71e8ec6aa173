"""Matplotlib figures; each is returned, never shown, and no global setting is touched.

A prompt is shown as it is: ``parse_math=False``, or a dollar sign would start a formula.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from diffusers_rdaam.drawing.overlay import OPACITY, colour_table
from diffusers_rdaam.errors import PlotExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from diffusers_rdaam.shapes import Column

PROBABILITY = "attention probability"


def new_figure(**options: Any) -> Figure:
    """A figure that belongs to no global state (it needs no closing).

    Raises:
        PlotExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotExtraError(
            'Figures need matplotlib. Install it with: pip install "diffusers_rdaam[plot]"'
        ) from None
    return Figure(layout="constrained", **options)


def _show_heat(
    axes: Axes,
    values: Column,
    image: Any,
    title: str,
    limits: tuple[float, float] | None = None,
) -> Any:
    from matplotlib.colors import ListedColormap

    # The opacity is part of the colour map, so that the scale shows the colours of the map.
    rises = np.linspace(0.0, OPACITY, 256) if image is not None else np.ones(256)
    colours = np.column_stack([colour_table() / 255.0, rises])
    if image is not None:
        axes.imshow(np.asarray(image.convert("RGB")))
    low, high = limits or (None, None)
    shown = axes.imshow(values.numpy(), cmap=ListedColormap(colours), vmin=low, vmax=high)
    axes.set_title(title, parse_math=False)
    axes.set_axis_off()
    return shown


def heat_map_figure(
    values: Column,
    image: Any,
    title: str,
    axes: Axes | None = None,
    *,
    label: str = PROBABILITY,
) -> Figure:
    """One heat map over its image, with a scale; drawn in ``axes`` where some are given.

    The figure of these axes is returned.
    """
    if axes is None:
        axes = new_figure(figsize=(5.2, 4.4)).subplots()
    figure: Any = axes.figure  # or a part of one, where the axes are of a subfigure
    shown = _show_heat(axes, values, image, title)
    figure.colorbar(shown, ax=axes, label=label)
    return figure


def heat_maps_figure(
    maps: list[tuple[str, Column]], image: Any, title: str, *, shared_scale: bool = False
) -> Figure:
    """The image and several heat maps side by side, at most five in a row.

    Each map has a scale from its lowest to its highest value; with ``shared_scale`` all maps have
    one, from the lowest to the highest value of all.
    """
    limits = None
    if shared_scale and maps:
        limits = (
            min(float(values.min()) for _, values in maps),
            max(float(values.max()) for _, values in maps),
        )
    count = len(maps) + (image is not None)
    columns = max(1, min(count, 5))
    rows = max(1, -(-count // columns))
    figure = new_figure(figsize=(2.4 * columns, 2.6 * rows))
    figure.suptitle(title, parse_math=False)
    places = list(np.asarray(figure.subplots(rows, columns, squeeze=False)).flat)
    for axes in places:
        axes.set_axis_off()
    if image is not None:
        places.pop(0).imshow(np.asarray(image.convert("RGB")))
    for axes, (label, values) in zip(places, maps, strict=False):
        shown = _show_heat(axes, values, image, label, limits)
        if limits is None:
            figure.colorbar(shown, ax=axes, location="bottom", shrink=0.8, format="%.2g")
    if limits is not None:
        figure.colorbar(shown, ax=places, location="right", label=PROBABILITY)
    return figure


def bars_figure(
    bars: list[tuple[str, float]],
    label: str,
    image: Any,
    edges: list[tuple[float, float]],
    *,
    level: float | None = None,
    title: str | None = None,
) -> Figure:
    """Words as horizontal bars, best on top, next to the image with the region outlined.

    Bars begin at ``level``, the value that says nothing, where a dashed line is.
    """
    panels = 1 if image is None else 2
    figure = new_figure(figsize=(4.2 * panels, 1.2 + 0.32 * max(len(bars), 6)))
    axes = np.asarray(figure.subplots(1, panels, squeeze=False))[0]
    if image is not None:
        axes[0].imshow(np.asarray(image.convert("RGB")))
        closed = np.asarray([*edges, edges[0]]) if edges else np.empty((0, 2))
        axes[0].plot(closed[:, 0] - 0.5, closed[:, 1] - 0.5, color="white", linewidth=3)
        axes[0].plot(closed[:, 0] - 0.5, closed[:, 1] - 0.5, color="black", linewidth=1)
        axes[0].set_axis_off()
    names = [name for name, _ in bars]
    start = 0.0 if level is None else level
    lengths = [value - start for _, value in bars]
    axes[-1].barh(range(len(bars)), lengths, left=start, color="#c2410c")
    axes[-1].set_yticks(range(len(bars)), names, parse_math=False)
    axes[-1].invert_yaxis()
    if level is not None:
        # Bars to the left of the level do not end at the frame.
        axes[-1].use_sticky_edges = False
        axes[-1].autoscale_view(scaley=False)
        axes[-1].axvline(level, color="black", linewidth=1, linestyle="--")
    axes[-1].set_xlabel(label)
    if title is not None:
        figure.suptitle(title, parse_math=False)
    return figure


def lines_figure(
    steps: list[int], lines: dict[str, list[float]], title: str, *, axis: str = "step"
) -> Figure:
    """Scores over the steps, or over what ``axis`` names, one line a name, from zero up."""
    figure = new_figure(figsize=(5.6, 3.4))
    axes = figure.subplots()
    for (name, values), style in zip(lines.items(), ("-", "--"), strict=False):
        axes.plot(steps, values, style, marker="." if len(steps) < 60 else "", label=name)
    axes.set_ylim(bottom=min(0.0, *(min(values) for values in lines.values())))
    axes.set_xlabel(axis)
    axes.set_ylabel("attention probability")
    axes.set_title(title, parse_math=False)
    axes.legend()
    return figure

"""DAAM-I2I's maps: those of all cells, and one of some of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.compat.daam.heatmap import WordHeatMap
from diffusers_rdaam.compat.daam.plotting import pyplot
from diffusers_rdaam.compat.daami2i.formulas import (
    box_cells,
    contour_cells,
    diffuse_all,
    diffuse_cell,
    guided,
    mean_of_cells,
)
from diffusers_rdaam.errors import InputError, RegionError
from diffusers_rdaam.geometry.exact import cpu_tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METHODS = ("thresholding",)


class PixelHeatMap:
    """The attention of every place to some cells, in DAAM-I2I's numbers.

    Args:
        heatmap: ``(height, width)`` of the grid.
    """

    def __init__(self, heatmap: torch.Tensor) -> None:
        self.heatmap = heatmap
        self._drawn = WordHeatMap(heatmap)

    @property
    def value(self) -> torch.Tensor:
        """The map."""
        return self.heatmap

    def expand_as(
        self,
        image: Image.Image | np.ndarray,
        absolute: bool = False,
        threshold: float | None = None,
        plot: bool = False,
        **plot_kwargs: Any,
    ) -> torch.Tensor:
        """The map at an image's size, ``(height, width)``.

        Args:
            image: whose size is taken.
            absolute: leave the values as they are; else they are stretched to 0 to 1.
            threshold: give 1 over it and 0 elsewhere; a threshold of 0 is one, too.
            plot: draw the overlay as well, with ``plot_kwargs`` of :meth:`plot_overlay`.
        """
        expanded = self._drawn.expand_as(image, absolute, threshold)
        if plot:
            self.plot_overlay(image, **plot_kwargs)
        return expanded

    def plot_overlay(
        self,
        image: Image.Image | np.ndarray,
        figsize: tuple[float, float] | None = None,
        out_file: str | Path | None = None,
        color_normalize: bool = True,
        ax: Axes | None = None,
        **expand_kwargs: Any,
    ) -> None:
        """Draw the map over an image, on pyplot's figure unless ``ax`` is given.

        Args:
            image: what the map is of.
            figsize: width and height in inches of pyplot's figure.
            out_file, color_normalize, ax: as in :func:`plot_overlay_heat_map`.
            expand_kwargs: of :meth:`expand_as`.
        """
        if figsize is not None and ax is None:
            pyplot().gcf().set_size_inches(*figsize)
        self._drawn.plot_overlay(image, out_file, color_normalize, ax, **expand_kwargs)

    def compute_ioa(self, other: PixelHeatMap | WordHeatMap) -> float:
        """The share of this map that lies in the other: ``sum(ab) / sum(a)``."""
        return self._drawn.compute_ioa(WordHeatMap(other.heatmap))


class GlobalHeatMap:
    """The map of every cell of a grid: how much each place attends to that cell.

    Args:
        heat_maps: ``(cells, height, width)``, cells row by row: the sum over the steps, the mean
            over layers and heads. Over the cells they sum to the number of steps at every place.
    """

    def __init__(self, heat_maps: torch.Tensor) -> None:
        if heat_maps.ndim != 3 or heat_maps.shape[0] != heat_maps[0].numel():
            raise InputError(
                f"Heat maps are (height * width, height, width); got {tuple(heat_maps.shape)}."
            )
        self.heat_maps = heat_maps
        self.latent_h, self.latent_w = heat_maps.shape[1:]

    def compute_pixel_heat_map(self, latent_pixels: int | Iterable[int]) -> PixelHeatMap:
        """The mean of the maps of cells, numbered row by row.

        Raises:
            RegionError: there is no such cell, or none.
        """
        listed = latent_pixels if isinstance(latent_pixels, Iterable) else [latent_pixels]
        return self._mean([self._cell(cell) for cell in listed])

    def compute_bbox_heat_map(self, x1: int, y1: int, x2: int, y2: int) -> PixelHeatMap:
        """The mean over a box of cells, both ends included; what is beyond the grid is cut off.

        Raises:
            RegionError: no cell is in it.
        """
        right, bottom = min(x2, self.latent_w - 1), min(y2, self.latent_h - 1)
        return self._mean(box_cells(max(x1, 0), max(y1, 0), right, bottom, self._size))

    def compute_contour_heat_map(
        self, pts: Any, image_h: int, image_w: int, guide_heatmap: Any = None
    ) -> PixelHeatMap:
        """The mean over the cells inside of an outline.

        Args:
            pts: ``[[x, y], …]`` or ``[x1, y1, x2, y2, …]`` in pixels.
            image_h, image_w: of the image that these are of.
            guide_heatmap: weights of the cells, ``(height, width)`` of the grid; all the same if
                not given.

        Raises:
            RegionError: no cell is inside.
            InputError: ``points`` are not an outline, or the guide does not fit.
        """
        return self._mean(self._inside(pts, image_h, image_w), self._guide(guide_heatmap))

    def compute_segmentation_heat_map(
        self, segments: Sequence[Any], image_h: int, image_w: int, guide_heatmap: Any = None
    ) -> PixelHeatMap:
        """The map of several outlines; a cell counts once for each that contains it."""
        cells = [cell for pts in segments for cell in self._inside(pts, image_h, image_w)]
        return self._mean(cells, self._guide(guide_heatmap))

    def compute_guided_heat_map(self, guide_heatmap: Any) -> PixelHeatMap:
        """The mean of all maps, weighted with a guide: a word's map, say.

        Args:
            guide_heatmap: ``(height, width)`` of the grid, a tensor or a map of DAAM's.

        Raises:
            InputError: the guide is of another size, or sums to 0.
        """
        guide = self._guide(guide_heatmap)
        if guide is None:
            raise InputError("Give a guide, a map (height, width) of the grid.")
        return self._as_map(guided(self._maps, guide))

    def compute_pixel_diffused_heat_map(
        self,
        latent_pixel: int,
        method: str = "thresholding",
        n_iter: int = 20,
        thresh: float = 0.02,
        plot_intermediate: bool = False,
    ) -> PixelHeatMap:
        """A cell's map, cut at ``thresh`` over its minimum and guided by itself, again and again.

        Args:
            latent_pixel: the number of a cell, row by row.
            method: ``"thresholding"``.
            n_iter: how often.
            thresh: absolute: maps grow with the number of steps.
            plot_intermediate: show every map on the way with pyplot.

        Raises:
            RegionError: there is no such cell.
            InputError: the cut leaves nothing; take a lower ``thresh``.
        """
        _check_method(method)
        cell = self._cell(latent_pixel)
        if plot_intermediate:
            for number in range(n_iter):
                _show(self._as_map(self._diffused(cell, number, thresh)))
        return self._as_map(self._diffused(cell, n_iter, thresh))

    def compute_diffused_heat_map(
        self, method: str = "thresholding", n_iter: int = 20, thresh: float = 0.02
    ) -> GlobalHeatMap:
        """The diffused map of every cell at once, with maps that sum to 1 in between.

        Raises:
            InputError: the cut leaves nothing of a map; take a lower ``thresh``.
        """
        _check_method(method)
        rows = diffuse_all(self._maps, iterations=n_iter, threshold=thresh)
        return GlobalHeatMap(rows.unflatten(1, self._size))

    # As its README spells them.
    compute_pixel_diffused_heatmap = compute_pixel_diffused_heat_map
    compute_diffused_heatmap = compute_diffused_heat_map

    @property
    def _size(self) -> tuple[int, int]:
        return (self.latent_h, self.latent_w)

    @property
    def _maps(self) -> torch.Tensor:
        return self.heat_maps.flatten(1)

    def _as_map(self, cells: torch.Tensor) -> PixelHeatMap:
        return PixelHeatMap(cells.view(self._size))

    def _mean(self, cells: list[int], guide: torch.Tensor | None = None) -> PixelHeatMap:
        return self._as_map(mean_of_cells(self._maps, cells, guide))

    def _diffused(self, cell: int, iterations: int, threshold: float) -> torch.Tensor:
        return diffuse_cell(self._maps, cell, iterations=iterations, threshold=threshold)

    def _cell(self, number: Any) -> int:
        cells = len(self.heat_maps)
        if int(number) != number or not 0 <= number < cells:
            raise RegionError(
                f"There is no cell {number}: a grid of {self.latent_w} by {self.latent_h} has "
                f"cells 0 to {cells - 1}, row by row."
            )
        return int(number)

    def _inside(self, pts: Any, image_h: int, image_w: int) -> list[int]:
        points = np.asarray(pts, dtype=np.float64)
        if points.ndim == 1 and points.size % 2 == 0:
            points = points.reshape(-1, 2)
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
            raise InputError(
                f"An outline is [[x, y], …] or [x1, y1, x2, y2, …] of three points or more; got "
                f"numbers of shape {points.shape}."
            )
        return contour_cells([(x, y) for x, y in points.tolist()], (image_h, image_w), self._size)

    def _guide(self, given: Any) -> torch.Tensor | None:
        if given is None:
            return None
        guide = cpu_tensor(getattr(given, "heatmap", given)).float()
        if tuple(guide.shape) != self._size:
            raise InputError(
                f"The guide is {tuple(guide.shape)}, the grid {self._size} (height, width). Give a "
                "map of the grid, as compute_word_heat_map(word).heatmap of DAAM is."
            )
        return guide


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise InputError(f"{method!r} is not a method of diffusion. There is 'thresholding'.")


def _show(heat_map: PixelHeatMap) -> None:
    plt = pyplot()
    plt.imshow(heat_map.heatmap.numpy())
    plt.show()

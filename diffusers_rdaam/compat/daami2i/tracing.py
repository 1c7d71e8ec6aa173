"""``trace``: DAAM-I2I's hook on a pipeline."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from diffusers_rdaam.attention.options import RecordingOptions
from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.compat.daami2i.formulas import global_map
from diffusers_rdaam.compat.daami2i.heatmap import GlobalHeatMap
from diffusers_rdaam.compat.session import Trace
from diffusers_rdaam.errors import InputError, NoAttributionError

# A 128x128 grid is half of it.
DEFAULT_BUDGET = 2**31


class DiffusionHeatMapHooker(Trace):
    """Record a pipeline's self-attention: ``with trace(pipe) as trc: pipe(...)``.

    Args:
        pipeline: any pipeline with a UNet that this package records, stock or our own.
        low_memory: saves nothing here; all layers of the grid count.
        load_heads, save_heads, data_dir, track_all: not carried over; see the error.
        grid: height and width of the grid to keep; the largest if not given.
        budget: how many bytes the maps of a run may take on the denoiser's device.

    Raises:
        InputError: an option that is not carried over.
    """

    def __init__(
        self,
        pipeline: Any,
        low_memory: bool = False,
        load_heads: bool = False,
        save_heads: bool = False,
        data_dir: str | Path | None = None,
        track_all: bool = False,
        *,
        grid: tuple[int, int] | None = None,
        budget: int = DEFAULT_BUDGET,
    ) -> None:
        if load_heads or save_heads or data_dir is not None:
            raise InputError(
                "save_heads=, load_heads= and data_dir= are not carried over: attention is not "
                "put back into a run. Leave them out to record it."
            )
        if track_all:
            raise InputError(
                "track_all= is not carried over: maps of grids of different sizes are not added. "
                "Keep another grid than the largest with trace(pipe, grid=(height, width))."
            )
        # Which rows are the negative prompt's is found where its text maps are kept, too.
        options = RecordingOptions(
            keep_negative=True,
            self_attention="all" if grid is None else (grid,),
            budget=budget,
            _all_rows_of_self_attention=True,
        )
        super().__init__(pipeline, RDAAMProcessor.with_options(options))

    @property
    def last_image(self) -> Image.Image | None:
        """The last run's first image."""
        try:
            return None if self._recording is None else self._recording.attributions[0].image
        except NoAttributionError:
            return None

    def compute_global_heat_map(
        self,
        factors: Iterable[int] | None = None,
        head_idx: int | None = None,
        layer_idx: int | None = None,
        normalize: bool = False,
        *,
        image_index: int = 0,
    ) -> GlobalHeatMap:
        """The maps of all cells of the last run's grid.

        Args:
            factors: must have 1, as only one grid is kept.
            head_idx, layer_idx: not carried over; see the error.
            normalize: divide by the sum over all cells' maps at every place.
            image_index: which of the run's images.

        Raises:
            NoAttributionError: there was no run.
            InputError: there is no such image, or an option is not carried over.
        """
        if head_idx is not None or layer_idx is not None:
            raise InputError(
                "head_idx= and layer_idx= are not carried over: heads and layers are added while "
                "the pipeline runs, as each would take the memory of the whole. Leave them out."
            )
        if factors is not None and 1 not in (chosen := list(factors)):
            raise InputError(
                f"factors={chosen} leaves out 1, and only one grid is kept. Keep another with "
                "trace(pipe, grid=(height, width))."
            )
        if self._recording is None:
            raise NoAttributionError(
                "No heat maps found. Call the pipeline within `with trace(pipe) as trc`."
            )
        found = self._recording.attributions
        if not 0 <= image_index < len(found):
            raise InputError(
                f"The run made {len(found)} images, numbered from 0; there is no {image_index}."
            )
        attribution = found[image_index]
        (grid,) = attribution.self_grids
        # How often each site was called; under guidance both halves were added.
        steps = attribution.run["denoiser_calls"]
        assert isinstance(steps, int)
        maps = global_map([grid], steps)
        if normalize:
            maps = maps / (maps.sum(dim=0, keepdim=True) + 1e-6)
        return GlobalHeatMap(maps.unflatten(1, grid.size))


trace = DiffusionHeatMapHooker

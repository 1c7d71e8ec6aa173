"""The shape of a run's buffers and its number of calls, known before the first step."""

from __future__ import annotations

from typing import Any

import torch

from diffusers_rdaam.attention.options import RecordingOptions
from diffusers_rdaam.families import Family, sites_of
from diffusers_rdaam.recording.buffers.accumulator import AccumulatorShape
from diffusers_rdaam.recording.site_devices import devices_of


def shape_for(
    options: RecordingOptions,
    family: Family,
    pipe: Any,
    grid: tuple[int, ...],
    images: int,
    tokens: int,
    *,
    device: torch.device | str = "meta",
) -> AccumulatorShape:
    """The shape of the accumulators for a pipeline's denoiser and the options of a run."""
    denoiser = family.denoiser(pipe)
    sites = sites_of(family, pipe)
    return AccumulatorShape.spread(
        devices_of(denoiser, sites, torch.device(device)),
        images=images,
        tokens=tokens,
        grids=[(site.name, family.grid(site, grid)) for site in sites],
        pair=options.precision == "fp16-pair",
        heads=tuple(site.heads for site in sites) if "heads" in options.keep else (),
        layers="layers" in options.keep,
        streams=tuple(site.stream for site in sites) if any(s.stream for s in sites) else (),
    )


def expected_calls(pipe: Any) -> int | None:
    """How often the denoiser will be called; None where that is not known before the run."""
    steps = getattr(pipe, "_num_timesteps", None)
    if steps is None:
        # Not every pipeline counts its steps, but its scheduler has all of them.
        steps = len(getattr(getattr(pipe, "scheduler", None), "timesteps", ()))
    return int(steps) or None

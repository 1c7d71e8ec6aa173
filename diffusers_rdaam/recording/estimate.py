"""The memory that a run will take on the denoiser's device, estimated without running it."""

from __future__ import annotations

from typing import Any

import torch

from diffusers_rdaam.attention.options import RecordingOptions
from diffusers_rdaam.families import family_of, self_attention_sites_of
from diffusers_rdaam.kernels.dispatch import choose, proof_bytes
from diffusers_rdaam.recording.memory.budget import memory_cost
from diffusers_rdaam.recording.memory.query_cost import device_bytes
from diffusers_rdaam.recording.memory.shape import shape_for
from diffusers_rdaam.recording.records.self_attention import self_attention_shapes
from diffusers_rdaam.recording.site_devices import devices_of


def run_bytes(
    pipe: Any,
    options: RecordingOptions,
    grid: tuple[int, ...],
    *,
    steps: int,
    images: int,
    columns: int,
) -> int:
    """Bytes of the text's maps, of self-attention, and of queries that stay on the device.

    With Triton's kernels also the most that checking them takes, in the first denoiser call.

    Args:
        pipe: a pipeline of a known family.
        options: the run's.
        grid: size of the denoiser's latent grid.
        steps: the number of denoiser calls.
        images: the number of images in all.
        columns: the length of the text embedding.
    """
    family = family_of(pipe)
    denoiser = family.denoiser(pipe)
    # The device of the sample, as far as the pipeline knows it: sites on other devices have their
    # own planes.
    sample = torch.device(getattr(pipe, "_execution_device", "meta"))
    shape = shape_for(options, family, pipe, grid, images, columns, device=sample)
    wanted = memory_cost(options, shape, steps if "steps" in options.keep else 1)
    if options.self_attention:
        sites = self_attention_sites_of(family, pipe)
        sizes = {site.name: family.grid(site, grid) for site in sites}
        places = devices_of(denoiser, sites, sample)
        shapes = self_attention_shapes(options, sizes, images, steps, wanted, places=places)
        wanted += sum(shape.nbytes for shape in shapes)
    wanted += device_bytes(options, family, denoiser, grid, images, steps)
    return wanted + proof_bytes(choose(options.backend, device=sample))

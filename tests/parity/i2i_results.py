"""What DAAM-I2I answers, asked of our maps of the same run; for its tests and its benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from diffusers_rdaam import RDAAMProcessor, record_attention
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.compat.daami2i.formulas import (
    box_cells,
    contour_cells,
    diffuse_cell,
    guided,
    mean_of_cells,
)

STEPS = 4
SIDE = (64, 64)
IMAGE = (512, 512)


def recorded_halves(prompt: str, latents: torch.Tensor) -> list[SelfGrid]:
    """The self-attention of the unconditional and of the conditional rows."""
    folder = Path(__file__).parents[1] / "data" / "tiny_sd"
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    template = RDAAMProcessor(self_attention=SIDE)
    settings = {"latents": latents, "output_type": "latent"}
    with record_attention(pipe.unet, template, rows="conditional") as recording:
        pipe(prompt, num_inference_steps=STEPS, guidance_scale=7.5, **settings)
    return [attribution.self_grids[0] for attribution in recording.attributions]


def results(maps: torch.Tensor, stored: Any) -> dict[str, torch.Tensor]:
    """Ours, by the names of the stored tensors."""
    guide, facts = stored.tensors["guide"], stored.facts
    contour = contour_cells(json.loads(facts["contour"]), IMAGE, SIDE)
    segments: list[int] = []
    for flat in json.loads(facts["segments"]):
        segments += contour_cells(list(zip(flat[::2], flat[1::2], strict=True)), IMAGE, SIDE)
    ours = {
        "global_rows": maps[::512],
        "pixel_single_2080": mean_of_cells(maps, [2080]),
        "pixel_list_0_1023": mean_of_cells(maps, range(1024)),
        "bbox_10_20_25_40": mean_of_cells(maps, box_cells(10, 20, 25, 40, SIDE)),
        "contour": mean_of_cells(maps, contour),
        "contour_guided": mean_of_cells(maps, contour, guide),
        "segmentation": mean_of_cells(maps, segments),
        "segmentation_guided": mean_of_cells(maps, segments, guide),
        "guided": guided(maps, guide),
        "pixel_diffused_2080_n3_thr1e-4": diffuse_cell(maps, 2080, iterations=3, threshold=1e-4),
    }
    return {name: values.unflatten(-1, SIDE) for name, values in ours.items()}

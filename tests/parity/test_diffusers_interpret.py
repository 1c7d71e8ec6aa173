"""diffusers-interpret 0.5.0: gradients of the pixels of a box by the tokens and the input image.

Its box ``((a, b), (c, d))`` takes the rows a to c and the columns b to d, whatever it draws.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from PIL import Image
from safetensors import safe_open

from diffusers_rdaam.explain.gradients.gradient import explain_gradient
from diffusers_rdaam.explain.gradients.reductions import reduce_entries
from diffusers_rdaam.explain.gradients.regeneration import (
    GradientOptions,
    GradientRegeneration,
    entries_last,
)
from diffusers_rdaam.geometry.region import Box

HERE = Path(__file__).parent
STEPS = 4
SIMPLE = "p0_simple"
FULL = Box(0, 0, 512, 512)
# The whole image, and a box that is not square; the file has two more.
COMPARED = ("box0", "box1", "box3")


@dataclass(frozen=True)
class Stored:
    """A file's tensors and metadata."""

    tensors: dict[str, torch.Tensor]
    facts: dict[str, str]

    @classmethod
    def load(cls, name: str) -> Stored:
        with safe_open(HERE / "data" / f"{name}.safetensors", "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return cls(tensors, dict(file.metadata() or {}))


@pytest.fixture(scope="module")
def stored() -> Stored:
    return Stored.load("diffusers_interpret")


@pytest.fixture(scope="module")
def pipe() -> Any:
    pipe = StableDiffusionPipeline.from_pretrained(
        HERE.parent / "data" / "tiny_sd", safety_checker=None
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


class OldNoise(DDIMScheduler):
    """diffusers 0.3 put the noise of the step before on an input image."""

    def add_noise(self, samples: Any, noise: Any, timesteps: Any) -> Any:
        return super().add_noise(samples, noise, timesteps + 1000 // STEPS)


def old_mask(mask: torch.Tensor) -> Any:
    """A callback: what inpainting keeps had noise after the last step, too, in diffusers 0.3."""
    generator = torch.Generator().manual_seed(42)
    _, noise = (torch.randn(1, 4, 32, 32, generator=generator) for _ in range(2))
    kept = mask[::8, ::8] < 128

    def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> Any:
        if step < 2:
            return {}
        noisy = DDIMScheduler.add_noise(pipe.scheduler, tensors["latents"], noise, timestep[None])
        return {"latents": torch.where(kept, noisy, tensors["latents"])}

    return callback


def boxes(stored: Stored, name: str, full: Box = FULL) -> dict[str, Box]:
    found = json.loads(stored.facts[f"{name}.boxes"])
    return {
        run: full if box is None else Box(box[0][1], box[0][0], box[1][1], box[1][0])
        for run, box in found.items()
    }


def arguments() -> dict[str, Any]:
    latents = Stored.load("init").tensors["latents"]
    return {"latents": latents, "num_inference_steps": STEPS, "guidance_scale": 7.5}


@pytest.fixture(scope="module")
def of_boxes(stored: Stored, pipe: Any) -> tuple[GradientRegeneration, dict[Box, torch.Tensor]]:
    """All boxes from one generation."""
    compared = {run: box for run, box in boxes(stored, SIMPLE).items() if run[:4] in COMPARED}
    regions = list(dict.fromkeys(compared.values()))
    # Without checkpointing, for the time that it takes.
    trial = GradientRegeneration(
        pipe, GradientOptions("any", None, False, False, True, None), regions
    )
    trial.run(arguments() | {"prompt": stored.facts[SIMPLE]})
    found = [entries_last(gradients["text"]) for gradients in trial.gradients()]
    return trial, dict(zip(regions, found, strict=True))


@pytest.mark.slow
def test_every_method_and_box(stored, of_boxes, close):
    trial, gradients = of_boxes
    text = entries_last(trial.leaves["text"])
    compared = 0
    for run, box in boxes(stored, SIMPLE).items():
        _, method, *more = run.split(".")
        if run[:4] in COMPARED and more in ([], ["special"]):
            wanted = stored.tensors[f"{SIMPLE}.{run}"].float()
            columns = slice(None) if more else slice(1, 1 + len(wanted))
            close(reduce_entries(method, gradients[box], text)[columns], wanted)
            compared += 1
    assert compared == 7 and len(gradients) == 2


def test_the_last_two_steps(stored, pipe, close):
    run = "box3.grad_x_input.last2"
    words = explain_gradient(
        pipe,
        stored.facts[SIMPLE],
        region=boxes(stored, SIMPLE)[run],
        last_steps=2,
        checkpointing=False,
        **arguments(),
    )
    close(torch.tensor([score for _, score in words.tokens]), stored.tensors[f"{SIMPLE}.{run}"])


class Unclamped(GradientRegeneration):
    """Values at 0 and 1 do not count; of one that lies at the edge the stored run says whether.

    ``edge`` is the only value of the whole image that is on the other side there, by under 1e-4.
    """

    edge: tuple[int, int, int] | None = None

    def value(self, index: int) -> torch.Tensor:
        image = self._image
        assert image is not None
        counts = (image > 0) & (image < 1)
        if self.edge is not None:
            assert min(image[self.edge].abs(), (1 - image[self.edge]).abs()) < 1e-4
            counts[self.edge] = ~counts[self.edge]
        return ((image * counts).sum(dim=0) * self._weights[index]).sum()


@pytest.mark.parametrize(
    "name, cls, edge",
    [
        ("img2img", StableDiffusionImg2ImgPipeline, None),
        ("inpaint", StableDiffusionInpaintPipeline, (1, 130, 149)),
    ],
)
def test_an_input_image(name, cls, edge, stored, pipe, close):
    given: dict[str, Any] = {"image": Image.fromarray(stored.tensors["init_image_u8"].numpy())}
    if name == "inpaint":
        given["mask_image"] = Image.fromarray(stored.tensors["mask_u8"].numpy())
        given |= {"height": 256, "width": 256}
        given["callback_on_step_end"] = old_mask(stored.tensors["mask_u8"])
    full = Box(0, 0, 256, 256)
    runs = {r: box for r, box in boxes(stored, "img", full).items() if r.startswith(name)}
    assert len(runs) == 4
    scheduler = OldNoise.from_config(pipe.scheduler.config)
    shared = cls(**(pipe.components | {"scheduler": scheduler}), requires_safety_checker=False)
    shared.set_progress_bar_config(disable=True)
    regions = list(dict.fromkeys(runs.values()))
    trial = Unclamped(shared, GradientOptions("any", None, False, True, False, None), regions)
    trial.edge = edge
    generator = torch.Generator().manual_seed(42)
    settings = {"strength": 0.75, "num_inference_steps": STEPS, "generator": generator}
    image = trial.run(given | settings | {"prompt": stored.facts[SIMPLE]})
    difference = image[:, ::8, ::8] - stored.tensors[f"{name}.image"].permute(2, 0, 1)
    assert difference.abs().max() < 1e-4
    gradients = dict(zip(regions, trial.gradients(), strict=True))
    for run, box in runs.items():
        method = run.split(".")[2]
        tokens, pixels = (
            reduce_entries(method, entries_last(gradients[box][leaf]), entries_last(value))
            for leaf, value in trial.leaves.items()
        )
        close(tokens[1:11], stored.tensors[f"{run}.tokens"].float())
        close(pixels[::8, ::8], stored.tensors[f"{run}.pixels"])

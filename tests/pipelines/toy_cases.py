"""One case for each stock class that is recorded: the parts, the UNet and a call that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.pipelines import kolors as kolors_pipelines
from diffusers.pipelines import pag
from PIL import Image
from toy_parts import (
    KOLORS,
    LATENT_UPSCALER,
    UPPER,
    UPSCALER,
    adapter,
    cycle,
    depth,
    diffedit,
    grounding,
    kolors,
    latent_upscale,
    motion,
    six_channels,
    sparse,
    unclip,
    unclip_image,
    union,
    upscale,
    video_unet,
    xs,
)

import diffusers_rdaam
from diffusers_rdaam import RDAAMPipelineMixin

PROMPT = "a red cat near a house"
# One down, one mid, two up.
SITES = 4


def picture(seed: int = 0) -> Image.Image:
    """64 pixels high and 96 wide."""
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def mask() -> Image.Image:
    pixels = np.zeros((64, 96), dtype=np.uint8)
    pixels[16:56, 24:80] = 255
    return Image.fromarray(pixels)


IMAGE = {"image": picture(), "num_inference_steps": 4, "strength": 0.5}
SIZE = {"height": 64, "width": 96}
CONTROL = {"control_image": picture(1)}


@dataclass(frozen=True)
class Case:
    """One stock class: the UNet that it takes, and a call of it that has two steps.

    Args:
        name: the stock class's name without ``Pipeline``.
        call: arguments beside the prompt.
        unet: configuration beside the toy's.
        first: the conditional rows are the first of a guided call, not the last.
        always: every row is conditional, with any guidance.
        guided: the parts of a guided call, the conditional one as ``"c"``.
        unguided: those of a call without guidance.
        frames: of a video.
        stride: every how manyth denoiser call is recorded.
        sites: attention modules with text.
        size: height and width of its images.
        more: gives the parts of the constructor that only this class has.
    """

    name: str
    call: dict[str, Any]
    unet: dict[str, Any] = field(default_factory=dict)
    first: bool = False
    always: bool = False
    guided: str = "uc"
    unguided: str = "c"
    frames: int = 1
    stride: int = 1
    sites: int = SITES
    size: tuple[int, int] = (64, 96)
    more: Callable[[Any], dict[str, Any]] | None = None

    @property
    def xl(self) -> bool:
        return "XL" in self.name or "Kolors" in self.name

    @property
    def stock(self) -> Any:
        # At the top diffusers has Kolors only where sentencepiece is installed.
        place = (
            pag
            if "KolorsPAG" in self.name
            else kolors_pipelines
            if "Kol" in self.name
            else diffusers
        )
        return getattr(place, f"{self.name}Pipeline")

    @property
    def ours(self) -> Any:
        ours = getattr(diffusers_rdaam, f"{self.name}RDAAMPipeline", None)
        # What diffusers has deprecated has no class of its own.
        return ours or type(f"{self.name}RDAAM", (RDAAMPipelineMixin, self.stock), {})

    def rows(self, guidance: float) -> str:
        """The parts of a denoiser call, the conditional one as ``"c"``."""
        return self.guided if guidance > 1 and not self.always else self.unguided


def _cases() -> list[Case]:
    inpaint = IMAGE | {"mask_image": mask()} | SIZE
    cases = []
    for name in ("StableDiffusion", "StableDiffusionXL"):
        control = f"{name}ControlNet"
        cases += [
            Case(name, SIZE),
            Case(f"{name}Img2Img", IMAGE),
            Case(f"{name}Inpaint", inpaint),
            Case(control, SIZE | {"image": picture(1)}),
            Case(f"{control}Img2Img", IMAGE | CONTROL | SIZE),
            Case(f"{control}Inpaint", inpaint | CONTROL),
        ]
    pix2pix = {"image": picture()}
    eight = {"in_channels": 8}
    lcm = {"time_cond_proj_dim": 16}
    cases += [
        Case("StableDiffusionInstructPix2Pix", pix2pix, eight, first=True),
        Case("StableDiffusionXLInstructPix2Pix", pix2pix | SIZE, eight, first=True),
        Case("LatentConsistencyModel", SIZE, lcm, always=True),
        Case("LatentConsistencyModelImg2Img", IMAGE | {"num_inference_steps": 2}, lcm, always=True),
    ]
    return cases


def _more_cases() -> list[Case]:
    """Pipelines with parts or rows that only they have."""
    inpaint = IMAGE | {"mask_image": mask()} | SIZE
    union_call = SIZE | {"control_mode": 0}
    video = SIZE | {"num_frames": 3}
    pag = {"guided": "ucp", "unguided": "cp"}
    frames = {"frames": 3, "more": motion}
    xl = "StableDiffusionXL"
    cases = [
        Case("StableDiffusionAdapter", SIZE | {"image": picture(1)}, UPPER, more=adapter),
        Case(f"{xl}Adapter", SIZE | {"image": picture(1)}, UPPER, more=adapter),
        Case(f"{xl}ControlNetUnion", union_call | {"control_image": picture(1)}, more=union),
        Case(f"{xl}ControlNetUnionImg2Img", IMAGE | CONTROL | union_call, more=union),
        Case(f"{xl}ControlNetUnionInpaint", inpaint | CONTROL | union_call, more=union),
        Case("StableDiffusionPAG", SIZE, **pag),
        Case("StableDiffusionPAGImg2Img", IMAGE, **pag),
        Case("StableDiffusionPAGInpaint", inpaint, **pag),
        Case("StableDiffusionControlNetPAG", SIZE | {"image": picture(1)}, **pag),
        Case("StableDiffusionControlNetPAGInpaint", inpaint | CONTROL, **pag),
        Case(f"{xl}PAG", SIZE, **pag),
        Case(f"{xl}PAGImg2Img", IMAGE, **pag),
        Case(f"{xl}PAGInpaint", inpaint, **pag),
        Case(f"{xl}ControlNetPAG", SIZE | {"image": picture(1)}, **pag),
        Case(f"{xl}ControlNetPAGImg2Img", IMAGE | CONTROL | SIZE, **pag),
        Case(
            "StableDiffusionUpscale",
            {"image": torch.rand(1, 3, 8, 12)},
            UPSCALER,
            sites=7,
            size=(32, 48),
            more=upscale,
        ),
        Case(
            "StableDiffusionLatentUpscale",
            {"image": picture().crop((0, 0, 48, 32))},
            LATENT_UPSCALER,
            sites=4,
            more=latent_upscale,
        ),
        Case(
            "StableDiffusionDepth2Img",
            IMAGE | {"depth_map": torch.rand(1, 64, 96)},
            {"in_channels": 5},
            more=depth,
        ),
        Case("Kolors", SIZE, KOLORS, more=kolors),
        Case("KolorsImg2Img", IMAGE, KOLORS, more=kolors),
        Case("KolorsPAG", SIZE, KOLORS, more=kolors, **pag),
        Case("AnimateDiff", video, **frames),
        Case("AnimateDiffSDXL", video, **frames),
        Case("AnimateDiffControlNet", video | FRAMES, **frames),
        Case(
            "AnimateDiffSparseControlNet",
            video | {"conditioning_frames": [picture(1)]},
            frames=3,
            more=sparse,
        ),
        Case("AnimateDiffVideoToVideo", VIDEO, **frames),
        Case("AnimateDiffVideoToVideoControlNet", VIDEO | FRAMES, **frames),
        Case("AnimateDiffPAG", video, **frames, **pag),
    ]
    return cases


def _deprecated_cases() -> list[Case]:
    """Classes that diffusers keeps without care; recorded, but without a class of ours."""
    video = SIZE | {"num_frames": 3}
    projection = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 64}
    clip = {name: value for name, value in VIDEO.items() if name not in SIZE}
    two = {"layers_per_block": 2}
    boxes = {"gligen_phrases": ["a cat"], "gligen_boxes": [[0.1, 0.1, 0.6, 0.7]]}
    return [
        Case("StableDiffusionControlNetXS", {"image": picture(1)}, two, sites=6, more=xs),
        Case("StableDiffusionXLControlNetXS", {"image": picture(1)}, two, sites=6, more=xs),
        Case("StableDiffusionGLIGEN", SIZE | boxes, {"attention_type": "gated"}),
        Case("StableDiffusionSAG", SIZE, stride=2),
        Case("StableDiffusionLDM3D", SIZE | {"output_type": "np"}, more=six_channels),
        Case(
            "StableDiffusionDiffEdit",
            {"mask_image": mask().resize((12, 8)), "image_latents": torch.rand(2, 4, 8, 12)}
            | {"num_inference_steps": 4, "inpaint_strength": 0.5},
            more=diffedit,
        ),
        Case("StableDiffusionModelEditing", SIZE),
        Case(
            "CycleDiffusion",
            IMAGE | {"source_prompt": "a dog"},
            guided="susc",
            unguided="sc",
            more=cycle,
        ),
        Case("PIA", video | {"image": picture()}, {"in_channels": 9}, frames=3, more=motion),
        Case("TextToVideoSD", video, frames=3, more=video_unet),
        Case("VideoToVideoSD", clip, frames=3, more=video_unet),
        Case("StableUnCLIP", SIZE | {"prior_num_inference_steps": 2}, projection, more=unclip),
        Case(
            "StableDiffusionGLIGENTextImage",
            SIZE | boxes | {"gligen_images": [picture()]},
            {"attention_type": "gated-text-image"},
            stride=2,
            more=grounding,
        ),
        Case(
            "StableUnCLIPImg2Img",
            {"image": picture()} | SIZE,
            projection,
            more=unclip_image,
        ),
    ]


FRAMES = {"conditioning_frames": [picture(seed) for seed in range(3)]}
VIDEO = SIZE | {"video": [picture(seed) for seed in range(3)]}
VIDEO |= {"num_inference_steps": 4, "strength": 0.5}
CASES = {case.name: case for case in _cases()}
MORE = {case.name: case for case in _more_cases()}
DEPRECATED = {case.name: case for case in _deprecated_cases()}
ALL_CASES = CASES | MORE | DEPRECATED
NINE = {
    name: Case(name, CASES[name].call, {"in_channels": 9})
    for name in CASES
    if name.endswith("Inpaint")
}

"""Writes the three pages of this folder: ``python examples/make_viewers.py``, without any download.

Two images of the models that ship with the package, and a picture that is drawn and not generated,
whose maps come from ``attribute_image``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam import Attribution, RDAAMProcessor, load_demo_pipeline
from diffusers_rdaam.demo.world import SceneObject, render

FOLDER = Path(__file__).parent
SCENE = (
    SceneObject("green", "triangle", 90.0, 36.0, 27.0, (40, 165, 70)),
    SceneObject("black", "heart", 36.0, 88.0, 25.0, (25, 25, 25)),
)


def stable_diffusion() -> Attribution:
    """A UNet's, with single steps, self-attention and a negative prompt."""
    pipe = load_demo_pipeline()
    keeps = RDAAMProcessor(keep=("steps",), keep_negative=True, self_attention=True)
    pipe.set_attn_processor(keeps)
    return pipe(
        "a red circle and a blue square",
        negative_prompt="black heart",
        num_inference_steps=10,
        generator=torch.Generator().manual_seed(3),
    ).attribution


def flux() -> Attribution:
    """A transformer's, with two streams."""
    pipe = load_demo_pipeline("flux")
    pipe.set_attn_processor(RDAAMProcessor())
    generator = torch.Generator().manual_seed(3)
    return pipe("a red circle and a green triangle", generator=generator).attribution


def drawn_picture() -> Attribution:
    """Of a picture that no model has made."""
    picture = Image.fromarray(render(SCENE).round().astype(np.uint8))
    pipe = load_demo_pipeline()
    generator = torch.Generator().manual_seed(0)
    return pipe.attribute_image(picture, "a green triangle and a black heart", generator=generator)


def write(folder: Path = FOLDER) -> list[Path]:
    """The three pages, each under 1 MB."""
    pages = {
        "stable-diffusion.html": stable_diffusion,
        "flux.html": flux,
        "drawn-picture.html": drawn_picture,
    }
    return [make().to_html(folder / name) for name, make in pages.items()]


if __name__ == "__main__":
    for path in write():
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")

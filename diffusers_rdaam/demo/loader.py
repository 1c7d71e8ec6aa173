"""The embedded model, loaded from the package: no hub, no download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers_rdaam.pipelines.classes import StableDiffusionRDAAMPipeline

WEIGHTS = Path(__file__).parent / "weights"
# What the card's numbers were measured with.
STEPS = 20
GUIDANCE_SCALE = 4.0


def load_demo_pipeline(**kwargs: Any) -> StableDiffusionRDAAMPipeline:
    """The tiny Stable Diffusion of coloured shapes that ships with the package.

    128x128 pixels; prompts such as ``"a red circle and a blue square"``. Colours: red, green, blue,
    yellow, magenta, black; shapes: circle, square, triangle, heart, cross. Its card is
    ``demo/README.md``.

    Args:
        kwargs: as for ``from_pretrained``, e.g. ``dtype=torch.float16``.
    """
    pipe = StableDiffusionRDAAMPipeline.from_pretrained(WEIGHTS, safety_checker=None, **kwargs)
    pipe.set_progress_bar_config(disable=True)
    return pipe

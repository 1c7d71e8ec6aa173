"""The embedded model, loaded from the package: no hub, no download."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

from diffusers_rdaam.pipelines.classes import StableDiffusionRDAAMPipeline

WEIGHTS = Path(__file__).parent / "weights"
# What the card's numbers were measured with.
STEPS = 20
GUIDANCE_SCALE = 4.0
_DEFAULTS: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE_SCALE}


def _with_defaults(call: Any) -> Any:
    """The call of a pipeline class with the defaults of the embedded model.

    Every argument may be given, by name or by position, and nothing else of the call changes.
    """
    signature = inspect.signature(call)
    parameters = [
        parameter.replace(default=_DEFAULTS.get(name, parameter.default))
        for name, parameter in signature.parameters.items()
    ]

    @functools.wraps(call)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind_partial(self, *args).arguments
        missing = {name: value for name, value in _DEFAULTS.items() if name not in given}
        return call(self, *args, **{**missing, **kwargs})

    # A method that only fills in arguments: what it calls records, under the mark that
    # functools.wraps has copied, so that no second recording is put around it.
    __call__.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # read by inspect.signature
    return __call__


class DemoRDAAMPipeline(StableDiffusionRDAAMPipeline):
    """The pipeline of the embedded model: 20 steps and a guidance scale of 4 unless given."""

    __call__ = _with_defaults(StableDiffusionRDAAMPipeline.__call__)


def load_demo_pipeline(**kwargs: Any) -> StableDiffusionRDAAMPipeline:
    """The tiny Stable Diffusion of coloured shapes that ships with the package.

    128x128 pixels; prompts such as ``"a red circle and a blue square"``. Colours: red, green, blue,
    yellow, magenta, black; shapes: circle, square, triangle, heart, cross. Its card is
    ``demo/README.md``. A call makes 20 steps with a guidance scale of 4, as the command
    ``rdaam generate`` does, unless they are given.

    Args:
        kwargs: as for ``from_pretrained``, e.g. ``dtype=torch.float16``.
    """
    pipe = DemoRDAAMPipeline.from_pretrained(WEIGHTS, safety_checker=None, **kwargs)
    pipe.set_progress_bar_config(disable=True)
    return pipe

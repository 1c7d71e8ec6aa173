"""The arguments of a pipeline's call by the names that its class has for them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

# What weighs a negative prompt that is given without a scale, of pipelines that have no default.
GUIDANCE = 4.0


def call_options(pipe: Any, given: Mapping[str, Any], *, is_embedded: bool) -> dict[str, Any]:
    """The arguments that were given, by their names in the pipeline's call.

    Args:
        pipe: the pipeline.
        given: by the names of Stable Diffusion's call; None is "the pipeline's own".
        is_embedded: whether its call has defaults of this package, which guide it.
    """
    options = {name: value for name, value in given.items() if value is not None}
    names = inspect.signature(type(pipe).__call__).parameters
    if "true_cfg_scale" in names and (is_embedded or "negative_prompt" in options):
        # Of FLUX and its like ``guidance_scale`` is a number that the model reads; the scale that
        # weighs the negative prompt has another name.
        scale = options.pop("guidance_scale", None)
        if scale is not None or not is_embedded:
            options["true_cfg_scale"] = GUIDANCE if scale is None else scale
    return options

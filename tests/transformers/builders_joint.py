"""The image pipelines whose attention has text and image in one softmax."""

from __future__ import annotations

from collections.abc import Callable

import builders_chroma
import builders_flux
import builders_flux2
import builders_hidream
import builders_hunyuan_image
import builders_qwen
import builders_sd3
import builders_templates
from dense_oracle import Case

# By the name of the diffusers class, and what is special after a comma.
CASES: dict[str, Callable[[], Case]] = {
    **builders_sd3.CASES,
    **builders_flux.CASES,
    **builders_qwen.CASES,
    **builders_flux2.CASES,
    **builders_chroma.CASES,
    **builders_templates.CASES,
    **builders_hunyuan_image.CASES,
    **builders_hidream.CASES,
}

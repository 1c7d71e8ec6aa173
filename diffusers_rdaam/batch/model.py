"""The pipeline of a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from diffusers_rdaam.batch.settings import BatchSettings
from diffusers_rdaam.checkpoints.loading import load_checkpoint
from diffusers_rdaam.demo.loader import load_demo_pipeline
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.pipelines.auto import AutoRDAAMPipelineForText2Image

EMBEDDED_FLUX = "demo-flux"


def is_embedded(model: str | None) -> bool:
    """Whether the model ships with the package; a folder of that name is not it."""
    return model is None or (model == EMBEDDED_FLUX and not Path(model).exists())


def load_pipeline(settings: BatchSettings) -> Any:
    """The pipeline on its device, silent, this process on the threads that the settings say.

    Raises:
        InputError: the model cannot be loaded.
        UnsupportedPipelineError: it cannot be recorded.
    """
    torch.set_num_threads(settings.threads)
    half = not is_embedded(settings.model) and settings.device.startswith("cuda")
    dtype = getattr(torch, settings.dtype or ("float16" if half else "float32"))
    if is_embedded(settings.model):
        flux = settings.model == EMBEDDED_FLUX
        pipe: Any = load_demo_pipeline("flux" if flux else "stable-diffusion", dtype=dtype)
    else:
        pipe = _load(str(settings.model), dtype)
    pipe.set_progress_bar_config(disable=True)
    try:
        return pipe.to(settings.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise InputError(
            f"--device {settings.device!r} (device=) cannot be used here: {reason}. Leave it out "
            "for the best there is."
        ) from error


def _load(model: str, dtype: torch.dtype) -> Any:
    import diffusers
    import transformers

    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    return load_checkpoint(
        AutoRDAAMPipelineForText2Image,
        model,
        start=f"No pipeline could be loaded from {model}",
        dtype=dtype,
        local=Path(model).is_dir(),
    )

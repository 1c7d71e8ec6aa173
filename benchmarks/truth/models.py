"""The embedded models, and how each is called: what the other files do not ask themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffusers_rdaam import FluxRDAAMPipeline, RDAAMProcessor, load_demo_pipeline
from diffusers_rdaam.demo.loader import FLUX_DEFAULTS, GUIDANCE_SCALE, STEPS

AXES = ("steps", "layers", "heads")
# For the mean, its refinements and the root mean square, which is what most scenes are asked.
FEW = {"keep": "squares", "self_attention": "each"}
NAMES = ("stable-diffusion", "flux")


@dataclass(frozen=True)
class Model:
    """One embedded model.

    Args:
        name: by which it is asked for and called in tables.
        guidance: the name of its call's argument for guidance.
        settings: of a call, as its card has them, guidance and steps included.
        denoiser, encoders: the names of these components.
        folder: of the weights, where they are not the embedded ones.
    """

    name: str
    guidance: str
    settings: dict[str, Any] = field(repr=False)
    denoiser: str
    encoders: tuple[str, ...]
    folder: Path | None = None

    @property
    def has_vocabulary(self) -> bool:
        """Whether texts of their own can be asked as OVAM asks them: with cross-attention."""
        return self.denoiser == "unet"

    def load(self, processor: RDAAMProcessor | None = None) -> Any:
        """A recording pipeline of its own.

        Args:
            processor: of the recording; one that keeps all that aggregations need if not given.

        Raises:
            InputError: the weights are not there.
        """
        pipe: Any
        if self.folder is None:
            pipe = load_demo_pipeline(self.name)  # type: ignore[call-overload]  # one of NAMES
        else:
            pipe = FluxRDAAMPipeline.from_pretrained(self.folder)
            pipe.set_progress_bar_config(disable=True)
        everything = RDAAMProcessor(keep=AXES, self_attention="each")
        pipe.set_attn_processor(processor or everything)
        return pipe

    def call(self, *, steps: int | None = None, guidance: float | None = None) -> dict[str, Any]:
        """The arguments of a call, without prompt and generator.

        Args:
            steps: instead of the card's.
            guidance: instead of the card's; 1 is without guidance.
        """
        changed: dict[str, Any] = {}
        if steps is not None:
            changed["num_inference_steps"] = steps
        if guidance is not None:
            changed[self.guidance] = guidance
        return {**self.settings, **changed}


def model_of(name: str, folder: Path | None = None) -> Model:
    """The model of a name.

    Args:
        name: ``"stable-diffusion"`` or ``"flux"``.
        folder: a FLUX pipeline to take in place of the embedded one.

    Raises:
        ValueError: there is no such model.
    """
    if name == "stable-diffusion":
        settings = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE_SCALE}
        return Model(name, "guidance_scale", settings, "unet", ("text_encoder",))
    if name == "flux":
        encoders = ("text_encoder_2", "text_encoder")
        flux = dict(FLUX_DEFAULTS)
        return Model(name, "true_cfg_scale", flux, "transformer", encoders, folder)
    raise ValueError(f"{name!r} is not an embedded model. Models: {', '.join(NAMES)}.")

"""The stock output classes, with attributions."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from diffusers.pipelines.animatediff.pipeline_output import AnimateDiffPipelineOutput
from diffusers.pipelines.kolors.pipeline_output import KolorsPipelineOutput
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from diffusers.pipelines.stable_diffusion_xl import StableDiffusionXLPipelineOutput
from diffusers.pipelines.t2i_adapter.pipeline_stable_diffusion_adapter import (
    StableDiffusionAdapterPipelineOutput,
)

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import NoAttributionError


def only(attributions: list[Attribution] | None, why: str | None, *, owner: str) -> Attribution:
    """The single attribution of a run.

    Raises:
        NoAttributionError: there is none, or there are several.
    """
    if attributions is None:
        raise NoAttributionError(why or "There is no attribution.")
    if len(attributions) != 1:
        raise NoAttributionError(
            f"The run made {len(attributions)} images, each with an attribution of its own. "
            f"Use {owner}.attributions[i], i from 0 to {len(attributions) - 1}."
        )
    return attributions[0]


class AttributedOutput:
    """What an output gains: one attribution an image."""

    attributions: list[Attribution] | None

    @property
    def attribution(self) -> Attribution:
        """The attribution of the only image.

        Raises:
            NoAttributionError: several images; recording was switched off; or it failed. The
                text says which.
        """
        why = self.__dict__.get("why_no_attribution")
        return only(self.attributions, why, owner="output")


@dataclass
class StableDiffusionRDAAMPipelineOutput(AttributedOutput, StableDiffusionPipelineOutput):
    """Stable Diffusion's output with attributions.

    Args:
        images, nsfw_content_detected: as in the stock output.
        attributions: one per image, or None where nothing was recorded.
    """

    attributions: list[Attribution] | None = None


@dataclass
class StableDiffusionXLRDAAMPipelineOutput(AttributedOutput, StableDiffusionXLPipelineOutput):
    """Stable Diffusion XL's output with attributions.

    Args:
        images: as in the stock output.
        attributions: one per image, or None where nothing was recorded.
    """

    attributions: list[Attribution] | None = None


@dataclass
class StableDiffusionAdapterRDAAMPipelineOutput(
    AttributedOutput, StableDiffusionAdapterPipelineOutput
):
    """A T2I-Adapter pipeline's output with attributions.

    Args:
        images, nsfw_content_detected: as in the stock output.
        attributions: one per image, or None where nothing was recorded.
    """

    attributions: list[Attribution] | None = None


@dataclass
class KolorsRDAAMPipelineOutput(AttributedOutput, KolorsPipelineOutput):
    """Kolors' output with attributions.

    Args:
        images: as in the stock output.
        attributions: one per image, or None where nothing was recorded.
    """

    attributions: list[Attribution] | None = None


@dataclass
class ImageRDAAMPipelineOutput(AttributedOutput, ImagePipelineOutput):
    """The output of pipelines that only have images, with attributions.

    Args:
        images: as in the stock output.
        attributions: one per image, or None where nothing was recorded.
    """

    attributions: list[Attribution] | None = None


@dataclass
class AnimateDiffRDAAMPipelineOutput(AttributedOutput, AnimateDiffPipelineOutput):
    """AnimateDiff's output with attributions.

    Args:
        frames: as in the stock output.
        attributions: one per frame, video by video, or None where nothing was recorded.
    """

    attributions: list[Attribution] | None = None


_OUTPUTS: dict[type, type] = {
    AnimateDiffPipelineOutput: AnimateDiffRDAAMPipelineOutput,
    ImagePipelineOutput: ImageRDAAMPipelineOutput,
    KolorsPipelineOutput: KolorsRDAAMPipelineOutput,
    StableDiffusionAdapterPipelineOutput: StableDiffusionAdapterRDAAMPipelineOutput,
    StableDiffusionPipelineOutput: StableDiffusionRDAAMPipelineOutput,
    StableDiffusionXLPipelineOutput: StableDiffusionXLRDAAMPipelineOutput,
}


def with_attributions(output: Any, attributions: list[Attribution] | None, why: str | None) -> Any:
    """The stock output's fields in the class that also has attributions.

    An output of somebody's own class is handed over as it is: ``pipe.attribution`` has its maps.
    """
    cls = _OUTPUTS.get(type(output))
    if cls is None:
        return output
    stock = {field.name: getattr(output, field.name) for field in fields(output)}
    attributed = cls(**stock, attributions=attributions)
    attributed.__dict__["why_no_attribution"] = why
    return attributed

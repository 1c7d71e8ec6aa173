"""The stock output classes, with attributions."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, Any

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
from diffusers_rdaam.pipelines.videos import videos_of

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

# Attributions that a notebook shows.
_SHOWN = 4


def only(attributions: list[Attribution] | None, why: str | None, *, owner: str) -> Attribution:
    """The single attribution of a run; of a video a :class:`VideoAttribution`.

    Raises:
        NoAttributionError: there is none, or there are several.
    """
    if attributions is None:
        raise NoAttributionError(why or "There is no attribution.")
    found = videos_of(attributions)
    if len(found) != 1:
        what, where = ("images", "") if found is attributions else ("videos", ".videos")
        raise NoAttributionError(
            f"The run made {len(found)} {what}, each with an attribution of its own. "
            f"Use {owner}.attributions{where}[i], i from 0 to {len(found) - 1}."
        )
    return found[0]


class AttributedOutput:
    """What an output gains: one attribution an image."""

    attributions: list[Attribution] | None
    if TYPE_CHECKING:
        # Fields of the stock outputs; those of videos have frames in place of images.
        images: list[Image] | np.ndarray
        frames: Any

        def __getitem__(self, key: int | slice | str) -> Any: ...

    @property
    def attribution(self) -> Attribution:
        """The attribution of the only image; of a video a :class:`VideoAttribution`.

        Raises:
            NoAttributionError: several images; recording was switched off; or it failed. The
                text says which.
        """
        why = self.__dict__.get("why_no_attribution")
        return only(self.attributions, why, owner="output")

    def __repr__(self) -> str:
        parts = [
            f"{name}={_described(value)}"
            for name, value in self.items()  # type: ignore[attr-defined]  # of the stock outputs
            if name != "attributions" and value is not None
        ]
        found = None if self.attributions is None else videos_of(self.attributions)
        if found:
            more = "" if len(found) == 1 else f" and {len(found) - 1} more"
            parts.append(f"attributions={found[0]!r}{more}")
        else:
            parts.append("attributions=None")
        return f"{type(self).__name__}({', '.join(parts)})"

    def _repr_html_(self) -> str:
        """The viewer of the first images, side by side; why there is nothing, if so."""
        if not self.attributions:
            why = self.__dict__.get("why_no_attribution") or "There is no attribution."
            return f"<div><p>{escape(repr(self))}</p><p>{escape(why)}</p></div>"
        from diffusers_rdaam.notebook.frame import last_line

        found = videos_of(self.attributions)
        first = found[:_SHOWN]
        shown = last_line(first, "".join(each.still_html() for each in first))
        more = len(found) - _SHOWN
        rest = f"<p>and {more} more: output.attributions[{_SHOWN}:]</p>" if more > 0 else ""
        return f"<div>{shown}{rest}</div>"


def _described(value: Any) -> str:
    """A field of an output in a few words: kinds and sizes, never pixels."""
    if isinstance(value, (list, tuple)) and value:
        kinds = {_described(item) for item in value[:_SHOWN]}
        return f"{len(value)} x {kinds.pop() if len(kinds) == 1 else type(value[0]).__name__}"
    if hasattr(value, "shape"):
        return f"{type(value).__name__} {tuple(value.shape)}"
    if hasattr(value, "size") and hasattr(value, "mode"):
        return f"image {value.width}x{value.height}"
    return repr(value)[:60]


def _attributed(stock: type, what: str, each: str = "image") -> type[AttributedOutput]:
    """A stock output class with the field ``attributions``.

    Args:
        stock: of diffusers.
        what: the beginning of the docstring: whose output it is.
        each: what an attribution is made of.
    """
    names = ", ".join(field.name for field in fields(stock))
    name = stock.__name__.replace("PipelineOutput", "RDAAMPipelineOutput")
    body = {
        "__module__": __name__,
        "__qualname__": name,
        "__doc__": f"{what} with attributions.\n\nArgs:\n    {names}: as in the stock output.\n"
        f"    attributions: one per {each}, or None where nothing was recorded.\n",
        "__annotations__": {"attributions": "list[Attribution] | None"},
        "attributions": None,
    }
    return dataclass(repr=False)(type(name, (AttributedOutput, stock), body))


# By the names under which they are pickled.
AnimateDiffRDAAMPipelineOutput = _attributed(
    AnimateDiffPipelineOutput, "AnimateDiff's output", "frame, video by video"
)
ImageRDAAMPipelineOutput = _attributed(
    ImagePipelineOutput, "The output of pipelines that only have images,"
)
KolorsRDAAMPipelineOutput = _attributed(KolorsPipelineOutput, "Kolors' output")
StableDiffusionAdapterRDAAMPipelineOutput = _attributed(
    StableDiffusionAdapterPipelineOutput, "A T2I-Adapter pipeline's output"
)
StableDiffusionRDAAMPipelineOutput = _attributed(
    StableDiffusionPipelineOutput, "Stable Diffusion's output"
)
StableDiffusionXLRDAAMPipelineOutput = _attributed(
    StableDiffusionXLPipelineOutput, "Stable Diffusion XL's output"
)

_OUTPUTS: dict[type, type[AttributedOutput]] = {
    made.__mro__[2]: made
    for made in (
        AnimateDiffRDAAMPipelineOutput,
        ImageRDAAMPipelineOutput,
        KolorsRDAAMPipelineOutput,
        StableDiffusionAdapterRDAAMPipelineOutput,
        StableDiffusionRDAAMPipelineOutput,
        StableDiffusionXLRDAAMPipelineOutput,
    )
}


def with_attributions(output: Any, attributions: list[Attribution] | None, why: str | None) -> Any:
    """The stock output's fields in the class that also has attributions.

    An output of somebody's own class is handed over as it is: ``pipe.attribution`` has its maps.
    """
    kind: Any = type(output)
    cls = _class_for(kind)
    if cls is None:
        return output
    stock = {field.name: getattr(output, field.name) for field in fields(output)}
    attributed: Any = cls(**stock, attributions=attributions)  # type: ignore[call-arg]  # a field
    attributed.__dict__["why_no_attribution"] = why
    return attributed


@lru_cache(maxsize=128)
def _class_for(stock: Any) -> type[AttributedOutput] | None:
    """The class for the outputs of a class of diffusers; None for any other class.

    Those of the transformers' pipelines are made when they are first asked for: to import them all
    would take seconds. They are not attributes of this module, so they are pickled by their parts.
    """
    made = _OUTPUTS.get(stock)
    if made is not None or not stock.__module__.startswith("diffusers.pipelines."):
        return made
    names = [field.name for field in fields(stock)] if is_dataclass(stock) else []
    if not {"images", "image", "frames"} & set(names[:1]):
        return None
    attributed: Any = _attributed(stock, f"The output class {stock.__name__} of diffusers")
    attributed.__reduce__ = _reduced
    return attributed


def _reduced(output: Any) -> tuple[Any, ...]:
    stock = type(output).__mro__[2]
    values = {field.name: getattr(output, field.name) for field in fields(stock)}
    return _rebuilt, (stock, values, output.attributions, output.__dict__.get("why_no_attribution"))


def _rebuilt(stock: Any, values: dict[str, Any], attributions: Any, why: str | None) -> Any:
    return with_attributions(stock(**values), attributions, why)

"""Auto pipelines: the recording class for the stock class that diffusers' own would take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diffusers import ControlNetUnionModel, DiffusionPipeline
from diffusers.pipelines.auto_pipeline import (
    AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
    AUTO_INPAINT_PIPELINES_MAPPING,
    AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
)

from diffusers_rdaam.families.added_keys import ADDED_KEYS_PIPELINES
from diffusers_rdaam.families.layouts import LAYOUTS_WITH_CLASS
from diffusers_rdaam.families.registry import stock_class, unsupported
from diffusers_rdaam.families.transformers.pipelines import TRANSFORMER_PIPELINES
from diffusers_rdaam.pipelines.classes import class_name, recording_class
from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin

_TASKS: tuple[Mapping[str, type], ...] = (
    AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
    AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
    AUTO_INPAINT_PIPELINES_MAPPING,
)
_HUB = ("cache_dir", "force_download", "proxies", "token", "local_files_only", "revision")


if TYPE_CHECKING:

    class RecordingPipeline(RDAAMPipelineMixin, DiffusionPipeline):
        """What type checkers know of a pipeline whose class is chosen at run time."""

else:
    RecordingPipeline = RDAAMPipelineMixin


_WITH_CLASS = {*LAYOUTS_WITH_CLASS, *ADDED_KEYS_PIPELINES, *TRANSFORMER_PIPELINES}


class _Auto:
    _task: Mapping[str, type]

    def __init__(self) -> None:
        raise TypeError(
            f"{type(self).__name__} is not made by its constructor; use from_pretrained(path) or "
            "from_pipe(pipe)."
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_or_path: Any, **kwargs: Any) -> RecordingPipeline:
        """Load a folder or hub id, as the stock Auto pipeline does.

        Args:
            pretrained_model_or_path: as in diffusers.
            **kwargs: of the pipeline's ``from_pretrained``; ``controlnet=`` takes the class for it.

        Raises:
            UnsupportedPipelineError: the stock class cannot be recorded; nothing was loaded.
        """
        hub = {name: kwargs[name] for name in _HUB if name in kwargs}
        config = DiffusionPipeline.load_config(pretrained_model_or_path, **hub)
        chosen = cls._choose(config["_class_name"], kwargs)
        return chosen.from_pretrained(pretrained_model_or_path, **kwargs)

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> RecordingPipeline:
        """The pipeline of this task on another's modules, in the type they have.

        Args:
            pipeline: a stock or a recording pipeline.
            **kwargs: of the pipeline's ``from_pipe``; ``controlnet=`` adds one, or with None takes
                it away.

        Raises:
            UnsupportedPipelineError: the stock class cannot be recorded.
        """
        stock = stock_class(type(pipeline)) or type(pipeline)
        return cls._choose(stock.__name__, kwargs).from_pipe(pipeline, **kwargs)

    @classmethod
    def _choose(cls, name: str, kwargs: dict[str, Any]) -> Any:
        wanted = name
        if "controlnet" in kwargs or "enable_pag" in kwargs:
            wanted = _rewritten(name, kwargs)
            if kwargs.get("controlnet", ...) is None:
                del kwargs["controlnet"]
            kwargs.pop("enable_pag", None)
        models = (
            model for task in _TASKS for model, stock in task.items() if stock.__name__ == wanted
        )
        stock = cls._task.get(next(models, ""))
        found = wanted if stock is None else stock.__name__
        if stock is None or found not in _WITH_CLASS:
            described = f"{found}, for {cls.__name__},"
            if found in _WITH_CLASS:
                why = (
                    "diffusers has no pipeline of this task for its model. "
                    f"{class_name(found)} records it in its own task"
                )
                raise unsupported(described, why=why)
            raise unsupported(described, found)
        return recording_class(found)


def _rewritten(name: str, kwargs: dict[str, Any]) -> str:
    """The text-to-image class's name of the same model, with a ControlNet and perturbed-attention
    guidance, or without, as ``controlnet=`` and ``enable_pag=`` say; else as it was.
    """
    stem = name.removesuffix("Pipeline")
    union, plain, perturbed = ("ControlNetUnion" in stem, "ControlNet" in stem, "PAG" in stem)
    for part in ("Img2Img", "Inpaint", "PAG", "ControlNetUnion", "ControlNet"):
        stem = stem.replace(part, "")
    if "controlnet" in kwargs:
        net = kwargs["controlnet"]
        plain, union = net is not None, isinstance(net, ControlNetUnionModel)
    stem += "ControlNetUnion" if union else "ControlNet" if plain else ""
    return f"{stem}{'PAG' if kwargs.get('enable_pag', perturbed) else ''}Pipeline"


class AutoRDAAMPipelineForText2Image(_Auto):
    """:class:`diffusers.AutoPipelineForText2Image`, with recording pipelines."""

    _task = AUTO_TEXT2IMAGE_PIPELINES_MAPPING


class AutoRDAAMPipelineForImage2Image(_Auto):
    """:class:`diffusers.AutoPipelineForImage2Image`, with recording pipelines."""

    _task = AUTO_IMAGE2IMAGE_PIPELINES_MAPPING


class AutoRDAAMPipelineForInpainting(_Auto):
    """:class:`diffusers.AutoPipelineForInpainting`, with recording pipelines."""

    _task = AUTO_INPAINT_PIPELINES_MAPPING

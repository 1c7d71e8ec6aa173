"""RDAAMPipelineMixin: what makes a diffusers pipeline hand back an attribution."""

from __future__ import annotations

import functools
import inspect
import json
import warnings
from typing import Any

from diffusers.models.attention_processor import AttentionProcessor

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import NoAttributionError, NotRecordedWarning
from diffusers_rdaam.pipelines.output import only, with_attributions
from diffusers_rdaam.pipelines.run import build_attributions
from diffusers_rdaam.recording.accumulator import HeatMapAccumulator
from diffusers_rdaam.recording.families import Family, family_of
from diffusers_rdaam.recording.processor import RDAAMProcessor
from diffusers_rdaam.recording.recorder import Recorder
from diffusers_rdaam.recording.sites import foreign_text, install, is_stock, replaced

_NO_RUN = "There has been no recorded run yet: call the pipeline first."
_SWITCHED_OFF = (
    "Recording is switched off: set_attn_processor was given a stock processor. Call "
    "pipe.set_attn_processor(RDAAMProcessor()) and generate again."
)


class RDAAMPipelineMixin:
    """Put before a diffusers pipeline class: its calls are recorded, its images stay the same.

    ``class Mine(RDAAMPipelineMixin, StableDiffusionPipeline)`` keeps the constructor, the signature
    of ``__call__`` and everything else; outputs gain ``attribution`` and ``attributions``, and the
    pipeline the same for its last run. ``__call__`` takes one keyword more,
    ``attribution_prompt=``: the text, or one per prompt, that ``prompt_embeds`` were made from.
    """

    _rdaam_template: RDAAMProcessor | None = RDAAMProcessor()
    _rdaam_installed: bool = False
    _rdaam_accumulator: HeatMapAccumulator | None = None
    _rdaam_attributions: list[Attribution] | None = None
    _rdaam_why: str | None = _NO_RUN

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__call__" not in cls.__dict__:
            stock = next((c for c in cls.__mro__ if "__call__" in c.__dict__), None)
            if stock is not None and not issubclass(stock, RDAAMPipelineMixin):
                cls.__call__ = _recorded(stock.__call__)  # type: ignore[attr-defined]

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> Any:
        """A pipeline of this class on another's modules, in the type they have.

        diffusers would turn shared float16 modules into float32 unless told otherwise.
        """
        if "dtype" not in kwargs and "torch_dtype" not in kwargs:
            kwargs["dtype"] = pipeline.dtype
        return super().from_pipe(pipeline, **kwargs)  # type: ignore[misc]  # of DiffusionPipeline

    def to_json_string(self) -> str:
        """The configuration under the stock class's name, so that plain diffusers loads it."""
        config = json.loads(super().to_json_string())  # type: ignore[misc]  # of ConfigMixin
        config["_class_name"] = self._stock_class().__name__
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    @classmethod
    def _stock_class(cls) -> type:
        return next(c for c in cls.__mro__[1:] if not issubclass(c, RDAAMPipelineMixin))

    @property
    def attn_processors(self) -> dict[str, AttentionProcessor]:
        """The processors of the denoiser, by name."""
        self._rdaam_prepare(_family(self))
        return _family(self).denoiser(self).attn_processors  # type: ignore[return-value]

    def set_attn_processor(
        self, processor: AttentionProcessor | dict[str, AttentionProcessor]
    ) -> None:
        """Set the denoiser's processors.

        A :class:`RDAAMProcessor` is a template: each text cross-attention site gets a bound child
        and every other processor stays. Any other processor goes to all modules, as in diffusers,
        and switches recording off; a dictionary goes to the modules it names.

        Raises:
            ProcessorError: a site has a processor that cannot be recorded.
        """
        family = _family(self)
        denoiser: Any = family.denoiser(self)
        if isinstance(processor, RDAAMProcessor):
            install(family.sites(denoiser), processor)
            self._rdaam_template = processor
        else:
            denoiser.set_attn_processor(processor)
            ours = isinstance(processor, dict) and [
                value for value in processor.values() if isinstance(value, RDAAMProcessor)
            ]
            self._rdaam_template = ours[0] if ours else None
        self._rdaam_installed = self._rdaam_template is not None

    @property
    def attributions(self) -> list[Attribution]:
        """The attributions of the last run, one an image.

        Raises:
            NoAttributionError: there was no run, recording was switched off, or it failed.
        """
        if self._rdaam_attributions is None:
            raise NoAttributionError(self._rdaam_why or _NO_RUN)
        return self._rdaam_attributions

    @property
    def attribution(self) -> Attribution:
        """The attribution of the last run's only image.

        Raises:
            NoAttributionError: there is none, or there are several.
        """
        return only(self._rdaam_attributions, self._rdaam_why, owner="pipe")

    def _rdaam_prepare(self, family: Family) -> str | None:
        """See that our processors are in place; the reason why not, if they cannot be."""
        template = self._rdaam_template
        if template is None:
            return _SWITCHED_OFF
        sites = family.sites(family.denoiser(self))
        missing = replaced(sites)
        foreign = [site for site in missing if not is_stock(site)]
        if foreign:
            return "A processor was replaced: " + foreign_text(foreign)
        if missing:
            install(missing, template)
            if self._rdaam_installed:
                warnings.warn(
                    f"{len(missing)} attention modules (the first is {missing[0].name}) had lost "
                    "their RDAAMProcessor to a stock one since it was set; it was put back. To "
                    "switch recording off, use pipe.set_attn_processor(AttnProcessor2_0()).",
                    NotRecordedWarning,
                    stacklevel=4,
                )
        self._rdaam_installed = True
        return None

    def _rdaam_call(self, stock_call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        attribution_prompt = kwargs.pop("attribution_prompt", None)
        family = _family(self)
        self._rdaam_attributions, self._rdaam_why = None, None
        why = self._rdaam_prepare(family)
        if why is not None:
            if self._rdaam_template is not None:
                warnings.warn(f"This run is not recorded. {why}", NotRecordedWarning, stacklevel=3)
            result = stock_call(self, *args, **kwargs)
            return self._rdaam_finish(result, None, why)
        assert self._rdaam_template is not None
        recorder = Recorder(self, family, self._rdaam_template, self._rdaam_accumulator)
        with recorder:
            result = stock_call(self, *args, **kwargs)
        self._rdaam_accumulator = recorder.accumulator
        try:
            arguments = inspect.signature(stock_call).bind(self, *args, **kwargs)
            arguments.apply_defaults()
            attributions = build_attributions(
                self, recorder, result[0], arguments.arguments, attribution_prompt
            )
        except Exception as error:
            # Whatever went wrong here, the image exists and is handed over.
            why = f"The image was made, but not its attribution: {error}"
            warnings.warn(why, NotRecordedWarning, stacklevel=3)
            return self._rdaam_finish(result, None, why)
        return self._rdaam_finish(result, attributions, None)

    def _rdaam_finish(
        self, result: Any, attributions: list[Attribution] | None, why: str | None
    ) -> Any:
        self._rdaam_attributions, self._rdaam_why = attributions, why
        # return_dict=False keeps the stock tuple: whoever unpacks two values gets two.
        return result if isinstance(result, tuple) else with_attributions(result, attributions, why)


def _family(pipe: Any) -> Family:
    return family_of(pipe)


def _recorded(stock_call: Any) -> Any:
    @functools.wraps(stock_call)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._rdaam_call(stock_call, args, kwargs)

    return __call__

"""RDAAMPipelineMixin: what makes a diffusers pipeline hand back an attribution."""

from __future__ import annotations

import functools
import inspect
import json
import warnings
from typing import Any

from diffusers import DiffusionPipeline
from diffusers.models.attention_processor import AttentionProcessor
from torch import Tensor

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import NoAttributionError, NotRecordedWarning
from diffusers_rdaam.explain.encode import TextLike, encoded_vocabulary
from diffusers_rdaam.explain.open_vocabulary import query, query_maps
from diffusers_rdaam.pipelines.output import only, with_attributions
from diffusers_rdaam.pipelines.pause import unrecorded
from diffusers_rdaam.pipelines.run import Run, so_far
from diffusers_rdaam.pipelines.wrappers import WRAPPED
from diffusers_rdaam.recording.families import Family, family_of, images_of
from diffusers_rdaam.recording.processor import RDAAMProcessor
from diffusers_rdaam.recording.recorder import Buffers, Recorder
from diffusers_rdaam.recording.run_bytes import run_bytes
from diffusers_rdaam.recording.sites import (
    foreign_text,
    install,
    install_own,
    is_recordable,
    is_stock,
    replaced,
)
from diffusers_rdaam.recording.target import Bound
from diffusers_rdaam.recording.tell import tell

_NO_RUN = "There has been no recorded run yet: call the pipeline first."
_ENDED_EARLY = "The last run ended with an exception, so it has no attribution. Generate again."
_SWITCHED_OFF = (
    "Recording is switched off: set_attn_processor was given a stock processor. Call "
    "pipe.set_attn_processor(RDAAMProcessor()) and generate again."
)

_AS_IT_IS = object()


class RDAAMPipelineMixin:
    """Put before a diffusers pipeline class: its calls are recorded, its images stay the same.

    ``class Mine(RDAAMPipelineMixin, StableDiffusionPipeline)`` keeps the constructor, the signature
    of ``__call__`` and everything else; outputs gain ``attribution`` and ``attributions``, and the
    pipeline the same for its last run. ``__call__`` takes two keywords more:
    ``attribution_prompt=``, the text, or one per prompt, that ``prompt_embeds`` were made from; and
    ``attribution_vocabulary=``, other texts, for ``attribution.vocabulary[text]``.
    """

    _rdaam_template: RDAAMProcessor | None = RDAAMProcessor()
    # The id of the denoiser that has our processors: another may be put in its place.
    _rdaam_installed: int | None = None
    _rdaam_buffers: Buffers | None = None
    _rdaam_run: Run | None = None
    _rdaam_attributions: list[Attribution] | None = None
    _rdaam_why: str | None = _NO_RUN

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, wrap in WRAPPED.items():
            found = [base.__dict__[name] for base in cls.__mro__ if name in base.__dict__]
            # One is wrapped: a class whose parent records already may call that and add to it.
            if found and not any(getattr(method, "_rdaam_wrapped", False) for method in found):
                setattr(cls, name, wrap(found[0]))

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> Any:
        """A pipeline of this class on another's modules, in the types they have.

        diffusers would turn shared float16 modules into float32 unless told otherwise.
        """
        if not {"dtype", "torch_dtype", "custom_pipeline"} & kwargs.keys():
            kwargs["dtype"] = _AS_IT_IS
        return super().from_pipe(pipeline, **kwargs)  # type: ignore[misc]  # of DiffusionPipeline

    @functools.wraps(DiffusionPipeline.to)
    def to(self, *args: Any, **kwargs: Any) -> Any:
        # What diffusers calls last in from_pipe, on modules that are another pipeline's too.
        if kwargs.get("dtype") is _AS_IT_IS:
            return self
        return super().to(*args, **kwargs)  # type: ignore[misc]  # of DiffusionPipeline

    @property
    def _rdaam_guided(self) -> bool | None:
        """What ``encode_prompt`` was told; for the layouts of pipelines without a property."""
        return None if self._rdaam_run is None else self._rdaam_run.guided

    def __getstate__(self) -> dict[str, Any]:
        # A copy is in no run, and makes buffers of its own.
        of_a_run = ("_rdaam_run", "_rdaam_buffers")
        return {name: value for name, value in self.__dict__.items() if name not in of_a_run}

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
        family = family_of(self)
        denoiser: Any = family.denoiser(self)
        if self._rdaam_installed != id(denoiser):
            self._rdaam_prepare(family)
        return denoiser.attn_processors

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
        family = family_of(self)
        denoiser: Any = family.denoiser(self)
        if isinstance(processor, RDAAMProcessor):
            install(family.sites(denoiser), processor)
            install_own(family.self_sites(denoiser), processor)
            self._rdaam_template = processor
        else:
            # diffusers empties a dictionary that it is given.
            denoiser.set_attn_processor(
                dict(processor) if isinstance(processor, dict) else processor
            )
            sites = [site for site in family.sites(denoiser) if isinstance(site.processor, Bound)]
            ours = [p for p in (site.processor for site in sites) if isinstance(p, RDAAMProcessor)]
            # A tapped processor has no options of its own.
            tapped = (self._rdaam_template or RDAAMProcessor()) if sites else None
            self._rdaam_template = ours[0] if ours else tapped
            if self._rdaam_template is not None:
                # Children of their own: these may be another pipeline's, or bound to no site.
                install(sites, self._rdaam_template)
                install_own(family.self_sites(denoiser), self._rdaam_template)
        self._rdaam_installed = None if self._rdaam_template is None else id(denoiser)

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

    @property
    def attributions_so_far(self) -> list[Attribution]:
        """What the run that is going on has recorded until now, one an image, without the images.

        For callbacks such as ``callback_on_step_end``; every reading costs a copy to the CPU.

        Raises:
            NoAttributionError: no recorded run is going on, or nothing was recorded yet.
        """
        return so_far(self._rdaam_run)

    @functools.wraps(query)
    def query(self, attribution: Attribution, text: TextLike, **options: Any) -> Attribution:
        return query(self, attribution, text, **options)

    @functools.wraps(query_maps)
    def query_maps(self, attribution: Attribution, text: TextLike, **options: Any) -> Tensor:
        return query_maps(self, attribution, text, **options)

    def recording_bytes(
        self, *, height: int, width: int, steps: int, images: int = 1, columns: int = 77
    ) -> int:
        """Bytes that a run's maps and queries will take on the denoiser's device, with the options
        set. Queries that are kept elsewhere take those of one step there.

        Args:
            height, width: of the images, in pixels.
            steps: denoiser calls; counts where steps or queries are kept, and over some for
                self-attention.
            images: prompts times images a prompt.
            columns: length of the text embedding.
        """
        template = self._rdaam_template
        if template is None:
            return 0
        factor = self.vae_scale_factor  # type: ignore[attr-defined]  # of the pipeline
        latent = (height // factor, width // factor)
        return run_bytes(self, template, latent, steps=steps, images=images, columns=columns)

    def _rdaam_prepare(self, family: Family, *, quiet: bool = False) -> str | None:
        """See that our processors are in place; the reason why not, if they cannot be."""
        template = self._rdaam_template
        if template is None:
            return _SWITCHED_OFF
        denoiser = family.denoiser(self)
        sites = family.sites(denoiser)
        missing = replaced(sites)
        foreign = [site for site in missing if not is_recordable(site)]
        if foreign:
            return "A processor was replaced: " + foreign_text(foreign)
        if missing:
            stock = [site for site in missing if is_stock(site)]
            install(missing, template)
            if stock and self._rdaam_installed == id(denoiser) and not quiet:
                warnings.warn(
                    f"{len(stock)} attention modules (the first is {stock[0].name}) had lost "
                    "their RDAAMProcessor to a stock one since it was set; it was put back. To "
                    "switch recording off, use pipe.set_attn_processor(AttnProcessor2_0()).",
                    NotRecordedWarning,
                    stacklevel=4,
                )
        if template.self_attention:
            # A child for each site once, not once a run: a compiled denoiser would compile again.
            install_own(replaced(family.self_sites(denoiser)), template)
        self._rdaam_installed = id(denoiser)
        return None

    def _rdaam_call(self, stock_call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        attribution_prompt = kwargs.pop("attribution_prompt", None)
        vocabulary = kwargs.pop("attribution_vocabulary", None)
        try:
            call = inspect.signature(stock_call).bind(self, *args, **kwargs)
        except TypeError:
            # The stock call's own error says it better.
            return stock_call(self, *args, **kwargs)
        call.apply_defaults()
        # Somebody's own __call__ may take **kwargs, which are not bound by name.
        arguments = call.arguments | kwargs
        family = family_of(self)
        self._rdaam_attributions, self._rdaam_why = None, _ENDED_EARLY
        why = self._rdaam_prepare(family)
        if why is not None:
            if self._rdaam_template is not None:
                warnings.warn(f"This run is not recorded. {why}", NotRecordedWarning, stacklevel=3)
            result = stock_call(self, *args, **kwargs)
            return self._rdaam_finish(result, None, why)
        assert self._rdaam_template is not None
        recorder = Recorder(
            self,
            family,
            self._rdaam_template,
            self._rdaam_buffers,
            announce=lambda text: tell(text, self),
            vocabulary=encoded_vocabulary(self, vocabulary, clip_skip=arguments.get("clip_skip")),
        )
        with recorder:
            # The recorder has them, and lets go of those that do not fit this run.
            self._rdaam_buffers = None
            run = self._rdaam_run = Run(self, recorder, arguments, attribution_prompt)
            try:
                result = stock_call(self, *args, **unrecorded(kwargs, recorder))
            finally:
                self._rdaam_run = None
            self._rdaam_buffers = recorder.buffers
            # Read before another thread's run may take the buffers.
            try:
                attributions = run.attributions(images_of(result))
            except Exception as error:
                # Whatever went wrong here, the image exists and is handed over.
                why = f"The image was made, but not its attribution: {error}"
                warnings.warn(why, NotRecordedWarning, stacklevel=3)
                return self._rdaam_finish(result, None, why)
        return self._rdaam_finish(result, attributions, None)

    def _rdaam_reinstall(self) -> None:
        """Go on recording with processors that a method of the pipeline has set."""
        if self._rdaam_installed is not None:
            self._rdaam_prepare(family_of(self), quiet=True)

    def _rdaam_finish(
        self, result: Any, attributions: list[Attribution] | None, why: str | None
    ) -> Any:
        self._rdaam_attributions, self._rdaam_why = attributions, why
        # return_dict=False keeps the stock tuple: whoever unpacks two values gets two.
        return result if isinstance(result, tuple) else with_attributions(result, attributions, why)

"""RDAAMPipelineMixin: what makes a diffusers pipeline hand back an attribution."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.models.attention_processor import AttentionProcessor
from torch import Tensor, nn

from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.attention.recording_processor import RecordingProcessor
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import (
    InputError,
    NoAttributionError,
    ProcessorWarning,
    UnreadableDenoiserWarning,
    UnsupportedPipelineError,
)
from diffusers_rdaam.families import Family, family_of, self_attention_sites_of, sites_of
from diffusers_rdaam.families.call_keywords import check_call_keywords, known_keywords
from diffusers_rdaam.families.registry import stock_class
from diffusers_rdaam.images.attribute import NOISE, ImageRequest, ImageRun, Method
from diffusers_rdaam.images.solvers import Solver
from diffusers_rdaam.open_vocabulary.attribute_text import attribute_text, text_maps
from diffusers_rdaam.open_vocabulary.encode import TextLike
from diffusers_rdaam.open_vocabulary.recipe import Activation, Aggregation, MapRecipe
from diffusers_rdaam.pipelines.output import AttributedOutput, only
from diffusers_rdaam.pipelines.pipeline_call import so_far
from diffusers_rdaam.pipelines.session import KEPT_BUFFER_BYTES, Session, recorded_call
from diffusers_rdaam.pipelines.wrapped_methods import wrap_methods
from diffusers_rdaam.recording.announce import print_line, warn
from diffusers_rdaam.recording.estimate import run_bytes
from diffusers_rdaam.recording.installation import (
    Replacements,
    foreign_text,
    install,
    install_for_run,
    install_self_attention,
    is_recordable,
    is_stock,
    replaced,
)
from diffusers_rdaam.recording.recorder import Buffers, Recorder
from diffusers_rdaam.suggestions import nearest

if TYPE_CHECKING:
    import os

    from typing_extensions import Self

_NO_RUN = "There has been no recorded run yet: call the pipeline first."
_SWITCHED_OFF = (
    "Recording is switched off: set_attn_processor was given a stock processor. Call "
    "pipe.set_attn_processor(RDAAMProcessor()) and generate again."
)

_AS_IT_IS = object()
# What people call an argument of diffusers otherwise.
_IN_PLACE_OF = {"seed": "generator"}
_DEFAULT = "the default options"


class RDAAMPipelineMixin:
    """Put before a diffusers pipeline class: its calls are recorded, its images stay the same.

    ``class Mine(RDAAMPipelineMixin, StableDiffusionPipeline)`` keeps the constructor, the signature
    of ``__call__`` and everything else; outputs gain ``attribution`` and ``attributions``, and the
    pipeline the same for its last run. ``__call__`` takes two keywords more:
    ``attribution_prompt=``, the text, or one per prompt, that ``prompt_embeds`` were made from; and
    ``attribution_vocabulary=``, other texts, for ``attribution.vocabulary[text]``.
    """

    # What the user has set; None to switch off. The default is made anew for each pipeline.
    _rdaam_template: Any = _DEFAULT
    # The id of the denoiser on which the user's processors were put: another may take its place.
    _rdaam_installed: int | None = None
    _rdaam_buffers: Buffers | None = None
    _rdaam_session: Session | None = None
    _rdaam_attributions: list[Attribution] | None = None
    _rdaam_why: str | None = _NO_RUN
    # What record_attention was given for a class with a loop of its own.
    _rdaam_rows: Any = None
    _rdaam_prompt: Any = None
    # The runs of a block of record_attention, which it reads.
    _rdaam_runs: Any = None

    if TYPE_CHECKING:
        # diffusers' own annotations do not say that a pipeline of this class comes back.
        @classmethod
        def from_pretrained(
            cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, **kwargs: Any
        ) -> Self: ...

        def __call__(self, *args: Any, **kwargs: Any) -> AttributedOutput: ...

        def to(self, *args: Any, **kwargs: Any) -> Self: ...
    else:

        @functools.wraps(DiffusionPipeline.to)
        def to(self, *args, **kwargs):
            # What diffusers calls last in from_pipe, on modules that are another pipeline's too.
            return self if kwargs.get("dtype") is _AS_IT_IS else super().to(*args, **kwargs)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        wrap_methods(cls, stock_class(cls))

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> Self:
        """A pipeline of this class on another's modules, in the types they have.

        diffusers would turn shared float16 modules into float32 unless a type is given.
        """
        if not {"dtype", "torch_dtype", "custom_pipeline"} & kwargs.keys():
            kwargs["dtype"] = _AS_IT_IS
        return super().from_pipe(pipeline, **kwargs)  # type: ignore[misc]  # of DiffusionPipeline

    @property
    def _rdaam_guided(self) -> bool | None:
        """Whether ``encode_prompt`` was called for guidance; for pipelines without a property."""
        return None if self._rdaam_session is None else self._rdaam_session.guided

    @property
    def _rdaam_arguments(self) -> dict[str, Any] | None:
        """The arguments of the call that runs, by name; None outside of a call."""
        session = self._rdaam_session
        return None if session is None or session.run is None else session.run.arguments

    @property
    def _rdaam_next_template(self) -> RDAAMProcessor | None:
        """The template with the options of the next run; None where recording is off."""
        # Made anew: an option that somebody sets on one is no other pipeline's.
        return RDAAMProcessor() if self._rdaam_template is _DEFAULT else self._rdaam_template

    def __getstate__(self) -> dict[str, Any]:
        # A copy is in no run, and makes buffers of its own.
        of_a_run = ("_rdaam_session", "_rdaam_buffers", "_rdaam_replacements")
        return {name: value for name, value in self.__dict__.items() if name not in of_a_run}

    def to_json_string(self) -> str:
        """The configuration under the stock class's name, so that plain diffusers loads it."""
        config = json.loads(super().to_json_string())  # type: ignore[misc]  # of ConfigMixin
        config["_class_name"] = self._stock_class().__name__
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    @classmethod
    def _stock_class(cls) -> type:
        return next(
            base
            for base in cls.__mro__[1:]
            if not issubclass(base, RDAAMPipelineMixin) and "_rdaam_watches" not in base.__dict__
        )

    @property
    def attn_processors(self) -> dict[str, AttentionProcessor]:
        """The processors of the denoiser, by name.

        Those that record are among them while a call runs, and between calls where they were set
        with :meth:`set_attn_processor`.
        """
        denoisers: Any = family_of(self).denoisers(self)
        return {
            prefix + name: processor
            for prefix, denoiser in denoisers.items()
            for name, processor in denoiser.attn_processors.items()
        }

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
        if isinstance(processor, type) and issubclass(processor, RDAAMProcessor):
            raise InputError(
                "set_attn_processor was given the class RDAAMProcessor. Give an object of it: "
                "pipe.set_attn_processor(RDAAMProcessor())."
            )
        family = family_of(self)
        denoiser, denoisers = family.denoiser(self), family.denoisers(self)
        with ExitStack() as undo:
            for name in ("_rdaam_template", "_rdaam_installed"):
                undo.callback(self.__dict__.__setitem__, name, getattr(self, name))
            if isinstance(processor, RDAAMProcessor):
                template: RDAAMProcessor | None = processor
                sites = sites_of(family, self)
            else:
                for prefix, one in denoisers.items():
                    for name, current in _by_module(one):
                        undo.callback(setattr, name, "processor", current)
                    _set_processors(one, processor, prefix if len(denoisers) > 1 else None)
                # Children of their own: these may be another pipeline's, or bound to no site.
                sites = tuple(
                    s for s in sites_of(family, self) if isinstance(s.processor, RecordingProcessor)
                )
                template = self._rdaam_template_of(sites)
            if template is not None:
                install(sites, template, undo)
                install_self_attention(self_attention_sites_of(family, self), template, undo)
            self._rdaam_template = template
            self._rdaam_installed = None if template is None else id(denoiser)
            self.__dict__.pop("_rdaam_replacements", None)
            undo.pop_all()

    def _rdaam_template_of(self, sites: Iterable[Site]) -> RDAAMProcessor | None:
        """The options of processors that somebody has put on the sites; None for stock ones."""
        processors = [site.processor for site in sites]
        ours = [one for one in processors if isinstance(one, RDAAMProcessor)]
        if ours:
            return ours[0]
        # A tapped processor has no options of its own.
        return (self._rdaam_next_template or RDAAMProcessor()) if processors else None

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
        session = self._rdaam_session
        return so_far(None if session is None or session.recorder is None else session.run)

    def release_recording(self) -> int:
        """Give the device buffers of the last run back; returns their number of bytes.

        They are kept for the next run up to 64 MB, and larger ones are given back after each run
        by themselves. Attributions are not touched: they hold no memory of the device.
        """
        buffers, self._rdaam_buffers = self._rdaam_buffers, None
        return 0 if buffers is None else buffers.nbytes

    @known_keywords
    def query(
        self,
        attribution: Attribution,
        text: TextLike,
        *,
        context: str | None = None,
        padding: bool = False,
        activation: Activation = "softmax",
        aggregation: Aggregation = "mean",
    ) -> Attribution:
        """The attribution of any text over an image of this pipeline, as :func:`attribute_text`."""
        return attribute_text(
            self,
            attribution,
            text,
            context=context,
            padding=padding,
            activation=activation,
            aggregation=aggregation,
        )

    @known_keywords
    def query_maps(
        self,
        attribution: Attribution,
        text: TextLike,
        *,
        context: str | None = None,
        padding: bool = False,
        recipe: MapRecipe | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Each token's map ``(tokens, height, width)``, as :func:`text_maps`."""
        return text_maps(
            self, attribution, text, context=context, padding=padding, recipe=recipe, size=size
        )

    def attribute_image(
        self,
        image: Any,
        prompt: str | Sequence[str] | None = None,
        *,
        method: Method = "forward",
        noise: float | Sequence[float] = NOISE,
        draws: int = 2,
        steps: int = 20,
        solver: Solver = "fireflow",
        until: float = 0.7,
        size: tuple[int, int] | None = None,
        generator: Any = None,
        pipeline_image: Any = None,
        **call: Any,
    ) -> Attribution | list[Attribution]:
        """The attribution of an image that exists, as :func:`attribute_image`.

        The options of recording are those that the pipeline has; its last run stays what it was.
        """
        check_call_keywords(self, call, RDAAMPipelineMixin.attribute_image, records=True)
        request = ImageRequest(
            method, noise, draws, steps, solver, until, size, generator, pipeline_image, call
        )
        run = ImageRun(self, request, record=_recorded, plain=_plain)
        return run.attribute(image, prompt)

    def recording_bytes(
        self,
        *,
        height: int,
        width: int,
        steps: int,
        images: int = 1,
        columns: int | None = None,
        frames: int = 1,
    ) -> int:
        """Bytes that a run's maps and queries will take on the denoiser's device, with the options
        set. Queries that are kept elsewhere take those of one step there. Where Triton's kernels
        record, the most that it takes to try them in the first call is counted too.

        Args:
            height, width: of the images, in pixels.
            steps: denoiser calls; counts where steps or queries are kept, and over some for
                self-attention.
            images: prompts times images a prompt.
            columns: length of the text embedding; the pipeline's usual length if not given.
            frames: of each video.
        """
        template = self._rdaam_next_template
        if template is None:
            return 0
        family = family_of(self)
        columns = family.text_columns(self) if columns is None else columns
        rows, grid = family.rows_of_video(self, family.grid_of_image(self, (height, width)), frames)
        return run_bytes(
            self, template.options, grid, steps=steps, images=images * rows, columns=columns
        )

    def _rdaam_prepare(self, family: Family, undo: ExitStack) -> NoAttributionError | None:
        """See that processors that record are in place; the reason why not, if they cannot be.

        Those that the user has set stay; others are there for the time of ``undo`` only.
        """
        self._rdaam_take_unbound(family)
        template = self._rdaam_next_template
        if template is None:
            return NoAttributionError(_SWITCHED_OFF)
        denoiser = family.denoiser(self)
        try:
            sites = sites_of(family, self)
        except UnsupportedPipelineError as error:
            if isinstance(denoiser, nn.Module) and hasattr(denoiser, "down_blocks"):
                raise
            return NoAttributionError(str(error), warning=UnreadableDenoiserWarning)
        if not sites:
            return NoAttributionError(
                f"The {type(denoiser).__name__} has no cross-attention to a text.",
                warning=UnreadableDenoiserWarning,
            )
        missing = replaced(sites)
        foreign = [site for site in missing if not is_recordable(site)]
        if foreign:
            text = "A processor was replaced: " + foreign_text(foreign)
            return NoAttributionError(text, warning=ProcessorWarning)
        if self._rdaam_installed == id(denoiser):
            self._rdaam_put_back(missing, self_attention_sites_of(family, self))
            return None
        if "_rdaam_replacements" not in self.__dict__:
            self._rdaam_replacements: Replacements = {}
        self_attention_sites = self_attention_sites_of(family, self)
        earlier = self._rdaam_replacements
        install_for_run(sites, self_attention_sites, template, undo, earlier=earlier)
        return None

    def _rdaam_put_back(self, missing: list[Site], self_attention_sites: Iterable[Site]) -> None:
        """Put processors that the user has set, and somebody has replaced, on again."""
        stock = [site for site in missing if is_stock(site)]
        install(missing, self._rdaam_template)
        if stock:
            warn(
                f"{len(stock)} attention modules (the first is {stock[0].name}) had lost "
                "their RDAAMProcessor to a stock one since it was set; it was put back. To "
                "switch recording off, use pipe.set_attn_processor(AttnProcessor2_0()).",
                ProcessorWarning,
            )
        if self._rdaam_template.options.self_attention:
            # A child for each site once, not once a run: a compiled denoiser would compile again.
            install_self_attention(replaced(self_attention_sites), self._rdaam_template)

    def _rdaam_take_unbound(self, family: Family) -> None:
        """Take the options of an RDAAMProcessor that was set on the denoiser itself."""
        denoiser: Any = family.denoiser(self)
        if not hasattr(denoiser, "down_blocks"):
            return
        unbound = [
            site.processor
            for site in family.sites(denoiser)
            if isinstance(site.processor, RDAAMProcessor) and site.processor.site is None
        ]
        if not unbound:
            return
        if any(one.options != unbound[0].options for one in unbound):
            raise InputError(
                "The denoiser was given RDAAMProcessors with different options, and a run has one "
                "set of options. Set them with pipe.set_attn_processor(RDAAMProcessor(…))."
            )
        self.set_attn_processor(unbound[0])

    def _rdaam_call(
        self, call: Any, is_stock: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        session = self._rdaam_session
        if session is None or not session.has_call():
            return recorded_call(self, call, is_stock, args, kwargs)
        if is_stock:
            return session.call_stock(call, args, kwargs)
        return call(self, *args, **kwargs)

    def _rdaam_refuse_unknown(self, call: Any, kwargs: dict[str, Any]) -> None:
        """Refuse misspelt keywords that the stock call would swallow in silence.

        Raises:
            InputError: one is not an argument of the call, but is near to one.
        """
        parameters = inspect.signature(call).parameters
        if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            return
        known = {*parameters, *_named_in(call), "attribution_prompt", "attribution_vocabulary"}
        # What other classes take is not misspelt; the stock call ignores it.
        known |= _arguments_elsewhere()
        is_stock = getattr(call, "__module__", "").startswith("diffusers.")
        for name in kwargs:
            close = _IN_PLACE_OF.get(name) or nearest(name, known - {"self", "args", "kwargs"})
            ours = name.startswith("attribution")
            if name not in known and (ours or (is_stock and close is not None)):
                hint = f" Did you mean {close}=?" if close else ""
                raise InputError(
                    f"{name}= is not an argument of {type(self).__name__}'s call.{hint}"
                )

    def _rdaam_announce(self, text: str) -> None:
        print_line(text, self)

    def _rdaam_take_buffers(self, recorder: Recorder | None) -> None:
        """Keep a run's buffers for the next one, unless they are large."""
        if recorder is not None and recorder.failure is None:
            buffers = recorder.buffers
            self._rdaam_buffers = buffers if buffers.nbytes <= KEPT_BUFFER_BYTES else None

    def _rdaam_reinstall(self) -> None:
        """Go on recording with processors that a method of the pipeline has set."""
        if self._rdaam_installed is not None:
            family = family_of(self)
            missing = [s for s in replaced(sites_of(family, self)) if is_recordable(s)]
            install(missing, self._rdaam_template)


def _recorded(pipe: Any, arguments: dict[str, Any]) -> list[Attribution]:
    pipe(**arguments)
    return pipe.attributions


def _plain(pipe: Any, arguments: dict[str, Any]) -> Any:
    # Its own: the pipeline that it is a copy of goes on recording.
    pipe._rdaam_template = None
    return pipe(**arguments)


def _set_processors(denoiser: Any, processor: Any, prefix: str | None) -> None:
    """Set a denoiser's processors as diffusers does.

    Args:
        denoiser, processor: the module, and a processor or a dictionary of them.
        prefix: what a dictionary has before this denoiser's names, where a pipeline has several.
    """
    if isinstance(processor, dict):
        # A new dictionary: diffusers empties the one that it is given.
        processor = dict(processor)
        if prefix is not None:
            names = denoiser.attn_processors
            processor = {one: processor[prefix + one] for one in names if prefix + one in processor}
            if not processor:
                return
    denoiser.set_attn_processor(processor)


def _by_module(denoiser: Any) -> list[tuple[Any, Any]]:
    """Every module with a processor, and the processor."""
    found = [(module, getattr(module, "processor", None)) for module in denoiser.modules()]
    return [(module, processor) for module, processor in found if processor is not None]


@lru_cache(maxsize=1)
def _arguments_elsewhere() -> frozenset[str]:
    """The arguments of the calls that others are modelled on."""
    calls = (StableDiffusionPipeline.__call__, StableDiffusionXLPipeline.__call__)
    return frozenset(name for call in calls for name in inspect.signature(call).parameters)


def _named_in(call: Any) -> set[str]:
    """The texts in a function's code: names that it takes out of its keywords."""
    code = getattr(inspect.unwrap(call), "__code__", None)
    return {text for text in getattr(code, "co_consts", ()) if isinstance(text, str)}

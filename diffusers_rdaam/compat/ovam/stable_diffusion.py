"""OVAM's hooker: keep the queries of a pipeline's run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from diffusers_rdaam.attention.options import QueryLocation, QueryOptions, QueryPrecision
from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.queries import Queries
from diffusers_rdaam.compat.ovam.evaluator import StableDiffusionDAAM, recipe_of
from diffusers_rdaam.compat.session import Hooked
from diffusers_rdaam.errors import InputError, NoAttributionError
from diffusers_rdaam.families import family_of
from diffusers_rdaam.open_vocabulary.attribute_text import clip_skip_of, queries_of

__all__ = ["StableDiffusionDAAM", "StableDiffusionHooker"]

# Both halves of 51 calls of Stable Diffusion 1.5 in float32 take 4.7 GB.
DEFAULT_BUDGET = 6 * 2**30


class StableDiffusionHooker(Hooked):
    """Keep what is needed to ask about any text later: ``with StableDiffusionHooker(pipe) as h``.

    Args:
        pipeline: any pipeline with a UNet that this package records, stock or our own.
        locate_middle_block: whether the middle block counts.
        block_hooker_kwargs: ``store_unconditional_hidden_states`` (True unless given) and
            ``store_conditional_hidden_states`` (False): whether the callable reads the rows of the
            negative prompt, of the prompt, or first the one and then the other as more images. A
            run without guidance has the prompt's alone.
        locator_kwargs: not carried over, but for the default.
        extract_self_attentions, sa_in_features: not carried over; see the error.
        budget: how many bytes a run's maps and queries may take.
        location: of the queries, as of :class:`QueryOptions`.
        precision: of the queries: ``"fp16"`` or ``"fp32"``; the model's if not given, as in OVAM.

    Raises:
        InputError: an option that is not carried over.
        UnsupportedPipelineError: the pipeline cannot be recorded.
    """

    def __init__(
        self,
        pipeline: Any,
        locate_middle_block: bool = False,
        block_hooker_kwargs: Mapping[str, bool] | None = None,
        locator_kwargs: Mapping[str, bool] | None = None,
        extract_self_attentions: bool = False,
        sa_in_features: Any = None,
        *,
        budget: int = DEFAULT_BUDGET,
        location: QueryLocation = "cpu",
        precision: QueryPrecision | None = None,
    ) -> None:
        _check_carried_over(locator_kwargs or {}, extract_self_attentions, sa_in_features)
        self.pipeline = pipeline
        self._middle = locate_middle_block
        self._rows = _rows(block_hooker_kwargs or {})
        denoiser: Any = family_of(pipeline).denoiser(pipeline)
        own: QueryPrecision = "fp32" if denoiser.dtype == torch.float32 else "fp16"
        processor = RDAAMProcessor(
            keep="queries",
            keep_negative=self._rows[0],
            budget=budget,
            queries=QueryOptions(location=location, precision=precision or own),
        )
        super().__init__(pipeline, processor, "hooker")

    def get_ovam_callable(
        self,
        heads_epochs_activation: Any = "token_softmax",
        heads_epochs_aggregation: Any = "sum",
        heads_activation: Any = "linear",
        heads_aggregation: Any = "sum",
        block_interpolation_mode: str = "bilinear",
        blocks_activation: Any = "linear",
        heatmaps_activation: Any = None,
        heatmaps_aggregation: Any = "sum",
        expand_size: tuple[int, int] | None = None,
        expand_interpolation_mode: str = "bilinear",
        block_kwargs: Mapping[str, Any] | None = None,
        module_kwargs: Mapping[str, Any] | None = None,
    ) -> StableDiffusionDAAM:
        """The callable that makes maps of any text over the images of the last run.

        Activations are ``"linear"`` or None, ``"token_softmax"``, ``"sigmoid"``, ``"relu"``,
        ``"tanh"``, ``"sigmoid+relu"``, ``"clamp"`` or a function that keeps the shape;
        aggregations ``"sum"``, ``"mean"``, ``"max"`` or a function that takes away the first axis.

        Args:
            heads_epochs_activation: of ``(calls, heads, tokens, height, width)``.
            heads_epochs_aggregation: over the denoiser calls.
            heads_activation: of ``(heads, tokens, height, width)``.
            heads_aggregation: over the heads.
            block_interpolation_mode: with which all layers come to the largest grid.
            blocks_activation: of each layer's ``(tokens, height, width)``.
            heatmaps_activation: of the maps.
            heatmaps_aggregation: over the layers.
            expand_size: height and width of the maps; the largest grid's if not given.
            expand_interpolation_mode: with which they come to it.
            block_kwargs, module_kwargs: more of these, by name; they win.

        Raises:
            NoAttributionError: there was no run.
            InputError: a stage is unknown.
        """
        stages: dict[str, Any] = {
            "heads_epochs_activation": heads_epochs_activation,
            "heads_epochs_aggregation": heads_epochs_aggregation,
            "heads_activation": heads_activation,
            "heads_aggregation": heads_aggregation,
            "block_interpolation_mode": block_interpolation_mode,
            "blocks_activation": blocks_activation,
            "heatmaps_activation": heatmaps_activation,
            "heatmaps_aggregation": heatmaps_aggregation,
            "expand_size": expand_size,
            "expand_interpolation_mode": expand_interpolation_mode,
        }
        stages |= {**(block_kwargs or {}), **(module_kwargs or {})}
        size = stages.pop("expand_size")
        recipe = recipe_of(stages)
        found = self._found()
        queries = [
            self._located(queries_of(one)) for attribution in found for one in self._of(attribution)
        ]
        return StableDiffusionDAAM(self.pipeline, queries, recipe, size, clip_skip_of(found[0]))

    def clear(self) -> None:
        """Let the queries of the last run go; another run makes new ones."""
        if not self._hooked:
            self._recording = None
        else:
            self.unhook()
            self.hook()

    def get_self_attention_map(self, *args: Any, **kwargs: Any) -> Any:
        """Not carried over.

        Raises:
            InputError: always.
        """
        raise InputError(_NO_SELF_ATTENTION)

    def _of(self, attribution: Attribution) -> list[Attribution]:
        """The chosen halves of the rows."""
        if attribution.negative_attribution is None:
            return [attribution]
        halves = (attribution.negative, attribution)
        return [half for half, wanted in zip(halves, self._rows, strict=True) if wanted]

    def _located(self, queries: Queries) -> Queries:
        if self._middle:
            return queries
        sites = [stored.site for stored in queries.sites]
        outer = [site for site in sites if not site.startswith("mid_block")]
        return queries if outer == sites else queries.select(layers=outer)

    def _found(self) -> list[Attribution]:
        if self._recording is None:
            raise NoAttributionError(
                "There are no queries. Call the pipeline within `with StableDiffusionHooker(pipe) "
                "as hooker`."
            )
        return self._recording.attributions


_NO_SELF_ATTENTION = (
    "Self-attention maps are not carried over: OVAM's were the same everywhere. "
    "diffusers_rdaam.compat.daami2i has self-attention, and attribution.self_attention."
)


def _check_carried_over(locator: Mapping[str, bool], extract: bool, features: Any) -> None:
    if extract or features is not None or locator.get("locate_attn1"):
        raise InputError(_NO_SELF_ATTENTION)
    unknown = set(locator) - {"locate_attn1", "locate_attn2"}
    if unknown or not locator.get("locate_attn2", True):
        raise InputError(
            f"locator_kwargs={dict(locator)!r} leaves out or adds layers, which is not carried "
            "over. Leave it out; locate_middle_block= is an argument of its own."
        )


def _rows(given: Mapping[str, bool]) -> tuple[bool, bool]:
    """True or False for the unconditional and for the conditional rows: do they count."""
    names = ("store_unconditional_hidden_states", "store_conditional_hidden_states")
    if set(given) - set(names):
        raise InputError(f"block_hooker_kwargs= has {' and '.join(names)}; got {dict(given)!r}.")
    rows = (bool(given.get(names[0], True)), bool(given.get(names[1], False)))
    if not any(rows):
        raise InputError("block_hooker_kwargs= leaves no rows. Set at least one of them to True.")
    return rows

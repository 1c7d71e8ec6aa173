"""TransformerFamily: a transformer of diffusers, by its entry in the table of kinds."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.attribution.frame_mapping import FrameMapping
from diffusers_rdaam.errors import UnsupportedPipelineError
from diffusers_rdaam.families.family import DenoiserCall, TextColumns
from diffusers_rdaam.families.rows import (
    Branch,
    LayoutLike,
    RowsByText,
    RowsOfBranches,
    as_layout,
    rows_of,
)
from diffusers_rdaam.families.transformers.concepts import ConceptRule
from diffusers_rdaam.families.transformers.kind import (
    Arguments,
    Reading,
    Sites,
    TransformerKind,
)
from diffusers_rdaam.families.transformers.kinds import KINDS
from diffusers_rdaam.families.transformers.pipelines import VideoRule

_KIND_OF = {model: kind for kind in KINDS for model in kind.models}
# Autoencoders of latent diffusion enlarge 8 times where a pipeline does not say it.
_VAE_SCALE = 8
_SCALES = (
    "vae_scale_factor",
    "vae_scale_factor_spatial",
    "vae_spatial_scale_factor",
    "vae_spatial_compression_ratio",
)
_TEMPORAL_SCALES = (
    "vae_scale_factor_temporal",
    "vae_temporal_scale_factor",
    "vae_temporal_compression_ratio",
)
_COLUMNS = 512


@dataclass(frozen=True)
class TransformerFamily:
    """A transformer of diffusers whose image attends to text.

    Args:
        layout: the layout of the rows of its calls, or what :func:`as_layout` makes one from.
        attribute: the pipeline's attribute that is the denoiser.
        tokens: the rule from a prompt to the columns of the text; empty for the denoiser's.
        others: the attributes of further denoisers, which make a part of the steps.
        video: how the autoencoder makes frames of latent frames; see :class:`TransformerPipeline`.
    """

    layout: LayoutLike | RowsByText = None
    attribute: str = "transformer"
    tokens: str = ""
    others: tuple[str, ...] = ()
    video: VideoRule = ""

    denoiser_name: ClassVar[str] = "transformer"

    @property
    def no_other_texts(self) -> str:
        """Why maps of texts other than the prompt cannot be computed."""
        return (
            "this transformer rewrites its text from layer to layer, together with the image, so "
            "the keys of another text would be known only from a run with it"
        )

    def concepts(self, pipe: Any) -> ConceptRule | None:
        """How the transformer's blocks are called with concepts; None where that is not known."""
        kind = kind_of(self.denoiser(pipe))
        return None if kind is None else kind.concepts

    @staticmethod
    def has(module: Any) -> bool:
        """True for a transformer of the table."""
        return kind_of(module) is not None

    def with_layout(self, layout: LayoutLike | RowsByText) -> TransformerFamily:
        """The same family with another layout of the rows of its calls."""
        return replace(self, layout=layout)

    def denoiser(self, pipe: Any) -> nn.Module:
        """The transformer whose modules are recorded, without wrappers such as those of
        ``torch.compile``.
        """
        outer = self._called(pipe)
        if isinstance(outer, nn.Module) and kind_of(outer) is None:
            inside = [module for module in outer.modules() if kind_of(module) is not None]
            return inside[0] if len(inside) == 1 else outer
        return outer

    def denoisers(self, pipe: Any) -> dict[str, nn.Module]:
        """The transformer, and the others of the pipeline by their attributes."""
        found = {"": self.denoiser(pipe)}
        for name in self.others:
            one = replace(self, attribute=name, others=())
            if getattr(pipe, name, None) is not None:
                found[f"{name}."] = one.denoiser(pipe)
        return found

    def entries(self, pipe: Any) -> dict[str, nn.Module]:
        """The modules that the pipeline calls, as :meth:`denoisers` has those that are recorded."""
        others = {f"{name}.": replace(self, attribute=name, others=()) for name in self.others}
        known = self.denoisers(pipe)
        entries = {name: one.entry(pipe) for name, one in others.items() if name in known}
        return {"": self.entry(pipe), **entries}

    def entry(self, pipe: Any) -> nn.Module:
        """The module that the pipeline calls: the transformer, or a wrapper around it."""
        outer = self._called(pipe)
        return outer if isinstance(outer, nn.Module) else self.denoiser(pipe)

    def _called(self, pipe: Any) -> Any:
        outer = pipe if kind_of(pipe) is not None else getattr(pipe, self.attribute, pipe)
        return getattr(outer, "_orig_mod", outer)

    def kind(self, denoiser: Any) -> TransformerKind:
        """The denoiser's entry in the table.

        Raises:
            UnsupportedPipelineError: it has none.
        """
        kind = kind_of(denoiser)
        if kind is None:
            raise UnsupportedPipelineError(
                f"{type(denoiser).__name__} is not among the transformers whose calls are known: "
                f"{', '.join(_KIND_OF)}."
            )
        return kind

    def sites(self, denoiser: nn.Module) -> tuple[Site, ...]:
        """The modules in which the image attends to text, in the order of ``named_modules``."""
        return _sites(denoiser, self.kind(denoiser).sites)

    def self_attention_sites(self, denoiser: nn.Module) -> tuple[Site, ...]:
        """The modules in which the image attends to itself: the joint sites, or others."""
        kind = self.kind(denoiser)
        joint = tuple(sites for sites in kind.sites if sites.kind == "joint")
        return _sites(denoiser, kind.self_attention or joint)

    def read_call(
        self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> DenoiserCall | None:
        """What a denoiser call's arguments say; None for a call that belongs to no prompt."""
        denoiser = self.denoiser(pipe)
        call = Arguments.of(pipe, denoiser, args, kwargs)
        reading = self.kind(denoiser).read(call)
        if reading is None:
            return None
        rows = self._rows(pipe, args, kwargs, reading)
        return None if rows is None else _denoiser_call(reading, rows, call)

    def _rows(
        self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any], reading: Reading
    ) -> RowsOfBranches | None:
        if isinstance(self.layout, RowsByText):
            return self.layout.rows(reading.states)
        facts = {**kwargs, "states": reading.states, "timestep": reading.timestep}
        return rows_of(as_layout(self.layout).now(pipe, args, facts), reading.rows)

    def grid(self, site: Site, grid: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of every site; the frames of a video are one below another."""
        *frames, height, width = grid
        return (frames[0] * height if frames else height), width

    def frame_mapping(
        self, pipe: Any, grid: tuple[int, ...], frames: int | None = None
    ) -> FrameMapping | None:
        """Which latent frame each of a video's frames is of, by the pipeline's autoencoder.

        Where the pipeline is not known, the frames are divided evenly.
        """
        if len(grid) < 3:
            return None
        latent, together = grid[0], _together(self.denoiser(pipe))
        scale = _first_of(pipe, _TEMPORAL_SCALES, 1)
        if self.video == "causal":
            if frames is None:
                return FrameMapping.causal(latent, scale, together=together)
            return FrameMapping.causal_of(latent, scale, frames, together=together)
        if frames is None:
            frames = latent * together * scale if self.video == "even" else latent
        return FrameMapping.even(latent, frames)

    def image_size(self, pipe: Any, grid: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        factor = self._pixels(pipe)
        return grid[-2] * factor, grid[-1] * factor

    def grid_of_image(self, pipe: Any, size: tuple[int, int]) -> tuple[int, ...]:
        """Height and width of the image in positions."""
        factor = self._pixels(pipe)
        return size[0] // factor, size[1] // factor

    def _pixels(self, pipe: Any) -> int:
        """How many pixels of the image a position is high and wide."""
        denoiser = self.denoiser(pipe)
        cell = self.kind(denoiser).cell
        if cell is None:
            patch: Any = getattr(denoiser.config, "patch_size", 1)
            cell = patch if isinstance(patch, int) else tuple(patch)[-1]
        return _first_of(pipe, _SCALES, _VAE_SCALE) * cell

    def rows_of_video(
        self, pipe: Any, grid: tuple[int, ...], frames: int
    ) -> tuple[int, tuple[int, ...]]:
        """One row, with the latent frames in front of the grid."""
        if not self.video:
            return 1, grid
        scale = _first_of(pipe, _TEMPORAL_SCALES, 1)
        latent = -(-(frames - 1) // scale) + 1 if self.video == "causal" else -(-frames // scale)
        return 1, (-(-latent // _together(self.denoiser(pipe))), *grid)

    def text_columns(self, pipe: Any) -> int:
        """The length that the pipeline pads its prompts to, 512 where nothing says it."""
        length = getattr(pipe, "tokenizer_max_length", None)
        return length if isinstance(length, int) and 0 < length <= 4096 else _COLUMNS


def kind_of(module: Any) -> TransformerKind | None:
    """The entry of a denoiser in the table, by the name of its class or of one it descends from."""
    for base in type(module).__mro__:
        if base.__module__.startswith("diffusers.") and base.__name__ in _KIND_OF:
            return _KIND_OF[base.__name__]
    return None


def _first_of(pipe: Any, names: tuple[str, ...], default: int) -> int:
    """The first of some attributes that a pipeline has."""
    return int(next(filter(None, (getattr(pipe, name, None) for name in names)), default))


def _together(denoiser: Any) -> int:
    """How many latent frames of the autoencoder are one of the denoiser's."""
    patch: Any = getattr(denoiser.config, "patch_size", 1)
    of_time = getattr(denoiser.config, "patch_size_t", None) or 1
    if not isinstance(patch, int) and len(tuple(patch)) == 3:
        of_time = patch[0]
    return int(of_time)


def _sites(denoiser: nn.Module, groups: tuple[Sites, ...]) -> tuple[Site, ...]:
    patterns = [(re.compile(group.pattern), group) for group in groups]
    found = []
    for name, module in denoiser.named_modules():
        for pattern, group in patterns:
            if pattern.fullmatch(name) and getattr(module, "processor", None) is not None:
                call = group.attention_call
                found.append(Site(name, module, 0, group.kind, group.stream, call))
    return tuple(found)


def _denoiser_call(reading: Reading, rows: RowsOfBranches, call: Arguments) -> DenoiserCall:
    start, stop = rows.get(Branch.CONDITIONAL, (0, 0))
    longest = max(reading.columns)
    same = len(set(reading.columns)) == 1
    return DenoiserCall(
        grid=reading.grid,
        texts=(TextColumns("text_encoder", 0, longest),),
        branches=rows,
        device=reading.latents.device,
        timestep=reading.timestep,
        rows=reading.rows,
        text=reading.states[start:stop],
        states=reading.states,
        latents=reading.latents[start:stop],
        joint=reading.joint,
        lengths=() if same else reading.columns,
        arguments=call.values,
    )

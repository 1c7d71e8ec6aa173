"""TransformerKind: what differs between transformers, as one entry of a table."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from diffusers_rdaam.attention.site import SiteKind
from diffusers_rdaam.errors import RecordingError
from diffusers_rdaam.families.joint_layout import JointLayout
from diffusers_rdaam.families.transformers.concepts import ConceptRule


@dataclass(frozen=True)
class Sites:
    """Attention modules of a transformer.

    Args:
        pattern: a regular expression that the whole path of each of them matches.
        stream: ``"double"`` or ``"single"`` where a model has both kinds of blocks.
        kind: ``"joint"`` or ``"cross"``; ``"self"`` for image to image attention next to a cross
            site.
        attention_call: which attention call in the processor's code sees the text.
    """

    pattern: str
    stream: str = ""
    kind: SiteKind = "joint"
    attention_call: int = 0


@dataclass(frozen=True)
class Reading:
    """What the arguments of a denoiser call say, of all its rows.

    Args:
        grid: height and width of the image in positions; of a video its frames first.
        columns: of each row, the length of its text embedding.
        joint: where image and text lie in the attention calls.
        states: the text embedding ``(rows, columns, width)``; or what identifies it.
        latents: the denoiser's input, of all rows.
        timestep: the scheduler's.
    """

    grid: tuple[int, ...]
    columns: tuple[int, ...]
    joint: JointLayout
    states: Tensor
    latents: Tensor
    timestep: Any = None

    @property
    def rows(self) -> int:
        """Number of rows of the call."""
        return len(self.columns)


@dataclass(frozen=True)
class Arguments:
    """A denoiser call: its module and its arguments by name, without defaults.

    Args:
        pipe: the pipeline, or the denoiser itself.
        denoiser: the module.
        values: the arguments.
    """

    pipe: Any
    denoiser: Any
    values: Mapping[str, Any]

    @classmethod
    def of(
        cls, pipe: Any, denoiser: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Arguments:
        """Bind a call's arguments to the names of ``denoiser.forward``."""
        try:
            bound = inspect.signature(denoiser.forward).bind_partial(*args, **kwargs)
        except TypeError as error:
            raise RecordingError(
                f"{type(denoiser).__name__} was called with other arguments than its own: {error}."
            ) from None
        return cls(pipe, denoiser, bound.arguments | bound.arguments.get("kwargs", {}))

    def __getitem__(self, name: str) -> Any:
        value = self.values.get(name)
        if value is None:
            raise RecordingError(
                f"The {type(self.denoiser).__name__} was called without {name}, so there is "
                "nothing to record. Pass it by name."
            )
        return value

    def get(self, name: str) -> Any:
        """The value of an argument; None where it was not given."""
        return self.values.get(name)

    @property
    def config(self) -> Any:
        """The denoiser's configuration."""
        return self.denoiser.config


# What a call's arguments say; None for a call that belongs to no branch of guidance.
Reader = Callable[[Arguments], Reading | None]


@dataclass(frozen=True)
class TransformerKind:
    """What recording must know of one transformer architecture.

    Args:
        name: of the architecture, such as ``"flux"``.
        models: names of the denoiser's classes.
        sites: the modules with text.
        read: what a call's arguments say.
        tokens: the name of the rule from a prompt to the columns of the text embedding; see
            :data:`diffusers_rdaam.tokens.sources.SOURCES`.
        self_attention: the modules in which the image attends to itself, where these are not the
            sites with text.
        cell: height and width of a position in cells of the latent.
        concepts: how its blocks are called with concepts; None where that is not known.
    """

    name: str
    models: tuple[str, ...]
    sites: tuple[Sites, ...]
    read: Reader
    tokens: str = ""
    self_attention: tuple[Sites, ...] = ()
    cell: int | None = None
    concepts: ConceptRule | None = None

    @property
    def source(self) -> str:
        """The name of the rule for its tokens: its own unless another is given."""
        return self.tokens or self.name

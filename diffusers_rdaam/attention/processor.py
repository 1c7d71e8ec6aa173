"""RDAAMProcessor: stock attention, and on the side its softmaxed text attention."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Literal, get_args

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from diffusers_rdaam.attention.call import attend
from diffusers_rdaam.attention.map_target import Observer, RecordingProcessor
from diffusers_rdaam.attention.query_options import QueryOptions, QueryPlace, QueryPrecision
from diffusers_rdaam.attention.unet_projection import finish, project, split
from diffusers_rdaam.attribution.choosing import Numbers
from diffusers_rdaam.attribution.kept_maps import Axis
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels.dispatch import Backend, choose

Storage = Literal["fp16-pair", "fp16"]
Kept = Literal["steps", "layers", "heads", "queries"]
Size = tuple[int, int]
SelfAttentionLike = bool | int | Size | Iterable[int | Size]
_logger = logging.getLogger("diffusers_rdaam")
# What may be kept apart fits: the steps, or the layers and heads, of a run of usual size.
DEFAULT_BUDGET = 512 * 2**20


class RDAAMProcessor(RecordingProcessor, AttnProcessor2_0):
    """An attention processor that records what it attends to, and computes what stock computes.

    Give it to a pipeline of this package as a template, with
    ``pipe.set_attn_processor(RDAAMProcessor())``: every text cross-attention site gets a bound
    child, every other processor stays. Unbound, or outside of a recorded run, it is
    :class:`diffusers.models.attention_processor.AttnProcessor2_0`.

    Args:
        keep: ``"steps"``, ``"layers"``, ``"heads"``, or several of them, for
            ``attribution.select``: means over these are not all that is kept. ``"queries"``, alone
            or beside them, keeps what ``pipe.query`` makes the attribution of any other text from.
            The price is told before the first step.
        keep_negative: whether the negative prompt's maps are recorded as well, for
            ``attribution.negative``. That doubles the bytes.
        self_attention: whether the image's attention to itself is recorded, for
            ``attribution.self_attention``: True for the largest grid within the budget; or a grid
            as ``(height, width)``, ``n`` for a square one, or several. A grid of ``n`` positions
            takes ``2 * n**2`` bytes an image, 33.6 MB for 64x64.
        query_grids: of ``keep="queries"``, the grids, given as for ``self_attention``; all if not.
        query_steps: the denoiser calls: a number, several, or a slice such as ``slice(None, None,
            5)``; all if not given.
        queries_on: ``"cpu"``, ``"device"`` (the denoiser's), or a folder: each run writes its
            queries into a new folder there.
        query_precision: ``"fp16"``, or ``"fp32"`` for twice the bytes.
        budget: how many bytes the buffers of a run may take where ``keep``, ``keep_negative`` or
            ``self_attention`` is given; a run that would take more is refused before its first
            step.
        storage: ``"fp16-pair"`` (4 bytes a cell, relative error under 1e-4 at any number of steps)
            or ``"fp16"`` (2 bytes a cell, refused where its sums would stagnate).
        backend: the kernel. ``"auto"`` takes one that leaves the image bit-identical: ``"beside"``
            (Triton, beside the stock attention) on a CUDA device, else ``"portable"`` (any device);
            ``"reference"`` (float64, slow) does so too. ``"fused"`` (Triton) computes the attention
            and its maps in one pass that reads queries and keys once; its image differs from the
            stock one by rounding. What cannot run gives way to the next; the processor's ``repr``
            and ``rdaam env`` tell why.

    Raises:
        InputError: an option is unknown, or the budget is no number of bytes.
    """

    # Whether the negative prompt's rows are added to those of the prompt's self-attention, which
    # DAAM-I2I does.
    own_of_all_rows = False
    _has_said = False

    def __init__(
        self,
        *,
        keep: Kept | Iterable[Kept] = (),
        keep_negative: bool = False,
        self_attention: SelfAttentionLike = False,
        query_grids: int | Size | Iterable[int | Size] | None = None,
        query_steps: Numbers | None = None,
        queries_on: QueryPlace = "cpu",
        query_precision: QueryPrecision = "fp16",
        budget: int = DEFAULT_BUDGET,
        storage: Storage = "fp16-pair",
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if storage not in get_args(Storage):
            choices = ", ".join(repr(name) for name in get_args(Storage))
            raise InputError(f"{storage!r} is not a storage. Storages: {choices}.")
        if isinstance(budget, bool) or not isinstance(budget, int) or budget <= 0:
            raise InputError(f"budget= is a whole number of bytes, over 0; got {budget!r}.")
        if not isinstance(keep_negative, bool):
            raise InputError(f"keep_negative= is True or False; got {keep_negative!r}.")
        choose(backend)
        self.keep, wanted = _axes(keep)
        sizes = None if query_grids is None else _sizes(query_grids, "query_grids")
        given = QueryOptions(sizes, query_steps, queries_on, query_precision)
        if not wanted and given != QueryOptions():
            raise InputError(
                "query_grids=, query_steps=, queries_on= and query_precision= are of "
                "keep='queries', which was not given. Add it to keep=."
            )
        # None where queries are not kept.
        self.queries = given if wanted else None
        self.keep_negative = keep_negative
        self.self_attention = _sizes(self_attention)
        self.budget = budget
        self.storage = storage
        self.backend = backend

    @property
    def options(self) -> dict[str, Any]:
        """The arguments that make an equal template."""
        names = ("keep", "keep_negative", "self_attention", "budget", "storage", "backend")
        options = {name: getattr(self, name) for name in names}
        if self.queries is not None:
            options |= {"keep": (*self.keep, "queries"), **self.queries.arguments}
        return options

    def bind(self, site: str) -> RDAAMProcessor:
        """A child for one site, with this template's options."""
        child = type(self)(**self.options)
        child.site = site
        return child

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Stock attention; in a recorded run the maps of the conditional rows are added.

        The signature is explicit because diffusers drops every argument that it does not name.
        """
        observer = self.observer(encoder_hidden_states)
        if observer is None:
            if self.site is None and encoder_hidden_states is not None:
                self._say_that_it_is_unbound()
            return super().__call__(
                attn, hidden_states, encoder_hidden_states, attention_mask, temb, *args, **kwargs
            )
        return self._attend(
            observer, attn, hidden_states, encoder_hidden_states, attention_mask, temb
        )

    def _say_that_it_is_unbound(self) -> None:
        """Log, once, that nothing is recorded: a stock pipeline runs with this processor."""
        if torch.compiler.is_compiling() or self._has_said:
            return
        self._has_said = True
        _logger.warning(
            "An RDAAMProcessor was set on a denoiser itself, outside of a recorded run, and "
            "computes stock attention. To record, use record_attention(pipe), or a pipeline of "
            "diffusers_rdaam with pipe.set_attn_processor(RDAAMProcessor(…))."
        )

    def _attend(
        self,
        observer: Observer,
        attn: Attention,
        hidden_states: Tensor,
        context: Tensor | None,
        attention_mask: Tensor | None,
        temb: Tensor | None,
    ) -> Tensor:
        """The stock attention, operation by operation, and its record."""
        residual = hidden_states
        query, key, mask, context = project(attn, hidden_states, context, attention_mask, temb)
        value = split(attn, attn.to_v(context))
        attended = attend(observer, query, key, value, mask)
        return finish(attn, attended.to(query.dtype), residual)

    def __repr__(self) -> str:
        place = "unbound" if self.site is None else self.site
        options = [f"storage={self.storage!r}", f"backend={self.backend!r}"]
        if keep := self.options["keep"]:
            options.insert(0, f"keep={keep!r}")
        if self.keep_negative:
            options.insert(0, "keep_negative=True")
        if self.self_attention:
            options.insert(0, f"self_attention={self.self_attention!r}")
        if self.used is not None:
            options.append(f"used {self.used.name}: {self.used.reason}")
        return f"RDAAMProcessor({', '.join([place, *options])})"


def _axes(keep: Kept | Iterable[Kept]) -> tuple[tuple[Axis, ...], bool]:
    """The axes in the order of their definition, each once; and whether queries are kept.

    Raises:
        InputError: one is unknown.
    """
    choices = get_args(Kept)
    asked = (keep,) if isinstance(keep, str) or not isinstance(keep, Iterable) else tuple(keep)
    for name in asked:
        if name not in choices:
            names = ", ".join(repr(choice) for choice in choices)
            raise InputError(f"{name!r} is not what can be kept apart. Give some of {names}.")
    return tuple(name for name in get_args(Axis) if name in asked), "queries" in asked


def _sizes(given: Any, name: str = "self_attention") -> Any:
    """Grids as height and width, each once; or True for the largest, False for none.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(given, bool):
        return given
    single = isinstance(given, int) or (
        isinstance(given, tuple) and len(given) == 2 and all(type(side) is int for side in given)
    )
    try:
        items = [given] if single else list(given)
        sizes = [(item, item) if type(item) is int else tuple(item) for item in items]
        valid = all(len(s) == 2 and all(type(n) is int and n > 0 for n in s) for s in sizes)
    except TypeError:
        valid = False
    if not valid or not sizes:
        raise InputError(
            f"{given!r} is no grid for {name}=. Give True, a number n for n x n, a "
            "(height, width), or a list of these."
        )
    return tuple(dict.fromkeys(sizes))

"""SiteOracle: a site's attention to the text in double precision, from a stock run's own calls.

``torch.nn.functional.scaled_dot_product_attention`` is where the stock processors end. A mode of
torch sees its calls without any change of diffusers, and a hook on each module says whose call it
is. Of the package only the layout of a denoiser call is used: which rows, columns and positions.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.families import Branch, DenoiserCall, Family
from diffusers_rdaam.recording.recorder import entries_of


@dataclass
class SiteSums:
    """What was seen of one site.

    Args:
        calls: denoiser calls with rows of the prompt.
        maps: float64 sum over those calls of the probabilities ``(images, columns, positions)``,
            the mean over heads; None before the first.
        size: height and width of the site's grid.
        positions: which of its positions ``maps`` has.
    """

    calls: int = 0
    maps: Tensor | None = None
    size: tuple[int, int] = (0, 0)
    positions: Tensor = field(
        default_factory=lambda: torch.zeros(0, dtype=torch.long, device="cpu")
    )

    def mean(self) -> Tensor:
        """``(images, columns, positions)`` float64."""
        assert self.maps is not None
        return self.maps / self.calls


class SiteOracle(TorchFunctionMode):
    """Sums the attention of some sites while a stock pipeline runs in its ``with`` block.

    Args:
        pipe: the pipeline.
        family: its family.
        sites: those to look at.
        positions: how many positions of each grid are computed, evenly over it.
        arguments: of the pipeline's call, by name.
    """

    def __init__(
        self,
        pipe: Any,
        family: Family,
        sites: Sequence[Site],
        positions: int,
        *,
        arguments: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.pipe, self.family, self._arguments = pipe, family, dict(arguments)
        self.by_site: dict[str, SiteSums] = {site.name: SiteSums() for site in sites}
        self._sites = {site.name: site for site in sites}
        self._count = positions
        self._call: DenoiserCall | None = None
        self._site = ""
        self._kernel_calls = 0
        self._hooks = ExitStack()

    def __enter__(self) -> SiteOracle:
        for entry in entries_of(self.family, self.pipe).values():
            hook = entry.register_forward_pre_hook(self._before_denoiser, with_kwargs=True)
            self._hooks.callback(hook.remove)
        for site in self._sites.values():
            before = site.module.register_forward_pre_hook(self._entering(site.name))
            after = site.module.register_forward_hook(self._leaving)
            self._hooks.callback(before.remove)
            self._hooks.callback(after.remove)
        self._watch_guidance()
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._hooks.close()
        super().__exit__(*exception)

    def _watch_guidance(self) -> None:
        """Note what the rows of pipelines depend on that have no property for guidance.

        A stock pipeline runs here; a recording one has a session that notes it.
        """
        noted = vars(self.pipe)
        noted["_rdaam_arguments"] = self._arguments
        self._hooks.callback(noted.pop, "_rdaam_arguments", None)
        self._hooks.callback(noted.pop, "_rdaam_guided", None)
        for name in ("encode_prompt", "_encode_prompt"):
            if method := getattr(self.pipe, name, None):
                noted[name] = _noting_guidance(self.pipe, method)
                self._hooks.callback(noted.pop, name, None)

    def _before_denoiser(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._call = self.family.read_call(self.pipe, args, kwargs)

    def _entering(self, name: str) -> Callable[..., None]:
        def enter(*unused: Any) -> None:
            self._site, self._kernel_calls = name, 0

        return enter

    def _leaving(self, *unused: Any) -> None:
        self._site = ""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        is_attention = func is F.scaled_dot_product_attention and bool(self._site)
        if is_attention and self._has_text(args, kwargs):
            assert self._call is not None
            self._see(self.by_site[self._site], self._call, *args, **kwargs)
            self._kernel_calls += 1
        return func(*args, **kwargs)

    def _has_text(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether the keys are the text's, and not those of an image, which has a call of its own.

        The keys of one row are as many as that row's text has, which differs between the branches.
        """
        call = self._call
        if call is None:
            return False
        keys = (kwargs["key"] if "key" in kwargs else args[1]).shape[-2]
        if call.joint is None:
            return bool(keys == call.columns)
        row, _ = call.branches.get(Branch.CONDITIONAL, (0, 0))
        if call.joint.row_by_row:
            row = self._kernel_calls
        columns = call.joint.key_columns(row, list(range(call.length_of(row))))
        return bool(keys > max(columns, default=-1))

    def _see(
        self,
        sums: SiteSums,
        call: DenoiserCall,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        start, stop = call.branches.get(Branch.CONDITIONAL, (0, 0))
        row_by_row = call.joint is not None and call.joint.row_by_row
        rows = [self._kernel_calls] if row_by_row else range(start, stop)
        rows = [row for row in rows if start <= row < stop]
        if not rows or (not row_by_row and self._kernel_calls):
            return
        if sums.maps is None:
            sums.size = self.family.grid(self._sites[self._site], call.grid)
            cells = sums.size[0] * sums.size[1]
            sums.positions = torch.linspace(
                0, cells - 1, min(self._count, cells), dtype=torch.float64, device="cpu"
            ).long()
            shape = (stop - start, call.columns, len(sums.positions))
            sums.maps = torch.zeros(shape, dtype=torch.float64, device="cpu")
        for row in rows:
            place = 0 if row_by_row else row
            positions = sums.positions + (0 if call.joint is None else call.joint.queries[row])
            maps = _probabilities(
                query[place], key[place], _of_row(attn_mask, place), positions, scale
            )
            columns = list(range(call.length_of(row)))
            keys = columns if call.joint is None else call.joint.key_columns(row, columns)
            sums.maps[row - start, : len(columns)] += maps[:, keys].T
        if rows[0] == start:
            sums.calls += 1


def _noting_guidance(pipe: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(method)

    @functools.wraps(method)
    def encode(*args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(*args, **kwargs).arguments
        guided = arguments.get("do_classifier_free_guidance")
        result = method(*args, **kwargs)
        # After the call: of one that passes the texts on to another, the outer one says it.
        vars(pipe)["_rdaam_guided"] = guided
        return result

    return encode


def _of_row(mask: Tensor | None, row: int) -> Tensor | None:
    """The mask of one row, ``(heads or 1, positions or 1, columns)``."""
    if mask is None:
        return None
    while mask.ndim < 4:
        mask = mask[None]
    return mask[row if mask.shape[0] > 1 else 0]


def _probabilities(
    query: Tensor, key: Tensor, mask: Tensor | None, positions: Tensor, scale: float | None
) -> Tensor:
    """The mean over heads of the softmax, ``(positions, columns)`` float64 on the CPU.

    Args:
        query: of a row, ``(heads, all positions, dim)``.
        key: of the row, ``(key_heads, columns, dim)``.
    """
    chosen = query[:, positions.to(query.device)].double().cpu()
    keys = key.double().cpu()
    if len(keys) != len(chosen):
        keys = keys.repeat_interleave(len(chosen) // len(keys), dim=0)
    logits = chosen @ keys.transpose(1, 2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        part = mask if mask.shape[1] == 1 else mask[:, positions.to(mask.device)]
        part = part.cpu()
        if part.dtype == torch.bool:
            logits = logits.masked_fill(~part, -torch.inf)
        else:
            logits = logits + part.double()
    return logits.softmax(dim=-1).mean(dim=0)

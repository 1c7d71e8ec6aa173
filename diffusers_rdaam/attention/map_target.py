"""Target: the buffers that a site's maps are added to during one denoiser call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_rdaam.attention.attention_call import (
    AttentionCall,
    completed,
    stock_attention,
    text_attention,
)
from diffusers_rdaam.attention.observer import Observer, ObserverGroup, without_frames
from diffusers_rdaam.attention.site import SiteKind
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels.dispatch import KernelChoice
from diffusers_rdaam.kernels.operator import accumulate_squares
from diffusers_rdaam.kernels.sdpa import attention_with_lse

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass
class BranchTarget:
    """Rows of a denoiser call that are recorded together.

    Args:
        high, low: planes ``(images, tokens, pixels)`` of the site's grid, or ``(images, heads,
            tokens, pixels)`` where each head has its own.
        count: one element, the site's number of additions.
        start, stop: the rows.
        squares: a float32 plane of the head means of squared probabilities and its number of
            additions; None where they are not recorded.
    """

    high: Tensor
    low: Tensor | None
    count: Tensor
    start: int = 0
    stop: int = 0
    squares: tuple[Tensor, Tensor] | None = None


# A call's output, and its log-sum-exp where the kernel returned that.
Output = tuple[Tensor, Tensor | None]
Way = Callable[["Target", AttentionCall], Output]


@dataclass
class Target:
    """The observer that adds a site's maps to its buffers during one denoiser call.

    How the attention and its maps are computed is chosen once, when the target is made: the stock
    attention and then the maps; the stock attention with its log-sum-exp and then the maps, where
    these are faster or only right with it; or both in one pass of the fused kernel.

    Args:
        site: its name.
        branches: the conditional rows, and where they are kept those of the negative prompt.
        accumulate: the kernel that adds maps.
        rows: how many rows a call of the site has; any number if None.
        misfit: why a call did not match the buffers; nothing is raised, the image is made.
        failure: an exception of a recording operation; the image is made all the same.
        kind: the site's kind, which says what the columns are.
        choice: where the kernel comes from; the fused one computes the attention too.
    """

    site: str
    branches: tuple[BranchTarget, ...]
    accumulate: Callable[..., None]
    rows: int | None = None
    misfit: str | None = None
    failure: Exception | None = None
    kind: SiteKind = "cross"
    choice: KernelChoice | None = None
    _way: Way = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._way = _chosen_way(self.kind, self.choice)

    @classmethod
    def of(
        cls,
        site: str,
        branches: tuple[BranchTarget, ...],
        choice: KernelChoice,
        *,
        rows: int | None = None,
        kind: SiteKind = "cross",
    ) -> Self:
        """Make a target with the kernel of a choice."""
        return cls(site, branches, choice.accumulate, rows=rows, kind=kind, choice=choice)

    def attend(self, call: AttentionCall) -> Output:
        """Compute a call's output, and add its maps.

        Nothing that recording raises reaches the denoiser: it is noted as ``failure``, and the
        stock attention makes the image. In compiled code nothing is caught.

        Args:
            call: without its output.

        Returns:
            The output, and its log-sum-exp where the kernel returned that.
        """
        if torch.compiler.is_compiling():
            return self._way(self, call)
        if self.failure is None:
            try:
                return self._way(self, call)
            except Exception as error:
                self.failure = without_frames(error)
        # An error of the attention itself is raised here, as in the stock processor.
        return stock_attention(call), None

    def see(self, call: AttentionCall) -> None:
        """Add the probabilities of the recorded rows, unless the call does not match the buffers.

        Raises:
            InputError: a call of a joint site without the log-sum-exp of all its columns.
        """
        if call.text is not None or call.image is not None:
            call = self._text_attention(call)
        if self.matches(call):
            self.add_branches(0, call)

    def _text_attention(self, call: AttentionCall) -> AttentionCall:
        if call.text is not None and call.lse is None:
            # A softmax over the text's columns alone would be another quantity.
            raise InputError(
                f"{self.site} attends to text and image together, and its maps need the "
                "log-sum-exp over both, which the attention's kernel did not return. Give an "
                "AttentionCall with lse, float32 (rows, heads, positions)."
            )
        return text_attention(call)

    def add_branches(self, index: int, call: AttentionCall) -> None:
        """Add the probabilities of a call that matches, to the branches from ``index`` on."""
        # The maps need no gradients. Entering no_grad costs more than asking whether it is needed.
        if torch.is_grad_enabled():
            with torch.no_grad():
                self.add_branches(index, call)
            return
        query, key, _, mask, scale, _, lse, _, _ = call
        for branch in self.branches if index == 0 else self.branches[index:]:
            whole = branch.stop - branch.start == query.shape[0]
            self.accumulate(
                query,
                key,
                branch.high,
                branch.low,
                mask=mask,
                scale=scale,
                lse=lse,
                count=branch.count,
                first=None if whole else branch.start,
            )
            if branch.squares is not None:
                self._add_squares(branch, call)

    def _add_squares(self, branch: BranchTarget, call: AttentionCall) -> None:
        """Add a branch's squared probabilities, in a pass after that of its maps."""
        assert branch.squares is not None
        squares, count = branch.squares
        whole = branch.stop - branch.start == call.query.shape[0]
        accumulate_squares(
            call.query,
            call.key,
            squares,
            mask=call.mask,
            scale=call.scale,
            lse=call.lse,
            count=count,
            first=None if whole else branch.start,
        )

    def matches(self, call: AttentionCall) -> bool:
        """Whether a call has the rows, positions and columns of the buffers; else note how not."""
        rows, _, positions, _ = call.query.shape
        columns = call.key.shape[2]
        # The planes' sizes are a tensor's: numbers stored in the target would be compiled in, and
        # every image size compiled anew.
        planes = self.branches[0].high.shape
        right = planes[-1] == positions and planes[-2] == columns
        if right and (self.rows is None or rows == self.rows):
            return True
        self._note_misfit(self._difference(rows, positions, columns))
        return False

    def _difference(self, rows: int, positions: int, columns: int) -> str:
        wanted_columns, wanted_positions = self.branches[0].high.shape[-2:]
        if self.rows is not None and rows != self.rows:
            return (
                f"with {rows} rows, where its denoiser call has {self.rows}: something "
                "splits the batch inside of the denoiser, or multiplies it"
            )
        if positions != wanted_positions:
            return (
                f"from {positions} image positions, where {wanted_positions} were expected of its "
                "level and the latent's size: this denoiser's samplers are not known, or something "
                "cuts its input into tiles"
            )
        if self.kind == "self":
            return (
                f"to {columns} image positions, where {wanted_columns} were expected: something "
                "adds positions, or merges some"
            )
        return (
            f"to {columns} columns, where {wanted_columns} were expected of the text: something "
            "adds columns to it, or leaves some out"
        )

    def _note_misfit(self, what: str) -> None:
        self.misfit = (
            f"{self.site} attends {what}. Switch that off to record, or generate without "
            "recording: pipe.set_attn_processor(AttnProcessor2_0())."
        )

    def note_separate(self, why: str) -> None:
        """Note why output and maps of a call were computed separately, where one pass was asked."""
        choice = self.choice
        if choice is None or choice.attend is None or torch.compiler.is_compiling():
            return
        # If the portable kernel made the maps, its reason says more.
        if choice.used.name == "maps_only":
            choice.used.note("maps_only", why)


def target_of(observer: Observer) -> Target | None:
    """The target of a site's maps: the observer itself, or the first of several."""
    while isinstance(observer, ObserverGroup):
        observer = observer.observers[0]
    return observer if isinstance(observer, Target) else None


_MORE_COLUMNS = {
    "self": "self-attention has more columns than one pass holds",
    "joint": "attention to text and image together has more columns than one pass holds",
}
_GRADIENTS = "gradients are wanted, and the fused kernel has none"


def _chosen_way(kind: SiteKind, choice: KernelChoice | None) -> Way:
    """The one of three ways in which a target computes its calls."""
    # At a joint site the maps are of some of the columns, and all of them are in the softmax.
    if kind == "joint" or (kind == "self" and choice is not None and choice.wants_lse):
        return _stock_with_lse
    if kind == "cross" and choice is not None and choice.attend is not None:
        return _in_one_pass
    return _stock


def _stock(target: Target, call: AttentionCall) -> Output:
    """The stock attention, and then its maps."""
    # Each Python call on the way to the kernel counts where the device waits for the host, so this
    # is stock_attention in place.
    attended = F.scaled_dot_product_attention(call.query, call.key, call.value, attn_mask=call.mask)  # type: ignore[arg-type]  # has values
    target.see(call)
    return attended, None


def _stock_with_lse(target: Target, call: AttentionCall) -> Output:
    """The stock attention with its log-sum-exp, and then its maps."""
    if torch.compiler.is_compiling():
        # Compiled code does not have the log-sum-exp, and cannot trace the look for it.
        return _stock(target, call)
    assert call.value is not None
    attended, lse = attention_with_lse(call.query, call.key, call.value, mask=call.mask)
    target.see(completed(call, attended, lse))
    target.note_separate(_MORE_COLUMNS[target.kind])
    return attended, lse


def _in_one_pass(target: Target, call: AttentionCall) -> Output:
    """Output and maps from the fused kernel where it serves the call; else one after the other."""
    query, key, value = call.query, call.key, call.value
    choice, branch = target.choice, target.branches[0]
    assert choice is not None and choice.attend is not None and value is not None
    if not target.matches(call):
        return stock_attention(call), None
    why: str | None = _GRADIENTS
    if not torch.is_grad_enabled() or not (
        query.requires_grad or key.requires_grad or value.requires_grad
    ):
        attended, why = choice.attend(
            query,
            key,
            value,
            branch.high,
            branch.low,
            first=branch.start,
            mask=call.mask,
            scale=call.scale,
            count=branch.count,
        )
        if attended is not None:
            if branch.squares is not None:
                target._add_squares(branch, call)
            _add_other_branches(target, choice, call)
            return attended, None
    attended = stock_attention(call)
    target.add_branches(0, call)
    if why is not None:
        target.note_separate(why)
    return attended, None


def _add_other_branches(target: Target, choice: KernelChoice, call: AttentionCall) -> None:
    """Add the maps that the fused kernel leaves out, which takes the first branch's rows."""
    if len(target.branches) == 1:
        return
    used = choice.used.name, choice.used.reason
    target.add_branches(1, call)
    # The other branches' maps have another kernel; what computed the output counts.
    if not torch.compiler.is_compiling():
        choice.used.note(*used)

"""Choose the kernel that adds a site's probabilities to the accumulator, with the reason."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from diffusers_rdaam.errors import BackendWarning, InputError
from diffusers_rdaam.kernels import operator, reference
from diffusers_rdaam.kernels.checks import check
from diffusers_rdaam.kernels.planes import add_to_planes
from diffusers_rdaam.kernels.rows import recorded_rows
from diffusers_rdaam.shapes import AttentionMask, Key, LogSums, Query, RecordedPlane

Backend = Literal["auto", "portable", "maps_only", "fused", "reference"]
# Earlier names of backends, and the present ones.
_RENAMED = dict(beside="maps_only")  # noqa: C408  # as a keyword it is a name, not a term


@dataclass
class KernelInUse:
    """The name of the kernel that served a site's last call, and the reason for it."""

    name: str
    reason: str

    def note(self, name: str, reason: str) -> None:
        """Note the kernel of a call, and why it was taken."""
        self.name, self.reason = name, reason


@dataclass(frozen=True)
class KernelChoice:
    """A kernel for a site.

    Args:
        name: ``"portable"``, ``"maps_only"``, ``"fused"`` or ``"reference"``: the kernel that was
            asked for, or the one that takes its place where that cannot run.
        accumulate: the kernel that adds maps; the attention is computed by other code.
        reason: why it was taken, in one sentence.
        attend: the fused kernel, which computes the attention and adds the maps in the same pass.
            It returns the output and None; or, where it does not serve the call, None and why.
        wants_lse: whether ``accumulate`` is faster with the attention's log-sum-exp.
        used: the kernel of the last eager call; a call that a kernel does not serve takes another.
    """

    name: str
    accumulate: Callable[..., None]
    reason: str
    attend: Callable[..., tuple[Tensor | None, str | None]] | None = None
    wants_lse: bool = False
    used: KernelInUse = field(default_factory=lambda: KernelInUse("", ""), compare=False)

    def __post_init__(self) -> None:
        self.used.note(self.name, self.reason)


@dataclass(frozen=True)
class _MapsOnly:
    """Triton's kernel for the maps alone; for calls that it does not serve, the portable one."""

    used: KernelInUse
    reason: str

    def __call__(self, *arguments: Any, **named: Any) -> None:
        why = operator.maps_only(*arguments, **named)
        # Compiled code sets no attributes: each would be one more guard.
        if torch.compiler.is_compiling():
            return
        if why is not None:
            self.used.note("portable", why)
        elif self.used.name != "maps_only" or self.used.reason != self.reason:
            self.used.note("maps_only", self.reason)


@dataclass(frozen=True)
class _InOnePass:
    """Triton's kernel for output and maps; where it does not serve a call, why not."""

    used: KernelInUse
    reason: str

    def __call__(self, *arguments: Any, **named: Any) -> tuple[Tensor | None, str | None]:
        if torch.compiler.is_compiling():
            return operator.attend(*arguments, **named), None
        output, why = operator.attend_or_why(*arguments, **named)
        if why is None:
            self.used.note("fused", self.reason)
        return output, why


def _accumulate_reference(
    query: Query,
    key: Key,
    high: RecordedPlane,
    low: RecordedPlane | None,
    *,
    mask: AttentionMask | None = None,
    scale: float,
    lse: LogSums | None = None,
    count: Tensor | None = None,
    first: int | None = None,
) -> None:
    if not check(query, key, high, low, mask=mask, lse=lse, first=first):
        return
    query, key, mask, lse = recorded_rows(query, key, mask, lse, first=first, images=high.shape[0])
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.double()
    lse = None if lse is None else lse.double()
    arguments = (query.double(), key.double())
    if high.ndim == 4:
        maps = reference.attention_probabilities(*arguments, mask=mask, scale=scale, lse=lse).mT
    else:
        maps = reference.head_mean_probabilities(*arguments, mask=mask, scale=scale, lse=lse)
    add_to_planes(maps.float(), high, low)
    if count is not None:
        count.add_(1)


def choose(backend: Backend = "auto", *, device: torch.device | None = None) -> KernelChoice:
    """Choose the kernel for ``backend`` on ``device``, for one site.

    ``"auto"`` takes a kernel that leaves the image bit-identical: Triton's ``"maps_only"`` on a
    CUDA device, else ``"portable"``. ``"fused"`` reads queries and keys once, and its image differs
    from the stock one by rounding; so it is taken only on request. Where Triton's kernels cannot
    run, or do not serve a call, the portable one takes their place, and the choice has the reason.

    Args:
        backend: the kernel that is asked for.
        device: the denoiser's; None if it is not known yet, which counts as a device on which
            Triton's kernels cannot run.

    Raises:
        InputError: ``backend`` is not a backend; or it is ``"reference"``, and the device has no
            float64.
    """
    if backend not in get_args(Backend):
        choices = ", ".join(repr(name) for name in get_args(Backend))
        renamed = f" It is called {_RENAMED[backend]!r} now." if backend in _RENAMED else ""
        raise InputError(f"{backend!r} is not a backend. Backends: {choices}.{renamed}")
    where = f" on {device.type}" if device is not None else ""
    if backend == "reference":
        if device is not None and not _has_float64(device):
            raise InputError(
                f"backend='reference' computes in float64, which {device} does not have. Ask for "
                "backend='portable', which keeps float32's accuracy there, or run on a CPU."
            )
        return KernelChoice("reference", _accumulate_reference, "asked for: float64, materialised")
    if backend == "portable":
        return KernelChoice("portable", operator.accumulate, f"asked for{where}")
    if backend == "auto" and (device is None or device.type != "cuda"):
        # Triton's interpreter could run on a processor, thousands of times slower.
        return KernelChoice("portable", operator.accumulate, f"tiles of image positions{where}")
    why = _unavailable(device)
    if why is not None:
        asked = "Triton's kernels" if backend == "auto" else repr(backend)
        return KernelChoice("portable", operator.accumulate, f"{asked} cannot run{where}: {why}")
    if backend == "auto":
        return _with_triton("maps_only", "one launch, and the image stays as it is, bit for bit")
    return _with_triton(backend, f"asked for{where}")


def proof_bytes(choice: KernelChoice) -> int:
    """Bytes that checking a choice's kernels in their first calls takes at most, for a moment.

    Only Triton's kernels are checked; see :mod:`diffusers_rdaam.kernels.fused_proof`.
    """
    if choice.name not in ("maps_only", "fused"):
        return 0
    from diffusers_rdaam.kernels.fused_proof import MOST_BYTES

    return MOST_BYTES


@lru_cache(maxsize=16)
def _has_float64(device: torch.device) -> bool:
    """Whether the device adds float64 numbers; Apple's GPUs and some of Intel's do not."""
    if device.type in ("cpu", "cuda", "meta"):
        return True
    try:
        torch.ones((), dtype=torch.float64, device=device).add(1.0)
    except (TypeError, RuntimeError, AssertionError):  # AssertionError: torch was built without it.
        return False
    return True


def warn_of_another(backend: Backend, choice: KernelChoice) -> None:
    """Warn where a backend that was asked for by name cannot run."""
    if backend not in ("auto", choice.name):
        warnings.warn(
            f"{choice.reason}. The {choice.name} kernel records the same maps in its place. For no "
            "warning ask for backend='auto'.",
            BackendWarning,
            stacklevel=2,
        )


def _with_triton(name: str, reason: str) -> KernelChoice:
    used = KernelInUse(name, reason)
    attend = _InOnePass(used, reason) if name == "fused" else None
    return KernelChoice(name, _MapsOnly(used, reason), reason, attend, wants_lse=True, used=used)


def _unavailable(device: torch.device | None) -> str | None:
    """Why Triton's kernels cannot run on a device; None if they can."""
    if device is None:
        return "the device is not known yet"
    from diffusers_rdaam.kernels import fused

    return fused.unavailable(device)

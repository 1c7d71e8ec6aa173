"""Products of float32 numbers that stay float32, whatever the host lets torch round.

``torch.set_float32_matmul_precision("high")``, ``allow_tf32`` and ``fp32_precision`` let a device
round what it multiplies: to the 11 significant bits of TF32 on a GPU, to these or to bfloat16's 8
on some processors. A probability is then off by up to half a per cent. These settings belong to the
process and not to a thread, so nothing here switches them off for a while: another thread's model
would see that. Numbers are cut into parts that nothing is rounded of, or multiplied as float64.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# What a float32 has more than TF32 keeps: 13 of 24 bits.
_LOST = 2**13


def device_type(device: torch.device) -> str:
    """The device's type; a function, so that tests can run another device's branch on the CPU."""
    return device.type


def are_rounded(device: torch.device) -> bool:
    """Whether the host's settings let float32 numbers be rounded before they are multiplied.

    Args:
        device: where they are multiplied.
    """
    kind = device_type(device)
    if kind not in ("cuda", "cpu", "xpu"):
        return False
    matmul: Any = torch.backends.cuda.matmul if kind == "cuda" else _mkldnn_matmul()
    try:
        return matmul.fp32_precision not in ("none", "ieee")
    except AttributeError:
        # Before torch 2.9 one setting for all devices. Later versions raise where it is asked for
        # after the new ones were set.
        return torch.get_float32_matmul_precision() != "highest"


def _mkldnn_matmul() -> Any:
    return getattr(torch.backends.mkldnn, "matmul", None)


def multiply(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right``: as it is where nothing is rounded, else to float32's accuracy.

    Args:
        left: ``(..., rows, inner)``.
        right: ``(..., inner, columns)``, or ``(inner,)``.
    """
    if left.dtype != torch.float32 or not are_rounded(left.device):
        return left @ right
    if device_type(left.device) == "cpu":
        return (left.double() @ right.double()).float()
    if right.ndim == 1:
        return multiply(left, right.unsqueeze(-1)).squeeze(-1)
    if left.ndim == 1:
        return multiply(left.unsqueeze(0), right).squeeze(-2)
    product: Tensor = _Product.apply(left, right)
    return product


class _Product(torch.autograd.Function):
    """A product of parts that TF32 holds, whose way back is made of such products, too."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return multiply_widened(widen_left(left), widen_right(right.mT).mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        left, right = ctx.saved_tensors
        # Of axes that were broadcast, the sum.
        return (
            multiply(gradient, right.mT).sum_to_size(left.shape),
            multiply(left.mT, gradient).sum_to_size(right.shape),
        )


def widen_left(vectors: Tensor) -> Tensor:
    """Vectors for the left side of :func:`multiply_widened`, ``(..., dim)`` as ``(..., 3 * dim)``.

    Each number is the sum of its nearest number of TF32 and a rest.
    """
    upper, rest = _parts(vectors)
    return torch.cat([upper, rest, upper], dim=-1)


def widen_right(vectors: Tensor) -> Tensor:
    """The other side of :func:`widen_left`."""
    upper, rest = _parts(vectors)
    return torch.cat([rest, upper, upper], dim=-1)


# Terms of a sum that a device adds up by itself. Its matrix units cut off what an addition leaves
# over, so that the error grows with the terms: on an H200 480 of them put a softmax off by 1.8e-5.
_TERMS = 64


def multiply_widened(left: Tensor, right: Tensor) -> Tensor:
    """The products of vectors of :func:`widen_left` and :func:`widen_right`.

    The rests' products first, which are small, and then those of the upper parts, which TF32
    multiplies exactly, a few at a time; the product of two rests is under 2**-22 of the whole, and
    left out.

    Args:
        left: ``(..., rows, 3 * dim)``.
        right: ``(..., 3 * dim, columns)``.
    """
    rests = 2 * (left.shape[-1] // 3)
    products = left[..., :rests] @ right[..., :rests, :]
    for start in range(rests, left.shape[-1], _TERMS):
        some = slice(start, start + _TERMS)
        products += left[..., some] @ right[..., some, :]
    return products


def _parts(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Float32 as its nearest number of TF32, and what is left."""
    bits = vectors.contiguous().view(torch.int32)
    upper = bits.add(_LOST // 2).bitwise_and_(-_LOST).view(torch.float32)
    return upper, vectors - upper

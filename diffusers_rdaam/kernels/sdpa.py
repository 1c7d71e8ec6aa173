"""The stock attention with the log-sum-exp that its kernel computes anyway.

``F.scaled_dot_product_attention`` chooses a kernel and discards its log-sum-exp. The operators
behind it are private, so none is trusted: the first call of each shape computes both, and only
where they agree in every bit the operator is called from then on.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_rdaam.shapes import Attended, AttentionMask, Key, LogSums, Query, Value

_stock = F.scaled_dot_product_attention
# Integers as wide as floats: compared as integers, NaN equals itself.
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# Whether the operator agreed with the stock function, by what decides how it computes.
_agreed: dict[tuple[object, ...], bool] = {}
_MOST = 4096


def attention_with_lse(
    query: Query,
    key: Key,
    value: Value,
    *,
    mask: AttentionMask | None = None,
    scale: float | None = None,
) -> tuple[Attended, LogSums | None]:
    """The output of ``F.scaled_dot_product_attention``, bit for bit, and its log-sum-exp.

    Args:
        query, key, value, mask: as for the stock function; ``key`` may have fewer heads.
        scale: the factor of the logits; ``1 / sqrt(dim)`` if None.

    Returns:
        The output, and float32 ``log(sum(exp(logit)))`` over all columns, ``(rows, heads,
        pixels)``. It is None where the chosen kernel does not return it, where gradients are
        wanted, in compiled code, where the stock function is patched, and for masks that are not
        boolean: added to the finite minimum of a type, a logit is lost to rounding.
    """
    options: dict[str, Any] = {} if scale is None else {"scale": scale}
    if query.shape[1] != key.shape[1]:
        options["enable_gqa"] = True
    signature = None
    if _is_plain(query, key, value, mask):
        signature = _signature(query, key, value, mask, options)
    if signature is not None and _agreed.get(signature):
        return _call(signature[0], query, key, value, mask, options)
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, **options)
    if signature is None or signature in _agreed or _capturing(query):
        return output, None
    return output, _compare(signature, output, query, key, value, mask, options)


def _is_plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    """True if scaled_dot_product_attention is unpatched and no mode changes what it computes."""
    if torch.compiler.is_compiling() or F.scaled_dot_product_attention is not _stock:
        return False
    if type(_stock).__name__ != "builtin_function_or_method":
        return False
    if mask is not None and mask.dtype != torch.bool:
        return False
    if torch.overrides._is_torch_function_mode_enabled() or torch.is_autocast_enabled(
        query.device.type
    ):
        return False
    tensors = (query, key, value)
    if any(type(tensor) is not Tensor for tensor in tensors):
        return False
    return not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))


def _signature(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: dict[str, Any]
) -> tuple[Any, ...] | None:
    """The kernel that the stock function chooses, and everything that decides how it computes."""
    try:
        kernel = torch._fused_sdp_choice(query, key, value, attn_mask=mask, **options)
    except (AttributeError, TypeError, RuntimeError, NotImplementedError):
        return None
    tensors = (query, key, value) if mask is None else (query, key, value, mask)
    layouts = ((*tensor.shape, *tensor.stride(), tensor.data_ptr() % 16) for tensor in tensors)
    return (kernel, query.dtype, query.device, *options.items(), *layouts)


def _call(
    kernel: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    options: dict[str, Any],
) -> tuple[Tensor, Tensor]:
    """Call the operator behind the stock function.

    Raises:
        Exception: there is no such operator in this torch, or it refuses the arguments.
    """
    if mask is not None:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
    scale = options.get("scale")
    operators = torch.ops.aten
    # Numbers of SDPBackend: 1 is flash, 2 memory-efficient, 3 cuDNN.
    if kernel == 1 and query.device.type == "cpu":
        call = operators._scaled_dot_product_flash_attention_for_cpu
        output, lse = call(query, key, value, attn_mask=mask, scale=scale)
    elif kernel == 1 and mask is None:
        output, lse = operators._scaled_dot_product_flash_attention(query, key, value, scale=scale)[
            :2
        ]
    elif kernel == 2:
        output, lse = operators._scaled_dot_product_efficient_attention(
            query, key, value, mask, True, scale=scale
        )[:2]
    elif kernel == 3:
        output, lse = operators._scaled_dot_product_cudnn_attention(
            query, key, value, mask, True, scale=scale
        )[:2]
    else:
        raise NotImplementedError(f"No log-sum-exp of kernel {kernel}.")
    if lse.ndim == 4:
        lse = lse.squeeze(-1)
    # The memory-efficient kernel fills up whole blocks of positions.
    return output, lse[:, :, : query.shape[2]]


def _compare(
    signature: tuple[Any, ...],
    wanted: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    options: dict[str, Any],
) -> Tensor | None:
    """Compare the operator with the stock function, and note whether they agree.

    Waits for the device, once for each shape.

    Returns:
        The log-sum-exp where they agree, else None.
    """
    lse: Tensor | None = None
    try:
        output, lse = _call(signature[0], query, key, value, mask, options)
        agrees = (
            output.shape == wanted.shape
            and output.stride() == wanted.stride()
            and torch.equal(_bits(output), _bits(wanted))
            and _is_lse(lse, query, key, mask, options.get("scale"))
        )
    except Exception:  # Private operators change between versions; any failure is disagreement.
        agrees = False
    if len(_agreed) >= _MOST:
        _agreed.clear()
    _agreed[signature] = agrees
    return lse if agrees else None


def _bits(tensor: Tensor) -> Tensor:
    return tensor.view(_BITS[tensor.element_size()])


def _is_lse(
    lse: Tensor, query: Tensor, key: Tensor, mask: Tensor | None, scale: float | None
) -> bool:
    """Whether the operator returned the natural log-sum-exp, checked at the last position."""
    if lse.shape != query.shape[:3] or lse.dtype != torch.float32:
        return False
    keys = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1).float()
    # A sum and not a matrix product, whose error with TF32 would exceed the tolerance below.
    logits = (keys * query[:, :, -1:].float()).sum(dim=-1)
    logits *= query.shape[3] ** -0.5 if scale is None else scale
    if mask is not None:
        logits.masked_fill_(~mask[:, :, -1], -torch.inf)
    found, wanted = lse[:, :, -1], logits.logsumexp(dim=-1)
    # For a position without any column kernels return 0, -inf or NaN.
    return bool((wanted.isneginf() | ((found - wanted).abs() <= 0.02)).all())


def _capturing(query: Tensor) -> bool:
    return query.device.type == "cuda" and torch.cuda.is_current_stream_capturing()

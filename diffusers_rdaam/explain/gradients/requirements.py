"""Whether gradients can flow through a pipeline; and its weights held still meanwhile."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import nn

from diffusers_rdaam.errors import GradientError

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_QUANTIZERS = ("bitsandbytes", "torchao", "optimum.quanto", "torch.ao.nn.quantized")


def check_requirements(modules: dict[str, nn.Module]) -> None:
    """Refuse modules that no gradient gets through.

    Args:
        modules: by the name that the user knows.

    Raises:
        GradientError: one is quantised, offloaded, cached, or was loaded in inference mode; the
            text says which, why and what to do.
    """
    for name, module in modules.items():
        why = _offloaded(module) or _quantised(module) or _inference(module)
        if why is not None:
            raise GradientError(f"No gradient gets through pipe.{name}: {why}")


def _offloaded(module: nn.Module) -> str | None:
    for part in module.modules():
        if hasattr(part, "_hf_hook"):
            return (
                "accelerate offloads it, so its weights are elsewhere on the way back. Load the "
                "pipeline without offloading; checkpointing=True and last_steps= save memory "
                "instead."
            )
        # A transformer has an empty registry of hooks once its call was in a cache context.
        if getattr(getattr(part, "_diffusers_hook", None), "hooks", None):
            return (
                "diffusers' hooks change it between calls (group offloading, layerwise casting or "
                "a cache), so what it computes again on the way back is something else. Load the "
                "pipeline without them."
            )
    if any(weight.device.type == "meta" for weight in module.parameters()):
        return "its weights are on the meta device. Load the pipeline without offloading."
    return None


def _quantised(module: nn.Module) -> str | None:
    kinds = {weight.dtype for weight in module.parameters()} - set(_FLOATS)
    classes = {
        f"{type(part).__module__}.{type(part).__qualname__}"
        for part in module.modules()
        if type(part).__module__.startswith(_QUANTIZERS)
    }
    # torchao keeps the name of a float type and replaces the tensor's class.
    classes |= {
        type(weight.data).__qualname__
        for weight in module.parameters()
        if type(weight.data) is not torch.Tensor
    }
    if not kinds and not classes and getattr(module, "hf_quantizer", None) is None:
        return None
    found = ", ".join(sorted({str(kind) for kind in kinds} | classes)) or "by its configuration"
    return (
        f"its weights are quantised ({found}). Load the pipeline in float32, bfloat16 or float16."
    )


def _inference(module: nn.Module) -> str | None:
    if any(weight.is_inference() for weight in module.parameters()):
        return (
            "it was made in torch.inference_mode, and such weights cannot be saved for a "
            "gradient. Load the pipeline outside of it."
        )
    return None


def hold_still(modules: dict[str, nn.Module], undo: ExitStack) -> None:
    """Let gradients go through the modules, not to their weights, which would keep more in memory.

    Args:
        modules: whose weights stop asking for gradients.
        undo: gets an entry for each of these weights, before it is changed.
    """
    for module in modules.values():
        for weight in module.parameters():
            if weight.requires_grad:
                undo.callback(weight.requires_grad_, True)
                weight.requires_grad_(False)

"""The device on which each site computes, where a denoiser is spread over several."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from diffusers_rdaam.attention.site import Site


def devices_of(
    denoiser: nn.Module, sites: Iterable[Site], sample: torch.device
) -> dict[str, torch.device]:
    """Each site's device, by the site's name.

    It is read from accelerate's hooks, of the site or of a module around it: an offloaded denoiser
    is not on its device yet when its call begins, and its weights may be on none. Without a hook it
    is the sample's device, unless the weights are on another device of its type, such as another
    GPU.

    Args:
        denoiser: the module with the sites.
        sites: the sites.
        sample: the device of the denoiser's input.
    """
    return {site.name: device_of(denoiser, site, sample) for site in sites}


def device_of(denoiser: nn.Module, site: Site, sample: torch.device) -> torch.device:
    """The device of one site; see :func:`devices_of`."""
    query = getattr(site.module, "to_q", None)
    inwards: list[Any] = [denoiser]
    for name in site.name.split("."):
        inwards.append(getattr(inwards[-1], name, None))
    for module in (query, site.module, *reversed(inwards)):
        device = _device_of_hook(getattr(module, "_hf_hook", None))
        if device is not None:
            return _numbered(torch.device(device), sample)
    weight: Any = getattr(query, "weight", None)
    if isinstance(weight, torch.Tensor) and weight.device.type == sample.type:
        return weight.device
    return sample


def _device_of_hook(hook: Any) -> Any:
    """The device on which accelerate's hook, or one of several hooks, runs its module, or None."""
    if hook is None:
        return None
    device = getattr(hook, "execution_device", None)
    if device is not None:
        return device
    devices = (_device_of_hook(one) for one in getattr(hook, "hooks", ()))
    return next((one for one in devices if one is not None), None)


def _numbered(device: torch.device, sample: torch.device) -> torch.device:
    """The device with its number, as tensors have it: "cuda" means the current one."""
    if device.index is not None:
        return device
    if device.type == "cuda" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return sample if device.type == sample.type else device

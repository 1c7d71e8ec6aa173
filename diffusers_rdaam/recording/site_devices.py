"""On which device each site computes, where a denoiser is spread over several."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from diffusers_rdaam.attention.site import Site


def devices_of(
    denoiser: nn.Module, sites: Iterable[Site], sample: torch.device
) -> dict[str, torch.device]:
    """Each site's device, by its name.

    Accelerate's hooks tell it, of the site or of what it is a part of: a denoiser that is put off a
    device is not there yet when its call begins, and its weights may be nowhere. Without a hook it
    is the sample's device, unless the weights are on another one of its type, such as another GPU.

    Args:
        denoiser: with the sites.
        sites: of it.
        sample: the device of the denoiser's input.
    """
    return {site.name: device_of(denoiser, site, sample) for site in sites}


def device_of(denoiser: nn.Module, site: Site, sample: torch.device) -> torch.device:
    """:func:`devices_of` of one site."""
    query = getattr(site.module, "to_q", None)
    inwards: list[Any] = [denoiser]
    for name in site.name.split("."):
        inwards.append(getattr(inwards[-1], name, None))
    for module in (query, site.module, *reversed(inwards)):
        told = _told_by(getattr(module, "_hf_hook", None))
        if told is not None:
            return _numbered(torch.device(told), sample)
    weight: Any = getattr(query, "weight", None)
    if isinstance(weight, torch.Tensor) and weight.device.type == sample.type:
        return weight.device
    return sample


def _told_by(hook: Any) -> Any:
    """The device on which a hook has its module run, also one of several hooks; None if none."""
    if hook is None:
        return None
    told = getattr(hook, "execution_device", None)
    if told is not None:
        return told
    several = (_told_by(one) for one in getattr(hook, "hooks", ()))
    return next((one for one in several if one is not None), None)


def _numbered(device: torch.device, sample: torch.device) -> torch.device:
    """With its number, which tensors' devices have: "cuda" is the current one of them."""
    if device.index is not None:
        return device
    if device.type == "cuda" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return sample if device.type == sample.type else device

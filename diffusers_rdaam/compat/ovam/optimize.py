"""OVAM's token optimisation, by any callable that makes maps of an embedding."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_rdaam.errors import InputError

Callback = Callable[[int, Tensor, Tensor, Tensor], Any]


def optimize_embedding(
    daam_module: Any,
    embedding: Tensor,
    target: Tensor,
    device: str | torch.device | None = None,
    callback: Callback | None = None,
    initial_lr: float = 300,
    epochs: int = 1000,
    step_size: int = 80,
    gamma: float = 0.7,
    apply_min_max: bool | float = 3720,
    squeezed_target: bool = False,
) -> Tensor:
    """Fit an embedding to masks by plain gradient descent; returns it after the last step.

    The loss is the cross-entropy of the maps, taken as logits, to the target.

    Args:
        daam_module: of ``hooker.get_ovam_callable()``.
        embedding: ``(tokens, width)`` to start from.
        target: probabilities ``(images, tokens, height, width)`` of the maps' size.
        device: where to compute; the embedding's if not given.
        callback: gets the epoch, the embedding, the scaled maps and the loss, before each step.
        initial_lr, epochs, step_size, gamma: the rate is multiplied by ``gamma`` after every
            ``step_size``.
        apply_min_max: True or a whole number: stretch the maps to 0 to 1, all together; a float:
            divide by it; False: divide by the sum over the tokens.
        squeezed_target: take axes of one out of the maps first.

    Raises:
        InputError: maps and target are of different shapes, or the gradient is not finite.
    """
    place = embedding.device if device is None else device
    target = target.to(place)
    with torch.inference_mode(False), torch.enable_grad():
        x = embedding.detach().to(place, copy=True).requires_grad_(True)
        optimizer = torch.optim.SGD([x], lr=initial_lr)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=step_size, gamma=gamma)
        for epoch in range(epochs):
            optimizer.zero_grad()
            maps = _scaled(daam_module(x), apply_min_max)
            if squeezed_target:
                maps = maps.squeeze()
                maps = maps.unsqueeze(0) if maps.ndim == 2 else maps
            _check(maps, target)
            loss = F.cross_entropy(maps, target.to(maps))
            if callback is not None:
                callback(epoch, x, maps, loss)
            loss.backward()
            gradient = x.grad
            if gradient is None or not bool(torch.isfinite(gradient).all()):
                raise InputError(
                    f"The gradient of epoch {epoch} is not finite (loss {float(loss):g}). Give a "
                    f"lower initial_lr= than {initial_lr:g}, or a model in float32."
                )
            optimizer.step()
            scheduler.step()
    return x.detach().cpu()


def _scaled(maps: Tensor, how: bool | float) -> Tensor:
    # By type, as in OVAM: a whole number means what True means.
    if isinstance(how, float):
        if not math.isfinite(how) or how <= 0:
            raise InputError(f"apply_min_max= is a bool or a number over 0; got {how!r}.")
        return maps / how
    if how:
        low, high = maps.min(), maps.max()
        if bool(low == high):
            raise InputError(
                f"The maps are {float(low.detach()):g} everywhere, so apply_min_max=True has "
                "nothing to stretch. Start from another embedding."
            )
        return (maps - low) / (high - low)
    sums = maps.sum(dim=1, keepdim=True)
    if bool((sums == 0).any()):
        raise InputError(
            "The maps sum to 0 at some places, so apply_min_max=False cannot divide by their sum. "
            "Give True, or a number."
        )
    return maps / sums


def _check(maps: Tensor, target: Tensor) -> None:
    if maps.shape != target.shape:
        raise InputError(
            f"The maps are {tuple(maps.shape)}, the target is {tuple(target.shape)}. Give "
            "probabilities (images, tokens, height, width); get_ovam_callable(expand_size=…) makes "
            "maps of a mask's size."
        )

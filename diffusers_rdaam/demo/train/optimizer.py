"""Muon for matrices and convolutions, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from diffusers_rdaam.demo.train.session import training_dtype


def orthogonalise(matrix: Tensor, *, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrix (Jordan et al., 2024).

    Args:
        matrix: ``(..., rows, columns)``; those before the last two axes are matrices of their own.
        steps: of the iteration.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.to(training_dtype(matrix.device.type))
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised; a convolution is the matrix ``(out, in * height * width)``.

    The update's root mean square is matched to AdamW's by ``0.2 * sqrt(longest side)`` (Liu et
    al., 2025), so that one learning rate serves both.
    """

    def __init__(
        self, params: Iterable[Tensor], *, lr: float, momentum: float = 0.95, decay: float = 0.02
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is used
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            # Matrices of one shape are one batch: an accelerator waits for launches, not for sums.
            shapes: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes.setdefault(parameter.shape, []).append(parameter)
            for parameters in shapes.values():
                self._update(parameters, group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """One update of parameters of one shape that have gradients."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(buffers, gradients, 1.0 - group["momentum"])
        updates = torch.stack(torch._foreach_lerp(gradients, buffers, group["momentum"])).flatten(2)
        scale = 0.2 * max(updates.shape[1:]) ** 0.5
        directions = orthogonalise(updates).view(-1, *parameters[0].shape)
        torch._foreach_mul_(parameters, 1.0 - group["lr"] * group["decay"])
        torch._foreach_add_(parameters, list(directions), alpha=-group["lr"] * scale)


def build_optimizers(modules: Iterable[nn.Module], *, lr: float) -> list[torch.optim.Optimizer]:
    """Muon on hidden matrices and convolutions; AdamW at half the rate on the rest.

    The rest is embeddings, norms, biases, and the first and last convolutions, whose rows are
    pixels or latents and not features.
    """
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            outer = any(part in name for part in ("embedding.weight", "conv_in", "conv_out"))
            (others if parameter.ndim < 2 or outer else matrices).append(parameter)
    adam = torch.optim.AdamW(others, lr=lr / 2, betas=(0.9, 0.99), weight_decay=0.01)
    return [Muon(matrices, lr=lr), adam]

"""Muon for matrices and convolutions, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from diffusers_rdaam.demo.train.session import training_dtype


def orthogonalise(matrix: Tensor, *, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrix (Jordan et al., 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.to(training_dtype())
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).float()


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
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(gradient)
                buffer = state["momentum"].lerp_(gradient, 1.0 - group["momentum"])
                update = gradient.lerp(buffer, group["momentum"]).flatten(1)
                scale = 0.2 * max(update.shape) ** 0.5
                direction = orthogonalise(update).view_as(parameter)
                parameter.mul_(1.0 - group["lr"] * group["decay"])
                parameter.add_(direction, alpha=-group["lr"] * scale)


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

"""What both training stages share: workers, a wall-clock budget, averaging, checkpoints."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn


def training_dtype(device: str = "cpu") -> torch.dtype:
    """bfloat16 where the device multiplies it, else float32, which is then ten times as fast."""
    if device == "cuda":
        return torch.bfloat16
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def mixed_precision(device: str = "cpu") -> torch.autocast:
    """Autocast to :func:`training_dtype`."""
    dtype = training_dtype(device)
    return torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def _worker(rank: int, world: int, rendezvous: str, work: Callable[..., None], arguments: tuple):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    try:
        work(*arguments)
    finally:
        dist.destroy_process_group()


def run_workers(work: Callable[..., None], arguments: tuple, *, workers: int, folder: Path) -> None:
    """Run ``work(*arguments)`` in ``workers`` single-threaded processes that average gradients."""
    folder.mkdir(parents=True, exist_ok=True)
    # Scenes of one stage may be encoded while another trains.
    rendezvous = folder / f"rendezvous-{os.getpid()}"
    rendezvous.unlink(missing_ok=True)
    mp.spawn(
        _worker, (workers, str(rendezvous.resolve()), work, arguments), nprocs=workers, join=True
    )
    rendezvous.unlink(missing_ok=True)


def synchronise(modules: Iterable[nn.Module]) -> None:
    """Give every worker the first worker's weights."""
    if dist.get_world_size() == 1:
        return
    for module in modules:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


def average(parameters: list[Tensor], scalars: list[float]) -> list[float]:
    """Average gradients over the workers in place, and a few scalars with them; return those."""
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([*(g.flatten() for g in gradients), torch.tensor(scalars)])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    offset = 0
    for parameter, gradient in zip(parameters, gradients, strict=True):
        count = gradient.numel()
        parameter.grad = flat[offset : offset + count].view_as(gradient).clone()
        offset += count
    return flat[offset:].tolist()


def cosine(progress: float, *, hold: float, floor: float = 0.01, warm_up: float = 0.005) -> float:
    """Learning-rate factor: linear warm-up, constant until ``hold``, then cosine to ``floor``."""
    if progress < warm_up:
        return 0.05 + 0.95 * progress / warm_up
    if progress < hold or hold >= 1.0:
        return 1.0
    phase = min((progress - hold) / (1.0 - hold), 1.0)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * phase))


@dataclass
class Session:
    """A resumable run with a budget of seconds; progress goes from 0 to 1 with the time spent.

    Wall time is the budget, because that is what a machine without an accelerator has; the samples
    that were seen go to the card. Where the machine is shared, ``wanted`` samples are one that does
    not depend on who else computes.

    Args:
        seconds: of all parts of the run together.
        checkpoint: where it is kept.
        modules, optimizers: what is trained, and by what.
        decay: of the running average of the weights.
        wanted: how many samples are the whole run, in place of the seconds.
        warm_up: the share of the run over which the learning rate rises.
        device: on which it trains.
    """

    seconds: float
    checkpoint: Path
    modules: dict[str, nn.Module]
    optimizers: list[torch.optim.Optimizer]
    decay: float = 0.998
    wanted: int | None = None
    warm_up: float = 0.005
    device: str = "cpu"
    spent: float = 0.0
    samples: int = 0
    step: int = 0
    averaged: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    _last: float = field(default_factory=time.monotonic)

    @property
    def parameters(self) -> list[Tensor]:
        """Every trained parameter, in a fixed order."""
        return [p for group in self.optimizers for g in group.param_groups for p in g["params"]]

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        if self.wanted is not None:
            return min(self.samples / self.wanted, 1.0)
        return min(self.spent / self.seconds, 1.0)

    def resume(self) -> bool:
        """Load the checkpoint if there is one; say whether."""
        found = self.checkpoint.exists()
        if found:
            state = torch.load(self.checkpoint, weights_only=True, map_location=self.device)
            for name, module in self.modules.items():
                module.load_state_dict(state["modules"][name])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.averaged = state["averaged"]
            self.spent, self.samples, self.step = state["spent"], state["samples"], state["step"]
        else:
            synchronise(self.modules.values())
            self.averaged = {
                name: {key: value.detach().clone() for key, value in module.state_dict().items()}
                for name, module in self.modules.items()
            }
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
        self._last = time.monotonic()
        return found

    def advance(self, loss: Tensor, *, batch: int, hold: float) -> tuple[Tensor, float]:
        """One optimizer step from ``loss``; returns the mean loss and the progress so far.

        The loss is a tensor of the device: one worker does not wait for it.
        """
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        now = time.monotonic()
        parameters = self.parameters
        spent = self.spent + now - self._last
        if dist.get_world_size() > 1:
            value, spent = average(parameters, [loss.item(), spent])
            mean_loss = torch.tensor(value)
        else:
            mean_loss = loss.detach()
        self._last, self.spent = now, spent
        progress = self.progress
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * cosine(
                    progress, hold=hold, warm_up=self.warm_up
                )
            optimizer.step()
        self.step += 1
        self.samples += batch * dist.get_world_size()
        decay = min(self.decay, (1.0 + self.step) / (10.0 + self.step))
        self._average_weights(1.0 - decay)
        return mean_loss, progress

    @torch.no_grad()
    def _average_weights(self, share: float) -> None:
        """Move the running average by a share of the way to the weights."""
        targets: list[Tensor] = []
        values: list[Tensor] = []
        for name, module in self.modules.items():
            for key, value in module.state_dict().items():
                target = self.averaged[name][key]
                if value.is_floating_point():
                    targets.append(target)
                    values.append(value)
                else:
                    target.copy_(value)
        torch._foreach_lerp_(targets, values, share)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all; only the first worker writes."""
        if dist.get_rank() != 0:
            return
        state = {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "averaged": self.averaged,
            "spent": self.spent,
            "samples": self.samples,
            "step": self.step,
        }
        temporary = self.checkpoint.with_suffix(".part")
        torch.save(state, temporary)
        temporary.replace(self.checkpoint)

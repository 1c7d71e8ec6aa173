"""A pipeline after a system is as it was before it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from benchmarks.systems.stage import Stage
from benchmarks.systems.system import Answers, System

# Methods of classes that a system could replace for the whole process.
SHARED = ((AttnProcessor2_0, "__call__"), (Attention, "forward"), (UNet2DConditionModel, "forward"))
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


@contextmanager
def recorded_by(system: System, stage: Stage, left: list[str] | None = None) -> Iterator[Answers]:
    """Let a system record the block's denoiser calls; put back whatever it leaves behind.

    Args:
        system: loaded.
        stage: what it records.
        left: is told what had to be put back.
    """
    found = _Found(stage)
    with warnings.catch_warnings():
        # Other people's code on a diffusers that it was not written for.
        warnings.simplefilter("ignore")
        try:
            with torch.no_grad(), system.recording(stage) as answers:
                yield answers
        finally:
            changed = found.put_back()
            if left is not None:
                left += changed


def same_bits(these: list[torch.Tensor], those: list[torch.Tensor]) -> bool:
    """Whether two lists of tensors are equal in every bit, not-a-number included."""
    return len(these) == len(those) and all(
        one.shape == other.shape
        and one.dtype == other.dtype
        and torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
        for one, other in zip(these, those, strict=True)
    )


class _Found:
    """Attributes, processors, hooks and class methods, as they are now."""

    def __init__(self, stage: Stage) -> None:
        self._owners: dict[str, Any] = {
            "pipeline": stage.pipe,
            "image processor": stage.pipe.image_processor,
        }
        self._attributes = {name: dict(vars(owner)) for name, owner in self._owners.items()}
        self._modules = []
        for name, module in stage.unet.named_modules():
            hooks = {kind: dict(getattr(module, kind)) for kind in _HOOKS}
            # Shallow: processors and patched methods lie here; parameters in dicts of their own.
            plain = {key: value for key, value in vars(module).items() if key not in _HOOKS}
            self._modules.append((name, module, plain, hooks))
        self._shared = [(kind, name, getattr(kind, name)) for kind, name in SHARED]

    def put_back(self) -> list[str]:
        """Undo every difference, and name them."""
        changed = []
        for name, owner in self._owners.items():
            changed += [f"{name}.{key}" for key in _reset(owner, self._attributes[name])]
        for name, module, plain, hooks in self._modules:
            changed += [f"{name}.{key}" for key in _reset(module, plain, skip=_HOOKS)]
            for kind, before in hooks.items():
                now = getattr(module, kind)
                if dict(now) != before:
                    now.clear()
                    now.update(before)
                    changed.append(f"{name}.{kind}")
        for kind, name, method in self._shared:
            if getattr(kind, name) is not method:
                setattr(kind, name, method)
                changed.append(f"{kind.__name__}.{name}")
        return changed


def _reset(owner: Any, before: dict[str, Any], skip: tuple[str, ...] = ()) -> list[str]:
    now = vars(owner)
    added = [key for key in now if key not in before and key not in skip]
    replaced = [key for key in before if key not in now or now[key] is not before[key]]
    for key in added:
        del now[key]
    for key in replaced:
        now[key] = before[key]
    return added + replaced

"""What one recorded image keeps in memory, after 1, 10 and 50 denoiser calls."""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from benchmarks.report import Row, judged
from benchmarks.sizes import SD15, TOKENS, Model, narrow_unet, site_grids, unet_without_memory
from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.families.unet import UNetFamily
from diffusers_rdaam.recording.installation import install
from diffusers_rdaam.recording.recorder import Recorder

CALLS = (1, 10, 50)
GOAL = 1_800_000
# Tensors that the released predecessors keep at this size, fp32 maps, 16 sites, 8 heads.
DAAM = "DAAM 63 MiB"
RDAAM = "rdaam 127 MiB a step"


def run(*, full: bool = False) -> list[Row]:
    """One image of Stable Diffusion 1.5's size."""
    beside = f" (kept by {DAAM}, {RDAAM})"
    return rows("memory", SD15, calls=CALLS, goal=GOAL, beside=beside, share="a tenth")


def rows(
    benchmark: str, model: Model, *, calls: tuple[int, ...], goal: int, share: str, beside: str = ""
) -> list[Row]:
    """Real denoiser calls of a narrow UNet: what is kept depends neither on its channels nor on
    self-attention, which is skipped because it would take minutes.

    Args:
        benchmark: the rows' name.
        model: whose size.
        calls: denoiser calls after which is measured, ascending.
        goal: bytes at most.
        share: of the channels that the narrow UNet has, in words.
        beside: words behind the goal.
    """
    unet = narrow_unet(model)
    grids = site_grids(unet, model.latent)
    same = grids == site_grids(unet_without_memory(model), model.latent)
    kept = bytes_kept(unet, model, calls)
    bounded = same and max(kept.values()) <= goal
    constant = len(set(kept.values())) == 1
    what = (
        f"tensors kept for one {model.size_text} image, {TOKENS} tokens, all {len(grids)} sites "
        f"(a UNet with {model.name}'s blocks, heads and grids, {share} of its channels, no "
        "self-attention)"
    )
    megabytes = [f"{size / 1e6:.3f} MB after {calls}" for calls, size in kept.items()]
    return [
        judged(
            benchmark,
            what,
            f"{kept[calls[0]] / 1e6:.3f} MB",
            f"at most {goal / 1e6} MB{beside}",
            bounded,
            deterministic=True,
        ),
        judged(
            benchmark,
            "the same after more denoiser calls",
            ", ".join(megabytes),
            "no growth",
            constant,
            deterministic=True,
        ),
    ]


class _Skip:
    """Self-attention that does nothing."""

    def __call__(self, attn: Any, hidden_states: Tensor, **unused: Any) -> Tensor:
        return hidden_states


def bytes_kept(
    unet: UNet2DConditionModel,
    model: Model,
    calls: tuple[int, ...],
    *,
    template: RDAAMProcessor | None = None,
    steps: int | None = None,
    announce: Callable[[str], None] | None = None,
) -> dict[int, int]:
    """Bytes of all tensors in the process that were not there before the run, after some calls.

    Args:
        unet: of the model's blocks, heads and grids; its self-attention is skipped from now on.
        model: whose size.
        calls: denoiser calls after which is measured, ascending.
        template: with options; the default one if not given.
        steps: that the run is announced to have; ``calls[-1]`` if not given.
        announce: is told what the package says of the price.
    """
    family = UNetFamily()
    template = template or RDAAMProcessor()
    skipped = {name: _Skip() for name in unet.attn_processors if ".attn1." in name}
    unet.set_attn_processor(unet.attn_processors | skipped)
    install(family.sites(unet), template)
    # The three things that recording asks of a pipeline.
    steps = steps or calls[-1]
    pipe = SimpleNamespace(unet=unet, do_classifier_free_guidance=True, _num_timesteps=steps)
    inputs = model.inputs(rows=2)
    before = live_bytes()
    kept = {}
    with torch.no_grad(), Recorder(pipe, family, template.options, announce=announce) as recorder:
        for call in range(1, calls[-1] + 1):
            unet(**inputs)
            if call in calls:
                kept[call] = live_bytes() - before
        if recorder.calls != calls[-1]:
            raise RuntimeError(f"{recorder.calls} of {calls[-1]} denoiser calls were recorded.")
    return kept


def live_bytes() -> int:
    """Of all tensors of this process on the CPU."""
    gc.collect()
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in gc.get_objects()
        # By its type: isinstance would wake lazy objects of other libraries.
        if issubclass(type(tensor), Tensor) and tensor.device.type == "cpu"
    }
    return sum(storages.values())

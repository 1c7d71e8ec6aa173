"""What one recorded image keeps in memory, after 1, 10 and 50 denoiser calls."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from benchmarks.report import Row, judged
from benchmarks.sizes import (
    LATENT,
    TEXT_WIDTH,
    TOKENS,
    narrow_unet,
    site_grids,
    unet_without_memory,
)
from diffusers_rdaam.recording.families.unet import UNetFamily
from diffusers_rdaam.recording.processor import RDAAMProcessor
from diffusers_rdaam.recording.recorder import Recorder
from diffusers_rdaam.recording.sites import install

CALLS = (1, 10, 50)
GOAL = 1_800_000
# Tensors that the released predecessors keep at this size, fp32 maps, 16 sites, 8 heads.
DAAM = "DAAM 63 MiB"
RDAAM = "rdaam 127 MiB a step"


def run(*, full: bool = False) -> list[Row]:
    """Real denoiser calls of a narrow UNet: what is kept depends neither on its channels nor on
    self-attention, which is skipped because it would take minutes.
    """
    unet = narrow_unet()
    same = site_grids(unet) == site_grids(unet_without_memory())
    kept = _bytes_kept(unet)
    bounded = same and max(kept.values()) <= GOAL
    constant = len(set(kept.values())) == 1
    what = (
        "tensors kept for one 512x512 image, 77 tokens, all 16 sites (a UNet with SD1.5's blocks, "
        "heads and grids, a tenth of its channels, no self-attention)"
    )
    megabytes = [f"{size / 1e6:.3f} MB after {calls}" for calls, size in kept.items()]
    return [
        judged(
            "memory",
            what,
            f"{kept[CALLS[0]] / 1e6:.3f} MB",
            f"at most {GOAL / 1e6} MB (kept by {DAAM}, {RDAAM})",
            bounded,
            deterministic=True,
        ),
        judged(
            "memory",
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


def _bytes_kept(unet: UNet2DConditionModel) -> dict[int, int]:
    """Bytes of all tensors in the process that were not there before the run."""
    family = UNetFamily()
    template = RDAAMProcessor()
    skipped = {name: _Skip() for name in unet.attn_processors if ".attn1." in name}
    unet.set_attn_processor(unet.attn_processors | skipped)
    install(family.sites(unet), template)
    # The three things that recording asks of a pipeline.
    pipe = SimpleNamespace(unet=unet, do_classifier_free_guidance=True, _num_timesteps=CALLS[-1])
    latent = torch.randn(2, 4, *LATENT)
    text = torch.randn(2, TOKENS, TEXT_WIDTH)
    timestep = torch.tensor(500)
    before = _live_bytes()
    kept = {}
    with torch.no_grad(), Recorder(pipe, family, template) as recorder:
        for call in range(1, CALLS[-1] + 1):
            unet(latent, timestep, encoder_hidden_states=text)
            if call in CALLS:
                kept[call] = _live_bytes() - before
        if recorder.calls != CALLS[-1]:
            raise RuntimeError(f"{recorder.calls} of {CALLS[-1]} denoiser calls were recorded.")
    return kept


def _live_bytes() -> int:
    gc.collect()
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in gc.get_objects()
        # By its type: isinstance would wake lazy objects of other libraries.
        if issubclass(type(tensor), Tensor) and tensor.device.type == "cpu"
    }
    return sum(storages.values())

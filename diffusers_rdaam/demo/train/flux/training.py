"""Flow matching of the embedded FLUX: transformer and T5 together, first coarse, then fine.

Stage A learns scenes of 128 pixels, 8x8 tokens whose positions are those of a 16x16 grid's centres;
stage B goes on at 256 pixels, 16x16 tokens, as the pipeline generates. No loss looks at attention.
Three things push content into the words' tokens, and the card says so: the context is short, the
states after a caption's end are often those of the empty caption, and CLIP's pooled vector is the
empty caption's more often than not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

from diffusers_rdaam.demo.loader import WEIGHTS
from diffusers_rdaam.demo.train.flux.attention import TrainingAttnProcessor
from diffusers_rdaam.demo.train.flux.model import (
    build_t5,
    build_transformer,
    local_causal_bias,
    relative_bias,
)
from diffusers_rdaam.demo.train.flux.pool import ScenePool, encode_scenes, pool_path
from diffusers_rdaam.demo.train.flux.tokenizer import build_t5_tokenizer
from diffusers_rdaam.demo.train.optimizer import Muon
from diffusers_rdaam.demo.train.session import Session, mixed_precision, training_dtype

PAD_DROPOUT = 0.60  # captions whose end and pads carry the empty caption's states
POOLED_DROPOUT = 0.60  # rows whose pooled vector is the empty caption's
# The autoencoder's first two latent channels carry next to nothing (deviations .012 and .005).
CHANNEL_WEIGHTS = (0.1, 0.1, 1.9, 1.9)
SHORT, LONG = 16, (32, 48, 64)


@dataclass(frozen=True)
class Stage:
    """One part of the training.

    Args:
        name: of its checkpoint.
        size: pixels of an image's side.
        samples: how many are seen, of all workers together.
        batch: of one worker.
        rate: of Muon; AdamW's is 0.7 times that.
        shift: of the noise levels, ``s = k u / (1 + (k - 1) u)``; a larger one sees more noise.
        plain_share: of a batch, whose levels are uniform.
        hold: the share of the samples after which the rate falls along a cosine; 1 for never.
        bias_at: samples after which the text encoder's relative bias is set; None for never.
        long_share: of the batches, whose texts have more positions.
    """

    name: str
    size: int
    samples: int
    batch: int
    rate: float
    shift: float
    plain_share: float
    hold: float
    bias_at: int | None
    long_share: float = 0.0

    @property
    def side(self) -> int:
        """Tokens along an edge."""
        return self.size // 16


STAGES = {
    "coarse": Stage("coarse", 128, 500_000, 64, 2.5e-3, 3.0, 0.0, 1.0, 80_000),
    "fine": Stage("fine", 256, 210_000, 32, 2.0e-3, 2.5, 1 / 3, 0.4, None, 0.20),
}


def position_ids(side: int) -> Tensor:
    """``(side * side, 3)``: of a coarse grid those of the 16x16 grid's centres under each token."""
    step = 16 / side
    centres = torch.arange(side) * step + (step - 1) / 2
    ids = torch.zeros(side, side, 3)
    ids[..., 1], ids[..., 2] = centres[:, None], centres[None, :]
    return ids.reshape(-1, 3)


def noise_levels(count: int, shift: float, plain_share: float) -> Tensor:
    """Stratified levels in (0, 1), the first ``plain_share`` of them uniform."""
    plain = round(count * plain_share)
    levels = []
    for part, k in ((plain, 1.0), (count - plain, shift)):
        uniform = (torch.randperm(part) + torch.rand(part)) / max(part, 1)
        levels.append(k * uniform / (1.0 + (k - 1.0) * uniform))
    return torch.cat(levels)


class Texts:
    """Captions as FLUX reads them: T5's states and CLIP's pooled vector, which is frozen."""

    def __init__(
        self, tokenizer: T5TokenizerFast, encoder: T5EncoderModel, device: str = "cpu"
    ) -> None:
        self.tokenizer, self.encoder, self.device = tokenizer, encoder, device
        self.clip_tokenizer = CLIPTokenizer.from_pretrained(WEIGHTS / "tokenizer")
        clip = CLIPTextModel.from_pretrained(WEIGHTS / "text_encoder").float().eval()
        self.clip = clip.to(device)
        self.row_of: dict[str, int] = {}
        self.pooled = torch.empty(0, self.clip.config.hidden_size, device=device)

    def states(self, ids: Tensor, ends: Tensor) -> Tensor:
        """``(batch, length, width)``; a share of the rows ends as the empty caption does.

        Args:
            ids: ``(batch + 1, length)``; the last row is the empty caption.
            ends: ``(batch,)``, the position of each caption's end token.
        """
        # FLUX gives T5 no mask: words attend to the padding.
        states = self.encoder(ids.to(self.device))[0]
        states, empty = states[:-1], states[-1:]
        after = torch.arange(ids.shape[1])[None, :] >= ends[:, None]
        dropped = torch.rand(len(ends)) < PAD_DROPOUT
        rest = (after & dropped[:, None])[..., None].to(self.device)
        return torch.where(rest, empty, states)

    @torch.no_grad()
    def pooled_of(self, captions: list[str]) -> Tensor:
        """``(batch, width)`` of CLIP, for a share of the rows the empty caption's."""
        dropped = (torch.rand(len(captions)) < POOLED_DROPOUT).tolist()
        read = ["" if drop else text for text, drop in zip(captions, dropped, strict=True)]
        missing = sorted({text for text in read if text not in self.row_of})
        if missing:
            tokens = self.clip_tokenizer(
                missing, padding="max_length", truncation=True, return_tensors="pt"
            )
            found = self.clip(tokens.input_ids.to(self.device)).pooler_output
            for text in missing:
                self.row_of[text] = len(self.row_of)
            self.pooled = torch.cat([self.pooled, found])
        return self.pooled[torch.tensor([self.row_of[text] for text in read])]


class Batches(IterableDataset):
    """Scenes and their captions as tokens, from a step on without end.

    Every batch has a generator of its own, so that one process that loads them, or several, give
    the same ones in the same order.
    """

    def __init__(
        self, pool: ScenePool, tokenizer: T5TokenizerFast, stage: Stage, seed: int, rank: int
    ) -> None:
        self.pool, self.tokenizer, self.stage = pool, tokenizer, stage
        self.seed, self.rank = seed, rank
        self.first = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, list[str]]]:
        """Packed latents, token ids (the empty caption last), positions of ends, captions."""
        process = get_worker_info()
        offset, every = (0, 1) if process is None else (process.id, process.num_workers)
        for step in itertools.count(self.first + offset, every):
            rng = np.random.default_rng([self.seed, self.rank, step])
            tokens, captions = self.pool.draw(rng, self.stage.batch)
            found = self.tokenizer(
                [*captions, ""],
                padding="max_length",
                max_length=self._length(step),
                return_tensors="pt",
            )
            ends = found.attention_mask[:-1].sum(dim=1) - 1
            yield tokens, found.input_ids, ends, captions

    def _length(self, step: int) -> int:
        """Text positions; the workers agree, or the shorter would wait for the longer."""
        shared = np.random.default_rng([self.seed, step])
        long = self.stage.long_share > shared.random()
        return int(shared.choice(LONG)) if long else SHORT


def flow_loss(
    transformer: FluxTransformer2DModel,
    tokens: Tensor,
    levels: Tensor,
    states: Tensor,
    pooled: Tensor,
) -> Tensor:
    """Squared error of the velocity ``noise - x`` at ``(1 - s) x + s noise``, channels weighted."""
    device = tokens.device
    noise = torch.randn_like(tokens)
    level = levels[:, None, None]
    noisy = (1.0 - level) * tokens + level * noise
    side = round(tokens.shape[1] ** 0.5)
    with mixed_precision(device.type):
        predicted = transformer(
            hidden_states=noisy,
            encoder_hidden_states=states,
            pooled_projections=pooled,
            timestep=levels,
            img_ids=position_ids(side).to(device),
            txt_ids=torch.zeros(states.shape[1], 3, device=device),
        ).sample
    weights = torch.tensor(CHANNEL_WEIGHTS, device=device).repeat_interleave(4)
    return ((predicted.float() - (noise - tokens)).square() * weights).mean()


def build_flux_optimizers(
    transformer: FluxTransformer2DModel, text_encoder: T5EncoderModel, rate: float
) -> list[torch.optim.Optimizer]:
    """Muon on the matrices of the blocks, AdamW on modulations, embedders, tables and biases."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for module in (transformer, text_encoder):
        for name, parameter in module.named_parameters():
            inside = "transformer_blocks." in name or "encoder.block." in name
            outer = "norm" in name or "relative_attention_bias" in name
            matrix = parameter.ndim == 2 and inside and not outer
            (matrices if matrix else others).append(parameter)
    adam = torch.optim.AdamW(others, lr=0.7 * rate, betas=(0.9, 0.99), weight_decay=0.01)
    return [Muon(matrices, lr=rate), adam]


def train_flux(
    folder: Path,
    name: str,
    samples: int | None,
    seed: int,
    *,
    device: str = "cpu",
    batch: int | None = None,
    minutes: float | None = None,
    bias_at: int | None = None,
) -> None:
    """Train one stage until its samples are seen, or its time is over; one worker's part.

    Args:
        folder: of the pools and checkpoints.
        name: of the stage.
        samples: seen by all workers; the stage's own if None.
        seed: of weights, scenes and noise.
        device: ``"cpu"`` or ``"cuda"``.
        batch: of one worker; the stage's own if None.
        minutes: a budget in place of the samples.
        bias_at: samples after which the relative bias is set; the stage's own if None.
    """
    stage, rank = STAGES[name], dist.get_rank()
    stage = replace(stage, batch=batch or stage.batch, bias_at=bias_at or stage.bias_at)
    torch.manual_seed(seed)
    tokenizer = build_t5_tokenizer()
    transformer, text_encoder = build_transformer().train(), build_t5(tokenizer).train()
    if training_dtype(device) == torch.bfloat16:  # else stock is the faster one
        transformer.set_attn_processor(TrainingAttnProcessor())
    modules: dict[str, nn.Module] = {"transformer": transformer, "text_encoder": text_encoder}
    for module in modules.values():
        module.to(device)
    optimizers = build_flux_optimizers(transformer, text_encoder, stage.rate)
    seconds = float("inf") if minutes is None else 60 * minutes
    session = Session(seconds, folder / f"flux-{name}.pt", modules, optimizers, decay=0.996)
    session.wanted = (samples or stage.samples) if minutes is None else None
    session.warm_up, session.device = 0.025, device
    if not session.checkpoint.exists() and name == "fine":
        _load_average(folder / "flux-coarse.pt", modules, device)
    session.resume()
    torch.manual_seed(seed * 1000 + rank * 100 + session.step)
    pool = ScenePool(pool_path(folder, stage.size), moves=name == "fine")
    batches = Batches(pool, tokenizer, stage, seed, rank)
    batches.first = session.step
    texts = Texts(tokenizer, text_encoder, device)
    smooth: Tensor | float | None = None
    loaded = iter(_loader(batches, device))
    while session.progress < 1.0:
        tokens, ids, ends, captions = next(loaded)
        tokens = tokens.to(device, non_blocking=True).float()
        levels = noise_levels(stage.batch, stage.shift, stage.plain_share).to(device)
        states = texts.states(ids, ends)
        loss = flow_loss(transformer, tokens, levels, states, texts.pooled_of(captions))
        before = session.samples
        value, progress = session.advance(loss, batch=stage.batch, hold=stage.hold)
        if stage.bias_at is not None and before < stage.bias_at <= session.samples:
            _set_bias(text_encoder, session.averaged["text_encoder"])
        smooth = value if smooth is None else 0.99 * smooth + 0.01 * value
        if session.step % 50 == 0 and rank == 0:
            said = f"loss {float(smooth):.4f} {session.samples / session.spent:.0f}/s"
            print(f"{name} {progress:6.1%} step {session.step} {said}", flush=True)
        if session.step % 200 == 0:
            session.save()
    session.save()


def _loader(batches: Batches, device: str) -> DataLoader:
    """Batches of this process, or for an accelerator of eight others, which it would wait for."""
    if device == "cpu":
        return DataLoader(batches, batch_size=None)
    return DataLoader(batches, batch_size=None, num_workers=8, prefetch_factor=8, pin_memory=True)


def _load_average(path: Path, modules: dict[str, nn.Module], device: str) -> None:
    averaged = torch.load(path, weights_only=True, map_location=device)["averaged"]
    for name, module in modules.items():
        module.load_state_dict(averaged[name])


@torch.no_grad()
def _set_bias(text_encoder: T5EncoderModel, averaged: dict[str, Any]) -> None:
    """Make the relative bias local and causal, in the weights and in their average."""
    table = local_causal_bias()
    relative_bias(text_encoder).copy_(table)
    for name, value in averaged.items():
        if name.endswith("relative_attention_bias.weight"):
            value.copy_(table)


def encode_flux_scenes(folder: Path, coarse: int, fine: int, seed: int) -> None:
    """Encode the scenes of both stages; one worker's part."""
    vae = AutoencoderKL.from_pretrained(WEIGHTS / "vae").float().eval()
    for size, count in ((128, coarse), (256, fine)):
        if not pool_path(folder, size).exists():
            encode_scenes(vae, folder, size, count, seed)

"""Flow matching of the embedded FLUX: transformer and T5 together, first coarse, then fine.

Stage A learns scenes of 128 pixels, 8x8 tokens whose positions are those of a 16x16 grid's centres;
stage B goes on at 256 pixels, 16x16 tokens, as the pipeline generates. No loss looks at attention.
Three things push content into the words' tokens, and the card says so: the context is short, the
states after a caption's end are often those of the empty caption, and CLIP's pooled vector is the
empty caption's more often than not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import Tensor, nn
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
    "fine": Stage("fine", 256, 210_000, 32, 2.0e-3, 2.5, 1 / 3, 0.6, None, 0.20),
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
    """Captions as FLUX reads them: T5's states and CLIP's pooled vector, which is frozen.

    Args:
        texts: all that there are; the first is the empty one.
        tokenizer, encoder: T5's.
        device: of the encoder.
    """

    def __init__(
        self,
        texts: list[str],
        tokenizer: T5TokenizerFast,
        encoder: T5EncoderModel,
        device: str = "cpu",
    ) -> None:
        self.encoder, self.device = encoder, device
        found = tokenizer(texts, padding="max_length", max_length=max(LONG), return_tensors="pt")
        self.ids = found.input_ids.to(device)
        self.ends = found.attention_mask.sum(dim=1).to(device) - 1
        self.texts = texts
        self.clip_tokenizer = CLIPTokenizer.from_pretrained(WEIGHTS / "tokenizer")
        clip = CLIPTextModel.from_pretrained(WEIGHTS / "text_encoder").float().eval()
        self.clip = clip.to(device)
        self.pooled = torch.zeros(len(texts), clip.config.hidden_size, device=device)
        self.known = torch.zeros(len(texts), dtype=torch.bool)
        if device != "cpu":  # where a step does not wait for what it needs
            self._read(torch.arange(len(texts)))

    def states(self, captions: Tensor, length: int) -> Tensor:
        """``(batch, length, width)``; a share of the rows ends as the empty caption does."""
        empty = torch.zeros(1, dtype=torch.long, device=self.device)
        # FLUX gives T5 no mask: words attend to the padding.
        states = self.encoder(self.ids[torch.cat([captions, empty]), :length])[0]
        states, empty_states = states[:-1], states[-1:]
        places = torch.arange(length, device=self.device)
        after = places[None, :] >= self.ends[captions][:, None]
        dropped = torch.rand(len(captions), 1, device=self.device) < PAD_DROPOUT
        return torch.where((after & dropped)[..., None], empty_states, states)

    def pooled_of(self, captions: Tensor) -> Tensor:
        """``(batch, width)`` of CLIP, for a share of the rows the empty caption's."""
        dropped = torch.rand(len(captions), device=self.device) < POOLED_DROPOUT
        read = captions.masked_fill(dropped, 0)
        if self.device == "cpu":
            self._read(read.unique())
        return self.pooled[read]

    @torch.no_grad()
    def _read(self, captions: Tensor) -> None:
        """Let CLIP read captions that it has not read."""
        missing = captions[~self.known[captions]]
        for part in missing.split(512) if len(missing) else ():
            tokens = self.clip_tokenizer(
                [self.texts[index] for index in part.tolist()],
                padding="max_length",
                truncation=True,
                return_tensors="pt",
            )
            pooled = self.clip(tokens.input_ids.to(self.device)).pooler_output
            self.pooled[part.to(self.device)] = pooled
            self.known[part] = True


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
    rng = np.random.default_rng([seed, rank, session.step])
    pool = ScenePool(pool_path(folder, stage.size), moves=name == "fine", device=device)
    texts = Texts(pool.captions.texts, tokenizer, text_encoder, device)
    smooth: Tensor | float | None = None
    while session.progress < 1.0:
        # The workers must agree on the length, or the shorter waits for the longer.
        shared = np.random.default_rng([seed, session.step])
        length = int(shared.choice(LONG)) if shared.random() < stage.long_share else SHORT
        tokens, picked = pool.draw(rng, stage.batch)
        captions = torch.from_numpy(picked).to(device)
        levels = noise_levels(stage.batch, stage.shift, stage.plain_share).to(device)
        states = texts.states(captions, length)
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

"""Stage two: text encoder and denoiser, trained together on the pool of latents.

Nothing supervises the attention. Two things push content into the words' tokens, and the card says
so: the context is short at first (a caption and a few pads, so that words are not drowned by 60
pads), and the states behind a caption's end are often those of the empty caption.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors import safe_open
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from diffusers_rdaam.demo.train.optimizer import build_optimizers
from diffusers_rdaam.demo.train.session import Session, mixed_precision
from diffusers_rdaam.demo.train.tokenizer import CONTEXT_LENGTH, build_tokenizer
from diffusers_rdaam.demo.world import caption

BATCH = 24
EMPTY_SHARE = 0.10  # captions dropped for classifier-free guidance
PAD_DROPOUT = 0.60  # captions whose end and pads carry the empty caption's states
SHORT_UNTIL = 0.70  # share of the run with contexts of caption length only
FULL_SHARE = 0.70  # share of the later batches with all 77 positions


def build_denoiser() -> UNet2DConditionModel:
    """The UNet: text enters three times at 16x16 and once at 8x8."""
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 112),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=4,  # diffusers reads this as the number of heads
        norm_num_groups=16,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text model of two layers."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=256,
        projection_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_scheduler() -> DDIMScheduler:
    """DDIM with v-prediction, zero terminal signal-to-noise ratio and trailing steps.

    Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed" (2024).
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,
    )


@dataclass
class Batch:
    """Clean latents and captions of one step."""

    latents: Tensor
    captions: list[str]
    length: int


class Pool:
    """The encoded scenes; every draw writes a fresh caption."""

    def __init__(self, folder: Path, tokenizer: CLIPTokenizer) -> None:
        with safe_open(folder / "pool.safetensors", framework="pt") as file:
            self.latents = file.get_tensor("latents")
            self.scenes = [line.split(";") for line in file.metadata()["scenes"].split("\n")]
        self.tokenizer = tokenizer

    def draw(self, rng: np.random.Generator, *, full: bool) -> Batch:
        """A batch; with ``full`` all 77 positions, else the longest caption and up to 3 pads."""
        picks = rng.integers(len(self.scenes), size=BATCH)
        captions = [
            "" if rng.random() < EMPTY_SHARE else caption(rng, tuple(self.scenes[i])) for i in picks
        ]
        longest = max(len(ids) for ids in self.tokenizer(captions).input_ids)
        length = CONTEXT_LENGTH if full else longest + int(rng.integers(4))
        return Batch(self.latents[torch.from_numpy(picks)].float(), captions, length)


def encode_captions(
    text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, batch: Batch, dropped: Tensor
) -> Tensor:
    """Text states ``(batch, length, width)``; rows in ``dropped`` lose what their pads know."""
    tokens = tokenizer(
        [*batch.captions, ""], padding="max_length", max_length=batch.length, return_tensors="pt"
    )
    states = text_encoder(tokens.input_ids).last_hidden_state
    states, empty = states[:-1], states[-1:]
    ends = tokens.attention_mask[:-1].sum(dim=1) - 1
    behind = torch.arange(batch.length)[None, :] >= ends[:, None]
    return torch.where((behind & dropped[:, None])[..., None], empty, states)


def denoising_loss(
    unet: UNet2DConditionModel, alphas: Tensor, latents: Tensor, states: Tensor, uniform: Tensor
) -> Tensor:
    """Squared error of the predicted velocity at timesteps ``1000 * uniform ** 0.8``."""
    timesteps = (len(alphas) * uniform**0.8).long().clamp(max=len(alphas) - 1)
    signal = alphas[timesteps].sqrt()[:, None, None, None]
    sigma = (1.0 - alphas[timesteps]).sqrt()[:, None, None, None]
    noise = torch.randn_like(latents)
    noisy = signal * latents + sigma * noise
    velocity = signal * noise - sigma * latents
    with mixed_precision():
        predicted = unet(noisy, timesteps, encoder_hidden_states=states).sample
    return F.mse_loss(predicted.float(), velocity)


def train_denoiser(folder: Path, seconds: float, seed: int) -> None:
    """Train until ``seconds`` are spent; one worker's part."""
    rank = dist.get_rank()
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    unet, text_encoder = build_denoiser().train(), build_text_encoder(tokenizer).train()
    pool = Pool(folder, tokenizer)
    alphas = build_scheduler().alphas_cumprod
    optimizers = build_optimizers([unet, text_encoder], lr=2.5e-3)
    modules = {"unet": unet, "text_encoder": text_encoder}
    session = Session(seconds, folder / "denoiser.pt", modules, optimizers)
    session.resume()
    torch.manual_seed(seed * 1000 + rank * 100 + session.step)
    rng = np.random.default_rng([seed, rank, session.step])
    progress, smooth = session.spent / seconds, None
    while progress < 1.0:
        # The workers must agree on the length, or the shorter waits for the longer.
        shared = np.random.default_rng([seed, session.step])
        full = progress > SHORT_UNTIL and shared.random() < FULL_SHARE
        batch = pool.draw(rng, full=full)
        uniform = (torch.randperm(BATCH) + torch.rand(BATCH)) / BATCH
        dropped = torch.rand(BATCH) < PAD_DROPOUT
        states = encode_captions(text_encoder, tokenizer, batch, dropped)
        loss = denoising_loss(unet, alphas, batch.latents, states, uniform)
        value, progress = session.advance(loss, batch=BATCH, hold=0.2)
        smooth = value if smooth is None else 0.99 * smooth + 0.01 * value
        if session.step % 100 == 0 and rank == 0:
            rate = session.samples / session.spent
            print(
                f"denoiser {progress:6.1%} step {session.step} loss {smooth:.4f} {rate:.0f}/s",
                flush=True,
            )
        if session.step % 200 == 0:
            session.save()
    session.save()

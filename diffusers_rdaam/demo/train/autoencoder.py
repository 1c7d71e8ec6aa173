"""Stage one: the autoencoder, from scratch, and the pool of latents that stage two learns from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor

from diffusers_rdaam.demo.train.optimizer import build_optimizers
from diffusers_rdaam.demo.train.session import Session, mixed_precision
from diffusers_rdaam.demo.world import IMAGE_SIZE, SceneObject, random_scene, render

CROP = 64
BATCH = 12
KL_WEIGHT = 4e-3
EXTRA_NOISE = 0.10  # variance added to the latents after the first 30 % of the run


def build_autoencoder() -> AutoencoderKL:
    """A factor-8 autoencoder of 0.6 M parameters with four latent channels."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 48, 48),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=IMAGE_SIZE,
        scaling_factor=1.0,
    )


def to_tensor(images: list[np.ndarray]) -> Tensor:
    """0-255 images as a ``(batch, 3, height, width)`` tensor in [-1, 1]."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return (stacked / 127.5 - 1.0).contiguous()


def _crop(rng: np.random.Generator) -> np.ndarray:
    scene = random_scene(rng)
    # Half of the crops lie around an object, so that edges are not drowned in background.
    if rng.random() < 0.6:
        thing = scene[int(rng.integers(len(scene)))]
        offset = np.asarray([thing.x, thing.y]) + rng.uniform(-28, 28, size=2) - CROP / 2
        left, top = np.clip(offset, 0, IMAGE_SIZE - CROP).astype(int).tolist()
    else:
        left, top = rng.integers(0, IMAGE_SIZE - CROP + 1, size=2).tolist()
    return render(scene, left=left, top=top, size=CROP)


def autoencoder_loss(
    model: AutoencoderKL, images: Tensor, *, extra: float, generator: torch.Generator
) -> Tensor:
    """L1 + squared error + KL; the decoder sees latents with more noise than the encoder gave.

    A decoder that has learnt to snap imprecise latents to clean colours is what keeps a small
    denoiser's colours from bleeding.
    """
    with mixed_precision():
        posterior = model.encode(images).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        noise = torch.randn(mean.shape, generator=generator)
        more = torch.randn(mean.shape, generator=generator)
        latents = mean + (0.5 * logvar).exp() * noise + extra**0.5 * more
        decoded = model.decode(latents).sample.float()
    error = decoded - images
    divergence = 0.5 * (mean**2 + logvar.exp() - 1.0 - logvar).mean()
    return error.abs().mean() + error.square().mean() + KL_WEIGHT * divergence


def train_autoencoder(folder: Path, seconds: float, seed: int) -> None:
    """Train on random crops until ``seconds`` are spent; one worker's part."""
    rank = dist.get_rank()
    torch.manual_seed(seed)
    model = build_autoencoder().train()
    optimizers = build_optimizers([model], lr=2.5e-3)
    session = Session(seconds, folder / "autoencoder.pt", {"vae": model}, optimizers, decay=0.995)
    session.resume()
    rng = np.random.default_rng([seed, rank, session.step])
    generator = torch.Generator().manual_seed(seed * 1000 + rank * 100 + session.step)
    progress, smooth = session.spent / seconds, None
    while progress < 1.0:
        images = to_tensor([_crop(rng) for _ in range(BATCH)])
        extra = EXTRA_NOISE if progress > 0.3 else 0.0
        loss = autoencoder_loss(model, images, extra=extra, generator=generator)
        value, progress = session.advance(loss, batch=BATCH, hold=0.4)
        smooth = value if smooth is None else 0.98 * smooth + 0.02 * value
        if session.step % 50 == 0 and rank == 0:
            print(f"autoencoder {progress:6.1%} step {session.step} loss {smooth:.4f}", flush=True)
        if session.step % 200 == 0:
            session.save()
    session.save()


def load_autoencoder(folder: Path) -> AutoencoderKL:
    """The averaged weights of the last checkpoint, in evaluation mode."""
    model = build_autoencoder().eval()
    state = torch.load(folder / "autoencoder.pt", weights_only=True)
    model.load_state_dict(state["averaged"]["vae"])
    return model


@torch.no_grad()
def equalise_latents(model: AutoencoderKL, moments: Tensor) -> Tensor:
    """Scale the latent channels so that all carry the same posterior noise; returns the factors.

    ``moments`` is ``(images, 8, height, width)``. Whitening the signal instead would blow the
    nearly collapsed channels up until the denoiser fits noise. The common factor makes the mean
    variance one, and the scale is folded into the 1x1 convolutions next to the latent, so that
    ``scaling_factor`` stays 1.
    """
    mean, logvar = moments.chunk(2, dim=1)
    noise = logvar.exp().mean(dim=(0, 2, 3)).sqrt()
    signal = mean.var(dim=(0, 2, 3))
    factors = 1.0 / noise
    factors /= (signal * factors**2).mean().sqrt()
    assert model.quant_conv is not None and model.post_quant_conv is not None
    channels = factors.numel()
    model.quant_conv.weight[:channels].mul_(factors[:, None, None, None])
    model.quant_conv.bias[:channels].mul_(factors)
    model.quant_conv.bias[channels:].add_(2.0 * factors.log())
    model.post_quant_conv.weight.div_(factors[None, :, None, None])
    return factors


@torch.no_grad()
def reconstruction_quality(model: AutoencoderKL, *, noise: float, scenes: int = 32) -> float:
    """Peak signal-to-noise ratio (dB) of whole scenes with ``noise`` added to the latents."""
    rng = np.random.default_rng(99)
    generator = torch.Generator().manual_seed(99)
    images = to_tensor([render(random_scene(rng)) for _ in range(scenes)])
    latents = model.encode(images).latent_dist.mean
    latents = latents + noise * torch.randn(latents.shape, generator=generator)
    error = (model.decode(latents).sample.clamp(-1, 1) - images) / 2.0
    return float(-10.0 * error.square().mean().log10())


def describe(scene: tuple[SceneObject, ...]) -> str:
    """The object names of a scene, joined by ``;``, as the pool keeps them."""
    return ";".join(thing.name for thing in scene)


@torch.no_grad()
def encode_pool(folder: Path, count: int, seed: int) -> None:
    """Encode fresh scenes, equalise the latents, save pool and autoencoder; one worker's part."""
    rank, world = dist.get_rank(), dist.get_world_size()
    model = load_autoencoder(folder)
    rng = np.random.default_rng([seed, 7, rank])
    names: list[str] = []
    moments: list[Tensor] = []
    for _ in range(count // world // 16):
        scenes = [random_scene(rng) for _ in range(16)]
        names += [describe(scene) for scene in scenes]
        images = to_tensor([render(scene) for scene in scenes])
        with mixed_precision():
            moments.append(model.encode(images).latent_dist.parameters.float())
    part = torch.cat(moments)
    gathered: list = [None] * world
    dist.all_gather_object(gathered, (names, part))
    if rank == 0:
        everything = torch.cat([latents for _, latents in gathered])
        factors = equalise_latents(model, everything)
        latents = everything[:, :4] * factors[:, None, None]
        labels = "\n".join(name for names, _ in gathered for name in names)
        save_file(
            {"latents": latents.half().contiguous()},
            folder / "pool.safetensors",
            metadata={"scenes": labels},
        )
        model.save_pretrained(folder / "vae")
        clean, noisy = (reconstruction_quality(model, noise=noise) for noise in (0.0, 0.4))
        spread = ", ".join(f"{value:.2f}" for value in latents.std(dim=(0, 2, 3)).tolist())
        print(f"latent deviations {spread}", flush=True)
        print(f"autoencoder {clean:.1f} dB clean, {noisy:.1f} dB at latent noise 0.4", flush=True)

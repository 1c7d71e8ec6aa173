"""Train the embedded model from nothing: ``python -m diffusers_rdaam.demo.train all FOLDER``.

Each stage may be run, and resumed, by itself; a stage that was interrupted goes on from its last
checkpoint.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, help=__doc__, no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="Where checkpoints and the result go.")]
Minutes = Annotated[float, typer.Option(help="Wall-clock budget; resumed runs go on counting.")]
Workers = Annotated[int, typer.Option(help="Single-threaded processes that share a batch.")]
Seed = Annotated[int, typer.Option(help="Seed of weights, scenes and noise.")]


@app.command()
def autoencoder(folder: Folder, minutes: Minutes = 15, workers: Workers = 2, seed: Seed = 0):
    """Stage one: the autoencoder."""
    from diffusers_rdaam.demo.train.autoencoder import train_autoencoder
    from diffusers_rdaam.demo.train.session import run_workers

    run_workers(train_autoencoder, (folder, minutes * 60, seed), workers=workers, folder=folder)


@app.command()
def encode(folder: Folder, scenes: int = 32768, workers: Workers = 2, seed: Seed = 0):
    """Encode the pool of scenes that the denoiser learns from."""
    from diffusers_rdaam.demo.train.autoencoder import encode_pool
    from diffusers_rdaam.demo.train.session import run_workers

    run_workers(encode_pool, (folder, scenes, seed), workers=workers, folder=folder)


@app.command()
def denoiser(folder: Folder, minutes: Minutes = 90, workers: Workers = 2, seed: Seed = 0):
    """Stage two: text encoder and denoiser."""
    from diffusers_rdaam.demo.train.denoiser import train_denoiser
    from diffusers_rdaam.demo.train.session import run_workers

    run_workers(train_denoiser, (folder, minutes * 60, seed), workers=workers, folder=folder)


@app.command()
def export(folder: Folder, out: Annotated[Path, typer.Option(help="The pipeline's folder.")]):
    """Write the pipeline as fp16 safetensors that plain diffusers loads."""
    from diffusers_rdaam.demo.train.export import export_pipeline

    export_pipeline(folder, out)


@app.command()
def flux(
    folder: Folder,
    stage: Annotated[str, typer.Argument(help="encode, coarse or fine; in this order.")],
    samples: Annotated[
        int | None, typer.Option(help="Seen by all workers; the stage's own.")
    ] = None,
    workers: Workers = 2,
    seed: Seed = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda; for cuda one worker.")] = "cpu",
    batch: Annotated[int | None, typer.Option(help="Of a worker; the stage's own.")] = None,
    minutes: Annotated[float | None, typer.Option(help="A budget in place of samples.")] = None,
    bias_at: Annotated[
        int | None, typer.Option(help="Samples before T5's bias is set; the stage's own.")
    ] = None,
    coarse_scenes: Annotated[int, typer.Option(help="Encoded at 128 pixels.")] = 16_000,
    fine_scenes: Annotated[int, typer.Option(help="Encoded at 256 pixels.")] = 4_000,
):
    """A stage of the embedded FLUX, on the embedded Stable Diffusion's CLIP and autoencoder."""
    from diffusers_rdaam.demo.train.flux.training import encode_flux_scenes, train_flux
    from diffusers_rdaam.demo.train.session import run_workers

    if stage == "encode":
        run_workers(
            encode_flux_scenes,
            (folder, coarse_scenes, fine_scenes, seed),
            workers=workers,
            folder=folder,
        )
    else:
        work = partial(train_flux, device=device, batch=batch, minutes=minutes, bias_at=bias_at)
        run_workers(work, (folder, stage, samples, seed), workers=workers, folder=folder)


@app.command()
def flux_relearn(
    checkpoint: Annotated[Path, typer.Argument(help="flux-coarse.pt or flux-fine.pt.")],
    colour: Annotated[str, typer.Argument(help="Such as blue.")],
):
    """Let a colour's word start again as the mean of the others; then train on."""
    from diffusers_rdaam.demo.train.flux.relearn import start_again

    start_again(checkpoint, colour)


@app.command(name="all")
def everything(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="The pipeline's folder.")],
    autoencoder_minutes: float = 15,
    denoiser_minutes: float = 90,
    scenes: int = 32768,
    workers: Workers = 2,
    seed: Seed = 0,
):
    """All stages, one after the other."""
    autoencoder(folder, autoencoder_minutes, workers, seed)
    encode(folder, scenes, workers, seed)
    denoiser(folder, denoiser_minutes, workers, seed)
    export(folder, out)


if __name__ == "__main__":
    app()

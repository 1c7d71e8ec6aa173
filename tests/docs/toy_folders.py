"""Folders of small models, for the ids that pages name."""

from __future__ import annotations

from pathlib import Path

from toy_sam import toy_sam

from diffusers_rdaam import load_demo_pipeline


def embedded_stable_diffusion(folder: Path) -> Path:
    """The embedded Stable Diffusion, as a stock pipeline's folder."""
    from diffusers import StableDiffusionPipeline

    pipe = load_demo_pipeline()
    stock = StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    stock.save_pretrained(folder)
    return folder


def embedded_flux(folder: Path) -> Path:
    """The embedded FLUX, with the parts that it shares with the other model."""
    from diffusers import FluxPipeline

    FluxPipeline(**load_demo_pipeline("flux").components).save_pretrained(folder)
    return folder


def toy_wan(folder: Path) -> Path:
    """A toy of Wan 2.1."""
    from cases_wan import wan

    wan().make().save_pretrained(folder)
    return folder


def small_sam(folder: Path) -> Path:
    """A SAM of one narrow layer."""
    for part in toy_sam():
        part.save_pretrained(folder)
    return folder

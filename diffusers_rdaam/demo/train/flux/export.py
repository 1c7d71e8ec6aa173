"""Write the trained parts of the embedded FLUX; the others are the embedded Stable Diffusion's."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FluxPipeline
from transformers import CLIPTextModel, CLIPTokenizer

from diffusers_rdaam.demo.loader import WEIGHTS
from diffusers_rdaam.demo.train.flux.model import build_flow_scheduler, build_t5, build_transformer
from diffusers_rdaam.demo.train.flux.tokenizer import build_t5_tokenizer


def assemble_flux(checkpoint: Path) -> FluxPipeline:
    """The pipeline of a checkpoint's averaged weights, in float32.

    Args:
        checkpoint: ``flux-coarse.pt`` or ``flux-fine.pt`` of the training's folder.
    """
    tokenizer = build_t5_tokenizer()
    transformer, text_encoder = build_transformer(), build_t5(tokenizer)
    averaged = torch.load(checkpoint, weights_only=True)["averaged"]
    transformer.load_state_dict(averaged["transformer"])
    text_encoder.load_state_dict(averaged["text_encoder"])
    return FluxPipeline(
        scheduler=build_flow_scheduler(),
        # FluxPipeline subtracts the shift, which the embedded autoencoder's configuration lacks.
        vae=AutoencoderKL.from_pretrained(WEIGHTS / "vae", shift_factor=0.0).float(),
        text_encoder=CLIPTextModel.from_pretrained(WEIGHTS / "text_encoder").float(),
        tokenizer=CLIPTokenizer.from_pretrained(WEIGHTS / "tokenizer"),
        text_encoder_2=text_encoder.eval(),
        tokenizer_2=tokenizer,
        transformer=transformer.eval(),
    )


def export_flux(checkpoint: Path, out: Path) -> None:
    """Write transformer, T5, its tokenizer and the scheduler under ``out``, in half precision."""
    pipe = assemble_flux(checkpoint)
    for name in ("transformer", "text_encoder_2"):
        getattr(pipe, name).half().save_pretrained(out / name)
    for name in ("tokenizer_2", "scheduler"):
        getattr(pipe, name).save_pretrained(out / name)
    pipe.save_config(out)
    for path in sorted(out.rglob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

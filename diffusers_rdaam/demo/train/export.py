"""Put the trained parts together as a pipeline folder that plain diffusers loads."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from diffusers_rdaam.demo.train.denoiser import (
    build_denoiser,
    build_scheduler,
    build_text_encoder,
)
from diffusers_rdaam.demo.train.tokenizer import build_tokenizer, write_legacy_files


def assemble(folder: Path) -> StableDiffusionPipeline:
    """The pipeline of the last checkpoints' averaged weights, in float32."""
    tokenizer = build_tokenizer()
    unet, text_encoder = build_denoiser(), build_text_encoder(tokenizer)
    state = torch.load(folder / "denoiser.pt", weights_only=True)["averaged"]
    unet.load_state_dict(state["unet"])
    text_encoder.load_state_dict(state["text_encoder"])
    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export_pipeline(folder: Path, out: Path) -> None:
    """Write fp16 safetensors under ``out``, readable by diffusers and transformers old and new."""
    assemble(folder).save_pretrained(out)
    for path in sorted(out.rglob("*.safetensors")):
        weights = {name: tensor.half().contiguous() for name, tensor in load_file(path).items()}
        if path.parent.name == "text_encoder":
            # transformers 5 drops the prefix that transformers 4 looks for; both load with it.
            weights = {
                name if name.startswith("text_model.") else f"text_model.{name}": tensor
                for name, tensor in weights.items()
            }
        save_file(weights, path, metadata={"format": "pt"})
    for path in sorted(out.rglob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    write_legacy_files(out / "tokenizer")

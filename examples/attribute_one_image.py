"""The words of a box and a heat map a word, of a generated image or of one that exists.

python attribute_one_image.py "a red circle and a blue square" --box 9,65,58,115 --out found
python attribute_one_image.py "a cat on a sofa" --image photo.png --model ID_OR_FOLDER --device cuda
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from diffusers_rdaam import (
    Attribution,
    AutoRDAAMPipelineForText2Image,
    attribute_image,
    load_demo_pipeline,
)


def box_of(text: str) -> tuple[float, ...]:
    """``"9,65,58,115"`` as numbers."""
    edges = tuple(float(edge) for edge in text.split(","))
    if len(edges) != 4:
        raise argparse.ArgumentTypeError(f"a box is left,top,right,bottom in pixels; got {text!r}")
    return edges


def load(model: str | None, device: str) -> Any:
    """A pipeline of a hub id or a folder; the embedded one if there is none."""
    if model is None:
        return load_demo_pipeline().to(device)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    return AutoRDAAMPipelineForText2Image.from_pretrained(model, dtype=dtype).to(device)


def attribute(pipe: Any, prompt: str, image: Path | None, seed: int) -> Attribution:
    """Of the image, or of one that is generated."""
    generator = torch.Generator().manual_seed(seed)
    if image is not None:
        return attribute_image(pipe, image, prompt, generator=generator)
    return pipe(prompt, generator=generator).attribution


def main(arguments: list[str] | None = None) -> None:
    """Ask, print, and write the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("prompt", nargs="?", default="a red circle and a blue square")
    parser.add_argument("--image", type=Path, help="a file that the prompt describes")
    parser.add_argument("--box", type=box_of, help="left,top,right,bottom in pixels")
    parser.add_argument("--model", help="hub id or folder; the embedded model if not given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("found"))
    options = parser.parse_args(arguments)

    pipe = load(options.model, options.device)
    attribution = attribute(pipe, options.prompt, options.image, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    attribution.image.save(options.out / "image.png")
    attribution.save(options.out / "attribution.safetensors")
    attribution.to_html(options.out / "viewer.html")
    for number, heat_map in enumerate(attribution):
        heat_map.save(options.out / f"word-{number:02d}.png")
        print(f"word-{number:02d}.png  {heat_map.text:12}  peak {heat_map.peak:.3f}")
    if options.box is not None:
        print(attribution.region(options.box))


if __name__ == "__main__":
    main()

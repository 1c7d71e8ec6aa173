"""Two prompts over the same seeds, word by word, with intervals of the differences.

python compare_two_prompts.py "a red circle" "a red square" --seeds 5 --out compared
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from diffusers_rdaam import (
    Attribution,
    AttributionComparison,
    AutoRDAAMPipelineForText2Image,
    compare,
    load_demo_pipeline,
)


def runs(pipe: Any, prompt: str, seeds: int) -> list[Attribution]:
    """An attribution for each seed."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    return [pipe(prompt, generator=generator).attribution for generator in generators]


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Pictures of one size in a row."""
    width, height = pictures[0].size
    row = Image.new("RGB", (width * len(pictures), height))
    for number, picture in enumerate(pictures):
        row.paste(picture, (number * width, 0))
    return row


def main(arguments: list[str] | None = None) -> AttributionComparison:
    """Generate, compare, print the table, and write both rows of images."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("first", nargs="?", default="a red circle")
    parser.add_argument("second", nargs="?", default="a red square")
    parser.add_argument("--seeds", type=int, default=4, help="two or more give intervals")
    parser.add_argument("--model", help="hub id or folder; the embedded model if not given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("compared"))
    options = parser.parse_args(arguments)

    pipe = (
        load_demo_pipeline()
        if options.model is None
        else AutoRDAAMPipelineForText2Image.from_pretrained(options.model, dtype=torch.float32)
    ).to(options.device)
    sides = [runs(pipe, prompt, options.seeds) for prompt in (options.first, options.second)]
    found = compare(*sides, names=("first", "second"))
    print(found)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, side in zip(("first", "second"), sides, strict=True):
        side_by_side([one.image for one in side]).save(options.out / f"{name}.png")
    return found


if __name__ == "__main__":
    main()

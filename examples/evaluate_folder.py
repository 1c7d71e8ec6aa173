"""A model's maps against the masks of a folder, with 95 % intervals over images.

python evaluate_folder.py --out report                     # drawn scenes, the embedded model
python evaluate_folder.py VOCdevkit --data-format voc2012 --model ID_OR_FOLDER --out report
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from diffusers_rdaam import (
    AutoRDAAMPipelineForText2Image,
    Evaluation,
    drawn_scenes,
    evaluate,
    load_demo_pipeline,
    open_dataset,
    write_dataset,
)


def main(arguments: list[str] | None = None) -> Evaluation:
    """Evaluate, print the table and the differences, and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="a data set; drawn scenes if not given")
    parser.add_argument("--data-format", default="folder")
    parser.add_argument("--scenes", type=int, default=6, help="drawn where no data set is given")
    parser.add_argument("--protocol", default="daam")
    parser.add_argument("--maps", nargs="+", default=["mean", "mean, sharpen=true"])
    parser.add_argument("--model", help="hub id or folder; the embedded model if not given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("report"))
    options = parser.parse_args(arguments)

    folder = options.data
    if folder is None:
        # In the plain form, to be looked at: images, masks and a line for each image.
        folder = options.out / f"scenes-{options.scenes}"
        if not folder.exists():
            write_dataset(drawn_scenes(options.scenes), folder)
    data = open_dataset(folder, options.data_format)
    pipe = (
        load_demo_pipeline()
        if options.model is None
        else AutoRDAAMPipelineForText2Image.from_pretrained(options.model, dtype=torch.float32)
    ).to(options.device)
    found = evaluate(pipe, data, options.protocol, maps=options.maps, out=options.out / "run")
    print(found.table())
    first, *others = options.maps
    for maps in others:
        one = found.difference(maps, first)
        print(f"{maps} against {first}: {one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})")
    found.save(options.out)
    return found


if __name__ == "__main__":
    main()

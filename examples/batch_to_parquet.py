"""Many prompts to Parquet files with images, words, boxes and masks; the extra ``batch``.

python batch_to_parquet.py --out data                      # three rows of the embedded model
python batch_to_parquet.py prompts.jsonl --out data --model ID_OR_FOLDER --workers 4 --resume
"""

from __future__ import annotations

import argparse
from pathlib import Path

from diffusers_rdaam import BatchSummary, read_batch, run_batch

ROWS = [
    {
        "id": "pair",
        "prompt": "a red circle and a blue square",
        "seed": 3,
        "boxes": [[9, 65, 58, 115]],
    },
    {"id": "heart", "prompt": "a green heart", "words": ["green heart"]},
    {"id": "wrong", "prompt": "a green heart", "words": ["yellow"]},
]


def show(folder: Path) -> None:
    """A line for each row: what was made, or why it failed."""
    for row in read_batch(folder):
        if row.error is not None:
            print(f"{row.id:8} failed: {row.error}")
            continue
        for word in row.values["words"]:
            box = word["box"]
            where = "no part over the threshold" if box is None else [round(edge) for edge in box]
            print(f"{row.id:8} {word['text']:12} lift {word['lift'] or 0:.2f}  {where}")


def main(arguments: list[str] | None = None) -> BatchSummary:
    """Make the rows that are missing, and show all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("prompts", nargs="?", help="a file of rows; three examples if not given")
    parser.add_argument("--out", type=Path, default=Path("data"))
    parser.add_argument("--model", help="hub id or folder; the embedded model if not given")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--gpus-per-worker", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--resume", action="store_true", help="go on with what is in the folder")
    options = parser.parse_args(arguments)

    done = run_batch(
        options.prompts or ROWS,
        options.out,
        model=options.model,
        workers=options.workers,
        gpus_per_worker=options.gpus_per_worker,
        resume=options.resume,
        steps=options.steps,
    )
    print(f"{done.rows} rows in {options.out}, {done.made} made now, {done.errors} failed")
    show(options.out)
    return done


if __name__ == "__main__":
    main()

"""How the cost grows: with the image's height, rows, prompts, images and tokens.

Of a text attention of Stable Diffusion 1.5's first level at full width (320 channels, 8 heads): the
time of making and adding its maps, that of the stock call, what a recorded call takes more than it
(a small difference of large times), and the bytes of its buffers. Exponents are fitted to the first
over all lines of a table: 1 is in proportion.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import Attention

from benchmarks.one_site import recorded_pair
from benchmarks.report import Row, judged
from benchmarks.sizes import TINY_PIPELINE, TOKENS, fill_with_noise, unet_without_memory
from benchmarks.table import Table
from benchmarks.timing import Clock, Sample, clock_for, exponent, interleaved
from diffusers_rdaam import StableDiffusionRDAAMPipeline
from diffusers_rdaam.families.unet import UNetFamily

GUARDS = (
    "tests/kernels/test_portable.py",
    "tests/kernels/test_planes.py",
    "tests/recording/test_accumulator.py",
    "tests/attention/test_processor.py",
)

ROUNDS = 15
FULL_ROUNDS = 45
# Height and width of the latent, none square. Small, because from 16 MB a tensor upwards the system
# takes memory back between calls, and giving it again costs more than what is measured.
WIDTH = 24
HEIGHTS = (32, 48, 64, 96, 128)
GRID = (32, 16)
TEXT_GRID = (64, 24)
# Rows of a call, and how many of them are recorded.
BATCHES = ((1, 1), (2, 1), (4, 2), (8, 4), (16, 8))
TEXTS = (77, 154, 231)
# Prompts, and images of each, of whole runs of the tests' tiny model.
RUNS = ((1, 1), (2, 1), (1, 2), (2, 2), (4, 2))
STEPS = 4
# Four bytes of a pair, and four of the site's count.
CELL_BYTES = COUNT_BYTES = 4

_found: list[Table] = []


@dataclass(frozen=True)
class Case:
    """One line of a table.

    Args:
        name: its first cells.
        size: what the cost is fitted to.
        grid, rows, images, tokens: of the denoiser call.
    """

    name: tuple[str, ...]
    size: int
    grid: tuple[int, int] = GRID
    rows: int = 2
    images: int = 1
    tokens: int = TOKENS

    @property
    def formula(self) -> int:
        """Bytes that the package says it keeps."""
        height, width = self.grid
        return CELL_BYTES * self.images * self.tokens * height * width + COUNT_BYTES


@dataclass(frozen=True)
class Found:
    """What a case took: times of its maps alone and of both kinds of call, and bytes."""

    case: Case
    maps: Sample
    stock: Sample
    recorded: Sample
    kept: int


def run(*, full: bool = False, device: str = "cpu") -> list[Row]:
    """Four tables; with ``full`` more rounds."""
    rounds = FULL_ROUNDS if full else ROUNDS
    family, unet = UNetFamily(), unet_without_memory()
    # The last site of the first level: its input has the block's width.
    module: Any = fill_with_noise(family.sites(unet)[0].module).to(device)
    clock = clock_for(device)
    _found.clear()
    rows: list[Row] = []
    for what, columns, cases in _sweeps():
        found = [_measure(module, case, rounds, clock) for case in cases]
        _found.append(_table(what, columns, found, clock))
        rows += _rows(what, found)
    return rows + _runs(rounds)


def tables() -> list[Table]:
    """Those of the last :func:`run`."""
    return list(_found)


def _sweeps() -> Iterable[tuple[str, list[str], list[Case]]]:
    yield (
        f"image positions ({TOKENS} tokens, 2 rows of which 1 is recorded)",
        ["latent", "positions"],
        [
            Case((f"{WIDTH}x{height}", str(height * WIDTH)), height * WIDTH, grid=(height, WIDTH))
            for height in HEIGHTS
        ],
    )
    yield (
        f"recorded rows ({GRID[1]}x{GRID[0]} latent, {TOKENS} tokens)",
        ["rows", "of which recorded"],
        [
            Case((str(rows), str(images)), images, rows=rows, images=images)
            for rows, images in BATCHES
        ],
    )
    yield (
        f"tokens ({TEXT_GRID[1]}x{TEXT_GRID[0]} latent, 2 rows of which 1 is recorded)",
        ["tokens"],
        [Case((str(tokens),), tokens, grid=TEXT_GRID, tokens=tokens) for tokens in TEXTS],
    )


def _measure(module: Attention, case: Case, rounds: int, clock: Clock) -> Found:
    options: Any = {"rows": case.rows, "images": case.images, "tokens": case.tokens}
    with recorded_pair(module, case.grid, **options) as pair:
        calls = {
            "maps": pair.call_record,
            "stock": pair.call_stock,
            "recorded": pair.call_recorded,
        }
        taken = interleaved(calls, rounds=rounds, clock=clock)
        kept = pair.bytes_kept
        pair.recorder.read()
    return Found(case, taken["maps"], taken["stock"], taken["recorded"], kept)


def _table(what: str, columns: list[str], found: list[Found], clock: Clock) -> Table:
    names = ["maps alone", "to the line above", "stock call", "recorded - stock", "bytes kept"]
    rows, before = [], None
    for line in found:
        rows.append(
            [
                *line.case.name,
                line.maps.text(),
                _ratio(line.maps.median, before),
                line.stock.text(),
                line.recorded.minus(line.stock).text(),
                f"{line.kept:,}",
            ]
        )
        before = line.maps.median
    title = f"Growth with {what}; {clock.name} of one attention module"
    return Table(title, columns + names, rows)


def _ratio(cost: float, before: float | None) -> str:
    if before is None or before <= 0:
        return ""
    return f"{cost / before:.2f}"


def _rows(what: str, found: list[Found]) -> list[Row]:
    sizes = [line.case.size for line in found]
    power = exponent(sizes, [line.maps.median for line in found])
    fitted = "not fitted" if power is None else f"{power:.2f}"
    exact = [line for line in found if line.kept == line.case.formula]
    return [
        Row("growth", f"exponent of the maps' time in {what}", fitted),
        judged(
            "growth",
            f"bytes kept for {what}",
            f"{len(exact)} of {len(found)} as the formula has them",
            "4 a cell, 4 a site",
            len(exact) == len(found),
            deterministic=True,
        ),
    ]


def _runs(rounds: int) -> list[Row]:
    """Whole runs of the tests' tiny model on the processor: tokens and answers are in them."""
    stock, recorded = _pipeline(StableDiffusionPipeline), _pipeline(StableDiffusionRDAAMPipeline)
    lines, before, exact = [], None, 0
    for prompts, images in RUNS:
        outputs: dict[str, Any] = {}

        def call(name: str, pipe: Any, asked: tuple[int, int], kept: dict[str, Any]) -> None:
            kept[name] = _generate(pipe, *asked)

        asked = (prompts, images)
        calls = {
            "stock": lambda a=asked, o=outputs: call("stock", stock, a, o),
            "recorded": lambda a=asked, o=outputs: call("recorded", recorded, a, o),
        }
        taken = interleaved(calls, rounds=rounds // 3)
        extra = taken["recorded"].minus(taken["stock"])
        attributions = outputs["recorded"].attributions
        kept = sum(grid.maps.nbytes for one in attributions for grid in one.grids)
        exact += len(attributions) == prompts * images and torch.equal(
            outputs["recorded"].images, outputs["stock"].images
        )
        ratio, low, high = taken["recorded"].over(taken["stock"])
        lines.append(
            [
                f"{prompts} x {images}",
                taken["stock"].text(),
                extra.text(),
                _ratio(extra.median, before),
                f"{ratio:.2f} ({low:.2f} to {high:.2f})",
                f"{kept:,}",
            ]
        )
        before = extra.median
    columns = ["prompts x images", "stock", "added by recording", "to the line above"]
    title = (
        f"Growth with prompts and images; CPU time of whole runs of {STEPS} steps of the tests' "
        "tiny model (32 to 48 channels, 96x64 pixels)"
    )
    _found.append(Table(title, [*columns, "recorded / stock", "bytes of the attributions"], lines))
    measured = f"{exact} of {len(RUNS)}"
    what = "prompts x images: an attribution for each image, latents equal to stock"
    goal = f"{len(RUNS)} of {len(RUNS)}"
    return [judged("growth", what, measured, goal, exact == len(RUNS), deterministic=True)]


def _pipeline(cls: Any) -> Any:
    pipe = cls.from_pretrained(TINY_PIPELINE)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _generate(pipe: Any, prompts: int, images: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipe(
            ["a cat in a red hat", "two dogs", "a house by the sea", "snow"][:prompts],
            num_images_per_prompt=images,
            height=64,
            width=96,
            num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(5),
            output_type="latent",
        )

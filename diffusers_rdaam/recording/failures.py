"""Why a run has no attribution: checks when it is over."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from diffusers_rdaam.attention.options import RecordingOptions
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.errors import (
    ForeignThreadWarning,
    LayoutUnknownWarning,
    MaskedRowsWarning,
    NoAttributionError,
    NotFiniteWarning,
    ProcessorWarning,
)
from diffusers_rdaam.recording.buffers.step_accumulators import ImageMaps
from diffusers_rdaam.recording.installation import replaced
from diffusers_rdaam.recording.progress import Progress
from diffusers_rdaam.recording.records.text import TextRecord


def empty_error(progress: Progress, foreign_calls: int) -> NoAttributionError | None:
    """The error if no denoiser call had rows of the prompt; else None."""
    if progress.calls:
        return None
    if progress.negative_calls:
        return NoAttributionError(
            f"None of the {progress.negative_calls} recorded calls of the denoiser had rows of the "
            "prompt, only of the negative prompt. Give the layout of its rows as rows=.",
            warning=LayoutUnknownWarning,
        )
    if foreign_calls:
        return NoAttributionError(
            f"All {foreign_calls} calls of the denoiser came from another thread than the one that "
            "started the recording, and only that one's are recorded. Start the recording in the "
            "thread that runs the loop: put the with block inside of the function that it runs.",
            warning=ForeignThreadWarning,
        )
    return NoAttributionError("The run did not call the denoiser, so nothing was recorded.")


def lost_error(sites: Sequence[Site]) -> NoAttributionError | None:
    """The error if sites have lost the processor that records; else None."""
    lost = replaced(sites)
    if not lost:
        return None
    return NoAttributionError(
        f"{len(lost)} of {len(sites)} attention modules lost their RDAAMProcessor during the run: "
        f"the first, {lost[0].name}, has a {type(lost[0].processor).__name__} now. Its maps are "
        "not those of the whole run.",
        warning=ProcessorWarning,
    )


def silent_error(
    text: TextRecord, progress: Progress, called: Collection[str] = ("",)
) -> NoAttributionError | None:
    """The error if sites have recorded nothing; else None.

    Args:
        text, progress: of the run.
        called: what is put before the names of the sites of the denoisers that were called; one of
            several may have no step in a run.
    """
    others = tuple(prefix for prefix in text.prefixes if prefix and prefix not in called)
    silent = [site for site in text.silent() if not site.startswith(others)]
    if "" not in called:
        silent = [site for site in silent if site.startswith(tuple(called))]
    if not silent:
        return None
    return NoAttributionError(
        f"{len(silent)} of {len(text.sites)} attention modules recorded nothing in "
        f"{progress.calls} denoiser calls (the first is {silent[0]}). Most often a "
        "processor was replaced during the run: set processors before it.",
        warning=ProcessorWarning,
    )


def check_numbers(images: Sequence[ImageMaps], options: RecordingOptions) -> None:
    """Check that the maps are probabilities.

    Raises:
        NoAttributionError: the maps have NaN or infinity; or every key of a row of attention was
            masked, and the columns sum to less than 1 there.
    """
    # A single plane loses up to some per cent of its sums by rounding.
    least = 0.999 if options.precision == "fp16-pair" else 0.9
    for image in images:
        for grid in image.grids:
            sums = grid.maps.sum(dim=0)
            if not bool(torch.isfinite(sums).all()):
                sites = ", ".join(grid.sites[:3]) + (", …" if len(grid.sites) > 3 else "")
                raise NoAttributionError(
                    f"Attention had NaN or infinity at the grid of {grid.size[0]}x{grid.size[1]} "
                    f"({sites}). The usual cause is half precision that overflowed: load the "
                    "pipeline with dtype=torch.bfloat16 or torch.float32. An image with NaN is "
                    "black.",
                    warning=NotFiniteWarning,
                )
            if float(sums.min()) < least:
                raise NoAttributionError(
                    f"At the grid of {grid.size[0]}x{grid.size[1]} the columns sum to "
                    f"{float(sums.min()):.3g} at some positions, not to 1: every key of a row of "
                    "attention was masked there. Give an attention mask that leaves at least one "
                    "column.",
                    warning=MaskedRowsWarning,
                )

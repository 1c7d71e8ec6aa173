"""Why a run has no attribution, in words."""

from __future__ import annotations

from collections.abc import Sequence

from diffusers_rdaam.recording.progress import Progress
from diffusers_rdaam.recording.sites import Site, replaced
from diffusers_rdaam.recording.text_maps import TextMaps


def empty_text(progress: Progress) -> str | None:
    """No denoiser call had rows of the prompt."""
    if progress.calls:
        return None
    if progress.negative_calls:
        return (
            f"None of the {progress.negative_calls} recorded calls of the denoiser had rows of the "
            "prompt, only of the negative prompt. Is the layout of its rows right?"
        )
    return "The run did not call the denoiser, so nothing was recorded."


def lost_text(sites: Sequence[Site]) -> str | None:
    """Some sites do not carry what records any more."""
    lost = replaced(sites)
    if not lost:
        return None
    return (
        f"{len(lost)} of {len(sites)} attention modules lost their RDAAMProcessor during the run: "
        f"the first, {lost[0].name}, has a {type(lost[0].processor).__name__} now. Its maps are "
        "not those of the whole run."
    )


def silent_text(text: TextMaps, progress: Progress) -> str | None:
    """Some sites have recorded nothing."""
    silent = text.silent()
    if not silent:
        return None
    return (
        f"{len(silent)} of {len(text.sites)} attention modules recorded nothing in "
        f"{progress.calls} denoiser calls (the first is {silent[0]}). Was a processor replaced "
        "during the run?"
    )

"""The layout of modular pipelines, whose guiders call the denoiser once for each part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffusers_rdaam.errors import UnsupportedPipelineError
from diffusers_rdaam.families.rows import Branch, Parts, PartsOf

CFG_CALLS = (Branch.CONDITIONAL, Branch.UNCONDITIONAL)
# By the exact name of diffusers' class: the calls of a step with every kind of guidance on.
GUIDERS: dict[str, Parts] = {
    "ClassifierFreeGuidance": CFG_CALLS,
    "ClassifierFreeZeroStarGuidance": CFG_CALLS,
    "AdaptiveProjectedGuidance": CFG_CALLS,
    "AdaptiveProjectedMixGuidance": CFG_CALLS,
    "FrequencyDecoupledGuidance": CFG_CALLS,
    "MagnitudeAwareGuidance": CFG_CALLS,
    "TangentialClassifierFreeGuidance": CFG_CALLS,
    # Its second call drops layers, so what it attends to is not what the model would.
    "AutoGuidance": (Branch.CONDITIONAL, Branch.PERTURBED),
    "SkipLayerGuidance": (*CFG_CALLS, Branch.PERTURBED),
    "PerturbedAttentionGuidance": (*CFG_CALLS, Branch.PERTURBED),
    "SmoothedEnergyGuidance": (*CFG_CALLS, Branch.PERTURBED),
}


def guider_layout(guider: Any) -> PartsOf:
    """A layout that asks a guider of diffusers which branch each call is.

    A guider prepares its model before each of the calls of a step and counts them: the first is
    conditional, then comes the unconditional one if it guides so, then one with skipped or
    perturbed layers, which belongs to neither prompt.

    Args:
        guider: the pipeline's guider; or a function that returns the current one, for a pipeline
            whose guider may be exchanged.

    Raises:
        UnsupportedPipelineError: the order of this guider's calls is not known.
    """
    # A guider is callable too, with the predictions of a step.
    current: Callable[[], Any] = guider if _is_function(guider) else lambda: guider

    def parts(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parts:
        now = current()
        calls = _calls(now)
        index = now.get_state()["count_prepared"] - 1
        if not 0 <= index < len(calls):
            raise UnsupportedPipelineError(
                f"This is call {index + 1} of a step in which {type(now).__name__} makes "
                f"{len(calls)}. Was the denoiser called by something else than the guider's loop?"
            )
        return (calls[index],)

    _calls(current())
    return parts


def _is_function(guider: Any) -> bool:
    return callable(guider) and not hasattr(guider, "get_state")


def _calls(guider: Any) -> Parts:
    """The parts of the calls of this step, in order."""
    name = type(guider).__name__
    if name not in GUIDERS:
        raise UnsupportedPipelineError(
            f"The order of {name}'s denoiser calls is not known, and it is never guessed. Known "
            f"guiders: {', '.join(GUIDERS)}."
        )
    parts = GUIDERS[name]
    # Before the first step the number of calls is not settled.
    if guider.get_state()["step"] is None or guider.num_conditions == len(parts):
        return parts
    if guider.num_conditions == 2:
        return CFG_CALLS if guider._is_cfg_enabled() else (Branch.CONDITIONAL, Branch.PERTURBED)
    return (Branch.CONDITIONAL,)

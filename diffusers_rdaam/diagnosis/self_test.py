"""The embedded models on this machine, against numbers that are stored here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from diffusers_rdaam.demo.loader import FLUX_DEFAULTS, load_demo_pipeline
from diffusers_rdaam.diagnosis.examination import Examination, examine
from diffusers_rdaam.families.registry import stock_class

PROMPT, SEED, STEPS = "a red circle and a blue square", 3, 2
# Mean attention probability of each word over the image, of the run that `examine` makes: measured
# on a CPU in float32. Another device's rounding changes the image a little, and they follow.
EXPECTED: dict[str, dict[str, float]] = {
    "stable-diffusion": {
        "a": 0.10403,
        "red": 0.05964,
        "circle": 0.18136,
        "and": 0.07411,
        "blue": 0.03932,
        "square": 0.16159,
    },
    "flux": {
        "a": 0.018057,
        "red": 0.010699,
        "circle": 0.019993,
        "and": 0.013123,
        "blue": 0.0095296,
        "square": 0.013973,
    },
}
TOLERANCE = 0.02


@dataclass(frozen=True)
class SelfTest:
    """One embedded model's examination and its words.

    Args:
        model: ``"stable-diffusion"`` or ``"flux"``.
        examination: of image and maps.
        measured: mean attention probability of each word.
        expected: the stored ones.
    """

    model: str
    examination: Examination
    measured: dict[str, float]
    expected: dict[str, float]

    @property
    def largest_deviation(self) -> float:
        """Of the words' numbers from the stored ones, relative."""
        return max(
            abs(self.measured.get(word, 0.0) / wanted - 1) for word, wanted in self.expected.items()
        )

    @property
    def passed(self) -> bool:
        """Whether image, maps and numbers are right."""
        return self.examination.passed and self.largest_deviation <= TOLERANCE


def self_test(device: str = "cpu", dtype: torch.dtype = torch.float32) -> list[SelfTest]:
    """Examine both embedded models on a device."""
    return [_tested(model, device, dtype) for model in EXPECTED]


def _tested(model: Any, device: str, dtype: torch.dtype) -> SelfTest:
    ours = load_demo_pipeline(model, dtype=dtype).to(device)
    stock: Any = stock_class(type(ours))
    settings: dict[str, Any] = {"guidance_scale": 4.0}
    if model == "flux":
        settings = {**FLUX_DEFAULTS, "height": 128, "width": 128}
        del settings["num_inference_steps"]
    components = dict(ours.components)
    if "safety_checker" in components:
        components["requires_safety_checker"] = False
    pipe = stock(**components)
    pipe.set_progress_bar_config(disable=True)
    examination = examine(pipe, prompt=PROMPT, steps=STEPS, seed=SEED, rounds=1, **settings)
    return SelfTest(model, examination, examination.words, EXPECTED[model])

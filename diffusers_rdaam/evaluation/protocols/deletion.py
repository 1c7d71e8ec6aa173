"""Deletion and insertion on the denoiser: how soon a word is gone when its pixels are taken away.

A generator has no class probability. In its place stands how much worse the model predicts the
image's noise without the word: ``mean ||u - u(x, prompt without the word)||^2 - ||u - u(x,
prompt)||^2`` over fixed levels and noise, with the velocity ``u``, over that of the image as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from diffusers_rdaam.argument_checks import check_count
from diffusers_rdaam.evaluation.metrics.ranking import area_under_curve
from diffusers_rdaam.evaluation.protocols.protocol import (
    Answers,
    Protocol,
    Question,
    boolean_option,
    resized,
)
from diffusers_rdaam.evaluation.protocols.scores import empty_scores, words_to_score
from diffusers_rdaam.evaluation.sample import DataSet, Sample

SIGMA_SHARE = 1 / 8


@dataclass(frozen=True)
class Deletion(Protocol):
    """The area under the word's score while pixels are replaced, the map's highest first.

    Next to it stand a random order and the map turned round, with the same noise.

    Args:
        parts: in how many equal parts the pixels are replaced.
        insertion: also from the replaced image back, the highest pixels first.
    """

    name: ClassVar[str] = "deletion"
    summary: ClassVar[str] = "deletion on the denoiser, against a random and the inverted order"
    reference: ClassVar[str] = "Petsiuk et al., RISE (BMVC 2018), with the denoiser as the judge"
    flaws: ClassVar[tuple[str, ...]] = (
        "pixels are replaced by black, which no autoencoder has seen in photos; the honest form "
        "blurs",
    )
    metrics: ClassVar[tuple[str, ...]] = (
        *("deletion", "insertion", "deletion_random", "deletion_inverted", "coverage"),
    )
    published_metrics: ClassVar[tuple[str, ...]] = (
        *("deletion", "deletion_random", "deletion_inverted", "coverage"),
    )
    tunable: ClassVar[bool] = False

    parts: int = 8
    insertion: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "parts", check_count(self.parts, "parts=", least=2))
        boolean_option("insertion", self.insertion)

    def score(
        self, question: Question, answers: Answers, sample: Sample, data: DataSet
    ) -> dict[str, Any]:
        """The areas of each word."""
        found = empty_scores()
        assert sample.image is not None
        image = np.asarray(sample.image.convert("RGB"), dtype=np.float64) / 255.0
        ground = blurred(image) if self.strict else np.zeros_like(image)
        for number, one, word_map in words_to_score(question, answers, sample.scored, found):
            if word_map is None:
                continue
            values = resized(word_map.values, (image.shape[0], image.shape[1]))
            areas = self._areas(answers, one.text, image, ground, values, number)
            if areas is None:
                found["empty"] += 1
                continue
            found["words"].append({"text": one.text, "class": one.name} | areas)
        return found

    def _areas(
        self,
        answers: Answers,
        text: str,
        image: np.ndarray,
        ground: np.ndarray,
        values: np.ndarray,
        number: int,
    ) -> dict[str, Any] | None:
        """The areas under the curves; None where the model does as well without the word."""
        noise = np.random.default_rng(number).random(values.shape)
        orders = {"deletion": values, "deletion_random": noise, "deletion_inverted": -values}
        edited = {name: edits(image, ground, one, self.parts) for name, one in orders.items()}
        if self.insertion and self.strict:
            edited["insertion"] = edits(ground, image, values, self.parts)
        asked = [image, ground, *(one for images in edited.values() for one in images)]
        whole, gone, *inner = answers.losses(asked, text)
        if whole <= 0.0:
            return None
        areas = {}
        for place, name in enumerate(edited):
            part = inner[place * (self.parts - 1) : (place + 1) * (self.parts - 1)]
            ends = (gone, whole) if name == "insertion" else (whole, gone)
            areas[name] = area_under_curve([one / whole for one in (ends[0], *part, ends[1])])
        return areas


def edits(image: np.ndarray, ground: np.ndarray, order: np.ndarray, parts: int) -> list[np.ndarray]:
    """The image with 1, 2, … of its parts replaced, the highest values of ``order`` first.

    The image itself and the wholly replaced one are not among them.
    """
    ranked = np.argsort(-order, axis=None, kind="stable")
    found = []
    for part in range(1, parts):
        edited = image.reshape(-1, image.shape[-1]).copy()
        taken = ranked[: len(ranked) * part // parts]
        edited[taken] = ground.reshape(-1, image.shape[-1])[taken]
        found.append(edited.reshape(image.shape))
    return found


def blurred(image: np.ndarray) -> np.ndarray:
    """A Gaussian blur by an eighth of the shorter side, the border repeated."""
    sigma = max(1.0, min(image.shape[:2]) * SIGMA_SHARE)
    radius = int(2 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64, device="cpu")
    line = torch.exp(-0.5 * (offsets / sigma) ** 2)
    line /= line.sum()
    planes = torch.from_numpy(image).permute(2, 0, 1)[:, None]
    padded = F.pad(planes, [radius] * 4, mode="replicate")
    down = F.conv2d(padded, line.view(1, 1, -1, 1))
    across = F.conv2d(down, line.view(1, 1, 1, -1))
    return across[:, 0].permute(1, 2, 0).numpy()

"""The dense CRF (Krähenbühl and Koltun, 2011) over the probabilities of a segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.argument_checks import check_choice, check_count, real_number
from diffusers_rdaam.errors import CRFExtraError, InputError
from diffusers_rdaam.shapes import ClassScores

Unary = Literal["soft", "hard"]
# The longer side of the images that the distances of the papers are for, in pixels.
PAPER_IMAGE_SIDE = 512.0
# The lowest probability of the unary term: -log is at most 11.5.
_LEAST = 1e-5
MISSING = (
    "The dense CRF needs pydensecrf, which a C++ compiler such as g++ builds while it is "
    "installed, on Python 3.11 or 3.12; the guided filter, HeatMap.sharpened(), needs nothing. "
    "Install it with: "
    'pip install "diffusers_rdaam[crf]"'
)


@dataclass(frozen=True)
class DenseCRF:
    """Probabilities that agree with the image's edges: pixels of like colour, like label.

    The energy is ``-log p`` of each pixel, plus for each pair of pixels with different labels a
    Gaussian of their distance and another of distance and colour.

    Args:
        bilateral_weight, bilateral_xy, bilateral_rgb: of the second: its weight, its deviation in
            pixels, and in colours from 0 to 255. The distances that are not given are for images
            of 512 pixels: give other ones, or ``image_side=512``, for much smaller or larger ones.
        smoothness_weight, smoothness_xy: of the first; a weight of 0 leaves a term out.
        iterations: of mean-field inference.
        unary: ``"soft"`` takes the probabilities as they are. ``"hard"`` first makes 0 and 1 of
            them, as OVAM does: what is certain is hardly ever changed, so that little is gained.
        image_side: the longer side, in pixels, of the images that the distances are for; they are
            scaled to each image. If not given, they are in pixels of the image.

    Raises:
        InputError: a number is out of range.
    """

    bilateral_weight: float = 10.0
    bilateral_xy: float = 80.0
    bilateral_rgb: float = 13.0
    smoothness_weight: float = 3.0
    smoothness_xy: float = 3.0
    iterations: int = 5
    unary: Unary = "soft"
    image_side: float | None = None

    def __post_init__(self) -> None:
        check_choice(self.unary, Unary, "a unary term")
        check_count(self.iterations, "iterations=")
        for name in ("bilateral_weight", "smoothness_weight"):
            number = real_number(getattr(self, name))
            if number is None or number < 0.0:
                raise InputError(f"{name}= is a number from 0; got {getattr(self, name)!r}.")
        for name in ("bilateral_xy", "bilateral_rgb", "smoothness_xy"):
            number = real_number(getattr(self, name))
            if number is None or not number > 0.0:
                raise InputError(f"{name}= is a number over 0; got {getattr(self, name)!r}.")
        side = real_number(self.image_side) if self.image_side is not None else 1.0
        if side is None or not 0.0 < side < float("inf"):
            raise InputError(
                f"image_side= is a number of pixels over 0, or None; got {self.image_side!r}."
            )

    @classmethod
    def ovam(cls, *, image_side: float | None = None) -> DenseCRF:
        """What OVAM's experiments run, on the mask and not on the map: nothing is gained by it.

        Args:
            image_side: see the class; OVAM's images have 512 pixels, and it scales nothing.
        """
        return cls(unary="hard", image_side=image_side)

    def __call__(self, image: Image.Image, probabilities: ClassScores) -> ClassScores:
        """The probabilities after inference, of the same shape.

        Args:
            image: of the size of the probabilities, in RGB.
            probabilities: ``(classes, height, width)``, at least two classes; they sum to 1 at
                every pixel.

        Raises:
            CRFExtraError: pydensecrf is not installed.
            InputError: the image is of another size, or there is one class alone.
        """
        densecrf = _library()
        classes, height, width = probabilities.shape
        if image.size != (width, height):
            raise InputError(
                f"The image is {image.width}x{image.height} pixels (width x height), the "
                f"probabilities are {width}x{height}. Resize one of them."
            )
        if classes < 2:
            raise InputError(
                "A CRF chooses between at least two classes, of which the background is one. "
                "Give one more."
            )
        share = max(width, height) / self.image_side if self.image_side else 1.0
        field = densecrf.DenseCRF2D(width, height, classes)
        field.setUnaryEnergy(self._unary(probabilities))
        if self.smoothness_weight:
            field.addPairwiseGaussian(sxy=self.smoothness_xy * share, compat=self.smoothness_weight)
        if self.bilateral_weight:
            # A copy: the library does not take what it may not write to.
            pixels = np.array(image.convert("RGB"), dtype=np.uint8, order="C")
            field.addPairwiseBilateral(
                sxy=self.bilateral_xy * share,
                srgb=self.bilateral_rgb,
                rgbim=pixels,
                compat=self.bilateral_weight,
            )
        found = np.array(field.inference(self.iterations), dtype=np.float32)
        return torch.from_numpy(found.reshape(classes, height, width))

    def _unary(self, probabilities: ClassScores) -> np.ndarray:
        given = probabilities.detach().cpu().float()
        if self.unary == "hard":
            labels = given.argmax(dim=0, keepdim=True)
            given = torch.zeros_like(given).scatter_(0, labels, 1.0)
        energy = -torch.log(given.clamp(min=_LEAST, max=1.0 - _LEAST))
        return np.ascontiguousarray(energy.flatten(1).numpy())


def check_installed() -> None:
    """Refuse a CRF where there is none.

    Raises:
        CRFExtraError: pydensecrf is not installed.
    """
    _library()


def _library() -> Any:
    try:
        import pydensecrf.densecrf as densecrf
    except ImportError as error:
        raise CRFExtraError(MISSING) from error
    return densecrf

"""OVAM's two dense CRFs, on pydensecrf (the extra ``crf``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.geometry.dense_crf import DenseCRF


def densecrf(
    image: Image.Image | np.ndarray,
    mask: np.ndarray,
    w1: float = 10.0,
    alpha: float = 80.0,
    beta: float = 13.0,
    w2: float = 3.0,
    gamma: float = 3.0,
    it: int = 5,
) -> np.ndarray:
    """The class of each pixel, ``(height, width)``, after SimpleCRF's model.

    SimpleCRF does not install any more; the same model is pydensecrf's with these numbers. Where
    ``mask`` has 0 and 1, as in OVAM's experiments, hardly a pixel changes: give probabilities.

    Args:
        image: ``(height, width, 3)`` from 0 to 255.
        mask: probabilities ``(height, width, classes)``, or of one class ``(height, width)``.
        w1, alpha, beta: weight, deviation in pixels and in colours of the bilateral term.
        w2, gamma: weight and deviation of the spatial term.
        it: iterations.

    Raises:
        CRFExtraError: pydensecrf is not installed.
        InputError: the mask is not of the image's size.
    """
    crf = DenseCRF(w1, alpha, beta, w2, gamma, int(it))
    return _run(crf, image, mask).argmax(axis=0)


def dcrf_mask(
    image: Image.Image | np.ndarray,
    mask: np.ndarray,
    sxy: float = 100.0,
    srgb: float = 1.0,
    compat: float = 1.0,
    inference: int = 3,
) -> np.ndarray:
    """OVAM's other one: the bilateral term alone. Width and height are in the right order here."""
    crf = DenseCRF(compat, sxy, srgb, smoothness_weight=0.0, iterations=inference)
    return _run(crf, image, mask).argmax(axis=0)


def _run(crf: DenseCRF, image: Any, mask: Any) -> np.ndarray:
    picture = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    given = np.array(mask, dtype=np.float32)
    if given.ndim == 2:
        given = np.stack([1 - given, given], axis=-1)
    if given.ndim != 3 or given.shape[:2] != (picture.height, picture.width):
        raise InputError(
            f"A mask is (height, width) or (height, width, classes) of the image's size "
            f"{(picture.height, picture.width)}; got {np.shape(mask)}."
        )
    probabilities = torch.from_numpy(given).permute(2, 0, 1)
    return crf(picture, probabilities).numpy()

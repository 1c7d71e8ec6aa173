"""How well CLIP finds a class in an image: the probability of "a CLASS" against "not a CLASS"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from diffusers_rdaam.errors import InputError


class ClipRank:
    """A CLIP model that ranks images by class, as OVAM's filter of synthetic data does.

    Args:
        model: a ``transformers.CLIPModel``.
        processor: its ``CLIPProcessor``.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor

    @classmethod
    def from_pretrained(cls, path: str | Path) -> ClipRank:
        """A CLIP model from a folder or hub id.

        Raises:
            InputError: it cannot be loaded.
        """
        from transformers import CLIPModel, CLIPProcessor

        try:
            return cls(
                CLIPModel.from_pretrained(str(path)).eval(),
                CLIPProcessor.from_pretrained(str(path)),
            )
        # Each library has an exception of its own for a folder that is not a model.
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).split("\n")[0]
            raise InputError(
                f"No CLIP model could be loaded from {path}: {reason[:300]} Give the folder of a "
                "whole CLIPModel with its processor, such as openai/clip-vit-base-patch32."
            ) from error

    @torch.inference_mode()
    def __call__(self, image: Image.Image, name: str) -> float:
        """The probability of "a NAME" against "not a NAME", from 0 to 1."""
        texts = [f"a {name}", f"not a {name}"]
        given = self.processor(
            text=texts, images=image.convert("RGB"), return_tensors="pt", padding=True
        )
        given = {key: value.to(self.model.device) for key, value in given.items()}
        logits = self.model(**given).logits_per_image[0].float()
        return float(logits.softmax(dim=-1)[0])

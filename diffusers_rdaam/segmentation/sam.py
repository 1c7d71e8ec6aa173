"""SAM and SAM 2 of transformers as a segmenter: a box, a point, or both become a mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.geometry.region import Box
from diffusers_rdaam.segmentation.annotate import Point
from diffusers_rdaam.shapes import BinaryMask

# A checkpoint of SAM 2 says that it is for videos; its image half is what is used.
_KINDS = {"sam": "Sam", "sam_hq": "SamHQ", "sam2": "Sam2", "sam2_video": "Sam2"}


class SamSegmenter:
    """A segmenter for :func:`annotate`; no weights come with the package.

    Args:
        model: a ``SamModel``, ``SamHQModel`` or ``Sam2Model`` of transformers.
        processor: the processor of the model.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor

    @classmethod
    def from_pretrained(cls, path: str | Path) -> SamSegmenter:
        """The model and processor of a folder or hub id, such as ``facebook/sam-vit-base``.

        Raises:
            InputError: they cannot be loaded, or are of another kind of model.
        """
        import transformers

        try:
            kind = transformers.AutoConfig.from_pretrained(str(path)).model_type
            if kind not in _KINDS:
                raise ValueError(f"it is a {kind!r}; kinds: {', '.join(_KINDS)}")
            name = _KINDS[kind]
            if name == "Sam2" and not transformers.utils.is_torchvision_available():
                raise ValueError(
                    "the processor of SAM 2 needs torchvision: pip install torchvision"
                )
            # By name: a checkpoint for videos names a processor of videos.
            processor = getattr(transformers, f"{name}Processor").from_pretrained(str(path))
            model = getattr(transformers, f"{name}Model").from_pretrained(str(path)).eval()
            return cls(model, processor)
        # Each library has an exception of its own for a folder that is not a model.
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).split("\n")[0]
            raise InputError(
                f"No SAM could be loaded from {path}: {reason[:300]}. Give the folder or hub id of "
                "a SamModel or Sam2Model with its processor, such as facebook/sam-vit-base."
            ) from error

    @torch.inference_mode()
    def __call__(self, image: Image.Image, box: Box | None, point: Point | None) -> BinaryMask:
        """The mask that the model is surest of, ``(height, width)`` booleans.

        Raises:
            InputError: there is neither a box nor a point.
        """
        if box is None and point is None:
            raise InputError("SAM needs a box or a point to know which object is meant.")
        prompts: dict[str, Any] = {}
        if box is not None:
            prompts["input_boxes"] = [[[float(edge) for edge in box]]]
        if point is not None:
            prompts["input_points"] = [[[[float(point[0]), float(point[1])]]]]
            prompts["input_labels"] = [[[1]]]
        given = self.processor(images=image.convert("RGB"), return_tensors="pt", **prompts)
        given = given.to(self.model.device)
        output = self.model(
            **{key: value for key, value in given.items() if not key.endswith("_sizes")}
        )
        sizes = [given["original_sizes"].cpu()]
        if "reshaped_input_sizes" in given:
            sizes.append(given["reshaped_input_sizes"].cpu())
        masks = self.processor.post_process_masks(output.pred_masks.cpu(), *sizes)[0]
        # Of the one object three masks, with the model's guess of how good each is.
        best = int(output.iou_scores.flatten().argmax())
        return masks.reshape(-1, *masks.shape[-2:])[best].bool()

"""AblationRegeneration: a generation that does not see some columns of its prompt."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.explain.regeneration import Regeneration, without_words
from diffusers_rdaam.families import Branch
from diffusers_rdaam.geometry.region import Region

Mode = Literal["mask", "padding"]


class AblationRegeneration(Regeneration):
    """A generation without some columns.

    Args:
        pipe: the pipeline.
        columns: that are taken away; none for the plain image.
        mode: ``"mask"`` hides the columns from the text attention of the conditional rows;
            ``"padding"`` puts the empty prompt's embedding in their place.
        regions: checked against the image's size before the first denoiser call.
    """

    def __init__(
        self,
        pipe: Any,
        columns: tuple[int, ...] = (),
        mode: Mode = "mask",
        regions: list[Region | None] | None = None,
    ) -> None:
        super().__init__(pipe)
        self.columns = columns
        self.mode = mode
        self.regions = regions or []
        self.tokens = 0
        self._checked = False

    def encode(self, stock: Any, *args: Any, **kwargs: Any) -> Any:
        encoded = list(stock(*args, **kwargs))
        self.tokens = encoded[0].shape[1]
        if self.mode == "padding" and self.columns:
            empty = without_words(stock, args, kwargs)[0]
            if empty.shape != encoded[0].shape:
                raise InputError(
                    f"The prompt's embedding is {tuple(encoded[0].shape)}, an empty prompt's is "
                    f"{tuple(empty.shape)}: columns cannot be exchanged. Use mode='mask'."
                )
            encoded[0] = encoded[0].clone()
            encoded[0][:, list(self.columns)] = empty[:, list(self.columns)]
        return tuple(encoded)

    def denoise(self, *args: Any, **kwargs: Any) -> Any:
        if not self._checked:
            self._checked = True
            size = self.family.image_size(self.pipe, tuple(args[0].shape[-2:]))
            for region in self.regions:
                if region is not None:
                    region.coverage(size)
        if self.mode == "mask" and self.columns:
            call = self.family.read_call(self.clone, args, kwargs)
            if call is not None and Branch.CONDITIONAL in call.branches:
                start, stop = call.branches[Branch.CONDITIONAL]
                shape, device = (len(args[0]), call.columns), args[0].device
                seen = torch.ones(shape, dtype=torch.float32, device=device)
                seen[start:stop, list(self.columns)] = 0.0
                kwargs = kwargs | {"encoder_attention_mask": seen}
        return super().denoise(*args, **kwargs)

    @torch.no_grad()
    def run(self, arguments: dict[str, Any]) -> Tensor:
        return super().run(arguments)

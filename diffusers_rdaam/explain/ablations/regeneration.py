"""AblationRegeneration: a generation that does not see some columns of its prompt."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Literal

import torch
from torch import Tensor

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.explain.ablations.hidden_text import HiddenText
from diffusers_rdaam.explain.explained import without_words
from diffusers_rdaam.explain.regeneration import Regeneration
from diffusers_rdaam.families import Branch, DenoiserCall
from diffusers_rdaam.geometry.region import Region
from diffusers_rdaam.recording.armed import claim

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
        self._hidden_text = HiddenText(self.family.sites(self.denoiser))

    def without(self, columns: tuple[int, ...], mode: Mode) -> AblationRegeneration:
        """A generation by the same pipeline without some columns."""
        found = AblationRegeneration(self.pipe, columns, mode)
        # The same objects again: a compiled denoiser would be compiled anew for others.
        found._hidden_text = self._hidden_text
        return found

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
        if self.calls == 1:
            size = self.image_size()
            for region in self.regions:
                if region is not None:
                    region.coverage(size)
        call = self._call_of_prompt(args, kwargs)
        if call is None:
            return super().denoise(*args, **kwargs)
        if call.joint is not None:
            with self._hidden_text.hidden(call, self.columns):
                return super().denoise(*args, **kwargs)
        start, stop = call.branches[Branch.CONDITIONAL]
        seen = torch.ones((len(args[0]), call.columns), dtype=torch.float32, device=call.device)
        seen[start:stop, list(self.columns)] = 0.0
        return super().denoise(*args, **(kwargs | {"encoder_attention_mask": seen}))

    def _call_of_prompt(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> DenoiserCall | None:
        """The present call, if it has rows of the prompt in which columns are to be hidden."""
        if self.mode != "mask" or not self.columns:
            return None
        call = self.call
        if call is None:
            # Skip-layer guidance: the prompt's rows alone, with layers left out.
            others = {name: value for name, value in kwargs.items() if name != "skip_layers"}
            call = self.family.with_layout(None).read_call(self.clone, args, others)
        return call if call is not None and Branch.CONDITIONAL in call.branches else None

    @torch.no_grad()
    def run(self, arguments: dict[str, Any]) -> Tensor:
        """Generate.

        Raises:
            AlreadyRecordingError: columns are to be hidden in a transformer that another run has.
        """
        undo = ExitStack()
        # Closed twice: an interrupt on the way out of ``with`` itself would leave processors.
        try:
            with undo:
                if self.mode == "mask" and self.columns and self.family.tokens:
                    claim(self.denoiser, self, undo)
                    self._hidden_text.install(undo)
                return super().run(arguments)
        finally:
            undo.close()

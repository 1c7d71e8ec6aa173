"""AttentionHookManager: every call's attention probabilities, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from einops import rearrange

from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import AlreadyRecordingError, NoAttributionError
from diffusers_rdaam.pipelines.record_attention import record_attention
from diffusers_rdaam.pipelines.record_denoiser import DenoiserRecording

# Fifty steps of Stable Diffusion 1.5 at 512 pixels are 3.4e9 bytes.
DEFAULT_BUDGET = 4 * 2**30


class ConditionalMaps(dict[str, list[torch.Tensor]]):
    """By layer a list of the calls' ``(images * heads, places, tokens)``; no unconditional rows."""


class HookHandle:
    """The handle by which :func:`remove_hooks` takes a hook away."""

    def __init__(self, undo: ExitStack) -> None:
        # The standard library's: no line of ours comes before what it undoes. A second time does
        # nothing, and after an interrupt the second one does the rest.
        self.remove = undo.close


class AttentionHookManager:
    """Keeps the attention of all calls of a UNet between ``register_hooks`` and ``remove_hooks``.

    Args:
        guided: whether a UNet call has the unconditional rows first; if not given, that is so for
            every batch of an even number.
        budget: how many bytes the maps may take.
    """

    def __init__(self, *, guided: bool | None = None, budget: int = DEFAULT_BUDGET) -> None:
        self._guided = guided
        self._budget = budget
        self._unet: Any = None
        self._recording: DenoiserRecording | None = None
        self._registered = False
        self._undo = ExitStack()

    def register_hooks(self, unet: Any) -> list[HookHandle]:
        """Begin to record; the list is for :func:`remove_hooks`.

        Raises:
            AlreadyRecordingError: the UNet is being recorded, by this or by something else.
        """
        if self._registered:
            raise AlreadyRecordingError("The hooks are registered already; remove them first.")
        self._unet = unet
        self._start()
        return [HookHandle(self._undo)]

    def reset(self) -> None:
        """Forget all maps; where hooks are registered, begin anew."""
        registered = self._registered
        self._undo.close()
        self._recording = None
        if registered:
            self._start()

    @property
    def attention_maps(self) -> ConditionalMaps:
        """The maps of all calls since the hooks were registered."""
        try:
            found = [] if self._recording is None else self._recording.attributions
        except NoAttributionError:
            found = []
        return _by_call(found)

    def _start(self) -> None:
        template = RDAAMProcessor(keep=("steps", "layers", "heads"), budget=self._budget)
        try:
            self._undo.callback(setattr, self, "_registered", False)
            self._registered = True
            recording = self._undo.enter_context(
                record_attention(self._unet, template, rows=self._rows)
            )
            assert isinstance(recording, DenoiserRecording)
            self._recording = recording
        except BaseException:
            self._undo.close()
            raise

    def _rows(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        sample = kwargs["sample"] if "sample" in kwargs else args[0]
        guided = self._guided if self._guided is not None else sample.shape[0] % 2 == 0
        return ("unconditional", "conditional") if guided else ("conditional",)


def remove_hooks(hook_handles: Iterable[HookHandle]) -> None:
    """Stop recording what ``register_hooks`` began."""
    for handle in hook_handles:
        handle.remove()


def _by_call(images: list[Attribution]) -> ConditionalMaps:
    maps = ConditionalMaps()
    for kept in [images[0].kept] if images else []:
        assert kept is not None
        for index, detail in enumerate(kept.details):
            parts = [image.kept.details[index].maps for image in images if image.kept is not None]
            every = rearrange(
                torch.stack(parts),
                "images steps heads tokens h w -> steps (images heads) (h w) tokens",
            )
            calls = zip(every, detail.additions, strict=True)
            maps[detail.sites[0]] = [call for call, additions in calls if additions]
    return maps

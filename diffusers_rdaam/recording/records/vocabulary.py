"""VocabularyRecord: maps of texts that are not the prompt, recorded together with the prompt's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffusers_rdaam.attention.attention_call import AttentionCall
from diffusers_rdaam.attention.foreign import normalizes
from diffusers_rdaam.attention.map_target import BranchTarget, Target
from diffusers_rdaam.attention.observer import ObserverGroup
from diffusers_rdaam.attention.options import RecordingOptions
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.attention.unet_projection import project_key
from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.families import Branch, DenoiserCall, Family, RowsOfBranches
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.recording.buffers.accumulator import (
    SINGLE_PLANE_ADDITIONS,
    AccumulatorShape,
    HeatMapAccumulator,
)
from diffusers_rdaam.recording.memory.budget import megabytes
from diffusers_rdaam.recording.progress import Progress
from diffusers_rdaam.recording.records.accumulated import AccumulatedRecord
from diffusers_rdaam.recording.records.run_record import VocabularyEntry
from diffusers_rdaam.recording.site_devices import device_of, devices_of


@dataclass(frozen=True, eq=False)
class EncodedText:
    """A text with the embedding that the denoiser reads.

    Args:
        prompt: the text and its tokens, one for each row of the embedding.
        embedding: ``(tokens, width)``.
    """

    prompt: Prompt
    embedding: Tensor = field(repr=False)


@dataclass
class TextTarget:
    """The observer that adds the maps of another text, with the image's queries.

    Args:
        key: ``(1, heads, tokens, dim)``.
        target: where they are added.
        failure: an exception of recording. A call that does not match the buffers is noted by the
            prompt's target.
    """

    key: Tensor
    target: Target
    failure: Exception | None = None

    def see(self, call: AttentionCall) -> None:
        """Add the maps of a softmax over this text's tokens alone.

        The call's mask and log-sum-exp are left out: they belong to the prompt.
        """
        query = call.query
        key = self.key.to(query.dtype).expand(query.shape[0], -1, -1, -1)
        self.target.see(AttentionCall(query, key, None, None, call.scale, image=call.image))


def text_projection(denoiser: Any) -> Any:
    """The module that a denoiser applies to an embedding before its sites read it, or None."""
    # An image prompt adapter moves the text's projection to this attribute.
    moved = getattr(denoiser, "text_encoder_hid_proj", None)
    if moved is not None:
        return moved
    kind = denoiser.config.get("encoder_hid_dim_type")
    return denoiser.encoder_hid_proj if kind == "text_proj" else None


def check_width(denoiser: Any, site: Site, embedding: Tensor) -> None:
    """Check that an embedding has the width that the denoiser reads.

    Raises:
        InputError: it has another.
    """
    module: Any = site.module
    wanted = (text_projection(denoiser) or module.to_k).in_features
    if embedding.ndim != 2 or embedding.shape[1] != wanted:
        raise InputError(
            f"The embedding has shape {tuple(embedding.shape)}; this denoiser reads texts of shape "
            f"(tokens, {wanted}). Give what its pipeline's encode_prompt returns, without the axis "
            "of the batch."
        )


def key_of(denoiser: Any, site: Site, embedding: Tensor) -> Tensor:
    """A text's keys at a site, ``(1, heads, tokens, dim)``.

    Raises:
        InputError: the embedding does not have the width that the denoiser reads.
    """
    check_width(denoiser, site, embedding)
    text = embedding.unsqueeze(0).to(denoiser.dtype)
    before = text_projection(denoiser)
    if before is not None:
        text = before(text)
    module: Any = site.module
    text = text.to(device_of(denoiser, site, embedding.device))
    return project_key(module, text, normalize=normalizes(site.processor))


class VocabularyRecord(AccumulatedRecord):
    """Buffers for the softmaxed attention to other texts, each as small as a prompt's.

    Each text has ``images * tokens * sum(height * width)`` cells, whatever the number of steps.

    Args:
        pipe, family, options: see :class:`Recorder`.
        texts: each has its own softmax.
    """

    def __init__(
        self, pipe: Any, family: Family, options: RecordingOptions, texts: Sequence[EncodedText]
    ) -> None:
        super().__init__()
        self.family = family
        self.options = options
        self.texts = tuple(texts)
        self.denoiser: Any = family.denoiser(pipe)
        self.sites: tuple[Site, ...] = family.sites(self.denoiser)
        self._keys: list[dict[str, Tensor]] = []

    def begin(self, call: DenoiserCall, images: int, calls: int | None, spent: int = 0) -> str:
        """Project the texts' keys, and allocate the buffers; see :class:`RunRecord`.

        Raises:
            InputError: the memory cost is over the budget, or an embedding has another width.
        """
        grids = tuple((site.name, self.family.grid(site, call.grid)) for site in self.sites)
        pair = self.options.precision == "fp16-pair" or (
            len(grids) * (calls or 10**6) > SINGLE_PLANE_ADDITIONS
        )
        places = devices_of(self.denoiser, self.sites, call.device)
        shapes = [
            AccumulatorShape.spread(
                places, images=images, tokens=len(text.prompt.tokens), grids=grids, pair=pair
            )
            for text in self.texts
        ]
        wanted = sum(shape.nbytes for shape in shapes)
        tokens = sum(shape.tokens for shape in shapes)
        if wanted + spent > self.options.budget:
            raise InputError(
                f"The vocabulary of {tokens} tokens takes {megabytes(wanted)}, together "
                f"{megabytes(wanted + spent)}, over the budget of "
                f"{megabytes(self.options.budget)}. Give fewer or shorter texts, or allow it with "
                f"RDAAMProcessor(budget={wanted + spent}, …)."
            )
        with torch.no_grad():
            self._keys = [
                {
                    site.name: key_of(self.denoiser, site, text.embedding.to(call.device))
                    for site in self.sites
                }
                for text in self.texts
            ]
        self.buffers = [HeatMapAccumulator(shape) for shape in shapes]
        return f"Keeping {megabytes(wanted)} of the vocabulary ({tokens} tokens)."

    def targets(
        self,
        rows: RowsOfBranches,
        progress: Progress,
        *,
        call: DenoiserCall | None = None,
        scratch: int | None = None,
    ) -> dict[str, ObserverGroup]:
        """Where each site adds the maps of every text during one denoiser call."""
        if Branch.CONDITIONAL not in rows:
            return {}
        start, stop = rows[Branch.CONDITIONAL]
        groups: dict[str, ObserverGroup] = {}
        buffers = self.buffers_of_call(scratch)
        devices = self.buffers[0].shape.places()
        for site in self.sites:
            targets = []
            for buffer, keys in zip(buffers, self._keys, strict=True):
                choice = choose(self.options.backend, device=devices[site.name])
                high, low = buffer.planes(site.name)
                branch = BranchTarget(high, low, buffer.count(site.name), start, stop)
                rows_of_call = None if call is None else call.rows
                target = Target.of(site.name, (branch,), choice, rows=rows_of_call)
                targets.append(TextTarget(keys[site.name], target))
            groups[site.name] = ObserverGroup(tuple(targets))
        return groups

    def read(self) -> list[list[VocabularyEntry]]:
        """The maps of each image, text by text, on the CPU."""
        by_text = [buffer.read() for buffer in self.buffers]
        return [
            [
                VocabularyEntry(text.prompt, grids)
                for text, grids in zip(self.texts, of_image, strict=True)
            ]
            for of_image in zip(*by_text, strict=True)
        ]

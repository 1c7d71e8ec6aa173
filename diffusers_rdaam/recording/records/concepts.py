"""ConceptRecord: maps of concepts over a transformer's image, recorded with the prompt's.

ConceptAttention (Helbling et al., 2025): at each block the attention output of a concept is
compared with that of every position of the image,

    score[c, p] = < o_x[p], mean of o_c over the rows of c >

heads side by side and before the output projections, and the softmax over all concepts makes the
map. The mean over blocks and denoiser calls is what is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from diffusers_rdaam.attention.attention_call import AttentionCall
from diffusers_rdaam.attention.options import RecordingOptions
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.attribution.kept_maps import Axis, KeptMaps, MapStack
from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.errors import InputError, RecordingError
from diffusers_rdaam.families import Branch, DenoiserCall, Family, RowsOfBranches
from diffusers_rdaam.float32_products import multiply
from diffusers_rdaam.recording.buffers.concept_sums import ConceptSums
from diffusers_rdaam.recording.buffers.step_accumulators import ImageMaps
from diffusers_rdaam.recording.concept_stream import ConceptStream
from diffusers_rdaam.recording.memory.budget import megabytes
from diffusers_rdaam.recording.progress import Progress
from diffusers_rdaam.recording.records.run_record import RunRecord, VocabularyEntry
from diffusers_rdaam.tokens.prompt_of_columns import REST


@dataclass(frozen=True, eq=False)
class Concept:
    """A text with the rows of the embedding that stand for it.

    Args:
        text: what the maps are of.
        embedding: of its tokens alone, ``(tokens, width)``, as the denoiser reads texts.
    """

    text: str
    embedding: Tensor = field(repr=False)


def concept_scores(image: Tensor, concepts: Tensor, owners: Sequence[slice]) -> Tensor:
    """How much a concept's attention output points where each position's does.

    Args:
        image: the attention output of the image, ``(rows, heads, positions, dim)``.
        concepts: that of the concepts' tokens, ``(rows, heads, tokens, dim)``.
        owners: of each concept its tokens.

    Returns:
        The inner products ``(rows, concepts, positions)`` with the mean over a concept's tokens,
        in float32 or what is more.
    """
    dtype = torch.promote_types(image.dtype, torch.float32)
    means = torch.stack([concepts[:, :, own].to(dtype).mean(dim=2) for own in owners], dim=2)
    left = rearrange(means, "rows heads concepts dim -> rows concepts (heads dim)")
    right = rearrange(image.to(dtype), "rows heads positions dim -> rows (heads dim) positions")
    # Scores are large numbers, and their softmax is of differences.
    with torch.autocast(device_type=image.device.type, enabled=False):
        return multiply(left, right)


@dataclass
class ConceptTarget:
    """The observer that passes the concepts through a site's block, and adds their maps.

    Args:
        site: whose calls it sees.
        stream: of the denoiser call.
        sums: where maps are added.
        step: the number of the denoiser call.
        rows: of the prompt.
        queries, keys: the image's positions among the queries and among the keys.
        owners: of each concept its tokens.
        softmax: whether maps are the softmax over the concepts, or their scores.
        failure: an exception of recording.
    """

    site: Site
    stream: ConceptStream
    sums: ConceptSums
    step: int
    rows: slice
    queries: slice
    keys: slice
    owners: tuple[slice, ...]
    softmax: bool
    failure: Exception | None = None

    @torch.no_grad()
    def see(self, call: AttentionCall) -> None:
        """Add the maps of one call of the site.

        Raises:
            RecordingError: the call does not show its values and its output.
        """
        if call.value is None or call.attended is None:
            raise RecordingError(
                "Concepts need the values and the output of each attention call, which compiled "
                "code shows only with diffusers' native attention backend. Leave out "
                "attribution_vocabulary=, or call set_attention_backend('native')."
            )
        key, value = call.key[self.rows, :, self.keys], call.value[self.rows, :, self.keys]
        of_concepts = self.stream.pass_block(self.site, key, value)
        of_image = call.attended[self.rows, :, self.queries]
        scores = concept_scores(of_image, of_concepts, self.owners)
        self.sums.add(self.site.name, self.step, scores.softmax(dim=1) if self.softmax else scores)


class ConceptRecord(RunRecord):
    """Float32 sums of each concept's maps, and the targets that add to them.

    Args:
        pipe, family, options: see :class:`Recorder`.
        concepts: which compete with each other.
    """

    def __init__(
        self, pipe: Any, family: Family, options: RecordingOptions, concepts: Sequence[Concept]
    ) -> None:
        self.pipe = pipe
        self.family: Any = family
        self.options = options
        self.concepts = tuple(concepts)
        self.denoiser = family.denoiser(pipe)
        self.sites: tuple[Site, ...] = family.sites(self.denoiser)
        # A score is of all heads side by side.
        self.axes: tuple[Axis, ...] = tuple(axis for axis in options.axes if axis != "heads")
        self.sums: ConceptSums | None = None
        self._progress: Progress | None = None
        self._scratch: dict[int, ConceptSums] = {}
        self._bytes = 0
        self._images = 0

    @property
    def embedding(self) -> Tensor:
        """All concepts, one behind the other, ``(tokens, width)``."""
        return torch.cat([concept.embedding for concept in self.concepts])

    @property
    def owners(self) -> tuple[slice, ...]:
        """Of each concept its rows of :attr:`embedding`."""
        found, start = [], 0
        for concept in self.concepts:
            found.append(slice(start, start + len(concept.embedding)))
            start = found[-1].stop
        return tuple(found)

    def begin(self, call: DenoiserCall, images: int, calls: int | None, spent: int = 0) -> str:
        """Count the memory cost; see :class:`RunRecord`.

        Raises:
            InputError: the memory cost is over the budget; or the run perturbs its attention.
        """
        if getattr(self.pipe, "do_perturbed_attention_guidance", False):
            raise InputError(
                "Concepts cannot be recorded with perturbed-attention guidance, whose processors "
                "attend twice. Set pag_scale=0, or leave out attribution_vocabulary=."
            )
        height, width = self.family.grid(self.sites[0], call.grid)
        self.sums, self._images = self._new_sums((height, width)), images
        steps = (calls or 1) if "steps" in self.axes else 1
        cells = images * len(self.concepts) * height * width
        self._bytes = 4 * cells * self.sums.places * steps
        if self._bytes + spent > self.options.budget:
            raise InputError(
                f"The vocabulary of {len(self.concepts)} concepts takes {megabytes(self._bytes)}, "
                f"together {megabytes(self._bytes + spent)}, over the budget of "
                f"{megabytes(self.options.budget)}. Give fewer concepts or keep less, or allow it "
                f"with RDAAMProcessor(budget={self._bytes + spent}, …)."
            )
        tokens = len(self.embedding)
        return (
            f"Keeping {megabytes(self._bytes)} of the vocabulary ({len(self.concepts)} concepts, "
            f"{tokens} tokens)."
        )

    def _new_sums(self, size: tuple[int, int]) -> ConceptSums:
        return ConceptSums(self.sites, self.axes, size)

    @property
    def nbytes(self) -> int:
        """Bytes of the sums."""
        return self._bytes

    def targets(
        self,
        rows: RowsOfBranches,
        progress: Progress,
        *,
        call: DenoiserCall | None = None,
        scratch: int | None = None,
    ) -> dict[str, ConceptTarget]:
        """The observer of each block during one denoiser call; see :class:`RunRecord`."""
        if Branch.CONDITIONAL not in rows:
            return {}
        assert call is not None and self.sums is not None
        self._progress = progress
        sums, step = self.sums, progress.step(Branch.CONDITIONAL, rows)
        if scratch is not None:
            sums, step = self._scratch.setdefault(scratch, self._new_sums(sums.size)), 0
        part = slice(*rows[Branch.CONDITIONAL])
        queries, keys = self._image_positions(call, part)
        stream = ConceptStream(
            self.denoiser,
            self.family.concepts(self.pipe),
            self.sites,
            call.arguments,
            rows=part,
            embedding=self.embedding,
            text_first=keys.start > 0,
        )
        softmax = self.options.concepts == "softmax"
        return {
            site.name: ConceptTarget(
                site, stream, sums, step, part, queries, keys, self.owners, softmax
            )
            for site in self.sites
        }

    def _image_positions(self, call: DenoiserCall, rows: slice) -> tuple[slice, slice]:
        """The image's positions among the queries and among the keys of the prompt's rows.

        Raises:
            RecordingError: they differ from row to row.
        """
        assert call.joint is not None and self.sums is not None
        layout = call.joint.of_rows(rows.start, rows.stop)
        if len(set(layout.queries)) > 1 or len(set(layout.keys)) > 1:
            raise RecordingError(
                "The image begins at another position in each row of the denoiser call, which is "
                "not known of a model with concepts."
            )
        query, key = layout.queries[0], layout.keys[0]
        positions = self.sums.size[0] * self.sums.size[1]
        return slice(query, query + positions), slice(key, key + positions)

    def confirm(self, scratch: int, rows: RowsOfBranches, progress: Progress) -> None:
        """Add a call to the run that was recorded into scratch buffers."""
        if scratch in self._scratch and self.sums is not None:
            step = progress.step(Branch.CONDITIONAL, rows)
            self.sums.absorb(self._scratch[scratch], step)

    def forget(self, scratch: int) -> None:
        """Leave a call out that was recorded into scratch buffers."""
        self._scratch.pop(scratch, None)

    def after_call(self) -> None:
        """Do nothing: the sites have added to the sums."""

    def zero_(self) -> None:
        """Forget everything that was recorded."""
        if self.sums is not None:
            self.sums.clear()

    def release(self) -> None:
        """Give the memory back after a failure."""
        self.zero_()

    def read(self) -> list[list[VocabularyEntry]]:
        """The maps of each image, concept by concept, on the CPU."""
        if self.sums is None or self._progress is None:
            return []
        timesteps = self._progress.timestep_numbers() if "steps" in self.axes else []
        images = self.sums.read(timesteps, self._progress.calls)
        if not images:
            # No block was called.
            return [[] for _ in range(self._images)]
        return [[self._entry(maps, i) for i in range(len(self.concepts))] for maps in images]

    def _entry(self, maps: ImageMaps, index: int) -> VocabularyEntry:
        """One concept's maps: its own column, and with a softmax one of all others."""
        text = self.concepts[index].text
        softmax = self.options.concepts == "softmax"
        tokens = [Token(0, text, "text", 0, len(text))]
        tokens += [Token(1, REST, "rest")] if softmax else []
        kept = maps.kept
        return VocabularyEntry(
            Prompt(text, tuple(tokens)),
            tuple(
                replace(grid, maps=_columns(grid.maps, index, softmax=softmax))
                for grid in maps.grids
            ),
            None if kept is None else _kept_columns(kept, index, softmax=softmax),
            {
                "concepts": "; ".join(concept.text for concept in self.concepts),
                "concept_maps": self.options.concepts,
            },
        )


def _columns(maps: Tensor, index: int, *, softmax: bool) -> Tensor:
    """A concept's map and, where they sum to 1, the sum of the others, ``(…, columns, y, x)``."""
    own = maps[..., index : index + 1, :, :]
    return torch.cat([own, 1.0 - own], dim=-3) if softmax else own.clone()


def _kept_columns(kept: KeptMaps, index: int, *, softmax: bool) -> KeptMaps:
    def of_concept(stack: MapStack) -> MapStack:
        return replace(stack, maps=_columns(stack.maps, index, softmax=softmax))

    return replace(kept, details=tuple(of_concept(stack) for stack in kept.details))

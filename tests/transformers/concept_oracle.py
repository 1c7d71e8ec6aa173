"""ConceptAttention in float64 loops, from the keys and values of a stock run and the weights.

Nothing of the package is used, and of diffusers only linear layers, activations and the embedding
of the timestep. Each formula is written from the paper (Helbling et al., 2025) and the block's own:
the concepts' queries meet their own keys and those of the image, and the mean of a concept's rows
is compared with the image's output.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from dense_oracle import Case, DenoiserCall, ObservedCall, observed_ids, probabilities
from torch import Tensor

# Queries, keys and values of some rows at a block, ``(heads, rows, dim)`` each; and what the rows
# become when the attention has answered with ``(rows, heads * dim)``.
Prepared = tuple[Tensor, Tensor, Tensor, Callable[[Tensor], Tensor]]


def layer_norm(rows: Tensor, epsilon: float = 1e-6) -> Tensor:
    centred = rows - rows.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + epsilon).sqrt()


def root_mean_norm(rows: Tensor, norm: Any) -> Tensor:
    """A norm of queries or keys; none where a model has none."""
    if norm is None:
        return rows
    return rows / (rows.square().mean(dim=-1, keepdim=True) + norm.eps).sqrt() * norm.weight


def heads_of(rows: Tensor, attn: Any) -> Tensor:
    return rows.unflatten(-1, (attn.heads, -1)).transpose(0, 1)


def side_by_side(output: Tensor) -> Tensor:
    """``(heads, rows, dim)`` as ``(rows, heads * dim)``."""
    return output.transpose(0, 1).flatten(1)


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``(heads, rows, dim)``, one query at a time."""
    output = torch.zeros(*query.shape[:2], value.shape[-1], dtype=torch.float64)
    for head in range(query.shape[0]):
        for row in range(query.shape[1]):
            logits = key[head] @ query[head, row] / query.shape[-1] ** 0.5
            weights = (logits - logits.max()).exp()
            output[head, row] = (weights / weights.sum()) @ value[head]
    return output


def text_projections(attn: Any, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = (
        heads_of(project(rows), attn)
        for project in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
    )
    query = root_mean_norm(query, getattr(attn, "norm_added_q", None))
    return query, root_mean_norm(key, getattr(attn, "norm_added_k", None)), value


def double_block(block: Any, rows: Tensor, modulation: Sequence[Tensor], mlp: Any) -> Prepared:
    """The text's side of a block of two streams: shift, scale and gate, of each half."""
    shift, scale, gate, shift_2, scale_2, gate_2 = modulation
    query, key, value = text_projections(block.attn, layer_norm(rows) * (1 + scale) + shift)

    def after(output: Tensor) -> Tensor:
        moved = rows + gate * block.attn.to_add_out(output)
        return moved + gate_2 * mlp(layer_norm(moved) * (1 + scale_2) + shift_2)

    return query, key, value, after


class Flux:
    """FLUX.1: the pooled embedding is zero, and all text is at position 0, which turns nothing."""

    def __init__(self, model: Any, call: DenoiserCall, row: int) -> None:
        self.model = model
        time = call.kwargs["timestep"][row : row + 1].double() * 1000
        guidance = call.kwargs.get("guidance")
        more = [] if guidance is None else [guidance[row : row + 1].double() * 1000]
        zero = torch.zeros_like(call.kwargs["pooled_projections"][:1]).double()
        self.emb = torch.nn.functional.silu(model.time_text_embed(time, *more, zero))[0]

    def begin(self, embedding: Tensor) -> Tensor:
        return self.model.context_embedder(embedding)

    def block(self, site: str, rows: Tensor) -> Prepared:
        block = self.model.get_submodule(site.rpartition(".")[0])
        if not site.startswith("single"):
            modulation = block.norm1_context.linear(self.emb).chunk(6)
            return double_block(block, rows, modulation, block.ff_context)
        shift, scale, gate = block.norm.linear(self.emb).chunk(3)
        normed, attn = layer_norm(rows) * (1 + scale) + shift, block.attn
        query = root_mean_norm(heads_of(attn.to_q(normed), attn), attn.norm_q)
        key = root_mean_norm(heads_of(attn.to_k(normed), attn), attn.norm_k)
        hidden = torch.nn.functional.gelu(block.proj_mlp(normed), approximate="tanh")

        def after(output: Tensor) -> Tensor:
            return rows + gate * block.proj_out(torch.cat([output, hidden], dim=-1))

        return query, key, heads_of(attn.to_v(normed), attn), after


class StableDiffusion3(Flux):
    """Stable Diffusion 3: no positions; the last block makes no text."""

    def __init__(self, model: Any, call: DenoiserCall, row: int) -> None:
        self.model = model
        time = call.kwargs["timestep"][row : row + 1].double()
        zero = torch.zeros_like(call.kwargs["pooled_projections"][:1]).double()
        self.emb = torch.nn.functional.silu(model.time_text_embed(time, zero))[0]

    def block(self, site: str, rows: Tensor) -> Prepared:
        block = self.model.get_submodule(site.rpartition(".")[0])
        if not block.context_pre_only:
            return super().block(site, rows)
        scale, shift = block.norm1_context.linear(self.emb).chunk(2)
        normed = layer_norm(rows) * (1 + scale) + shift
        return *text_projections(block.attn, normed), lambda output: rows


class Flux2(Flux):
    """FLUX.2: modulations that all blocks share, and every concept at the text's position 0."""

    def __init__(self, model: Any, call: DenoiserCall, row: int) -> None:
        self.model = model
        time = call.kwargs["timestep"][row : row + 1].double() * 1000
        guidance = call.kwargs.get("guidance")
        more = None if guidance is None else guidance[row : row + 1].double() * 1000
        self.emb = torch.nn.functional.silu(model.time_guidance_embed(time, more))[0]

    def block(self, site: str, rows: Tensor) -> Prepared:
        block = self.model.get_submodule(site.rpartition(".")[0])
        if not site.startswith("single"):
            modulation = self.model.double_stream_modulation_txt.linear(self.emb).chunk(6)
            return double_block(block, rows, modulation, block.ff_context)
        shift, scale, gate = self.model.single_stream_modulation.linear(self.emb).chunk(3)
        attn = block.attn
        projected = attn.to_qkv_mlp_proj(layer_norm(rows) * (1 + scale) + shift)
        width = attn.inner_dim
        query, key, value = (
            heads_of(part, attn) for part in projected[:, : 3 * width].chunk(3, dim=-1)
        )
        left, right = projected[:, 3 * width :].chunk(2, dim=-1)
        hidden = torch.nn.functional.silu(left) * right

        def after(output: Tensor) -> Tensor:
            return rows + gate * attn.to_out(torch.cat([output, hidden], dim=-1))

        query, key = root_mean_norm(query, attn.norm_q), root_mean_norm(key, attn.norm_k)
        return query, key, value, after


class QwenImage(Flux):
    """Qwen-Image: every concept at the text's first position, where the image's positions end."""

    def __init__(self, model: Any, call: DenoiserCall, row: int) -> None:
        self.model = model
        time = call.kwargs["timestep"][row : row + 1].double()
        self.emb = torch.nn.functional.silu(model.time_text_embed(time, torch.zeros(1).double()))[0]
        _, height, width = call.kwargs["img_shapes"][row][0]
        position = max(height // 2, width // 2)
        angles = [
            position / 10000 ** (2 * pair / axis)
            for axis in model.config.axes_dims_rope
            for pair in range(axis // 2)
        ]
        self.angles = torch.tensor(angles, dtype=torch.float64)

    def begin(self, embedding: Tensor) -> Tensor:
        norm = self.model.txt_norm
        return self.model.txt_in(root_mean_norm(embedding, norm))

    def turned(self, vectors: Tensor) -> Tensor:
        """Each pair of neighbours turned by its angle."""
        even, odd = vectors[..., ::2], vectors[..., 1::2]
        cosine, sine = self.angles.cos(), self.angles.sin()
        return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], -1).flatten(-2)

    def block(self, site: str, rows: Tensor) -> Prepared:
        block = self.model.get_submodule(site.rpartition(".")[0])
        modulation = block.txt_mod[1](self.emb).chunk(6)
        query, key, value, after = double_block(block, rows, modulation, block.txt_mlp)
        return self.turned(query), self.turned(key), value, after


MODELS: dict[str, type[Flux]] = {
    "FluxTransformer2DModel": Flux,
    "Flux2Transformer2DModel": Flux2,
    "SD3Transformer2DModel": StableDiffusion3,
    "QwenImageTransformer2DModel": QwenImage,
}


@dataclass(frozen=True)
class Scores:
    """The scores of all concepts at one block, for one image and one call of the denoiser.

    Attributes:
        step: the number of the call among those of the prompt.
        values: ``(concepts, positions)``.
    """

    image: int
    step: int
    site: str
    stream: str
    values: Tensor


class ConceptOracle:
    """A stock run, and the concepts' scores at each of its blocks.

    Args:
        case: the pipeline and its call.
        texts: the concepts.
        change: done to the pipeline before it runs.
    """

    def __init__(
        self, case: Case, texts: Sequence[str], change: Callable[[Any], Any] = lambda pipe: None
    ) -> None:
        self.case = case
        self.pipe = case.make()
        change(self.pipe)
        with torch.no_grad():
            self.embeddings = [self._embedding(text) for text in texts]
            self.output, self.calls = case.observed(self.pipe)
            self.model = copy.deepcopy(self.pipe.transformer).double()
            self.scores = list(self._scores())

    def _embedding(self, text: str) -> Tensor:
        """The rows of a text's own tokens, encoded alone."""
        names = ("max_sequence_length", "text_encoder_out_layers")
        options = {name: self.case.call[name] for name in names if name in self.case.call}
        if hasattr(self.pipe, "tokenizer_3"):
            options |= {"prompt_2": None, "prompt_3": None, "do_classifier_free_guidance": False}
        if not hasattr(self.pipe, "tokenizer_2") and not hasattr(self.pipe, "system_message"):
            options = {k: v for k, v in options.items() if k != "max_sequence_length"} | {
                "max_sequence_length": options.get("max_sequence_length", 64)
            }
        with observed_ids(self.pipe, self.case) as given:
            embedding = self.pipe.encode_prompt(prompt=[text], **options)[0][0]
        tokens = self.case.token_columns(self.pipe, text, given)
        return embedding[sorted({token.column for token in tokens})].double()

    def _scores(self) -> Iterator[Scores]:
        step = 0
        for call in self.calls.denoiser_calls:
            rows = self.case.rows(call)
            # A further kernel call of a site is that of an image prompt.
            of_call = [
                one for one in self.calls if one.denoiser_call == call.number and one.number == 0
            ]
            for image, row in enumerate(rows):
                yield from self._scores_of_row(call, of_call, image, row, step)
            step += bool(rows)

    def _scores_of_row(
        self, call: DenoiserCall, of_call: list[ObservedCall], image: int, row: int, step: int
    ) -> Iterator[Scores]:
        model = MODELS[type(self.model).__name__](self.model, call, row)
        rows = model.begin(torch.cat(self.embeddings))
        for one in of_call:
            start = self.case.image_queries(one, row)
            positions = slice(start, start + self.case.grid[0] * self.case.grid[1])
            keys, values = (part[row, :, positions].double() for part in (one.key, one.value))
            query, key, value, after = model.block(one.site, rows)
            output = attention(query, torch.cat([key, keys], 1), torch.cat([value, values], 1))
            concepts = side_by_side(output)
            of_image = probabilities(one, row)[0, :, positions] @ one.value[row].double()
            scores = self._products(side_by_side(of_image), concepts)
            yield Scores(image, step, one.site, one.stream, scores)
            rows = after(concepts)

    def _products(self, image: Tensor, concepts: Tensor) -> Tensor:
        """``(concepts, positions)``, one concept and one position at a time."""
        found, start = torch.zeros(len(self.embeddings), len(image), dtype=torch.float64), 0
        for number, embedding in enumerate(self.embeddings):
            own = concepts[start : start + len(embedding)].mean(dim=0)
            start += len(embedding)
            for position, vector in enumerate(image):
                found[number, position] = (own * vector).sum()
        return found

    def maps(
        self, image: int, *, softmax: bool = True, of: Callable[[Scores], bool] = lambda one: True
    ) -> Tensor:
        """The mean maps of an image, ``(concepts, height, width)``, over the chosen scores."""
        chosen = [one.values for one in self.scores if one.image == image and of(one)]
        maps = [scores.softmax(dim=0) if softmax else scores for scores in chosen]
        return torch.stack(maps).mean(dim=0).unflatten(-1, self.case.grid)

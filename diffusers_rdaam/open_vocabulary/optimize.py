"""optimize_token: fit the embedding of a word to regions of images, for other images.

Token optimisation of OVAM (Marcos-Manchon et al., 2024): the maps of a background row (the start
token) and of the word compete at every cell, and gradient descent on the embedding makes the word's
win inside of the region. Schedule and loss are theirs; what is returned is the best embedding, not
the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.queries import Queries
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.families.call_keywords import known_keywords
from diffusers_rdaam.geometry.masks import split_void
from diffusers_rdaam.geometry.region import RegionLike, as_region
from diffusers_rdaam.open_vocabulary.attribute_text import clip_skip_of, maps_of, queries_of
from diffusers_rdaam.open_vocabulary.encode import TextLike
from diffusers_rdaam.open_vocabulary.optimized_token import OptimizedToken, Space
from diffusers_rdaam.open_vocabulary.parameters import Fit, fit_of
from diffusers_rdaam.open_vocabulary.recipe import MapRecipe
from diffusers_rdaam.recording.records.vocabulary import EncodedText

Scaling = Literal["min-max", "tokens"] | float
# The embedding's norm sets the scale: behind the encoder rows are some tens long, before it 0.4.
LEARNING_RATES: dict[str, float] = {"encoded": 300.0, "token": 1.0}
# Half precision holds no gradient under 6e-8; the loss is a mean over thousands of cells.
HALF_LOSS_SCALE = 2.0**12


@dataclass(frozen=True)
class Schedule:
    """Plain gradient descent whose rate falls in steps.

    Args:
        iterations: how many.
        learning_rate: of the first.
        step_size: after how many iterations the rate is multiplied by ``gamma``.
        gamma: over 0.

    Raises:
        InputError: a number is out of range.
    """

    iterations: int
    learning_rate: float
    step_size: int
    gamma: float

    def __post_init__(self) -> None:
        whole = (self.iterations, self.step_size)
        real = (self.learning_rate, self.gamma)
        if not all(type(n) is int and n >= 1 for n in whole) or not all(
            isinstance(n, (int, float)) and math.isfinite(n) and n > 0 for n in real
        ):
            raise InputError(
                "iterations= and step_size= are whole numbers from 1, learning_rate= and gamma= "
                f"numbers over 0; got {self.iterations!r}, {self.step_size!r}, "
                f"{self.learning_rate!r} and {self.gamma!r}."
            )

    def rate(self, iteration: int) -> float:
        """The learning rate of an iteration, counted from 0."""
        return self.learning_rate * self.gamma ** (iteration // self.step_size)


@dataclass(frozen=True, eq=False)
class OptimizationStep:
    """What a callback sees of an iteration, before its step.

    Args:
        iteration: from 0.
        loss: the mean over the images.
        embedding: ``(tokens, width)``, a copy.
        maps: of the last image, background and word, ``(2, height, width)``, scaled as the loss has
            them; 0 in cells that are not counted.
    """

    iteration: int
    loss: float
    embedding: Tensor
    maps: Tensor


@known_keywords
# What is made in inference mode has no gradients, whoever the caller is.
@torch.inference_mode(False)
def optimize_token(
    pipe: Any,
    attributions: Attribution | Sequence[Attribution],
    masks: RegionLike | Sequence[RegionLike],
    initial: TextLike = "object",
    *,
    space: Space = "encoded",
    iterations: int = 1000,
    learning_rate: float | None = None,
    step_size: int = 80,
    gamma: float = 0.7,
    scaling: Scaling = "min-max",
    recipe: MapRecipe | None = None,
    callback: Callable[[OptimizationStep], Any] | None = None,
) -> OptimizedToken:
    """The token whose maps fit regions of images best, for ``pipe.query`` on other images.

    Args:
        pipe: the pipeline of the runs.
        attributions: one image's, or several; their runs kept queries.
        masks: the region of each: a mask of the image's size, a box, a polygon. A mask of 0 and 255
            is black and white: 255 is inside. A mask that has 1 as well, as label maps do, has its
            255 left out: these pixels count neither as the object nor as the background.
        initial: the word to start from, or its embedding ``(tokens, width)`` whose first row is the
            background's.
        space: ``"encoded"``: fit what the denoiser reads, as OVAM does; ``"token"``: fit the text
            encoder's input vectors, so that the saved file is a textual inversion to prompt with.
        iterations, learning_rate, step_size, gamma: plain gradient descent, the rate times
            ``gamma`` after every ``step_size``. The rate is 300, for ``"token"`` 1, if not given.
        scaling: what makes maps logits of the cross-entropy: ``"min-max"``: stretched to 0 to 1
            over both maps together; ``"tokens"``: divided by their sum at each cell; a number:
            divided by it.
        recipe: the stages of the maps.
        callback: is called in each iteration; returning True stops there.

    Raises:
        NoAttributionError: an attribution has no queries.
        InputError: masks, attributions, embedding or numbers do not fit; or a gradient is not
            finite.
        RegionError: a mask is not of its image's size.
    """
    attributions, masks = _paired(attributions, masks)
    rate = LEARNING_RATES.get(space, 1.0) if learning_rate is None else learning_rate
    schedule = Schedule(iterations, rate, step_size, gamma)
    queries = [queries_of(attribution) for attribution in attributions]
    problem = _Problem(
        pipe=pipe,
        queries=queries,
        targets=[
            _target(attribution, mask, stored.sizes[0])
            for attribution, mask, stored in zip(attributions, masks, queries, strict=True)
        ],
        fit=fit_of(pipe, initial, space, clip_skip_of(attributions[0])),
        recipe=recipe or MapRecipe(),
        scale=_scaling(scaling),
    )
    with _bar(pipe, iterations) as bar:
        return _descend(problem, schedule, space, callback, bar)


@dataclass(frozen=True, eq=False)
class _Target:
    """What the maps of an image are to be.

    Args:
        shares: how much of each cell is background and how much the word's, ``(2, height, width)``;
            of what is counted of the cell.
        counted: which share of each cell is counted, ``(height, width)``; None for all of it.
    """

    shares: Tensor
    counted: Tensor | None = None

    def loss(self, maps: Tensor, scale: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """The scaled maps, and their cross-entropy against the shares, a mean over the pixels.

        Cells of which nothing is counted take no part, in the scale neither.
        """
        shares = self.shares.to(maps.device)
        if self.counted is None:
            both = scale(maps)
            # Cross-entropy against probabilities, as logits are what was scaled.
            return both, F.cross_entropy(both.unsqueeze(0), shares.unsqueeze(0))
        weights = self.counted.to(maps.device)
        seen = weights > 0
        logits = scale(maps[:, seen])
        losses = F.cross_entropy(logits.T, shares[:, seen].T, reduction="none")
        both = torch.zeros_like(maps).masked_scatter(seen.expand_as(maps), logits)
        return both, (losses * weights[seen]).sum() / weights.sum()


@dataclass(frozen=True, eq=False)
class _Problem:
    """What the loss is made of, for each image its queries and its target."""

    pipe: Any
    queries: Sequence[Queries]
    targets: Sequence[_Target]
    fit: Fit
    recipe: MapRecipe
    scale: Callable[[Tensor], Tensor]

    def gradients(
        self, embedding: Tensor, parameters: list[Tensor]
    ) -> tuple[float, list[Tensor], Tensor]:
        """The mean loss, its gradients, and the last image's maps.

        One image is in memory at a time.
        """
        leaf = embedding.detach().requires_grad_()
        text = EncodedText(self.fit.prompt, leaf)
        total = 0.0
        for stored, target in zip(self.queries, self.targets, strict=True):
            maps = maps_of(self.pipe, stored, text, self.recipe)
            word = maps[list(self.fit.words)].sum(dim=0)
            both, loss = target.loss(torch.stack([maps[0], word]), self.scale)
            (loss / len(self.targets)).backward(inputs=[leaf])
            total += float(loss.detach()) / len(self.targets)
        assert leaf.grad is not None
        factor = 1.0 if embedding.dtype == torch.float32 else HALF_LOSS_SCALE
        upstream = (leaf.grad.float() * factor).to(embedding.dtype)
        gradients = torch.autograd.grad(embedding, parameters, upstream)
        return total, [gradient / factor for gradient in gradients], both.detach()


@torch.enable_grad()
def _descend(
    problem: _Problem,
    schedule: Schedule,
    space: Space,
    callback: Callable[[OptimizationStep], Any] | None,
    bar: Any,
) -> OptimizedToken:
    """Plain gradient descent; the best that was met."""
    losses: list[float] = []
    best: tuple[int, list[Tensor], Tensor] | None = None
    parameters = [part.detach().clone().requires_grad_() for part in problem.fit.start]
    for iteration in range(schedule.iterations):
        embedding = problem.fit.embedding(parameters)
        loss, gradients, maps = problem.gradients(embedding, parameters)
        if not math.isfinite(loss) or not all(map(_finite, gradients)):
            raise InputError(
                f"The gradient of iteration {iteration} is not finite (loss {loss}). Give a lower "
                f"learning_rate= than {schedule.learning_rate}, or a model in float32."
            )
        losses.append(loss)
        if best is None or loss < losses[best[0]]:
            copies = [part.detach().clone() for part in parameters]
            best = (iteration, copies, embedding.detach().clone())
        if callback is not None:
            seen = OptimizationStep(iteration, loss, embedding.detach().clone(), maps)
            if callback(seen) is True:
                break
        with torch.no_grad():
            for part, gradient in zip(parameters, gradients, strict=True):
                part -= schedule.rate(iteration) * gradient
        bar.update()
        bar.set_postfix(loss=f"{loss:.4f}")
    assert best is not None
    index, found, embedding = best
    vectors = {name: part.cpu() for name, part in problem.fit.vectors(found).items()}
    prompt = problem.fit.prompt
    return OptimizedToken(prompt, embedding.cpu(), space, vectors, tuple(losses), index)


def _paired(attributions: Any, masks: Any) -> tuple[list[Attribution], list[RegionLike]]:
    if isinstance(attributions, Attribution):
        return [attributions], [masks]
    listed = list(attributions)
    if not isinstance(masks, (list, tuple)) or len(masks) != len(listed) or not listed:
        came = len(masks) if isinstance(masks, (list, tuple)) else type(masks).__name__
        raise InputError(
            f"There are {len(listed)} attributions and {came} masks; give one for each, in a list."
        )
    return listed, list(masks)


def _target(attribution: Attribution, mask: RegionLike, size: tuple[int, int]) -> _Target:
    """What a mask says of each cell of a grid."""
    split = split_void(mask, attribution.image_size)
    region = as_region(mask if split is None else split[0])
    cells = _in_cells(region.coverage(attribution.image_size), size)
    counted, note = torch.ones_like(cells), ""
    if split is not None:
        counted = _in_cells(torch.from_numpy(~split[1]), size)
        cells = torch.where(counted > 0, cells / counted, 0.0)
        note = " Pixels of 255 are not counted, as the mask has 1 as well."
    if not 0 < float((cells * counted).sum()) < float(counted.sum()):
        raise InputError(
            "A mask of nothing or of the whole image has nothing to distinguish. Give a region "
            f"that is a part of the image.{note}"
        )
    shares = torch.stack([1 - cells, cells])
    return _Target(shares) if split is None else _Target(shares, counted)


def _in_cells(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    return F.adaptive_avg_pool2d(pixels.float()[None, None], size)[0, 0]


def _scaling(given: Any) -> Callable[[Tensor], Tensor]:
    if given == "min-max":
        return _stretched
    if given == "tokens":
        return _over_their_sum
    number = type(given) in (int, float) and math.isfinite(given) and given > 0
    if not number:
        raise InputError(f"scaling= is 'min-max', 'tokens' or a number over 0; got {given!r}.")
    return lambda maps: maps / given


def _stretched(maps: Tensor) -> Tensor:
    """From 0 to 1, all maps together."""
    low, high = maps.min(), maps.max()
    if bool(low == high):
        raise InputError(
            f"The maps are {float(low.detach()):g} everywhere, so scaling='min-max' has nothing to "
            "stretch: queries and text do not meet. Start from another initial=, or give the "
            "attributions of another run."
        )
    return (maps - low) / (high - low)


def _over_their_sum(maps: Tensor) -> Tensor:
    """Over the sum of all maps at each cell."""
    sums = maps.sum(dim=0, keepdim=True)
    if bool((sums == 0).any()):
        raise InputError(
            f"The maps sum to 0 at {int((sums == 0).sum())} of {sums.numel()} cells, so "
            "scaling='tokens' cannot divide by their sum. Give scaling='min-max' or a number, or "
            "a recipe= whose activations leave no zeros."
        )
    return maps / sums


def _finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())


def _bar(pipe: Any, total: int) -> AbstractContextManager[Any]:
    if hasattr(pipe, "progress_bar"):
        return pipe.progress_bar(total=total)
    return nullcontext(tqdm(total=total))

"""The heads that attend to a word more than to other words, of all layers: HRV's selection."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from diffusers_rdaam.argument_checks import check_share
from diffusers_rdaam.attribution.aggregations.aggregation import Aggregation, kept_maps
from diffusers_rdaam.attribution.choosing import Numbers, chosen_numbers
from diffusers_rdaam.attribution.kept_maps import KeptMaps, MapStack
from diffusers_rdaam.attribution.prompt import Match
from diffusers_rdaam.attribution.record import Record
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.geometry.grid import resampled
from diffusers_rdaam.shapes import Column, Size

# Of all heads; the paper takes 20 to 25 %.
SHARE = 0.25


def relevant_heads(
    record: Record,
    match: Match,
    size: Size,
    *,
    share: float = SHARE,
    heads: Mapping[str, Numbers] | None = None,
) -> Column:
    """The mean over the most relevant heads of the sum over the word's tokens.

    A head is relevant to a word in the denoiser calls in which, of all words of the prompt, it
    attends to this one most (mean over the image and the word's tokens); between heads that are
    relevant equally often, the one with more attention to the word comes first.

    Args:
        record, match, size: see :class:`Aggregation`.
        share: of all heads, the most relevant that are taken; over 0 and at most 1.
        heads: the heads of each layer, where a table of the checkpoint has them; ``share`` is then
            not read.

    Raises:
        InputError: ``share`` is not such a number, or ``heads`` names layers or heads that do not
            exist.
    """
    kept = kept_maps(record)
    chosen = _given(kept, heads) if heads is not None else _most_relevant(record, match, share)
    total = torch.zeros(size, dtype=torch.float32, device="cpu")
    count = 0
    for detail in kept.details:
        numbers = chosen.get(detail.sites[0], [])
        if numbers:
            maps = _over_calls(detail)[numbers][:, list(match.columns)].sum(dim=1)
            total += resampled(maps, size).sum(dim=0)
            count += len(numbers)
    return total / count


def _given(kept: KeptMaps, heads: Mapping[str, Numbers]) -> dict[str, list[int]]:
    counts = {detail.sites[0]: detail.maps.shape[1] for detail in kept.details}
    unknown = next((name for name in heads if name not in counts), None)
    if unknown is not None or not heads:
        raise InputError(
            f"heads= gives the heads of layers by their names; {unknown!r} is not a layer. Tables "
            "of heads each belong to one checkpoint. Layers: attribution.layers."
        )
    return {
        name: list(chosen_numbers(numbers, counts[name], f"heads of {name}"))
        for name, numbers in heads.items()
    }


def _most_relevant(record: Record, match: Match, share: float) -> dict[str, list[int]]:
    number = check_share(share, "The share of heads")
    if number == 0.0:
        raise InputError("The share of heads is over 0; got 0.")
    others = [
        list(word.columns)
        for word in record.prompt.words
        if word.columns and not set(word.columns) & set(match.columns)
    ]
    words = [list(match.columns), *others]
    ranked: list[tuple[float, float, int, str, int]] = []
    for detail in kept_maps(record).details:
        wins, level = relevance(detail, words)
        ranked += [
            (-float(wins[head]), -float(level[head]), len(ranked) + head, detail.sites[0], head)
            for head in range(len(wins))
        ]
    ranked.sort(key=lambda one: one[:3])
    chosen: dict[str, list[int]] = {}
    for *_, site, head in ranked[: math.ceil(number * len(ranked))]:
        chosen.setdefault(site, []).append(head)
    return chosen


def relevance(detail: MapStack, words: list[list[int]]) -> tuple[Tensor, Tensor]:
    """In how many additions each head attends to the first word most; and its attention to it.

    Args:
        detail: the maps of one site's heads.
        words: the columns of each word, the first the word in question.

    Returns:
        Two tensors ``(heads,)``.
    """
    levels = detail.maps.float().mean(dim=(3, 4))
    of_words = torch.stack([levels[:, :, columns].mean(dim=2) for columns in words])
    counts = torch.tensor(detail.additions, dtype=torch.float32, device="cpu")
    wins = ((of_words.argmax(dim=0) == 0) * counts[:, None]).sum(dim=0)
    level = (of_words[0] * counts[:, None]).sum(dim=0) / counts.sum()
    return wins, level


def _over_calls(detail: MapStack) -> Tensor:
    """``(heads, tokens, height, width)``: the mean over the denoiser calls."""
    counts = torch.tensor(detail.additions, dtype=torch.float32, device="cpu")
    weighed = detail.maps.float() * counts[:, None, None, None, None]
    return weighed.sum(dim=0) / counts.sum()


HRV = Aggregation(
    name="hrv",
    formula="mean of P over the share of all heads that attend to the word more than to others",
    maps=relevant_heads,
    needs=("layers", "heads"),
    memory="as many maps as layers times heads: 66 MB for Stable Diffusion 1.5 at 512x512",
    reference=(
        "Head Relevance Vectors, and the selection of the top 20 to 25 % of heads by them (2026). "
        "There the relevance comes from a table of one checkpoint, here from the run itself; "
        "heads= takes such a table"
    ),
    measured=(
        "phrase / colour / shape IoU at a threshold chosen on other scenes. Embedded Stable "
        "Diffusion (80 scenes): .524 / .750 / .518, the mean .682 / .720 / .606. Embedded FLUX "
        "(78 scenes): .312 / .514 / .467, the mean .726 / .716 / .559. It harms phrases and "
        "shape words, and all words of the second"
    ),
    sums_to="nothing: every word has heads of its own",
    threshold=0.56,
    joint_threshold=0.50,
)

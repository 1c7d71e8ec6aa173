"""Vocabulary: the attributions of other texts, by the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor

from diffusers_rdaam.attribution.kept_maps import KeptMaps
from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.errors import InputError, NoAttributionError

Part = TypeVar("Part")
# Between the texts of concepts that are put together.
_BETWEEN = ", "
# Texts that are shown.
SHOWN = 5


class Vocabulary(dict[str, Part]):
    """A dictionary of attributions by text; the error for another text lists the texts."""

    def __repr__(self) -> str:
        texts = [repr(text if len(text) <= 40 else f"{text[:39]}…") for text in self]
        more = f", and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
        count = f"{len(texts)} text{'' if len(texts) == 1 else 's'}"
        return f"Vocabulary({count}{': ' if texts else ''}{', '.join(texts[:SHOWN])}{more})"

    def together(self) -> Part:
        """All concepts as the words of one attribution, for ``region(box)`` to rank them.

        ``vocabulary.together()[text]`` is the map of ``vocabulary[text][text]``. Its text is the
        concepts with commas between them.

        Raises:
            NoAttributionError: the run was given no texts.
            InputError: each text has a softmax of its own, or the maps are scores.
        """
        parts: list[Any] = list(self.values())
        if not parts:
            self.__missing__(None)
        if any(part.run.get("concept_maps") != "softmax" for part in parts):
            raise InputError(
                "Only concepts that compete in one softmax can be put together: those that a run "
                "of FLUX, Stable Diffusion 3 or Qwen-Image was given as attribution_vocabulary=. "
                "A UNet's texts have a softmax each; put the words into one text to compare them."
            )
        first = parts[0]
        return replace(
            first,
            prompt=_prompt_of_concepts([part.prompt.text for part in parts]),
            grids=tuple(
                replace(grid, maps=_own_columns([part.grids[i].maps for part in parts]))
                for i, grid in enumerate(first.grids)
            ),
            kept=None if first.kept is None else _kept_together([part.kept for part in parts]),
        )

    def _repr_html_(self) -> str:
        """Each text's attribution."""
        shown = [part.still_html() for part in list(self.values())[:SHOWN]]  # type: ignore[attr-defined]  # parts are attributions
        return f"<div><p>{escape(repr(self))}</p>{''.join(shown)}</div>"

    def __missing__(self, text: object) -> NoReturn:
        """Raise.

        Raises:
            NoAttributionError: the run was given no texts.
            InputError: it was not given this one.
        """
        if not self:
            raise NoAttributionError(
                "This run was given no other texts. Name them before it, with "
                "pipe(…, attribution_vocabulary=[…]), or keep queries and ask pipe.query after it."
            )
        raise InputError(
            f"{text!r} is not in the vocabulary of this run. Texts: "
            f"{', '.join(repr(known) for known in self)}. Ask for a word of one with "
            "attribution.vocabulary[text].word(word)."
        )


def _prompt_of_concepts(texts: Sequence[str]) -> Prompt:
    """The concepts with commas between them, and a token for each."""
    tokens, start = [], 0
    for column, text in enumerate(texts):
        tokens.append(Token(column, text, "text", start, start + len(text)))
        start += len(text) + len(_BETWEEN)
    return Prompt(_BETWEEN.join(texts), tuple(tokens))


def _own_columns(maps: Sequence[Tensor]) -> Tensor:
    """The first column of each, ``(…, columns, height, width)``: that of the concept itself."""
    return torch.cat([one[..., :1, :, :] for one in maps], dim=-3)


def _kept_together(kept: Sequence[KeptMaps]) -> KeptMaps:
    details = tuple(
        replace(stack, maps=_own_columns([one.details[i].maps for one in kept]))
        for i, stack in enumerate(kept[0].details)
    )
    return replace(kept[0], details=details)

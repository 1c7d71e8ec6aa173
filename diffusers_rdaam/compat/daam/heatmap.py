"""DAAM's maps: all tokens of a prompt, and one word of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.compat.daam.evaluate import compute_ioa
from diffusers_rdaam.compat.daam.plotting import image_size, plot_overlay_heat_map
from diffusers_rdaam.compat.daam.words import check_columns, columns_of
from diffusers_rdaam.errors import InputError, WordError
from diffusers_rdaam.tokens.alignment import align

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ParsedToken(Protocol):
    """The attributes of a spaCy token that are read."""

    text: str
    idx: int
    dep_: str

    @property
    def head(self) -> ParsedToken:
        """The token that it depends on; itself for the root."""


# A spaCy ``Language``, or any parser that gives tokens in order.
Parser = Callable[[str], Iterable[ParsedToken]]


class WordHeatMap:
    """The heat map of a word in DAAM's numbers.

    Args:
        heatmap: ``(height, width)`` of the largest grid: the sum over the steps, the mean over
            layers and heads.
        word, word_idx: the word and its index.
    """

    def __init__(
        self, heatmap: torch.Tensor, word: str | None = None, word_idx: int | None = None
    ) -> None:
        self.heatmap = heatmap
        self.word = word
        self.word_idx = word_idx

    @property
    def value(self) -> torch.Tensor:
        """The map."""
        return self.heatmap

    def expand_as(
        self,
        image: Image.Image | np.ndarray,
        absolute: bool = False,
        threshold: float | None = None,
        plot: bool = False,
        **plot_kwargs: Any,
    ) -> torch.Tensor:
        """The map at an image's size, ``(height, width)``.

        Args:
            image: whose size is taken.
            absolute: leave the values as they are; else they are stretched to 0 to 1.
            threshold: give 1 over it and 0 elsewhere; a threshold of 0 is one, too.
            plot: draw the overlay as well, with ``plot_kwargs`` of :meth:`plot_overlay`.
        """
        size = image_size(image)
        maps = F.interpolate(self.heatmap[None, None].float().detach(), size=size, mode="bicubic")
        expanded = maps[0, 0].cpu()
        if not absolute:
            low, high = expanded.min(), expanded.max()
            expanded = (expanded - low) / (high - low + 1e-8)
        if threshold is not None:
            expanded = (expanded > threshold).float()
        if plot:
            self.plot_overlay(image, **plot_kwargs)
        return expanded

    def plot_overlay(
        self,
        image: Image.Image | np.ndarray,
        out_file: str | Path | None = None,
        color_normalize: bool = True,
        ax: Axes | None = None,
        **expand_kwargs: Any,
    ) -> None:
        """Draw the map over an image: :func:`plot_overlay_heat_map` of :meth:`expand_as`."""
        plot_overlay_heat_map(
            image,
            self.expand_as(image, **expand_kwargs),
            word=self.word,
            out_file=out_file,
            color_normalize=color_normalize,
            ax=ax,
        )

    def compute_ioa(self, other: WordHeatMap) -> float:
        """The share of this map that lies in the other: ``sum(ab) / sum(a)``."""
        return compute_ioa(self.heatmap, other.heatmap)


@dataclass
class SyntacticHeatMapPair:
    """A word and the word that it depends on."""

    head_heat_map: WordHeatMap
    dep_heat_map: WordHeatMap
    head_text: str
    dep_text: str
    relation: str


@dataclass
class ParsedHeatMap:
    """A parsed token and its map."""

    word_heat_map: WordHeatMap
    token: ParsedToken


class GlobalHeatMap:
    """The maps of a prompt's tokens.

    Args:
        tokenizer: of the pipeline; not needed where ``tokens`` are given.
        prompt: the text.
        heat_maps: ``(rows, height, width)``: start token, the prompt's tokens, end token.
        tokens: the prompt with its tokens, one a row.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompt: str,
        heat_maps: torch.Tensor,
        tokens: Prompt | None = None,
    ) -> None:
        if tokens is None:
            if tokenizer is None:
                raise InputError("Words cannot be found without a tokenizer. Give tokenizer=…")
            tokens = align(tokenizer, prompt, tokenizer.model_max_length)
        self.tokenizer = tokenizer
        self.prompt = prompt
        self.heat_maps = heat_maps
        self.tokens = tokens

    def compute_word_heat_map(
        self, word: str, word_idx: int | None = None, offset_idx: int = 0
    ) -> WordHeatMap:
        """The mean of the maps of a word's tokens, of all its occurrences.

        Args:
            word: a word or phrase of the prompt.
            word_idx: the number of a token, from 0, in place of a search.
            offset_idx: is added to every token of a search.

        Raises:
            WordError: the prompt does not have it.
        """
        columns = columns_of(self.tokens, word, word_idx, offset_idx)
        return WordHeatMap(self._mean(columns, word), word, word_idx)

    def parsed_heat_maps(self, nlp: Parser | None = None) -> Iterator[ParsedHeatMap]:
        """The map of every token of the parsed prompt that the text encoder saw.

        Args:
            nlp: a spaCy ``Language``, such as ``spacy.load("en_core_web_md")``.

        Raises:
            InputError: it was not given.
        """
        for token in self._parsed(nlp):
            heat_map = self._of_token(token)
            if heat_map is not None:
                yield ParsedHeatMap(heat_map, token)

    def dependency_relations(self, nlp: Parser | None = None) -> Iterator[SyntacticHeatMapPair]:
        """The maps of every token and of the token that it depends on.

        Args:
            nlp: as for :meth:`parsed_heat_maps`, with a parser in it.

        Raises:
            InputError: it was not given, or has no parser.
        """
        tokens = list(self._parsed(nlp))
        # Without a parser each token depends on itself, by no relation.
        if tokens and not any(token.dep_ for token in tokens):
            raise InputError(
                "The pipeline in nlp= says of no token what it depends on, so it has no parser. "
                'Give one that has: spacy.load("en_core_web_md").'
            )
        for token in tokens:
            if token.dep_ == "ROOT":
                continue
            dependent, head = self._of_token(token), self._of_token(token.head)
            if dependent is not None and head is not None:
                yield SyntacticHeatMapPair(head, dependent, token.head.text, token.text, token.dep_)

    def _parsed(self, nlp: Parser | None) -> Iterable[ParsedToken]:
        if nlp is None:
            raise InputError(
                "A parser is needed, and none is downloaded here. Install spaCy with: pip install "
                '"diffusers_rdaam[nlp]", an English model of it with: python -m spacy download '
                'en_core_web_md, and give nlp=spacy.load("en_core_web_md").'
            )
        return nlp(self.prompt)

    def _of_token(self, token: ParsedToken) -> WordHeatMap | None:
        """The map of this occurrence alone; None where it has no column."""
        span = (token.idx, token.idx + len(token.text))
        try:
            columns = list(self.tokens.find(span).columns)
        except WordError:
            return None
        return WordHeatMap(self._mean(columns, token.text), token.text)

    def _mean(self, columns: list[int], word: str) -> torch.Tensor:
        check_columns(columns, len(self.heat_maps), word)
        return self.heat_maps[columns].mean(dim=0)

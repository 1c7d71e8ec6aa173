"""What the package records of a case is what the stock run's queries and keys tell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from dense_oracle import Case, EncoderIds, Observed, observed_ids
from torch import Tensor

from diffusers_rdaam import (
    Attribution,
    Grid,
    RDAAMProcessor,
    VideoAttribution,
    record_attention,
)
from diffusers_rdaam.pipelines.classes import recording_class


class StockRun:
    """A run of the stock class: its images, its attention, and what its encoders were given."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.pipe = case.make()
        with observed_ids(self.pipe, case) as given:
            self.output, self.calls = case.observed(self.pipe)
        self.given: EncoderIds = given
        self.seen: Observed = self.calls

    @property
    def images(self) -> np.ndarray:
        """The images, or the frames of the videos."""
        return images_of(self.output)

    def columns_of(self, image: int) -> dict[int, tuple[int, int]]:
        """The characters of each text column that a token of an image's prompt has."""
        prompt = self.case.prompts[image]
        tokens = self.case.token_columns(self.pipe, prompt, self.given)
        return {token.column: _span(token) for token in tokens}


def images_of(output: Any) -> np.ndarray:
    """What a pipeline returns first."""
    return np.asarray(next(iter(output.values())))


def check_block(case: Case) -> None:
    """``record_attention`` on the stock class, against a stock run of another pipeline."""
    stock = StockRun(case)
    pipe = case.make()
    with record_attention(pipe) as recording:
        output = case.run(pipe)
    assert np.array_equal(images_of(output), stock.images)
    check_maps(stock, recording.attributions)


def check_class(case: Case) -> None:
    """The class of the package with the parts of the stock pipeline."""
    stock = StockRun(case)
    pipe = stock.pipe
    ours = recording_class(type(pipe).__name__)(**parts_of(pipe))
    ours.set_attn_processor(RDAAMProcessor())
    ours.set_progress_bar_config(disable=True)
    output = case.run(ours)
    assert np.array_equal(images_of(output), stock.images)
    check_maps(stock, output.attributions)


def parts_of(pipe: Any) -> dict[str, Any]:
    """The arguments of a pipeline's constructor, read from the pipeline."""
    options = {"is_distilled": False, "pag_applied_layers": "blocks.0"}
    kept = {name: pipe.config[name] for name in options if name in pipe.config}
    if "pag_applied_layers" in kept or "PAG" in type(pipe).__name__:
        kept["pag_applied_layers"] = pipe.pag_applied_layers
    return {**pipe.components, **kept}


def check_maps(
    stock: StockRun,
    attributions: list[Attribution] | list[VideoAttribution],
    *,
    tolerance: float = 1e-5,
) -> None:
    """Every stream of every image: the words' columns, and what is left of the mass.

    Args:
        tolerance: as a part of the largest probability.
    """
    case = stock.case
    assert len(attributions) == len(case.prompts)
    for image, attribution in enumerate(attributions):
        wanted_columns = stock.columns_of(image)
        prompt = attribution.prompt
        assert prompt.text == case.prompts[image]
        own = [token for token in prompt.tokens if token.kind == "text"]
        places = {_place(token): _span(token) for token in own}
        assert places == wanted_columns
        grids = grids_of(attribution)
        streams = {grid.stream: grid for grid in grids}
        assert len(streams) == len(grids) == len(case.sites)
        assert len(streams) == 1 or set(streams) == set(case.sites)
        for stream, grid in streams.items():
            wanted = case.map_of(stock.seen, image, stream=stream or None)
            check_grid(grid.maps.double(), wanted, prompt.tokens, tolerance)


def _span(token: Any) -> tuple[int, int] | None:
    """The characters of a token; None for a token that has no character of its own."""
    return (token.start, token.end) if token.start < token.end else None


def grids_of(attribution: Attribution | VideoAttribution) -> list[Grid]:
    """The maps of an image; of a video those of its latent frames one below another."""
    if not isinstance(attribution, VideoAttribution):
        return list(attribution.grids)
    of_parts = zip(*(part.grids for part in attribution.parts), strict=True)
    return [
        replace(grids[0], maps=torch.cat([grid.maps for grid in grids], dim=1))
        for grids in of_parts
    ]


def _place(token: Any) -> int:
    """The column of the text embedding that a token is."""
    return token.column if token.position is None else token.position


def check_grid(got: Tensor, wanted: Tensor, tokens: Any, tolerance: float = 1e-5) -> None:
    """Each column within a part of the largest probability, and the rest with them."""
    wanted = wanted.flatten(1, -2) if wanted.ndim > 3 else wanted
    assert got.shape[1:] == wanted.shape[1:]
    # The last one, where there is one; columns that no encoder has made are rest as well.
    rest = [tokens[-1].column] if tokens[-1].kind == "rest" else []
    kept = tokens[: len(tokens) - len(rest)]
    columns = [_place(token) for token in kept]
    largest = wanted[columns].max()
    error = (got[[token.column for token in kept]] - wanted[columns]).abs().max()
    assert error <= tolerance * largest, f"{error:.2e} of {largest:.2e}"
    if rest:
        error = (got[rest[0]] - (1 - wanted[columns].sum(dim=0))).abs().max()
        assert error <= tolerance, f"rest: {error:.2e}"
    else:
        # A UNet's maps have all columns of the text.
        assert len(columns) == len(wanted) == len(got)
    torch.testing.assert_close(got.sum(dim=0), torch.ones_like(got[0]), rtol=0, atol=tolerance)


def in_turns(names: Iterable[str], turn: int, **marks: Any) -> list[Any]:
    """Parameters of one of two tests of the same maps, in turns quick and slow.

    Every pipeline is quick by a block around the stock class or by the package's own class, its
    neighbour in the table by the other.
    """
    return [
        pytest.param(name, marks=[*marks.get(name, ()), *([pytest.mark.slow] * (i % 2 != turn))])
        for i, name in enumerate(names)
    ]

"""Mean squares at joint sites, against every probability of the same run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders_joint import CASES

from diffusers_rdaam import RDAAMProcessor, record_attention
from diffusers_rdaam.attribution.kept_maps import by_grid, grid_key

KEEP: Any = ("steps", "layers", "heads", "squares")


@pytest.mark.parametrize("name", ["FluxPipeline", "StableDiffusion3Pipeline"])
def test_against_every_probability(name: str) -> None:
    case = CASES[name]()
    pipe = case.make()
    pipe.set_progress_bar_config(disable=True)
    with record_attention(pipe, RDAAMProcessor(keep=KEEP)) as recording:
        case.run(pipe)
    for attribution in recording.attributions:
        assert attribution.prompt.has_rest
        for grid in attribution.grids:
            details = by_grid(attribution.kept.details)[grid_key(grid)]
            wanted = torch.zeros(grid.maps.shape, dtype=torch.float64)
            for detail in details:
                for maps, count in zip(detail.maps, detail.additions, strict=True):
                    wanted += (maps.double() ** 2).mean(dim=0) * count / grid.additions
            torch.testing.assert_close(
                grid.squares[:-1].double(), wanted[:-1], rtol=5e-4, atol=1e-12
            )
            assert wanted[:-1].std() > 0
            # Of the rest only the mean is known.
            assert torch.equal(grid.squares[-1], grid.maps[-1].square())
        word = next(word for word in attribution.words if word.columns)
        assert attribution.word(word.index, aggregation="rms").values.std() > 0

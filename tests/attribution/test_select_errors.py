"""What cannot be selected, and what the error says to do."""

from __future__ import annotations

import dataclasses
import re

import pytest

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.errors import InputError, NoAttributionError

DOWN0, DOWN1, MID, UP1 = (
    f"{block}.transformer_blocks.0.attn2"
    for block in (
        "down_blocks.0.attentions.0", "down_blocks.1.attentions.0", "mid_block.attentions.0",
        "up_blocks.1.attentions.0",
    )
)  # fmt: skip


def error(attribution: Attribution, kind=InputError, **choices) -> str:
    with pytest.raises(kind) as caught:
        attribution.select(**choices)
    return str(caught.value)


@pytest.mark.parametrize("axis", ["steps", "heads"])
@pytest.mark.parametrize("axes", [None, ("layers",)])
def test_what_was_not_kept(make_kept, axis, axes):
    attribution, _ = make_kept(("layers",))
    if axes is None:
        attribution = dataclasses.replace(attribution, kept=None)
    keep = f'"{axis}"' if axes is None else f'("layers", "{axis}")'
    text = (
        f"This run did not keep its {axis} separately. Record with RDAAMProcessor(keep={keep}) to "
        "ask for them."
    )
    assert error(attribution, NoAttributionError, **{axis: 0}) == text
    with pytest.raises(NoAttributionError, match=f"^{re.escape(text)}$"):
        getattr(attribution, axis)


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    ("choices", "text"),
    [
        ({"steps": 5}, "There are 5 steps, numbered from 0; there is no 5."),
        ({"steps": [0, -6]}, "There are 5 steps, numbered from 0; there is no -6."),
        ({"steps": slice(5, 9)}, "slice(5, 9, None) chooses none of the 5 steps."),
        ({"steps": []}, "[] chooses none of the 5 steps."),
        ({"steps": 1.5}, "1.5 is not the number of one of the steps. Give a whole number from 0, "
                         "several, a range or a slice."),
        ({"steps": "all"}, "'all' is not the number of one of the steps. Give a whole"),
        ({"steps": [True, False]}, "True is not the number of one of the steps."),
        ({"steps": slice("a", None)}, "is not a slice of the 5 steps: slice indices must be"),
        ({"steps": slice(0, 5, 0)}, "is not a slice of the 5 steps: slice step cannot be zero."),
        ({"heads": 3}, "There are 3 heads, numbered from 0; there is no 3."),
        ({"heads": [0, None]}, "None is not the number of one of the heads."),
        ({"layers": "up_block"}, "'up_block' is not one of the 6 layers. Near it: up_blocks, "),
        ({"layers": "mid_blocks"}, "'mid_blocks' is not one of the 6 layers. Near it: mid_block"),
        ({"layers": UP1[:-1]}, f"is not one of the 6 layers. Near it: {UP1}"),
        ({"layers": "xyz"}, "'xyz' is not one of the 6 layers. They begin with: down_blocks.0, "
                            "down_blocks.1, mid_block, up_blocks.0, up_blocks.1."),
        ({"layers": [DOWN0, "*.attn1"]}, "'*.attn1' is not one of the 6 layers."),
        ({"layers": []}, "No layers were chosen. Give names, prefixes or patterns of layers."),
        ({"layers": [5]}, "5 is not a layer. Give the name of one, a prefix or a pattern."),
        ({"resolutions": 16}, "There is no grid (16, 16) (height, width). Grids: (8, 12), (4, 6), "
                              "(2, 3)."),
        ({"resolutions": (8, 4)}, "There is no grid (8, 4) (height, width). Grids: (8, 12), (4, 6),"
                                  " (2, 3). Two grids are a list: [8, 4]."),
        ({"resolutions": [8]}, "There is no grid (8, 8) (height, width). Grids: (8, 12),"),
        ({"resolutions": []}, "No grid was chosen, or all weights are 0. Grids: (8, 12), (4, 6),"),
        ({"resolutions": {(8, 12): 0.0}}, "No grid was chosen, or all weights are 0. Grids: (8,"),
        ({"resolutions": "16"}, "'1' is not a grid. Give (height, width), or n for a square one."),
        ({"resolutions": None, "steps": None, "heads": 2.0}, "2.0 is not the number of one of"),
        ({"resolutions": [(8, 12, 3)]}, "(8, 12, 3) is not a grid. Give (height, width), or n for"),
        ({"resolutions": [True]}, "True is not a grid. Give (height, width), or n"),
        ({"resolutions": 8.0}, "8.0 is not a grid. Give (height, width), or n"),
        ({"resolutions": [(4, 6), (4, 6)]}, "The grid (4, 6) (height, width) is given twice."),
        *(({"resolutions": {(4, 6): weight}},
           f"The weight of the grid (4, 6) is 0 or lies between 1e-9 and 1e9; got {weight!r}.")
          for weight in (-1.0, float("nan"), float("inf"), "1", None, True, 10**400, 1e-10, 1e10)),
        ({"layers": "mid_block", "resolutions": (4, 6)},
         "None of the chosen layers is on the chosen grids. Choose layers or resolutions alone."),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_errors(make_kept, choices, text):
    shown = error(make_kept()[0], **choices)
    assert text in shown and "Heads of each grid" not in shown


def test_layers_without_names(make_attribution):
    attribution = make_attribution()
    nameless = tuple(Grid(grid.maps, grid.additions) for grid in attribution.grids)
    attribution = dataclasses.replace(attribution, grids=nameless)
    assert attribution.layers == ()
    text = "The names of the layers are not known, so 'mid_block' cannot be chosen."
    assert error(attribution, layers="mid_block") == text


def test_steps_that_were_skipped(make_kept):
    attribution, _ = make_kept(counts={MID: (0, 0, 0, 2, 1), DOWN1: (1, 0, 1, 0, 1)})
    assert error(attribution, layers="mid_block", steps=1) == (
        "Nothing was recorded at step 1: the chosen attention modules were skipped there, by a "
        "cache for example. Choose other steps."
    )
    text = error(attribution, layers="mid_block", steps=[0, 2])
    assert text.startswith("Nothing was recorded at any of the 2 steps: ")
    assert len(attribution.select(steps=1).grids) == 2


@pytest.mark.parametrize("layers", [3, 1.5, [3], [None]])
def test_layers_that_are_no_names(make_kept, layers, types_unchecked):
    attribution, _ = make_kept(("layers",))
    assert "is not a layer. Give the name of one, a prefix or a pattern." in error(
        attribution, layers=layers
    )
    with pytest.raises(InputError, match="is not a layer"):
        attribution.aggregated("expert_layer", layer=layers).word("cat")

"""GramCol of IMAP: what is like the position at which a word is strongest."""

from __future__ import annotations

import torch

from diffusers_rdaam.attribution.aggregations.aggregation import SELF_ATTENTION, Aggregation
from diffusers_rdaam.attribution.prompt import Match
from diffusers_rdaam.attribution.record import Record
from diffusers_rdaam.attribution.self_attention.refinement import maps_on, refining_grid
from diffusers_rdaam.geometry.grid import enlarge
from diffusers_rdaam.shapes import Column, Size


def gram_column(record: Record, match: Match, size: Size) -> Column:
    """The products of each position's self-attention with that of the word's strongest position.

    The paper's are products of attention outputs ``h_p = sum over j of A[p, j] v_j``; these are the
    same for values ``v_j`` that are orthonormal. In a video each frame has its position.
    """
    grid = refining_grid(record)
    word = maps_on(record, match.columns, grid.size).sum(dim=0).flatten()
    strongest = torch.zeros(1, grid.positions, dtype=torch.float32, device="cpu")
    strongest[0, int(word.argmax())] = 1.0
    # A position alike has a product like that of the strongest with itself, which is 1 here.
    products = grid.attention_to(grid.attention_from(strongest))
    products /= products[0, int(word.argmax())].clamp(min=1e-30)
    return enlarge(products.view(grid.size), *size)


GRAMCOL = Aggregation(
    name="gramcol",
    formula="<A[s], A[p]> over <A[s], A[s]> at position p, s being the position where m is highest",
    maps=gram_column,
    needs=(SELF_ATTENTION,),
    memory="2 bytes for each pair of positions: 131 kB for a grid of 16x16, 33.6 MB for 64x64",
    reference=(
        "IMAP, Interpretable Motion-Attentive Maps for video (2026), its GramCol, with the head "
        "mean of self-attention in place of each head's attention output, which is not recorded"
    ),
    measured=(
        "phrase / colour / shape IoU at a threshold chosen on other scenes. Embedded Stable "
        "Diffusion (160 scenes): .716 / .673 / .709, the mean .682 / .720 / .606. Embedded FLUX "
        "(158 scenes): .385 / .391 / .327, the mean .726 / .716 / .559. It helps phrases and "
        "shapes of the first, with large differences between images, and harms on the second"
    ),
    sums_to="nothing: every word has 1 at its strongest position",
    quantity="likeness to the word's strongest position",
    threshold=0.58,
    joint_threshold=0.20,
)

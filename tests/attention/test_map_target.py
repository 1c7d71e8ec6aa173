"""Target: the rows of each prompt go to their own buffers, masks with them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from diffusers_rdaam.attention.attention_call import AttentionCall
from diffusers_rdaam.attention.map_target import BranchTarget, Target
from diffusers_rdaam.kernels import portable
from diffusers_rdaam.kernels.reference import head_mean_probabilities

ROWS, HEADS, PIXELS, TOKENS, DIM, SCALE = 6, 2, 15, 7, 4, 0.4


def branch(start: int, stop: int, heads: int = 0) -> BranchTarget:
    size = (stop - start, *((heads,) if heads else ()), TOKENS, PIXELS)
    planes = torch.zeros(2, *size, dtype=torch.float16)
    return BranchTarget(planes[0], planes[1], torch.zeros(1, dtype=torch.int32), start, stop)


def target(*branches: BranchTarget, rows: int | None = None) -> Target:
    return Target("mid_block.attn2", branches, portable.accumulate, rows)


def inputs(pixels: int = PIXELS, tokens: int = TOKENS) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(ROWS, HEADS, pixels, DIM, generator=generator)
    return query, torch.randn(ROWS, HEADS, tokens, DIM, generator=generator)


def read(part: BranchTarget) -> torch.Tensor:
    return part.high.double() + part.low.double() / 2048


def masks() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    by_row = torch.randn(ROWS, 1, 1, TOKENS, generator=generator)
    kept = torch.rand(ROWS, HEADS, PIXELS, TOKENS, generator=generator) > 0.3
    kept[..., 0] = True
    return {
        "none": None,
        "rows": by_row,
        "one for all": by_row[:1],
        "half": by_row.half(),
        "boolean": kept,
        "boolean for all": kept[:1, :1, :1],
    }


@pytest.mark.parametrize("kind", masks())
def test_two_prompts_with_their_own_rows_of_the_mask(kind):
    (query, key), mask = inputs(), masks()[kind]
    negative, own = branch(0, 2), branch(4, 6)
    target(own, negative).see(AttentionCall(query, key, None, mask, SCALE))
    full = None
    if mask is not None:
        zero = torch.zeros(mask.shape).double()
        full = zero.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else mask.double()
        full = full.expand(ROWS, -1, -1, -1)
    wanted = head_mean_probabilities(query.double(), key.double(), mask=full, scale=SCALE)
    for part in (negative, own):
        torch.testing.assert_close(read(part), wanted[part.start : part.stop], rtol=1e-4, atol=1e-7)
        assert part.count.item() == 1


def test_nothing_is_kept_for_a_way_back():
    query, key = (part.requires_grad_() for part in inputs())
    own = branch(0, 6, heads=HEADS)
    target(own).see(AttentionCall(query, key, None, None, SCALE))
    assert own.high.any() and not own.high.requires_grad


@pytest.mark.parametrize(
    ("pixels", "tokens", "text"),
    [
        (
            14,
            TOKENS,
            "mid_block.attn2 attends from 14 image positions, where 15 were expected of its level "
            "and the latent's size: this denoiser's samplers are not known, or something cuts its "
            "input into tiles. Switch that off to record, or generate without recording: "
            "pipe.set_attn_processor(AttnProcessor2_0()).",
        ),
        (
            PIXELS,
            9,
            "mid_block.attn2 attends to 9 columns, where 7 were expected of the text: something "
            "adds columns to it, or leaves some out. Switch that off to record, or generate "
            "without recording: pipe.set_attn_processor(AttnProcessor2_0()).",
        ),
    ],
)
def test_what_does_not_fit_is_noted(pixels, tokens, text):
    query, key = inputs(pixels, tokens)
    own = branch(0, 6)
    observer = target(own)
    observer.see(AttentionCall(query, key, None, None, SCALE))
    assert observer.misfit == text and not own.high.any() and own.count.item() == 0


@pytest.mark.parametrize("rows", [ROWS // 2, 2 * ROWS])
def test_another_number_of_rows_is_no_part_of_the_call(rows):
    """A batch that is split or multiplied inside of the denoiser: other rows would be taken."""
    query, key = inputs()
    own = branch(0, 3)
    observer = target(own, rows=rows)
    observer.see(AttentionCall(query, key, None, None, SCALE))
    assert f"attends with {ROWS} rows, where its denoiser call has {rows}" in observer.misfit
    assert not own.high.any() and own.count.item() == 0

"""Maps of some columns of a joint call, normalised over all of its keys."""

from __future__ import annotations

import pytest
import torch

from diffusers_rdaam.attention.attention_call import AttentionCall
from diffusers_rdaam.attention.joint_target import ImagePlace, JointBranch, JointTarget
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.kernels.planes import read_planes

IMAGES, HEADS, PIXELS, KEYS, DIM = 2, 4, 12, 23, 8


def drawn(rows=4, positions=KEYS, keys=KEYS, key_heads=HEADS):
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(rows, HEADS, positions, DIM, generator=generator)
    key, value = (torch.randn(rows, key_heads, keys, DIM, generator=generator) for _ in range(2))
    return query, key, value


def probabilities(query, key, mask, scale):
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    logits = query.double() @ key.double().mT * scale
    if mask is not None:
        bias = torch.zeros_like(mask, dtype=torch.float64)
        logits = logits + (
            bias.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else mask
        )
    return logits.softmax(dim=-1)


def target(columns, places, *, tokens, start=2, per_head=False, rows=4):
    size = (IMAGES, *((HEADS,) if per_head else ()), tokens, PIXELS)
    high, low = torch.zeros(size, dtype=torch.float16), torch.zeros(size, dtype=torch.float16)
    count = torch.zeros(1, dtype=torch.int32)
    branch = JointBranch(high, low, count, start, start + IMAGES, columns=columns, places=places)
    return JointTarget.of("site", (branch,), choose("portable"), rows=rows, kind="joint"), branch


def read(branch):
    return read_planes(branch.high, branch.low).double()


ONE_PLACE = (ImagePlace(7, 7, 0, IMAGES),)
# Texts of different length before the image.
TWO_PLACES = (ImagePlace(7, 7, 0, 1), ImagePlace(4, 4, 1, 2))
COLUMNS = torch.tensor([[0, 5, 2], [3, 1, 1]])


@pytest.mark.parametrize("places", [ONE_PLACE, TWO_PLACES], ids=["one place", "two places"])
@pytest.mark.parametrize("with_lse", [True, False], ids=["kernel's lse", "tiles"])
@pytest.mark.parametrize("masked", ["none", "boolean", "float"])
@pytest.mark.parametrize("per_head", [False, True], ids=["mean", "heads"])
@pytest.mark.parametrize("key_heads", [HEADS, 2])
def test_maps_are_those_of_the_dense_softmax(places, with_lse, masked, per_head, key_heads):
    query, key, value = drawn(key_heads=key_heads)
    mask = None
    if masked != "none":
        mask = torch.ones(4, 1, 1, KEYS, dtype=torch.bool)
        mask[:, ..., 5::4] = False
        mask = mask if masked == "boolean" else torch.where(mask, 1.0, -10_000.0)
    scale = 0.4
    dense = probabilities(query, key, mask, scale)
    lse = None
    if with_lse:
        logits = query.double() @ key.repeat_interleave(HEADS // key_heads, dim=1).double().mT
        bias = 0.0 if mask is None else mask
        if masked == "boolean":
            bias = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
        lse = (logits * scale + bias).logsumexp(dim=-1).float()
    observer, branch = target(COLUMNS, places, tokens=3, per_head=per_head)
    observer.see(AttentionCall(query, key, value, mask, scale, None, lse))
    assert observer.misfit is None and branch.count.item() == 1
    for image in range(IMAGES):
        place = next(one for one in places if one.start <= image < one.stop)
        maps = dense[2 + image, :, place.query : place.query + PIXELS][..., COLUMNS[image]].mT
        wanted = maps if per_head else maps.mean(dim=0)
        torch.testing.assert_close(read(branch)[image], wanted, rtol=0, atol=1e-6)


def test_without_columns_the_image_attends_to_itself():
    query, key, value = drawn(positions=PIXELS)
    observer, branch = target(None, (ImagePlace(0, 9, 0, IMAGES),), tokens=PIXELS)
    observer.see(AttentionCall(query, key, value, None, 0.4))
    wanted = probabilities(query, key, None, 0.4)[2:, :, :, 9 : 9 + PIXELS].mean(dim=1).mT
    torch.testing.assert_close(read(branch), wanted, rtol=0, atol=1e-6)


def test_a_call_of_the_guided_rows_alone_is_recorded():
    query, key, value = drawn()
    observer, branch = target(COLUMNS, ONE_PLACE, tokens=3, rows=6)
    observer.guided_rows = 4
    observer.see(AttentionCall(query, key, value, None, 0.4))
    assert branch.count.item() == 1 and observer.misfit is None


@pytest.mark.parametrize(
    ("rows", "positions", "said"),
    [
        (2, KEYS, "with 2 rows, where its denoiser call has 4: something splits"),
        (4, PIXELS + 6, "from 18 positions, where the image alone was expected to have 12"),
    ],
)
def test_a_call_that_does_not_match_is_noted_and_adds_nothing(rows, positions, said):
    query, key, value = drawn(rows=rows, positions=positions)
    observer, branch = target(COLUMNS, ONE_PLACE, tokens=3)
    observer.see(AttentionCall(query, key, value, None, 0.4))
    assert said in observer.misfit and branch.count.item() == 0 and not branch.high.any()


def test_rows_with_attention_calls_of_their_own_follow_each_other():
    query, key, value = drawn()
    observer, branch = target(COLUMNS, ONE_PLACE, tokens=3)
    observer.row_by_row = True
    # Two denoiser calls; the text of the last row is shorter.
    for length in (KEYS, KEYS, KEYS, KEYS - 2) * 2:
        row = observer._next_row
        parts = query[row : row + 1], key[row : row + 1, :, :length], value[row : row + 1]
        observer.see(AttentionCall(*parts, None, 0.4))
    assert observer.misfit is None and branch.count.item() == 2
    for image, length in enumerate((KEYS, KEYS - 2)):
        row = slice(2 + image, 3 + image)
        dense = probabilities(query[row], key[row, :, :length], None, 0.4)[0]
        wanted = dense[:, 7 : 7 + PIXELS][..., COLUMNS[image]].mT.mean(dim=0)
        # The planes hold the sum of both calls.
        torch.testing.assert_close(read(branch)[image], 2 * wanted, rtol=0, atol=2e-6)


def test_rows_together_where_each_was_to_have_its_own_call_are_noted():
    query, key, value = drawn()
    observer, branch = target(COLUMNS, ONE_PLACE, tokens=3)
    observer.row_by_row = True
    observer.see(AttentionCall(query, key, value, None, 0.4))
    assert "with 4 rows" in observer.misfit and branch.count.item() == 0

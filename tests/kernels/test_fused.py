"""The Triton kernels against the definition, by Triton's interpreter or on a GPU.

Whatever lies next to an input or an output is NaN, so that nothing may be read or left out there.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from diffusers_rdaam.kernels import fused
from diffusers_rdaam.kernels.blocks import Blocks
from diffusers_rdaam.kernels.planes import read_planes
from tests.kernels.fused_checks import (
    DEVICE,
    TYPES,
    added,
    check_attend,
    check_maps,
    check_maps_only,
    definition,
    make_planes,
    vectors,
)

pytest.importorskip("triton", reason="Triton is not installed")


# Interpreted, wide calls take seconds; a narrow one beside each stays.
WIDE = pytest.param(300, marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that is not initialised holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


# Rows, heads, heads of keys, positions, columns, channels: 6x13 positions are of no square.
SIZES = [
    (2, 2, 2, 6 * 13, 77, 40),
    (2, 3, 1, 37, 77, 64),
    (1, 4, 2, 65, 7, 80),
    (3, 2, 2, 33, 154, 40),
    (2, 1, 1, 1, 1, 5),
    (2, 2, 2, 17, 231, 24),
    (2, 2, 1, 17, 77, 160),
    pytest.param((2, 2, 2, 40, 300, 40), marks=pytest.mark.slow),
    (1, 2, 2, 19, 512, 64),
    (2, 1, 1, 17, 77, 200),
]


@pytest.mark.values
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
def test_output_and_maps(size, dtype):
    rows, heads, key_heads, positions, columns, dim = size
    query = vectors(rows, heads, positions, dim, seed=0, dtype=dtype)
    key = vectors(rows, key_heads, columns, dim, seed=1, dtype=dtype)
    value = vectors(rows, key_heads, columns, dim, seed=2, dtype=dtype, size=1.0)
    check_attend(query, key, value)
    check_maps_only(query, key)


@pytest.mark.parametrize("columns", [77, WIDE])
@pytest.mark.parametrize(("first", "images"), [(0, 3), (0, 1), (1, 1), (1, 2), (2, 1)])
def test_only_the_recorded_rows_write_maps(first, images, columns):
    query, key, value = (
        vectors(3, 2, count, 16, seed=seed) for seed, count in enumerate((21, columns, columns))
    )
    check_attend(query, key, value, first=first, images=images)


@pytest.mark.parametrize("columns", [20, WIDE])
@pytest.mark.parametrize("shape", [(2, 2, 21), (1, 1, 1), (2, 1, 1), (1, 2, 21)])
@pytest.mark.parametrize("kind", ["added", "chosen"])
def test_masks(kind, shape, columns):
    query, key, value = (
        vectors(2, 2, count, 16, seed=seed) for seed, count in enumerate((21, columns, columns))
    )
    generator = torch.Generator().manual_seed(5)
    mask = torch.randn(*shape, columns, generator=generator).to(DEVICE) * 3.0
    if kind == "chosen":
        mask = mask > 0.0
    check_attend(query, key, value, mask=mask)
    check_maps_only(query, key, mask=mask)


@pytest.mark.parametrize("columns", [20, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["added", "chosen"])
def test_what_may_attend_to_nothing_gives_zeros(kind, columns):
    query, key, value = (
        vectors(2, 2, count, 16, seed=seed) for seed, count in enumerate((21, columns, columns))
    )
    mask = torch.ones(2, 1, 21, columns, dtype=torch.bool, device=DEVICE)
    mask[1, :, 7:9] = False
    mask[0, :, :, 5:] = False
    check_attend(query, key, value, mask=mask if kind == "chosen" else added(mask))


def test_a_mask_with_finite_minima_leaves_the_rest():
    query, key, value = (vectors(2, 2, n, 16, seed=n) for n in (21, 20, 20))
    mask = torch.zeros(2, 1, 1, 20, dtype=torch.float16, device=DEVICE)
    mask[..., 11:] = torch.finfo(torch.float16).min
    check_attend(query, key, value, mask=mask)


@pytest.mark.parametrize("columns", [20, 77, WIDE])
def test_heads_separately(columns):
    query, key = vectors(2, 3, 35, 40, seed=0), vectors(2, 3, columns, 40, seed=1)
    check_maps_only(query, key, per_head=True)


@pytest.mark.parametrize(
    ("block", "splits"),
    [
        *((32, splits) for splits in (1, 2, 3, 6)),
        *(pytest.param(16, splits, marks=pytest.mark.slow) for splits in (1, 2, 3, 6)),
    ],
)
def test_heads_shared_by_programs(splits, block):
    query, key, value = (vectors(2, 6, n, 16, seed=n) for n in (37, 77, 77))
    cut = Blocks(block, 0, splits, 4, 1)
    check_attend(query, key, value, first=1, cut=cut)
    check_maps_only(query, key, cut=cut)
    check_maps_only(query, key, per_head=True, cut=cut)


def test_a_single_plane_is_added_to_as_portable_does():
    from diffusers_rdaam.kernels import portable

    query, key = vectors(2, 2, 35, 40, seed=0), vectors(2, 2, 77, 40, seed=1)
    ours = torch.rand(2, 77, 35, device=DEVICE).half()
    theirs = ours.clone()
    fused.accumulate(query, key, ours, None, scale=0.2)
    portable.accumulate(query, key, theirs, None, scale=0.2)
    # Both round the same sum, which may lie on either side of a tie.
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-7)
    assert (ours == theirs).float().mean() > 0.99


def test_many_additions_stay_exact():
    query, key = vectors(1, 2, 21, 16, seed=0), vectors(1, 2, 20, 16, seed=1)
    high, low, _ = make_planes(1, 20, 21)
    for _ in range(60):
        fused.accumulate(query, key, high, low, scale=0.25)
    wanted = 60 * definition(query, key, scale=0.25).mean(dim=1).mT
    torch.testing.assert_close(read_planes(high, low), wanted.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("per_head", [False, True])
def test_text_columns_of_joint_attention(per_head):
    """Some columns of a joint sequence by the log-sum-exp over all of them."""
    dim, image, text = 24, 35, 21
    query, key = vectors(2, 3, image + text, dim, seed=0), vectors(2, 3, image + text, dim, seed=1)
    scale = dim**-0.5
    lse = torch.logsumexp(scale * query.double() @ key.double().mT, dim=-1).float()
    shape = (2, 3) if per_head else (2,)
    high, low, untouched = make_planes(*shape, text, image)
    fused.accumulate(
        query[:, :, :image], key[:, :, image:], high, low, scale=scale, lse=lse[:, :, :image]
    )
    wanted = definition(query, key, scale=scale)[:, :, :image, image:]
    check_maps(high, low, wanted, per_head=per_head)
    assert untouched()


def test_large_logits_do_not_overflow():
    query, key, value = (vectors(1, 2, n, 16, seed=n, size=40.0) for n in (21, 20, 20))
    high, low, _ = make_planes(1, 20, 21)
    output = fused.attend(query, key, value, high, low, first=0, scale=0.25)
    assert output.isfinite().all()
    wanted = definition(query, key, scale=0.25).mean(dim=1).mT
    torch.testing.assert_close(read_planes(high, low), wanted.float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("offset", [0, 1])
def test_parts_of_a_packed_projection_and_odd_addresses(offset):
    """Queries, keys and values out of one tensor, whose memory starts one element late."""
    rows, heads, count, dim = 2, 2, 35, 40
    storage = torch.randn(rows * count * 3 * heads * dim + offset, device=DEVICE).half()[offset:]
    packed = storage.view(rows, count, 3, heads, dim)
    query, key, value = (packed[:, :, part].transpose(1, 2) for part in range(3))
    check_attend(query, key, value)
    # Channels that are no neighbours.
    turned = storage.view(rows, 3, heads, dim, count)
    query, key, value = (turned[:, part].transpose(2, 3) for part in range(3))
    check_attend(query, key, value)


def test_no_rows_are_nothing_to_do():
    query, key = (torch.empty(0, 2, n, 16, device=DEVICE) for n in (21, 20))
    high, low, untouched = make_planes(0, 20, 21)
    fused.accumulate(query, key, high, low, scale=0.25)
    assert fused.attend(query, key, key, high, low, first=0, scale=0.25).shape == query.shape
    assert untouched()


@pytest.mark.values
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [0.5, 1.5, 3.0])
def test_as_near_to_stock_attention_as_its_backends_are_to_each_other(size, dtype):
    query, key = (vectors(2, 4, n, 40, seed=n, size=size, dtype=dtype) for n in (128, 77))
    value = vectors(2, 4, 77, 40, seed=3, size=1.0, dtype=dtype)
    high, low, _ = make_planes(1, 77, 128)
    ours = fused.attend(query, key, value, high, low, first=1, scale=40**-0.5)
    stock = F.scaled_dot_product_attention(query, key, value)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        other = F.scaled_dot_product_attention(query, key, value)
    exact = definition(query, key, scale=40**-0.5) @ value.double()

    def distance(one, two):
        return float((one.double() - two.double()).square().mean().sqrt())

    assert distance(ours, stock) <= distance(other, stock)
    assert distance(ours, exact) <= 1.05 * distance(stock, exact)


def test_which_calls_are_not_served():
    half, key = torch.ones(1, 2, 3, 8).half(), torch.ones(1, 2, 5, 8)
    assert fused.unserved(key, key) is None
    assert "float64" in fused.unserved(key.double(), key.double())
    assert "queries are torch.float16, keys torch.float32" in fused.unserved(half, key)
    wide = torch.ones(1, 1, 2, 257)
    assert fused.unserved(wide, wide) == "head size 257 is over 256"
    assert "of queries 8" in fused.unserved(key, key, value=torch.ones(1, 2, 5, 16))
    reason = fused.unserved(key.bfloat16(), key.bfloat16())
    assert reason is None if DEVICE.type == "cuda" else "interpreter" in reason


@pytest.mark.parametrize("columns", [20, 300])
def test_a_kernel_that_cannot_be_launched_writes_nothing_and_is_remembered(monkeypatch, columns):
    class Broken:
        def __getitem__(self, grid):
            def launch(*arguments, **options):
                raise RuntimeError("Failed to find C compiler.\nPlease set CC.")

            return launch

    from diffusers_rdaam.kernels import fused_launch, fused_long, fused_text

    monkeypatch.setattr(fused_text, "fold_shares", Broken())
    monkeypatch.setattr(fused_long, "add_columns", Broken())
    monkeypatch.setattr(fused_launch, "refused", {})
    monkeypatch.setattr(fused, "refused", fused_launch.refused)
    query, key = vectors(2, 2, 21, 16, seed=0), vectors(2, 2, columns, 16, seed=1)
    high, low, _ = make_planes(2, columns, 21)
    count = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    message = "Triton could not launch its kernel (RuntimeError: Failed to find C compiler.)"
    with pytest.raises(fused.NotServedError) as caught:
        fused.accumulate(query, key, high, low, scale=0.25, count=count)
    assert str(caught.value) == message
    assert not high.any() and not low.any() and not count.any()
    assert fused.unserved(query, key) == message
    assert fused.unserved(query[..., :8], key[..., :8]) is None


def test_where_the_kernels_run(monkeypatch):
    assert "not on meta" in fused.unavailable(torch.device("meta"))
    if DEVICE.type == "cpu":
        assert fused.unavailable(DEVICE) is None
        fused.unavailable.cache_clear()
        monkeypatch.setenv("TRITON_INTERPRET", "0")
        assert "not on cpu" in fused.unavailable(DEVICE)
        fused.unavailable.cache_clear()

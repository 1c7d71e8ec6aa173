"""The Triton kernels against the definition, by Triton's interpreter or on a GPU.

Whatever lies beside an input or an output is NaN, so that nothing may be read or left out there.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from diffusers_rdaam.kernels import blocks, fused
from diffusers_rdaam.kernels.blocks import Blocks
from diffusers_rdaam.kernels.planes import read_planes
from diffusers_rdaam.kernels.reference import attention_probabilities

pytest.importorskip("triton", reason="Triton is not installed")

DEVICE = torch.device("cpu" if fused.interpreted() else "cuda")
# Without a GPU: half precision is what the interpreter multiplies as the tensor cores do.
TYPES = [torch.float32, torch.float16] + [torch.bfloat16] * (DEVICE.type == "cuda")
OUTPUT_ERROR = {torch.float32: 3e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that is not initialised holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def vectors(rows, heads, count, dim, *, seed, dtype=torch.float32, size=1.5):
    """``(rows, heads, count, dim)`` as diffusers has it, in the middle of NaN."""
    generator = torch.Generator().manual_seed(seed)
    around = torch.full((rows + 2, count + 3, heads, dim), torch.nan)
    drawn = torch.randn(rows, count, heads, dim, generator=generator) * size
    around[1:-1, 1:-2] = drawn
    return around.to(DEVICE, dtype)[1:-1, 1:-2].transpose(1, 2)


def make_planes(*shape):
    """A pair of zeros in the middle of NaN, and a check that the NaN is still there."""
    first, *others = shape
    pair = torch.full((2, first + 2, *others), torch.nan, dtype=torch.float16, device=DEVICE)
    pair[:, 1:-1] = 0.0

    def untouched():
        return bool(pair[:, [0, -1]].isnan().all())

    return pair[0, 1:-1], pair[1, 1:-1], untouched


def added(mask):
    """A boolean mask as one to add."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)


def definition(query, key, *, mask=None, scale):
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    if mask is not None:
        mask = added(mask).double().expand(len(query), -1, -1, -1)
    return attention_probabilities(query.double(), key.double(), mask=mask, scale=scale)


def check_maps(high, low, wanted, *, apart=False):
    wanted = wanted.mT if apart else wanted.mean(dim=1).mT
    torch.testing.assert_close(read_planes(high, low), wanted.float(), rtol=2e-5, atol=3e-7)


def check_attend(query, key, value, *, first=0, images=None, mask=None, cut=None):
    rows, heads, positions, dim = query.shape
    scale = dim**-0.5
    images = rows - first if images is None else images
    high, low, untouched = make_planes(images, key.shape[2], positions)
    count = torch.full((1,), 4, dtype=torch.int32, device=DEVICE)
    output = fused.attend(
        query, key, value, high, low, first=first, mask=mask, scale=scale, count=count, cut=cut
    )
    probabilities = definition(query, key, mask=mask, scale=scale)
    values = value.double().repeat_interleave(heads // key.shape[1], dim=1)
    error = (output.double() - probabilities @ values).abs().max()
    assert error <= OUTPUT_ERROR[query.dtype]
    check_maps(high, low, probabilities[first : first + images])
    assert untouched() and int(count) == 5
    assert output.transpose(1, 2).is_contiguous() and output.dtype == query.dtype


def check_beside(query, key, *, mask=None, cut=None, apart=False):
    rows, heads, positions, dim = query.shape
    shape = (rows, heads) if apart else (rows,)
    high, low, untouched = make_planes(*shape, key.shape[2], positions)
    fused.accumulate(query, key, high, low, mask=mask, scale=dim**-0.5, cut=cut)
    check_maps(high, low, definition(query, key, mask=mask, scale=dim**-0.5), apart=apart)
    assert untouched()


# Rows, heads, heads of keys, positions, columns, channels: 6x13 positions are of no square.
SIZES = [
    (2, 2, 2, 6 * 13, 77, 40),
    (2, 3, 1, 37, 77, 64),
    (1, 4, 2, 65, 7, 80),
    (3, 2, 2, 33, 154, 40),
    (2, 1, 1, 1, 1, 5),
    (2, 2, 2, 17, 231, 24),
    (2, 2, 1, 17, 77, 160),
    (2, 2, 2, 40, 300, 40),
    (1, 2, 2, 19, 512, 64),
    (2, 1, 1, 17, 77, 200),
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
def test_output_and_maps(size, dtype):
    rows, heads, key_heads, positions, columns, dim = size
    query = vectors(rows, heads, positions, dim, seed=0, dtype=dtype)
    key = vectors(rows, key_heads, columns, dim, seed=1, dtype=dtype)
    value = vectors(rows, key_heads, columns, dim, seed=2, dtype=dtype, size=1.0)
    check_attend(query, key, value)
    check_beside(query, key)


@pytest.mark.parametrize("columns", [77, 300])
@pytest.mark.parametrize(("first", "images"), [(0, 3), (0, 1), (1, 1), (1, 2), (2, 1)])
def test_only_the_recorded_rows_write_maps(first, images, columns):
    query, key, value = (
        vectors(3, 2, count, 16, seed=seed) for seed, count in enumerate((21, columns, columns))
    )
    check_attend(query, key, value, first=first, images=images)


@pytest.mark.parametrize("columns", [20, 300])
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
    check_beside(query, key, mask=mask)


@pytest.mark.parametrize("columns", [20, 300])
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


@pytest.mark.parametrize("columns", [20, 77, 300])
def test_heads_apart(columns):
    query, key = vectors(2, 3, 35, 40, seed=0), vectors(2, 3, columns, 40, seed=1)
    check_beside(query, key, apart=True)


@pytest.mark.parametrize("splits", [1, 2, 3, 6])
@pytest.mark.parametrize("block", [16, 32])
def test_heads_shared_by_programs(splits, block):
    query, key, value = (vectors(2, 6, n, 16, seed=n) for n in (37, 77, 77))
    cut = Blocks(block, 0, splits, 4, 1)
    check_attend(query, key, value, first=1, cut=cut)
    check_beside(query, key, cut=cut)
    check_beside(query, key, apart=True, cut=cut)


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


@pytest.mark.parametrize("apart", [False, True])
def test_text_columns_of_joint_attention(apart):
    """Some columns of a joint sequence by the log-sum-exp over all of them."""
    dim, image, text = 24, 35, 21
    query, key = vectors(2, 3, image + text, dim, seed=0), vectors(2, 3, image + text, dim, seed=1)
    scale = dim**-0.5
    lse = torch.logsumexp(scale * query.double() @ key.double().mT, dim=-1).float()
    shape = (2, 3) if apart else (2,)
    high, low, untouched = make_planes(*shape, text, image)
    fused.accumulate(
        query[:, :, :image], key[:, :, image:], high, low, scale=scale, lse=lse[:, :, :image]
    )
    wanted = definition(query, key, scale=scale)[:, :, :image, image:]
    check_maps(high, low, wanted, apart=apart)
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


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE.type != "cuda", reason="interpreted: test_fused_on_device.py runs it")
class TestOnTheDevice:
    """What the interpreter cannot show."""

    def test_the_tensors_device_and_the_current_stream(self):
        query, key = vectors(2, 8, 1024, 64, seed=0, dtype=torch.float16), None
        key = vectors(2, 8, 77, 64, seed=1, dtype=torch.float16)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(10_000_000)
            query = query * 1.0
            check_beside(query, key)

    def test_a_cuda_graph_replays(self):
        query, key, value = (
            vectors(2, 8, n, 40, seed=n, dtype=torch.float16) for n in (256, 77, 77)
        )
        high, low, _ = make_planes(1, 77, 256)
        count = torch.zeros(1, dtype=torch.int32, device=DEVICE)
        call = (query, key, value, high, low)
        fused.attend(*call, first=1, scale=0.2, count=count)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = fused.attend(*call, first=1, scale=0.2, count=count)
        for plane in (high, low, count):
            plane.zero_()
        for _ in range(3):
            graph.replay()
        assert int(count) == 3
        wanted = 3 * definition(query, key, scale=0.2)[1:].mean(dim=1).mT
        torch.testing.assert_close(read_planes(high, low), wanted.float(), rtol=1e-4, atol=1e-6)
        exact = definition(query, key, scale=0.2) @ value.double()
        assert (output.double() - exact).abs().max() <= OUTPUT_ERROR[torch.float16]

    @pytest.mark.parametrize("size", [(2, 8, 4096, 77, 40), (2, 20, 1024, 77, 64)])
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_sizes_of_released_models(self, size, dtype):
        rows, heads, positions, columns, dim = size
        query = vectors(rows, heads, positions, dim, seed=0, dtype=dtype)
        key = vectors(rows, heads, columns, dim, seed=1, dtype=dtype)
        check_attend(query, key, vectors(rows, heads, columns, dim, seed=2, dtype=dtype), first=1)

    def test_the_same_sums_every_time(self):
        query = vectors(1, 20, 1024, 64, seed=0, dtype=torch.float16)
        key = vectors(1, 20, 77, 64, seed=1, dtype=torch.float16)
        assert blocks.for_text(1, 1024, 77, 20, 64, 2, 132, attends=False).splits > 1
        sums = []
        for _ in range(5):
            high, low, _ = make_planes(1, 77, 1024)
            fused.accumulate(query, key, high, low, scale=0.125)
            sums.append((high.clone(), low.clone()))
        assert all(torch.equal(a, b) for pair in sums for a, b in zip(pair, sums[0], strict=True))

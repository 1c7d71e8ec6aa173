"""The buffers: their size, their sums, what is refused."""

from __future__ import annotations

import pytest
import torch

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels.planes import add_to_planes
from diffusers_rdaam.recording.buffers.accumulator import (
    HeatMapAccumulator,
    check_single_plane,
    shape_of,
)

GRIDS = {"down.attn2": (5, 7), "mid.attn2": (3, 4), "up.attn2": (5, 7)}


def maps(images: int, tokens: int, pixels: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(3 * torch.randn(images, tokens, pixels, generator=generator), dim=1)


def test_sites_of_one_grid_share_their_planes():
    accumulator = HeatMapAccumulator(shape_of(images=2, tokens=11, grids=GRIDS))
    down, mid, up = (accumulator.planes(site) for site in GRIDS)
    assert down[0].shape == down[1].shape == (2, 11, 35)
    assert mid[0].shape == (2, 11, 12)
    assert down[0].data_ptr() == up[0].data_ptr() != mid[0].data_ptr()
    assert down[0].dtype == down[1].dtype == torch.float16


@pytest.mark.parametrize(("pair", "cell"), [(True, 4), (False, 2)])
def test_nbytes(pair, cell):
    accumulator = HeatMapAccumulator(shape_of(images=2, tokens=11, grids=GRIDS, pair=pair))
    assert accumulator.nbytes == 2 * 11 * (35 + 12) * cell + 3 * 4
    assert (accumulator.planes("mid.attn2")[1] is None) is not pair


def test_nbytes_of_sd15_at_512_is_under_1_8_megabytes():
    # Five modules each at 64, 32 and 16 cells, one at 8: what the sites' test finds in the model.
    sizes = [64] * 5 + [32] * 5 + [16] * 5 + [8]
    grids = {f"site{index}": (size, size) for index, size in enumerate(sizes)}
    one = HeatMapAccumulator(shape_of(images=1, tokens=77, grids=grids, device="meta"))
    four = HeatMapAccumulator(shape_of(images=4, tokens=77, grids=grids, device="meta"))
    assert one.nbytes == 77 * (4096 + 1024 + 256 + 64) * 4 + 16 * 4 <= 1_800_000
    assert four.nbytes - 64 == 4 * (one.nbytes - 64)


def test_read_is_the_mean_over_sites_and_calls():
    accumulator = HeatMapAccumulator(shape_of(images=2, tokens=11, grids=GRIDS))
    added = {
        site: [maps(2, 11, h * w, seed) for seed in range(3)] for site, (h, w) in GRIDS.items()
    }
    added["up.attn2"] = [maps(2, 11, 35, seed) for seed in range(7, 9)]
    for site, addends in added.items():
        for addend in addends:
            accumulator.add(site, addend)
    assert accumulator.site_counts() == {"down.attn2": 3, "mid.attn2": 3, "up.attn2": 2}
    large = torch.stack(added["down.attn2"] + added["up.attn2"]).double().mean(dim=0)
    small = torch.stack(added["mid.attn2"]).double().mean(dim=0)
    images = accumulator.read()
    assert len(images) == 2
    for image, grids in enumerate(images):
        assert [grid.size for grid in grids] == [(5, 7), (3, 4)]
        assert [grid.additions for grid in grids] == [5, 3]
        assert [grid.sites for grid in grids] == [("down.attn2", "up.attn2"), ("mid.attn2",)]
        for grid, expected in zip(grids, (large, small), strict=True):
            assert grid.maps.dtype == torch.float32
            torch.testing.assert_close(
                grid.maps.double().flatten(1), expected[image], rtol=1e-5, atol=1e-8
            )


def test_what_is_read_stays_when_the_buffers_are_used_again():
    accumulator = HeatMapAccumulator(shape_of(images=1, tokens=3, grids={"a": (2, 5)}))
    accumulator.add("a", maps(1, 3, 10, 0))
    [(grid,)] = accumulator.read()
    before = grid.maps.clone()
    accumulator.zero_()
    accumulator.add("a", maps(1, 3, 10, 1))
    assert torch.equal(grid.maps, before)


def test_zero_forgets_and_keeps_the_memory():
    accumulator = HeatMapAccumulator(shape_of(images=1, tokens=3, grids=GRIDS))
    pointer = accumulator.planes("mid.attn2")[0].data_ptr()
    accumulator.add("mid.attn2", maps(1, 3, 12, 0))
    accumulator.zero_()
    assert accumulator.planes("mid.attn2")[0].data_ptr() == pointer
    assert not any(plane.any() for site in GRIDS for plane in accumulator.planes(site))
    assert set(accumulator.site_counts().values()) == {0}
    assert accumulator.read() == [()]


def test_grids_without_additions_are_left_out():
    accumulator = HeatMapAccumulator(shape_of(images=1, tokens=3, grids=GRIDS))
    accumulator.add("mid.attn2", maps(1, 3, 12, 0))
    [grids] = accumulator.read()
    assert [grid.size for grid in grids] == [(3, 4)]


def test_made_under_inference_mode_and_updated_outside():
    with torch.inference_mode():
        accumulator = HeatMapAccumulator(shape_of(images=1, tokens=3, grids={"a": (2, 5)}))
        accumulator.add("a", maps(1, 3, 10, 0))
    accumulator.add("a", maps(1, 3, 10, 0))
    accumulator.count("a").add_(1)
    assert accumulator.site_counts() == {"a": 3}
    accumulator.zero_()
    with torch.inference_mode():
        accumulator.zero_()


def test_single_plane_is_refused_where_it_would_stagnate():
    shape = shape_of(images=1, tokens=77, grids=GRIDS, pair=False)
    check_single_plane(shape, 250)
    with pytest.raises(InputError) as error:
        check_single_plane(shape, 251)
    assert str(error.value) == (
        "precision='fp16' would add 2 sites x 251 denoiser calls = 502 times to a cell; over 500 "
        "its error reaches several per cent and grows. Use precision='fp16-pair', or fewer steps."
    )
    check_single_plane(shape_of(images=1, tokens=77, grids=GRIDS, pair=True), 100_000)
    check_single_plane(shape_of(images=1, tokens=77, grids={}, pair=False), 50)


def test_the_pair_is_exact_where_a_single_plane_is_near_its_limit():
    # Maps that vary as those of a run do: equal ones are the single plane's worst case.
    addends = [maps(1, 9, 40, seed) for seed in range(50)]
    single = HeatMapAccumulator(shape_of(images=1, tokens=9, grids={"a": (5, 8)}, pair=False))
    pair = HeatMapAccumulator(shape_of(images=1, tokens=9, grids={"a": (5, 8)}))
    for _ in range(10):
        for addend in addends:
            single.add("a", addend)
            pair.add("a", addend)
    expected = torch.stack(addends).double().mean(dim=0)
    errors = []
    for accumulator in (single, pair):
        [(grid,)] = accumulator.read()
        errors.append(((grid.maps.flatten(1) - expected[0]).abs() / expected[0]).max().item())
    assert 1e-3 < errors[0] < 2e-2
    assert errors[1] < 1e-4


@pytest.mark.parametrize(
    "once",
    [
        pytest.param(True, id="a call at a time", marks=pytest.mark.slow),
        pytest.param(False, id="a site at a time"),
    ],
)
def test_sums_never_overflow(once):
    """60 sites of one grid and 1300 calls: 78,000 additions near 1, where half precision ends."""
    # One at a time takes long: as far as sums are moved out of the planes.
    calls = 1300 if once else 200
    sites = {f"site{index}": (1, 2) for index in range(60)}
    accumulator = HeatMapAccumulator(shape_of(images=1, tokens=2, grids=sites))
    addend = torch.tensor([[[0.95, 0.9], [0.05, 0.1]]])
    for _ in range(calls):
        if once:
            accumulator.make_room()
            high, low = accumulator.planes("site0")
            for _ in sites:
                add_to_planes(addend, high, low)
            for site in sites:
                accumulator.count(site).add_(1)
        else:
            for site in sites:
                accumulator.add(site, addend)
    ((grid,),) = accumulator.read()
    assert grid.additions == 60 * calls
    torch.testing.assert_close(grid.maps, addend[0].unflatten(-1, (1, 2)), rtol=1e-4, atol=0)
    accumulator.zero_()
    accumulator.add("site0", addend)
    ((grid,),) = accumulator.read()
    torch.testing.assert_close(grid.maps, addend[0].unflatten(-1, (1, 2)), rtol=1e-4, atol=0)


def test_what_compiled_code_adds_to_is_aligned():
    """An input that begins between 16 bytes is copied, and CUDA graphs are then not made."""
    accumulator = HeatMapAccumulator(shape_of(images=1, tokens=7, grids=GRIDS))
    for site in GRIDS:
        high, low = accumulator.planes(site)
        for tensor in (high, low, accumulator.count(site)):
            assert tensor.data_ptr() % 16 == 0

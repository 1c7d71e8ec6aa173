"""Questions to the image's attention to itself, against sums over all pairs of pixels."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import Image

from diffusers_rdaam.attribution.self_attention.self_attention import SelfAttention
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.errors import InputError, RegionError
from diffusers_rdaam.geometry.grid import interpolation_matrix
from diffusers_rdaam.geometry.region import Box, as_region

SIZE = (32, 48)
BOX, OTHER = (5, 3, 21, 30), (20, 8, 47, 19)
OUTLINE = [(4.0, 4.0), (40.5, 6.0), (30.0, 28.0)]


def own_grid(size, additions=10, seed=0, dtype=torch.float16):
    """Random, far from symmetric, and peaked."""
    generator = torch.Generator().manual_seed(seed)
    positions = math.prod(size)
    attention = torch.randn(positions, positions, generator=generator).mul(2).softmax(dim=1)
    return SelfGrid((attention.T * additions).to(dtype), additions, size, ("up.attn1",))


@pytest.fixture
def own():
    image = Image.new("RGB", SIZE[::-1], (200, 30, 90))
    return SelfAttention((own_grid((8, 12)), own_grid((4, 6), 30, seed=1)), SIZE, image)


def pixel_pairs(own) -> torch.Tensor:
    """From every pixel to every other, float64 ``(pixels, pixels)``, by definition."""
    total = 0.0
    for grid in own.grids:
        rows, columns = (
            interpolation_matrix(cells, pixels).double()
            for cells, pixels in zip(grid.size, own.image_size, strict=True)
        )
        enlarge = torch.kron(rows, columns)
        attention = grid.sums.double().T / grid.additions
        weight = grid.positions * grid.additions / sum(g.additions for g in own.grids)
        total = total + weight * enlarge @ attention @ enlarge.T
    return total


REGIONS = [BOX, OUTLINE, (torch.arange(32 * 48).view(SIZE) % 5 == 0).float()]


@pytest.mark.parametrize("region", REGIONS, ids=["box", "polygon", "mask"])
def test_both_directions_are_means_over_the_region(own, region):
    pairs = pixel_pairs(own)
    weights = as_region(region).coverage(SIZE).double().flatten()
    weights /= weights.sum()
    looking = own.region(region)
    torch.testing.assert_close(
        looking.values.double().flatten(), pairs @ weights, rtol=1e-4, atol=1e-4
    )
    seen = own.region(region, direction="from")
    torch.testing.assert_close(
        seen.values.double().flatten(), weights @ pairs, rtol=1e-4, atol=1e-4
    )
    assert (looking.values - seen.values).abs().max() > 0.3
    assert looking.size == SIZE and looking.image is own.image
    looking.overlay(), looking.box(), looking.mask()


def test_the_directions_agree(own):
    for one, other in ((BOX, OTHER), (BOX, OUTLINE), (BOX, BOX)):
        to = own.region(one, direction="to").mass(other)
        assert to == pytest.approx(own.region(other, direction="from").mass(one), rel=1e-5)


def test_disjoint_regions_add_by_area(own):
    left, right, both = (0, 0, 16, 32), (16, 0, 48, 32), (0, 0, 48, 32)
    for direction in ("to", "from"):
        one, other, whole = (
            own.box(box, direction=direction).values for box in (left, right, both)
        )
        torch.testing.assert_close((one + 2 * other) / 3, whole, rtol=1e-4, atol=1e-4)


def test_even_attention_is_one_everywhere():
    positions = 8 * 12
    grid = SelfGrid(torch.full((positions, positions), 4 / positions), 4, (8, 12))
    own = SelfAttention((grid,), SIZE)
    for direction in ("to", "from"):
        values = own.box(BOX, direction=direction).values
        torch.testing.assert_close(values, torch.ones(SIZE), rtol=1e-5, atol=1e-5)
    segments = own.diffused()
    assert len(segments) == 1 and bool((segments.labels == 0).all())
    spread = own.diffused((3, 4)).values
    assert bool(torch.isfinite(spread).all()) and float(spread.min()) > 0.9


def test_pixels(own):
    pairs = pixel_pairs(own).view(*SIZE, *SIZE)
    one = own.pixels((40, 7)).values.double()
    torch.testing.assert_close(one, pairs[:, :, 7, 40], rtol=1e-4, atol=1e-3)
    back = own.pixels([(40, 7)], direction="from").values.double()
    torch.testing.assert_close(back, pairs[7, 40], rtol=1e-4, atol=1e-3)
    thrice = own.pixels([(40, 7), (0, 31), (40, 7)]).values.double()
    wanted = (2 * pairs[:, :, 7, 40] + pairs[:, :, 31, 0]) / 3
    torch.testing.assert_close(thrice, wanted, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(
        own.pixels((40, 7)).values, own.box((40, 7, 41, 8)).values, rtol=1e-4, atol=1e-3
    )


def test_box_polygon_and_polygons(own):
    assert torch.equal(own.box(BOX).values, own.region(BOX).values)
    assert torch.equal(own.box(Box(*BOX)).values, own.region(BOX).values)
    assert torch.equal(own.polygon(OUTLINE).values, own.region(OUTLINE).values)
    corners = [Box(*box).edges() for box in ((2, 2, 12, 12), (8, 2, 22, 12))]
    both = own.polygons(corners, direction="from")
    torch.testing.assert_close(both.values, own.box((2, 2, 22, 12), direction="from").values)
    assert torch.equal(own.polygons(corners[:1]).values, own.polygon(corners[0]).values)


def test_guided_is_the_mean_weighted_by_the_map(own, make_attribution):
    pairs = pixel_pairs(own)
    guide = torch.rand(SIZE, generator=torch.Generator().manual_seed(3))
    weights = guide.double().flatten() / guide.double().sum()
    torch.testing.assert_close(
        own.guided(guide).values.double().flatten(), pairs @ weights, rtol=1e-4, atol=1e-4
    )
    covered = as_region((torch.arange(32 * 48).view(SIZE) % 3 == 0).float())
    torch.testing.assert_close(
        own.guided(covered.coverage(SIZE), direction="from").values,
        own.region(covered, direction="from").values,
    )
    word = make_attribution(size=SIZE).word("cat")
    assert own.guided(word).text == "attention to 'cat'"
    assert torch.equal(own.guided(word).values, own.guided(word.values).values)


def blocks(additions: int = 6) -> SelfAttention:
    """Three parts of the image that attend to themselves: left, and right above and below."""
    part = torch.zeros(8, 12, dtype=torch.int64)
    part[:, 5:] = 1
    part[5:, 5:] = 2
    same = (part.view(-1, 1) == part.view(1, -1)).float() + 0.02
    attention = same / same.sum(dim=1, keepdim=True)
    grid = SelfGrid((attention.T * additions).half(), additions, (8, 12))
    return SelfAttention((own_grid((2, 3), 1), grid), SIZE, Image.new("RGB", SIZE[::-1]))


def test_segments_of_three_parts(tmp_path):
    own = blocks()
    assert own.finest is own.grids[1]
    segments = own.diffused()
    assert len(segments) == 3
    assert [segments.at(x, y) for x, y in ((2, 9), (40, 3), (44, 30))] == [0, 1, 2]
    assert segments.areas == pytest.approx([40 / 96, 35 / 96, 21 / 96], abs=0.03)
    assert segments.areas == sorted(segments.areas, reverse=True)
    mask = segments.mask(2)
    assert float(mask.weights.mean()) == pytest.approx(segments.areas[2])
    assert segments.picture().size == segments.overlay().size == SIZE[::-1]
    colours = segments.picture()
    assert len(colours.getcolors()) == 3
    labels = segments.label_image()
    assert labels.mode == "L" and [count for count, _ in labels.getcolors()] == [
        int((segments.labels == label).sum()) for label in range(3)
    ]
    form = segments.coco(2)
    assert form["size"] == list(SIZE) and sum(form["counts"][1::2]) == int(mask.weights.sum())
    assert repr(segments).startswith("Segments(3 of 48x32 pixels: 4")
    assert "<img" in segments._repr_html_()


def test_diffused_from_a_pixel_fills_its_part():
    own = blocks()
    heat = own.diffused((44, 30))
    inside = own.diffused().mask(2).weights.bool()
    assert float(heat.values[inside].mean()) > 20 * float(heat.values[~inside].abs().mean())
    assert heat.text == "diffused from pixel (44, 30)"
    assert heat.mass((30, 22, 48, 32)) > 1.0


def test_diffusion_by_its_formula():
    own = SelfAttention((own_grid((8, 12), dtype=torch.float32),), (8, 12))
    attention = own.grids[0].sums.T / 10
    cells = attention[:, 30].clone()

    def cut(cells):
        low, high = cells.min(), cells.max()
        return torch.where(cells < low + 0.3 * (high - low), 0.0, cells)

    cells = cut(cells)
    for _ in range(4):
        cells = cut(attention @ (cells / cells.sum()))
    got = own.diffused((6, 2), iterations=4, threshold=0.3).values
    torch.testing.assert_close(got.flatten(), cells * 96, rtol=1e-4, atol=1e-5)


def test_an_image_sized_grid_is_never_copied_whole(own, monkeypatch):
    from diffusers_rdaam.attribution import self_grid

    wanted = [own.box(BOX, direction=d).values for d in ("to", "from")]
    monkeypatch.setattr(self_grid, "CELLS_AT_A_TIME", 200)
    for direction, values in zip(("to", "from"), wanted, strict=True):
        torch.testing.assert_close(own.box(BOX, direction=direction).values, values)


def test_repr_and_bytes(own):
    assert own.nbytes == 2 * (96**2 + 24**2)
    assert repr(own) == "SelfAttention(image 48x32, grids 12x8, 6x4, 0.02 MB)"
    assert own.grids[0].nbytes == 2 * 96**2


OFF = "lies outside the image, which is 48 pixels wide and 32 high."


@pytest.mark.parametrize(
    ("ask", "kind", "text"),
    [
        (lambda own: own.box((50, 0, 60, 10)), RegionError, "The box (50, 0, 60, 10) lies outside"),
        (lambda own: own.box((5, 5, 5, 9)), RegionError, "The box (5, 5, 5, 9) is empty"),
        (lambda own: own.pixels((48, 0)), RegionError, f"The pixel (48, 0) {OFF}"),
        (lambda own: own.pixels((0, -1)), RegionError, f"The pixel (0, -1) {OFF}"),
        (lambda own: own.pixels([]), RegionError, "There is not a pixel among those given."),
        (lambda own: own.pixels([(1, 2, 3)]), RegionError, "(1, 2, 3) is not a pixel. A pixel is"),
        (
            lambda own: own.pixels((1.5, 2)),
            RegionError,
            "(1.5, 2) is not a pixel. A pixel is (x, y)",
        ),
        (lambda own: own.pixels(7), RegionError, "7 is not a pixel"),
        (lambda own: own.diffused((99, 99)), RegionError, f"The pixel (99, 99) {OFF}"),
        (lambda own: own.polygons([]), RegionError, "polygons() needs at least one outline"),
        (
            lambda own: own.polygon((1, 2, 3, 4)),
            RegionError,
            "is not an outline. A polygon is a list",
        ),
        (
            lambda own: own.polygons([[(60, 0), (70, 0), (70, 9)], OUTLINE]),
            RegionError,
            "The polygon lies outside the image",
        ),
        (
            lambda own: own.region(BOX, direction="at"),
            InputError,
            "'at' is not a direction. 'to': what attends to this region; 'from': what "
            "this region attends to.",
        ),
        (
            lambda own: own.guided(torch.ones(48, 32)),
            InputError,
            "A guide has a value for each pixel, (height, width) (32, 48); this is (48, 32). "
            "Resize it: heat_map.resize((32, 48)).",
        ),
        (
            lambda own: own.guided(torch.zeros(SIZE)),
            InputError,
            "A guide's values are finite and sum to more than 0, not 0.",
        ),
        (lambda own: own.guided(torch.full(SIZE, math.nan)), InputError, "more than 0, not nan"),
        (
            lambda own: own.diffused(threshold=1.0),
            InputError,
            "A threshold lies in [0, 1), on each map stretched from 0 to 1; got 1.0.",
        ),
        (
            lambda own: own.diffused(iterations=-1),
            InputError,
            "iterations= is a whole number from 0; got -1.",
        ),
        (
            lambda own: own.diffused().mask(99),
            InputError,
            "segments, numbered from 0; there is no 99.",
        ),
        (lambda own: own.diffused().at(0, 32), RegionError, f"The pixel (0, 32) {OFF}"),
        (lambda own: own.diffused().overlay(opacity=2), InputError, "An opacity lies in [0, 1]"),
        (
            lambda own: SelfAttention(own.grids, SIZE).diffused().overlay(),
            InputError,
            "There is no image to lay the segments over. Pass image=…",
        ),
        (lambda own: SelfAttention((), SIZE), InputError, "Self-attention needs at least one grid"),
        (
            lambda own: SelfGrid(torch.zeros(4, 4), 1, (2, 3)),
            InputError,
            "Self-attention of a grid of (2, 3) (height, width) has 6 x 6 cells and at least one "
            "addition; got (4, 4) and 1.",
        ),
        (lambda own: SelfGrid(torch.zeros(6, 6), 0, (2, 3)), InputError, "got (6, 6) and 0."),
    ],
)
def test_errors(own, ask, kind, text, types_unchecked):
    with pytest.raises(kind) as error:
        ask(own)
    assert text in str(error.value)

"""Words refined by self-attention, by the formulas in float64; and its files."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.errors import AttributionFileError, InputError, NoAttributionError
from diffusers_rdaam.geometry.grid import enlarge

SIZE = (8, 12)
METHODS = ["product", "guided", "power", "ovam"]


def own_grid(size=SIZE, additions=10, seed=0, dtype=torch.float16) -> SelfGrid:
    generator = torch.Generator().manual_seed(seed)
    positions = size[0] * size[1]
    attention = torch.randn(positions, positions, generator=generator).mul(2).softmax(dim=1)
    sums = (attention.T * additions).to(dtype).contiguous()
    return SelfGrid(sums, additions, size, ("up.attn1", "down.attn1"))


@pytest.fixture
def attribution(make_attribution):
    plain = make_attribution(grids=((16, 24), (8, 12), (4, 6), (3, 5)))
    return dataclasses.replace(plain, self_grids=(own_grid((4, 6), seed=1), own_grid()))


def brought(attribution) -> torch.Tensor:
    """All columns on the grid of the self-attention, float64 ``(tokens, positions)``."""
    total = sum(grid.additions for grid in attribution.grids)
    result = 0.0
    for grid in attribution.grids:
        maps = F.interpolate(
            grid.maps[None].double(), SIZE, mode="bicubic", antialias=grid.size[0] > SIZE[0]
        )
        result = result + maps[0] * (grid.additions / total)
    return result.flatten(1)


def stretched(maps: torch.Tensor) -> torch.Tensor:
    low, high = maps.amin(dim=1, keepdim=True), maps.amax(dim=1, keepdim=True)
    return (maps - low) / (high - low)


def by_formula(attribution, maps: torch.Tensor, method: str) -> torch.Tensor:
    attention = attribution.self_grids[1].sums.double().T / 10
    looked = maps @ attention.T
    if method == "guided":
        return looked
    if method == "power":
        return looked @ attention.T
    if method == "ovam":
        return maps * (0.85 + 0.15 * stretched(looked))
    mutual = attention + attention.T
    mutual /= mutual.sum(dim=1, keepdim=True)
    return maps * stretched(maps @ mutual.T)


@pytest.mark.parametrize("method", METHODS)
def test_a_word(attribution, method):
    columns = list(attribution.word("blue eyes").columns)
    assert len(columns) > 2
    whole = by_formula(attribution, brought(attribution), method).clamp(min=0.0)
    wanted = (whole[columns].sum(dim=0) / whole.sum(dim=0)).float().view(SIZE)
    refined = attribution.word("blue eyes").refined(method)
    torch.testing.assert_close(
        refined.values, enlarge(wanted, *attribution.image_size), rtol=2e-3, atol=2e-4
    )
    raw = attribution.word("blue eyes")
    assert (refined.text, refined.spans, refined.image) == (raw.text, raw.spans, raw.image)
    assert (refined.values - raw.values).abs().max() > 0.01


@pytest.mark.parametrize("method", METHODS)
def test_the_whole(attribution, method):
    refined = attribution.refined(method)
    wanted = by_formula(attribution, brought(attribution), method).clamp(min=0.0)
    wanted /= wanted.sum(dim=0)
    (grid,) = refined.grids
    torch.testing.assert_close(grid.maps.flatten(1).double(), wanted, rtol=2e-3, atol=2e-4)
    assert grid.additions == sum(grid.additions for grid in attribution.grids)
    assert set(grid.sites) == {site for grid in attribution.grids for site in grid.sites}
    scores = refined.region((10, 10, 50, 40))
    assert sum(scores[word.text] for word in refined.words[:2]) > 0
    assert refined.self_grids == attribution.self_grids and refined.kept is None
    assert float(grid.maps.sum(dim=0).sub(1).abs().max()) < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_it_is_one_map_wherever_it_is_asked(attribution, method):
    whole = attribution.refined(method).word("blue eyes").values
    assert torch.equal(whole, attribution.word("blue eyes").refined(method).values)


def test_the_default_and_none(attribution):
    raw = attribution.word("cat")
    assert raw.refined("none") is raw and attribution.refined("none") is attribution
    assert torch.equal(raw.refined().values, raw.refined("product").values)
    assert torch.equal(
        attribution.refined().grids[0].maps, attribution.refined("product").grids[0].maps
    )


def test_a_map_of_another_size_and_a_part(attribution):
    small = attribution.word("cat").resize((32, 48)).refined()
    assert small.size == (32, 48)
    part = attribution.select(resolutions=[(4, 6)])
    assert part.self_grids == attribution.self_grids
    assert not torch.equal(part.word("cat").refined().values, attribution["cat"].refined().values)


def test_rows_that_do_not_sum_to_1(attribution):
    """At a joint site they sum to what is not text; those of ``S`` sum to 1 all the same."""
    grid = attribution.self_grids[1]
    shares = torch.linspace(0.1, 0.9, grid.positions)
    joint = dataclasses.replace(grid, sums=grid.sums.float() * shares)
    part = dataclasses.replace(attribution, self_grids=(attribution.self_grids[0], joint))
    columns = list(part.word("blue eyes").columns)
    whole = by_formula(part, brought(part), "product").clamp(min=0.0)
    wanted = (whole[columns].sum(dim=0) / whole.sum(dim=0)).float().view(SIZE)
    torch.testing.assert_close(
        part.word("blue eyes").refined().values,
        enlarge(wanted, *part.image_size),
        rtol=2e-3,
        atol=2e-4,
    )


def test_the_rest_of_a_joint_site_is_not_refined(attribution):
    """It is most of the attention and nearly flat: stretched, it would vanish somewhere."""
    *tokens, last = attribution.prompt.tokens
    rest = dataclasses.replace(last, kind="rest", start=None, end=None)
    prompt = dataclasses.replace(attribution.prompt, tokens=(*tokens, rest))
    grids = tuple(
        dataclasses.replace(grid, maps=torch.cat([grid.maps[:-1] * 0.05, 1 - grid.maps[:1] * 0.05]))
        for grid in attribution.grids
    )
    joint = dataclasses.replace(attribution, prompt=prompt, grids=grids)
    assert joint.prompt.has_rest
    whole = by_formula(joint, brought(joint), "product").clamp(min=0.0)
    whole[-1] = brought(joint)[-1].clamp(min=0.0)
    (grid,) = joint.refined().grids
    wanted = whole / whole.sum(dim=0)
    torch.testing.assert_close(grid.maps.flatten(1).double(), wanted, rtol=2e-3, atol=2e-4)
    assert float(grid.maps[-1].min()) > 0.5


def test_flat_maps_stay(attribution):
    columns = len(attribution.prompt.tokens)
    flat = [
        dataclasses.replace(grid, maps=torch.full_like(grid.maps, 1 / columns))
        for grid in attribution.grids
    ]
    even = SelfGrid(torch.full((96, 96), 4 / 96), 4, SIZE)
    plain = dataclasses.replace(attribution, grids=tuple(flat), self_grids=(even,))
    for method in METHODS:
        assert bool(torch.isfinite(plain.refined(method).grids[0].maps).all())
        assert bool(torch.isfinite(plain.word("cat").refined(method).values).all())


def test_errors(attribution, make_attribution, types_unchecked):
    text = "'best' is not a refinement. Refinements: 'product', 'guided', 'power', 'ovam', 'none'."
    for ask in (attribution.refined, attribution.word("cat").refined):
        with pytest.raises(InputError) as error:
            ask("best")
        assert str(error.value) == text
    for ask in (make_attribution().refined, make_attribution().word("cat").refined):
        for method in ("product", "none"):
            with pytest.raises(NoAttributionError, match="did not keep its self-attention"):
                ask(method)
    with pytest.raises(InputError) as error:
        HeatMap(torch.rand(4, 5), "cat").refined()
    assert str(error.value) == (
        "The heat map of 'cat' has no attribution, so there is nothing to refine it with: made by "
        "hand, copied or unpickled, a heat map is its values alone. Ask "
        "attribution.word(…).refined()."
    )
    with pytest.raises(InputError, match=r"each grid once, .*got the grids \[\(8, 12\), "):
        dataclasses.replace(attribution, self_grids=(own_grid(), own_grid()))


def test_sites_that_were_kept_separately(attribution, tmp_path):
    """Questions of self-attention take all of them together; a file has each."""
    one = dataclasses.replace(own_grid(additions=5), sites=("a",))
    other = dataclasses.replace(own_grid(additions=10, seed=3), sites=("b",))
    several = dataclasses.replace(attribution, self_grids=(one, other))
    sums = one.sums.float() + other.sums
    mean = SelfGrid(sums, 15, SIZE, ("a", "b"))
    together = dataclasses.replace(attribution, self_grids=(mean,))
    assert torch.equal(several.self_attention.finest.sums, sums)
    for itself in (several.self_attention, together.self_attention):
        assert itself.finest.additions == 15 and itself.finest.sites == ("a", "b")
    box = (10, 10, 50, 40)
    torch.testing.assert_close(
        several.self_attention.box(box).values, together.self_attention.box(box).values
    )
    loaded = Attribution.load(several.save(tmp_path / "several"))
    assert [grid.sites for grid in loaded.self_grids] == [("a",), ("b",)]


def test_saliency(attribution):
    """The attention that each position gets, by a loop over those that attend."""
    (grid,) = (own_grid(),)
    attention = grid.sums.double().T / grid.additions
    gets = sum(attention[i] for i in range(len(attention)))
    single = dataclasses.replace(attribution, self_grids=(grid,)).self_attention
    found = single.saliency()
    wanted = enlarge(gets.float().view(SIZE), *attribution.image_size)
    torch.testing.assert_close(found.values, wanted, rtol=2e-3, atol=2e-3)
    assert found.values.std() > 0.05 and found.text == "saliency"
    assert float(found.values.mean()) == pytest.approx(1.0, abs=0.02)


def test_bytes_and_repr(attribution, make_attribution):
    plain = make_attribution(grids=((16, 24), (8, 12), (4, 6), (3, 5)))
    assert attribution.nbytes == plain.nbytes + 2 * (96**2 + 24**2)
    assert "self-attention 6x4, 12x8, " in repr(attribution)
    assert "self-attention" not in repr(plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_files(attribution, tmp_path, dtype):
    own = (own_grid((4, 6), 7, dtype=dtype), attribution.self_grids[1])
    attribution = dataclasses.replace(attribution, self_grids=own)
    path = attribution.save(tmp_path / "cat.safetensors")
    loaded = Attribution.load(path)
    for grid, saved in zip(loaded.self_grids, own, strict=True):
        assert torch.equal(grid.sums, saved.sums) and grid.sums.dtype == saved.sums.dtype
        assert (grid.additions, grid.size, grid.sites) == (saved.additions, saved.size, saved.sites)
    box = (10, 10, 50, 40)
    assert torch.equal(
        loaded.self_attention.box(box).values, attribution.self_attention.box(box).values
    )
    without = Attribution.load(attribution.save(tmp_path / "small", kept=False))
    assert without.self_grids == ()


def changed(path, **changes) -> None:
    """The file again, with another entry of its first self-attention or another tensor."""
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    header, tensors = json.loads(metadata["attribution"]), load_file(path)
    tensor = changes.pop("tensor", None)
    if tensor is not None:
        tensors["self.0"] = tensor
    if "self" in changes:
        header["self"] = changes["self"]
    elif changes:
        header["self"][0] |= changes
    save_file(tensors, path, metadata | {"attribution": json.dumps(header)})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"self": {}}, "its self-attention is not a list of grids"),
        ({"self": []}, "its self-attention is not a list of grids"),
        ({"self": [7]}, "7 is not a grid of self-attention"),
        ({"self": [{"size": [2, 2], "additions": 1, "sites": []}] * 65}, "not a list of grids"),
        ({"size": [4, 6, 1]}, "is not a grid of self-attention"),
        ({"size": [4, True]}, "is not a grid of self-attention"),
        ({"size": [0, 6]}, "is not a grid of self-attention"),
        ({"size": [1, 99999]}, "is not a grid of self-attention"),
        ({"additions": 0}, "is not a grid of self-attention"),
        ({"additions": 1.5}, "is not a grid of self-attention"),
        ({"sites": "all"}, "is not a grid of self-attention"),
        ({"size": [4, 7]}, "self 0 has shape [24, 24] for 28 positions"),
        ({"size": [2048, 2048]}, "self 0 has shape [24, 24] for 4194304 positions"),
        ({"size": [8, 12], "tensor": torch.zeros(96, 96)}, "has each grid once"),
        ({"tensor": torch.zeros(24, 24, dtype=torch.float64)}, "self 0 has type F64"),
        ({"tensor": torch.zeros(24, 23)}, "self 0 has shape [24, 23] for 24 positions"),
        ({"tensor": torch.full((24, 24), torch.nan)}, "self 0 has values that are not finite"),
    ],
)
def test_damaged_files(attribution, tmp_path, changes, text):
    path = attribution.save(tmp_path / "file")
    changed(path)
    assert Attribution.load(path).self_grids
    changed(path, **changes)
    with pytest.raises(AttributionFileError) as error:
        Attribution.load(path)
    assert text in str(error.value) and str(path) in str(error.value)


def test_a_missing_tensor(attribution, tmp_path):
    path = attribution.save(tmp_path / "file")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    del tensors["self.1"]
    save_file(tensors, path, metadata)
    with pytest.raises(AttributionFileError, match=r"the tensor 'self.1' is missing"):
        Attribution.load(path)

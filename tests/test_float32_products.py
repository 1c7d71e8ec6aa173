"""Products that stay float32 where the host lets a device round them, emulated."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from diffusers_rdaam import float32_products
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.attribution.site_queries import SiteQueries
from diffusers_rdaam.compat.daami2i import formulas as i2i
from diffusers_rdaam.float32_products import are_rounded, multiply, widen_left, widen_right
from diffusers_rdaam.geometry.grid import pull_back, pull_back_box
from diffusers_rdaam.geometry.region import Box
from diffusers_rdaam.kernels import sdpa
from diffusers_rdaam.open_vocabulary.attribute_text import _activated
from diffusers_rdaam.open_vocabulary.recipe import MapRecipe
from tests.rounded_products import RoundingProducts, settings_kept

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _host_settings():
    torch.manual_seed(0)
    with settings_kept():
        yield


@pytest.fixture(params=["cuda", "cpu", "xpu"])
def kind(request, monkeypatch):
    monkeypatch.setattr(float32_products, "device_type", lambda device: request.param)
    return request.param


def _round_everywhere():
    torch.set_float32_matmul_precision("medium")


def test_nothing_is_rounded_unless_the_host_says_so(kind):
    assert not are_rounded(CPU)
    _round_everywhere()
    assert are_rounded(CPU)
    torch.set_float32_matmul_precision("highest")
    assert not are_rounded(CPU)


def test_devices_without_such_products(monkeypatch):
    monkeypatch.setattr(float32_products, "device_type", lambda device: "mps")
    _round_everywhere()
    assert not are_rounded(CPU)


@pytest.mark.parametrize(("precision", "wanted"), [("high", True), ("highest", False)])
def test_torch_before_its_settings_by_device(kind, monkeypatch, precision, wanted):
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(allow_tf32=True))
    monkeypatch.setattr(float32_products, "_mkldnn_matmul", lambda: None)
    torch.set_float32_matmul_precision(precision)
    assert are_rounded(CPU) == wanted


def test_old_and_new_settings_mixed(monkeypatch):
    monkeypatch.setattr(float32_products, "device_type", lambda device: "cuda")
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with pytest.raises(RuntimeError):
        torch.get_float32_matmul_precision()
    assert are_rounded(CPU)


@pytest.mark.parametrize(
    ("left", "right"),
    [((5, 64), (64, 7)), ((5, 64), (64,)), ((64,), (64, 7)), ((3, 5, 64), (2, 3, 64, 7))],
)
def test_products_keep_their_accuracy(kind, left, right):
    _round_everywhere()
    left, right = torch.randn(left), torch.randn(right)
    with RoundingProducts("cpu" if kind == "cpu" else "cuda"):
        plain, exact = left @ right, multiply(left, right)
    wanted = left.double() @ right.double()
    assert exact.shape == wanted.shape and exact.dtype == torch.float32
    assert (plain - wanted).abs().max() > 1e-3
    assert ((exact - wanted).abs() <= 1e-6 * (left.abs() @ right.abs())).all()


def test_ways_back_keep_their_accuracy(kind):
    _round_everywhere()
    left = torch.randn(3, 5, 64, requires_grad=True)
    right = torch.randn(2, 3, 64, 7, requires_grad=True)
    weights = torch.randn(2, 3, 5, 7)
    wanted = torch.autograd.grad(((left.double() @ right.double()) * weights).sum(), (left, right))
    with RoundingProducts("cpu" if kind == "cpu" else "cuda"):
        found = torch.autograd.grad((multiply(left, right) * weights).sum(), (left, right))
        plain = torch.autograd.grad(((left @ right) * weights).sum(), (left, right))
    for one, rounded, exact in zip(found, plain, wanted, strict=True):
        assert (rounded - exact).abs().max() > 1e-3
        assert (one - exact).norm() <= 1e-6 * exact.norm()


def test_without_settings_products_are_the_same_bits(kind):
    left, right = torch.randn(5, 64), torch.randn(64, 7)
    assert torch.equal(multiply(left, right), left @ right)
    assert torch.equal(multiply(left.double(), right.double()), left.double() @ right.double())


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_parts_are_numbers_of_tf32_and_nothing_is_lost(size):
    vectors = torch.randn(4, 100) * size
    left = widen_left(vectors).unflatten(-1, (3, 100))
    right = widen_right(vectors).unflatten(-1, (3, 100))
    upper, rest = left[:, 0], left[:, 1]
    assert torch.equal(upper + rest, vectors)
    assert torch.equal(left[:, 2], upper) and torch.equal(right[:, 0], rest)
    assert torch.equal(right[:, 1], upper) and torch.equal(right[:, 2], upper)
    assert not (upper.view(torch.int32) & (2**13 - 1)).any()
    assert (rest.abs() <= vectors.abs() * 2.0**-11).all()


def test_a_good_log_sum_exp_is_taken_for_one():
    _round_everywhere()
    query, key = (torch.randn(1, 2, 80, 64) * 8.0 for _ in range(2))
    lse = (query.double() @ key.double().mT / 8.0).logsumexp(dim=-1).float()
    with RoundingProducts("cpu"):
        assert sdpa._is_lse(lse, query, key, None, None)
        assert not sdpa._is_lse(lse + 0.05, query, key, None, None)


def test_what_is_read_of_an_attribution_is_not_rounded(make_attribution):
    attribution = make_attribution()
    box = Box(3, 5, 41, 37)
    grid = SelfGrid(torch.rand(20, 20), 3, (4, 5))
    weights = torch.rand(2, 20)

    def read():
        return (
            attribution.scores(box),
            attribution.column(2).values,
            pull_back(torch.rand(48, 40, generator=torch.Generator().manual_seed(0)), 6, 5),
            pull_back_box((1.5, 2, 30, 31.25), (48, 40), (6, 5)),
            grid.attention_to(weights),
            grid.attention_from(weights),
            i2i.guided(grid.sums, weights[0]),
            i2i.diffuse_all(grid.sums, iterations=2, threshold=0.01),
        )

    wanted = read()
    _round_everywhere()
    with RoundingProducts("cpu") as products:
        found = read()
    assert products.seen == 0
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-6, atol=1e-7)


def test_maps_of_other_texts_are_not_rounded():
    query, key = torch.randn(2, 3, 20, 8).half(), torch.randn(3, 7, 8)
    stored = SiteQueries("site", (4, 5), 3, 8, (0, 1), tuple(query))
    wanted = _activated(stored, slice(None), key, MapRecipe())
    _round_everywhere()
    with RoundingProducts("cpu") as products:
        found = _activated(stored, slice(None), key, MapRecipe())
    assert products.seen == 0
    torch.testing.assert_close(found, wanted, rtol=2e-6, atol=1e-7)

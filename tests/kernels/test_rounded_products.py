"""The portable kernel where the host lets a device round what it multiplies, emulated."""

from __future__ import annotations

import math

import pytest
import torch

from diffusers_rdaam import float32_products
from diffusers_rdaam.kernels import logits
from diffusers_rdaam.kernels.planes import read_planes
from diffusers_rdaam.kernels.portable import accumulate
from diffusers_rdaam.kernels.reference import attention_probabilities
from tests.rounded_products import RoundingProducts, settings_kept

ROWS, HEADS, PIXELS, TOKENS = 2, 4, 96, 77


def _old_api():
    torch.backends.cuda.matmul.allow_tf32 = True


def _high():
    torch.set_float32_matmul_precision("high")


def _medium():
    torch.set_float32_matmul_precision("medium")


def _new_api():
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def _for_all():
    torch.backends.fp32_precision = "tf32"


def _processor_bf16():
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


def _processor_tf32():
    torch.backends.mkldnn.matmul.fp32_precision = "tf32"


SETTINGS = {
    "cuda": [_old_api, _high, _medium, _new_api, _for_all],
    "cpu": [_high, _medium, _for_all, _processor_bf16, _processor_tf32],
}
CASES = [(kind, setting) for kind, settings in SETTINGS.items() for setting in settings]
ON_DEVICES = pytest.mark.parametrize(
    ("kind", "setting"), CASES, ids=[f"{kind}{setting.__name__}" for kind, setting in CASES]
)


@pytest.fixture(autouse=True)
def _host_settings():
    with settings_kept():
        yield


def _inputs(dtype, dim, *, key_heads=HEADS):
    generator = torch.Generator().manual_seed(dim)
    query = torch.randn(ROWS, HEADS, PIXELS, dim, generator=generator) * 3.0
    key = torch.randn(ROWS, key_heads, TOKENS, dim, generator=generator) * 3.0
    return query.to(dtype), key.to(dtype)


def _mask(masked):
    if not masked:
        return None
    generator = torch.Generator().manual_seed(1)
    mask = torch.randn(ROWS, 1, 1, TOKENS, generator=generator)
    mask[..., 5] = -math.inf
    return mask


def _logits(query, key, mask, scale):
    key = key.double().repeat_interleave(HEADS // key.shape[1], dim=1)
    wanted = scale * query.double() @ key.mT
    return wanted if mask is None else wanted + mask.double()


def _difference(kind, query, key, *, mask=None, with_lse=False):
    """The largest error of a logit, over the largest logit; and how many products were rounded.

    A head's probability is off, relatively, by as much as its logits are absolutely.
    """
    scale = query.shape[-1] ** -0.5
    wanted = _logits(query, key, mask, scale)
    lse = wanted.logsumexp(dim=-1).float() if with_lse else None
    # Single heads in pairs of planes: means over heads and single planes would hide errors.
    high = torch.zeros(ROWS, HEADS, TOKENS, PIXELS, dtype=torch.float16)
    low = torch.zeros_like(high)
    with RoundingProducts(kind) as products:
        accumulate(query, key, high, low, mask=mask, scale=scale, lse=lse)
    keys = key.double().repeat_interleave(HEADS // key.shape[1], dim=1)
    probabilities = attention_probabilities(
        query.double(), keys, mask=None if mask is None else mask.double(), scale=scale
    ).mT
    found = read_planes(high, low).double()
    # What a pair keeps of these is far finer.
    seen = probabilities > 1e-3
    difference = float(((found - probabilities).abs() / probabilities)[seen].max())
    return difference / float(wanted[wanted.isfinite()].abs().max()), products.seen


@ON_DEVICES
@pytest.mark.parametrize("dim", [40, 64, 160])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("with_lse", [False, True])
def test_logits_keep_their_accuracy(monkeypatch, kind, setting, dim, dtype, masked, with_lse):
    monkeypatch.setattr(float32_products, "device_type", lambda device: kind)
    setting()
    query, key = _inputs(dtype, dim)
    error, _ = _difference(kind, query, key, mask=_mask(masked), with_lse=with_lse)
    assert error <= 1e-6


@ON_DEVICES
def test_the_emulated_device_rounds(kind, setting):
    setting()
    left, right = torch.randn(1, 8, 64), torch.randn(1, 64, 8)
    with RoundingProducts(kind) as products:
        rounded = left @ right
    assert products.seen == 1
    assert (rounded - left @ right).abs().max() > 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_heads_that_share_keys(monkeypatch, kind, dtype):
    monkeypatch.setattr(float32_products, "device_type", lambda device: kind)
    _high()
    query, key = _inputs(dtype, 40, key_heads=2)
    for with_lse in (False, True):
        error, _ = _difference(kind, query, key, with_lse=with_lse)
        assert error <= 1e-6


@pytest.mark.parametrize("with_lse", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("setting", [_high, None])
def test_halves_where_torch_does_not_multiply_them(monkeypatch, dtype, with_lse, setting):
    monkeypatch.setattr(float32_products, "device_type", lambda device: "cuda")
    monkeypatch.setattr(logits, "_MULTIPLIES_HALVES", False)
    if setting is not None:
        setting()
    query, key = _inputs(dtype, 40)
    error, _ = _difference("cuda", query, key, with_lse=with_lse)
    assert error <= 1e-6


@pytest.mark.parametrize("with_lse", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_of_float16_in_float16_are_not_taken(monkeypatch, dtype, with_lse):
    monkeypatch.setattr(float32_products, "device_type", lambda device: "cuda")
    torch.backends.cuda.matmul.allow_fp16_accumulation = True
    query, key = _inputs(dtype, 40)
    error, _ = _difference("cuda", query, key, with_lse=with_lse)
    assert error <= 1e-6


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_halves_beside_float32_are_not_rounded(monkeypatch, kind):
    monkeypatch.setattr(float32_products, "device_type", lambda device: kind)
    query, key = _inputs(torch.float32, 40)
    error, _ = _difference(kind, query, key.half())
    assert error <= 1e-6


@ON_DEVICES
def test_settings_stay_as_they_are(monkeypatch, kind, setting):
    monkeypatch.setattr(float32_products, "device_type", lambda device: kind)
    setting()
    before = _settings()

    def changed(*unused):
        raise AssertionError("a setting of the process was changed")

    monkeypatch.setattr(torch._C, "_set_fp32_precision_setter", changed)
    monkeypatch.setattr(torch._C, "_set_cublas_allow_tf32", changed)
    monkeypatch.setattr(torch._C, "_set_float32_matmul_precision", changed)
    _difference(kind, *_inputs(torch.float32, 40))
    assert _settings() == before


def _settings():
    return (
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.mkldnn.matmul.fp32_precision,
        torch.backends.fp32_precision,
    )


def test_without_settings_no_product_is_widened(monkeypatch):
    for kind in ("cuda", "cpu", "mps"):
        monkeypatch.setattr(float32_products, "device_type", lambda device, kind=kind: kind)
        query, key = _inputs(torch.float32, 40)
        made = logits.Logits.of(query, key, 0.5)
        assert made.keys.shape == key.shape and made.keys.dtype == torch.float32
        assert made.after is None

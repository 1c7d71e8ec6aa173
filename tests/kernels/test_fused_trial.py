"""The first call of each kind is held against the definition; a wrong kernel records nothing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from diffusers_rdaam.kernels import fused, fused_launch, fused_trial, operator, portable

pytest.importorskip("triton", reason="Triton is not installed")

DEVICE = torch.device("cpu" if fused.interpreted() else "cuda")
SCALE = 0.25


@pytest.fixture(autouse=True)
def untried(monkeypatch):
    """As in a fresh process."""
    refused: dict[object, str] = {}
    monkeypatch.setattr(fused_trial, "_proved", set())
    for module in (fused, fused_launch):
        monkeypatch.setattr(module, "refused", refused)


def inputs(columns=20, *, rows=2, heads=2, key_heads=2, positions=37, dim=16):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(rows, count_heads, count, dim, generator=generator).to(DEVICE) * 1.5
        for count_heads, count in ((heads, positions), (key_heads, columns), (key_heads, columns))
    )
    return query, key, value


def planes(*shape):
    high = torch.zeros(shape, dtype=torch.float16, device=DEVICE)
    return high, torch.zeros_like(high)


def spoiled(monkeypatch, name, spoil):
    """The kernel of that name as a compiler that errs might make it."""
    right = getattr(fused, name)

    def wrong(query, key, *others, **options):
        result = right(query, key, *others, **options)
        spoil(others, result)
        return result

    monkeypatch.setattr(fused, name, wrong)


@pytest.mark.parametrize("kind", ["none", "added", "chosen", "by position"])
@pytest.mark.parametrize("key_heads", [1, 2])
@pytest.mark.parametrize("columns", [20, 300])
def test_right_kernels_are_left_to_work(columns, key_heads, kind):
    query, key, value = inputs(columns, key_heads=key_heads)
    mask = None
    if kind != "none":
        mask = torch.randn(2, 1, 37 if kind == "by position" else 1, columns, device=DEVICE)
        mask = mask > 0 if kind == "chosen" else mask
    high, low = planes(1, columns, 37)
    fused_trial.prove(query, key, high, low, mask=mask, scale=SCALE, value=value, first=1)
    high, low = planes(2, columns, 37)
    fused_trial.prove(query, key, high, low, mask=mask, scale=SCALE)
    fused_trial.prove(query, key, high, None, mask=mask, scale=SCALE)
    high, low = planes(2, 2, columns, 37)
    fused_trial.prove(query, key, high, low, mask=mask, scale=SCALE)
    assert not fused_launch.refused and not high.any()


@pytest.mark.parametrize("columns", [20, 300])
def test_columns_of_a_longer_sequence(columns):
    query, key, _ = inputs(columns + 9)
    lse = torch.logsumexp(SCALE * query @ key.mT, dim=-1)
    high, low = planes(2, columns, 37)
    fused_trial.prove(query, key[:, :, 9:], high, low, scale=SCALE, lse=lse)
    assert not fused_launch.refused


@pytest.mark.parametrize(
    "spoil",
    [
        lambda others, result: others[0].mul_(1.01),
        lambda others, result: others[0].zero_(),
        lambda others, result: others[0][..., -1].fill_(torch.nan),
        lambda others, result: others[0].copy_(others[0].flip(-1)),
    ],
    ids=["a percent too much", "nothing", "no number at the end", "turned round"],
)
def test_wrong_maps_are_found_and_the_portable_kernel_records(monkeypatch, spoil):
    query, key, _ = inputs()
    spoiled(monkeypatch, "accumulate", spoil)
    wanted, found = planes(2, 20, 37), planes(2, 20, 37)
    portable.accumulate(query, key, *wanted, scale=SCALE)
    count = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    why = operator.beside(query, key, *found, scale=SCALE, count=count)
    assert why == "Triton's kernel was tried on this device and did not agree with the definition"
    assert all(map(torch.equal, found, wanted)) and int(count) == 1
    assert fused.unserved(query, key) == why


@pytest.mark.parametrize(
    "spoil",
    [
        lambda others, result: result.mul_(1.01),
        lambda others, result: result[:, :, -1].fill_(torch.nan),
        lambda others, result: others[1].mul_(1.01),
    ],
    ids=["output", "its end", "maps"],
)
def test_wrong_attention_is_found_and_the_stock_one_makes_the_image(monkeypatch, spoil):
    query, key, value = inputs()
    spoiled(monkeypatch, "attend", spoil)
    high, low = planes(1, 20, 37)
    output = operator.attend(query, key, value, high, low, first=1, scale=SCALE)
    assert torch.equal(output, F.scaled_dot_product_attention(query, key, value, scale=SCALE))
    wanted = planes(1, 20, 37)
    portable.accumulate(query[1:], key[1:], *wanted, scale=SCALE)
    assert torch.equal(high, wanted[0]) and torch.equal(low, wanted[1])
    assert "did not agree" in fused.unserved(query, key, value=value)


def test_only_the_first_call_of_a_kind_is_tried(monkeypatch):
    calls = []
    right = fused.accumulate
    monkeypatch.setattr(fused, "accumulate", lambda *a, **o: (calls.append(1), right(*a, **o)))
    query, key, _ = inputs()
    high, low = planes(2, 20, 37)
    for _ in range(3):
        operator.beside(query, key, high, low, scale=SCALE)
    assert len(calls) == 4
    operator.beside(query[:, :, :30], key, high[..., :30], low[..., :30], scale=SCALE)
    assert len(calls) == 6


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_numbers_that_are_none_prove_nothing():
    query, key, _ = inputs()
    query[1, 0, 0, 0] = torch.nan
    high, low = planes(2, 20, 37)
    fused_trial.prove(query, key, high, low, scale=SCALE)
    assert not fused_trial._proved and not fused_launch.refused

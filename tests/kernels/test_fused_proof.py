"""The first call of each kind is held against other kernels; a wrong one records nothing."""

from __future__ import annotations

import weakref

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from diffusers_rdaam.kernels import (
    fused,
    fused_launch,
    fused_proof,
    operator,
    portable,
    proof_call,
)

pytest.importorskip("triton", reason="Triton is not installed")

DEVICE = torch.device("cpu" if fused.interpreted() else "cuda")
SCALE = 0.25


@pytest.fixture(autouse=True)
def untried(monkeypatch):
    """As in a fresh process."""
    refused: dict[object, str] = {}
    monkeypatch.setattr(fused_proof, "_proved", set())
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
        spoil(others, result, options)
        return result

    monkeypatch.setattr(fused, name, wrong)


def planes_of(others):
    """High and low, whether it attends or not."""
    return [plane for plane in others if plane is not None and plane.dtype == torch.float16]


def nothing_with_a_count(others, options):
    for plane in planes_of(others):
        plane.mul_(0.0 if options["count"] is not None else 1.0)


WRONG_MAPS = {
    "a percent too much": lambda others, options: planes_of(others)[0].mul_(1.01),
    "nothing": lambda others, options: planes_of(others)[0].zero_(),
    "no number at the end": lambda others, options: planes_of(others)[0][..., -1].fill_(torch.nan),
    "turned round": lambda others, options: planes_of(others)[0].copy_(
        planes_of(others)[0].flip(-1)
    ),
    "nothing between the ends": lambda others, options: planes_of(others)[0][..., 16:-16].zero_(),
    "one cell": lambda others, options: planes_of(others)[0][-1, 7, 23].add_(0.01),
    "the first row alone": lambda others, options: planes_of(others)[0][1:].zero_(),
    "a row twice": lambda others, options: planes_of(others)[0][-1].mul_(2.0),
    "nothing where it counts": nothing_with_a_count,
    "counted twice": lambda others, options: options["count"].add_(1),
    "not counted": lambda others, options: options["count"].zero_(),
}


KINDS = ["none", "added", "chosen", "by position"]
# Long texts take the interpreter ten seconds a call.
RIGHT = [
    pytest.param(
        *(columns, heads, kind),
        marks=[pytest.mark.slow] * (columns == 300),
    )
    for columns in (20, 300)
    for heads in (1, 2)
    for kind in KINDS
]


@pytest.mark.every(3)
@pytest.mark.parametrize(("columns", "key_heads", "kind"), RIGHT)
def test_right_kernels_are_left_to_work(columns, key_heads, kind):
    query, key, value = inputs(columns, key_heads=key_heads)
    mask = None
    if kind != "none":
        mask = torch.randn(2, 1, 37 if kind == "by position" else 1, columns, device=DEVICE)
        mask = mask > 0 if kind == "chosen" else mask
    high, low = planes(1, columns, 37)
    fused_proof.prove(query, key, high, low, mask=mask, scale=SCALE, value=value, first=1)
    high, low = planes(2, columns, 37)
    fused_proof.prove(query, key, high, low, mask=mask, scale=SCALE)
    fused_proof.prove(query, key, high, None, mask=mask, scale=SCALE)
    high, low = planes(2, 2, columns, 37)
    fused_proof.prove(query, key, high, low, mask=mask, scale=SCALE)
    assert not fused_launch.refused and not high.any()


@pytest.mark.parametrize("columns", [20, 300])
def test_columns_of_a_longer_sequence(columns):
    query, key, _ = inputs(columns + 9)
    lse = torch.logsumexp(SCALE * query @ key.mT, dim=-1)
    high, low = planes(2, columns, 37)
    fused_proof.prove(query, key[:, :, 9:], high, low, scale=SCALE, lse=lse)
    assert not fused_launch.refused


@pytest.mark.parametrize("spoil", WRONG_MAPS.values(), ids=WRONG_MAPS)
def test_wrong_maps_are_found_and_the_portable_kernel_records(monkeypatch, spoil):
    query, key, _ = inputs(rows=3)
    spoiled(monkeypatch, "accumulate", lambda others, result, options: spoil(others, options))
    wanted, found = planes(3, 20, 37), planes(3, 20, 37)
    portable.accumulate(query, key, *wanted, scale=SCALE)
    count = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    why = operator.maps_only(query, key, *found, scale=SCALE, count=count)
    assert why == "Triton's kernel was checked on this device and did not agree with the definition"
    assert all(map(torch.equal, found, wanted)) and int(count) == 1
    assert fused.unserved(query, key) == why


@pytest.mark.parametrize(
    "spoil",
    [
        lambda others, result, options: result.mul_(1.01),
        lambda others, result, options: result[:, :, -1].fill_(torch.nan),
        lambda others, result, options: result[:, :, 16:-16].zero_(),
        lambda others, result, options: result[1:-1].zero_(),
        lambda others, result, options: result[0, 1, 20].add_(0.5),
    ],
    ids=["too much", "its end", "its middle", "rows between", "one position"],
)
def test_wrong_output_is_found_and_the_stock_one_makes_the_image(monkeypatch, spoil):
    query, key, value = inputs(rows=3)
    spoiled(monkeypatch, "attend", spoil)
    check_stock_takes_over(query, key, value)


@pytest.mark.every(3)
@pytest.mark.parametrize("spoil", WRONG_MAPS.values(), ids=WRONG_MAPS)
def test_wrong_maps_of_one_pass_are_found(monkeypatch, spoil):
    query, key, value = inputs(rows=3)
    spoiled(monkeypatch, "attend", lambda others, result, options: spoil(others[1:], options))
    check_stock_takes_over(query, key, value)


def check_stock_takes_over(query, key, value):
    high, low = planes(2, 20, 37)
    count = torch.full((1,), 5, dtype=torch.int32, device=DEVICE)
    output = operator.attend(query, key, value, high, low, first=1, scale=SCALE, count=count)
    assert torch.equal(output, F.scaled_dot_product_attention(query, key, value, scale=SCALE))
    wanted = planes(2, 20, 37)
    portable.accumulate(query[1:], key[1:], *wanted, scale=SCALE)
    assert torch.equal(high, wanted[0]) and torch.equal(low, wanted[1]) and int(count) == 6
    assert "did not agree" in fused.unserved(query, key, value=value)


def test_a_trial_leaves_planes_and_count_as_they_were():
    query, key, value = inputs()
    high, low = (torch.rand_like(plane) for plane in planes(2, 20, 37))
    count = torch.full((1,), 7, dtype=torch.int32, device=DEVICE)
    before = high.clone(), low.clone()
    fused_proof.prove(query, key, high, low, scale=SCALE, count=count)
    fused_proof.prove(query, key, high, low, value=value, scale=SCALE, count=count)
    assert len(fused_proof._proved) == 2
    assert torch.equal(high, before[0]) and torch.equal(low, before[1]) and int(count) == 7


def test_a_recorded_call_adds_the_same_sums_whether_it_was_tried_before_it_or_not():
    query, key, _ = inputs()
    start = torch.rand(2, 20, 37, device=DEVICE).half()
    sums = []
    for _ in range(2):
        high, low = start.clone(), torch.zeros_like(start)
        assert operator.maps_only(query, key, high, low, scale=SCALE) is None
        sums.append((high, low))
    assert torch.equal(sums[0][0], sums[1][0]) and torch.equal(sums[0][1], sums[1][1])


def test_only_the_first_call_of_a_kind_is_tried(monkeypatch):
    calls = []
    right = fused.accumulate
    monkeypatch.setattr(fused, "accumulate", lambda *a, **o: (calls.append(1), right(*a, **o)))
    query, key, _ = inputs()
    high, low = planes(2, 20, 37)
    for _ in range(3):
        operator.maps_only(query, key, high, low, scale=SCALE)
    assert len(calls) == 4
    operator.maps_only(query[:, :, :30], key, high[..., :30], low[..., :30], scale=SCALE)
    assert len(calls) == 6


def other_strides(query, key, high):
    return query.transpose(1, 2).contiguous().transpose(1, 2), key, high


def other_address(query, key, high):
    storage = torch.empty(query.numel() + 1, dtype=query.dtype, device=DEVICE)
    return storage[1:].view(query.shape).copy_(query), key, high


def planes_within_others(query, key, high):
    wide = high.new_zeros(*high.shape[:-1], high.shape[-1] + 3)
    return query, key, wide[..., : high.shape[-1]]


@pytest.mark.parametrize("change", [other_strides, other_address, planes_within_others])
def test_what_compiles_or_addresses_otherwise_is_another_kind(change):
    query, key, _ = inputs()
    high, low = planes(2, 20, 37)
    fused_proof.prove(query, key, high, low, scale=SCALE)
    fused_proof.prove(query, key, high, low, scale=SCALE)
    assert len(fused_proof._proved) == 1
    query, key, high = change(query, key, high)
    if high.stride() != low.stride():
        _, _, low = change(query, key, low)
    fused_proof.prove(query, key, high, low, scale=SCALE)
    assert len(fused_proof._proved) == 2


def test_planes_that_are_not_laid_out_alike_are_the_portable_kernels():
    query, key, _ = inputs()
    wanted = planes(2, 20, 37)
    portable.accumulate(query, key, *wanted, scale=SCALE)
    high, low = planes(2, 20, 37)
    per_head = high.new_zeros(2, 20, 40)[..., :37], low
    turned = high.new_zeros(2, 37, 20).mT, low.new_zeros(2, 37, 20).mT
    for found in (per_head, turned):
        assert "contiguous positions" in operator.maps_only(query, key, *found, scale=SCALE)
        assert all(map(torch.equal, found, wanted))
    assert not fused_launch.refused


def test_the_first_recorded_row_and_the_count_are_part_of_a_kind():
    query, key, value = inputs(rows=3)
    high, low = planes(1, 20, 37)
    for first in (0, 1):
        for count in (None, torch.zeros(3, dtype=torch.int32, device=DEVICE)[1:2]):
            fused_proof.prove(
                query, key, high, low, value=value, scale=SCALE, first=first, count=count
            )
    assert len(fused_proof._proved) == 4


def failing(monkeypatch, times, error):
    """Triton's kernel whose first launches fail."""
    from diffusers_rdaam.kernels import fused_text

    right, left = fused_text.attend_to_text, [times]

    class Fails:
        def __getitem__(self, grid):
            def launch(*arguments, **named):
                if left[0]:
                    left[0] -= 1
                    raise error
                return right[grid](*arguments, **named)

            return launch

    monkeypatch.setattr(fused_text, "attend_to_text", Fails())


def test_a_launch_that_fails_for_a_moment_is_tried_again(monkeypatch):
    failing(monkeypatch, 1, PermissionError("the cache folder cannot be written to"))
    query, key, _ = inputs()
    assert operator.maps_only(query, key, *planes(2, 20, 37), scale=SCALE) is None
    assert not fused_launch.refused


def test_a_launch_that_fails_twice_is_refused(monkeypatch):
    failing(monkeypatch, 2, RuntimeError("no C compiler\nfound"))
    query, key, _ = inputs()
    found, wanted = planes(2, 20, 37), planes(2, 20, 37)
    why = operator.maps_only(query, key, *found, scale=SCALE)
    assert why == "Triton could not launch its kernel (RuntimeError: no C compiler)"
    portable.accumulate(query, key, *wanted, scale=SCALE)
    assert all(map(torch.equal, found, wanted))
    assert operator.maps_only(query, key, *found, scale=SCALE) == why


@pytest.mark.values
@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("none left"), RuntimeError("Triton Error [CUDA]: out of memory")],
    ids=["torch's", "the driver's"],
)
@pytest.mark.parametrize("proved", [False, True])
def test_without_memory_the_portable_kernel_takes_this_call_alone(monkeypatch, error, proved):
    query, key, value = inputs()
    if proved:
        assert operator.maps_only(query, key, *planes(2, 20, 37), scale=SCALE) is None
    failing(monkeypatch, 1, error)
    found, wanted = planes(2, 20, 37), planes(2, 20, 37)
    why = operator.maps_only(query, key, *found, scale=SCALE)
    assert "memory" in why or "none left" in why
    portable.accumulate(query, key, *wanted, scale=SCALE)
    assert all(map(torch.equal, found, wanted)) and not fused_launch.refused
    assert operator.maps_only(query, key, *planes(2, 20, 37), scale=SCALE) is None
    failing(monkeypatch, 1, error)
    high, low = planes(1, 20, 37)
    output = operator.attend(query, key, value, high, low, first=1, scale=SCALE)
    assert torch.equal(output, F.scaled_dot_product_attention(query, key, value, scale=SCALE))
    assert not fused_launch.refused


def test_no_memory_for_the_comparison_is_no_verdict(monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    query, key, _ = inputs()
    high, low = planes(2, 20, 37)
    high += 1.0
    monkeypatch.setattr(proof_call.reference, "attention_probabilities", full)
    why = fused_proof.prove(query, key, high, low, scale=SCALE)
    assert why.startswith("there was no memory to check Triton's kernel")
    assert not fused_launch.refused and not fused_proof._proved
    assert bool((high == 1.0).all()) and not low.any()


def test_an_untried_kernel_is_not_used_while_a_graph_is_captured(monkeypatch):
    query, key, value = inputs()
    monkeypatch.setattr(fused_proof, "_capturing", lambda query: True)
    found, wanted = planes(2, 20, 37), planes(2, 20, 37)
    why = operator.maps_only(query, key, *found, scale=SCALE)
    assert "CUDA graph" in why and "one call outside of the capture" in why
    portable.accumulate(query, key, *wanted, scale=SCALE)
    assert all(map(torch.equal, found, wanted)) and not fused_launch.refused
    high, low = planes(1, 20, 37)
    output, why = operator.attend_or_why(query, key, value, high, low, first=1, scale=SCALE)
    assert "CUDA graph" in why and output is None and not high.any() and not low.any()
    output = operator.attend(query, key, value, high, low, first=1, scale=SCALE)
    assert torch.equal(output, F.scaled_dot_product_attention(query, key, value, scale=SCALE))
    monkeypatch.undo()
    fused_proof.prove(query, key, *planes(2, 20, 37), scale=SCALE)
    monkeypatch.setattr(fused_proof, "_capturing", lambda query: True)
    assert operator.maps_only(query, key, *planes(2, 20, 37), scale=SCALE) is None


class Peak(TorchDispatchMode):
    """Bytes of storages that are made while it is on and still there, at most."""

    def __init__(self):
        super().__init__()
        self.known, self.most = weakref.WeakKeyDictionary(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {
            leaf.untyped_storage().data_ptr()
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, torch.Tensor)
        }
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage().data_ptr() not in given:
                self.known[leaf] = leaf.untyped_storage().nbytes()
        self.most = max(self.most, sum(self.known.values()))
        return result


SIZES = {
    "SD1.5 64x64": (2, 8, 4096, 77, 40, False),
    "SD1.5 16x16": (2, 8, 256, 77, 160, False),
    "SDXL 64x64": (2, 10, 4096, 77, 64, False),
    "SDXL 32x32": (2, 20, 1024, 77, 64, False),
    "SDXL 64x64, per head": (2, 10, 4096, 77, 64, True),
    "SDXL 64x64, four images": (8, 10, 4096, 77, 64, False),
    "SDXL 32x32, the image's own": (2, 20, 1024, 1024, 64, False),
}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_what_a_trial_allocates_on_the_device(monkeypatch, size):
    """The portable kernel stands in Triton's place, and what it allocates is not counted."""
    rows, heads, positions, columns, dim, per_head = size
    images = rows // 2
    counts = {"rows": rows, "heads": heads, "key_heads": heads, "positions": positions, "dim": dim}
    query, key, _ = (part.half() for part in inputs(columns, **counts))
    high, low = planes(images, *([heads] if per_head else []), columns, positions)

    def stands_in(*arguments, **options):
        with _disable_current_modes():
            portable.accumulate(*arguments, **options)

    monkeypatch.setattr(fused, "accumulate", stands_in)
    on_host = high.nbytes + low.nbytes + 4
    with Peak() as peak:
        assert fused_proof.prove(query, key, high, low, scale=SCALE, first=images) is None
    print(f"{peak.most - on_host:,} bytes")
    assert len(fused_proof._proved) == 1
    assert peak.most - on_host <= fused_proof.MOST_BYTES


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_numbers_that_are_none_prove_nothing():
    query, key, _ = inputs()
    query[1, 0, 0, 0] = torch.nan
    high, low = planes(2, 20, 37)
    fused_proof.prove(query, key, high, low, scale=SCALE)
    assert not fused_proof._proved and not fused_launch.refused

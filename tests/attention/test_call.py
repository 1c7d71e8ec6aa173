"""The attention of a recorded site: its output, its maps, and the reason noted for the kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers.models import attention_processor as stock
from diffusers.models.attention_processor import Attention
from torch import Tensor

from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.attention.attention_call import AttentionCall
from diffusers_rdaam.attention.call import attend as attend_call
from diffusers_rdaam.attention.foreign import tap
from diffusers_rdaam.attention.map_target import BranchTarget, Target
from diffusers_rdaam.attention.observer import Observer, ObserverGroup
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.kernels.reference import head_mean_probabilities

ROWS, HEADS, PIXELS, TOKENS, DIM = 4, 2, 15, 7, 8
CPU = torch.device("cpu")
ASKED = "asked for on cpu"


def branch(start: int, stop: int, columns: int = TOKENS) -> BranchTarget:
    planes = torch.zeros(2, stop - start, columns, PIXELS, dtype=torch.float16)
    return BranchTarget(planes[0], planes[1], torch.zeros(1, dtype=torch.int32), start, stop)


def target(*branches: BranchTarget, backend: str = "fused", kind: Any = "cross") -> Target:
    return Target.of("mid_block.attn2", branches, choose(backend, device=CPU), kind=kind)


def inputs(columns: int = TOKENS, dim: int = DIM) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = (PIXELS, columns, columns)
    return tuple(torch.randn(ROWS, HEADS, n, dim, generator=generator) for n in sizes)


def check(part: BranchTarget, query: Tensor, key: Tensor, mask: Tensor | None = None) -> None:
    mask = None if mask is None else mask.double()
    scale = query.shape[-1] ** -0.5
    maps = head_mean_probabilities(query.double(), key.double(), mask=mask, scale=scale)
    got = part.high.double() + part.low.double() / 2048
    torch.testing.assert_close(got, maps[part.start : part.stop], rtol=1e-4, atol=1e-7)
    assert part.count.item() == 1


def attend(
    observer: Observer, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> Tensor:
    return attend_call(observer, AttentionCall(query, key, value, mask, key.shape[-1] ** -0.5))


def used(observer: Target) -> tuple[str, str]:
    assert observer.choice is not None
    return observer.choice.used.name, observer.choice.used.reason


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rows", [((2, 4),), ((2, 4), (0, 2)), ((0, 4),)], ids=str)
def test_one_pass(rows, masked):
    query, key, value = inputs()
    mask = torch.randn(ROWS, 1, 1, TOKENS) if masked else None
    branches = tuple(branch(*part) for part in rows)
    observer = target(*branches)
    output = attend(observer, query, key, value, mask)
    wanted = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(output, wanted, rtol=1e-5, atol=1e-6)
    assert output.transpose(1, 2).is_contiguous() and not wanted.transpose(1, 2).is_contiguous()
    for part in branches:
        check(part, query, key, mask)
    assert used(observer) == ("fused", ASKED)


class Seen:
    """An observer that keeps what it sees."""

    failure = None

    def __init__(self) -> None:
        self.calls: list[AttentionCall] = []

    def see(self, call: AttentionCall) -> None:
        self.calls.append(call)


@pytest.mark.parametrize("backend", ["fused", "maps_only", "portable"])
def test_other_observers_see_the_call_too(backend):
    (query, key, value), part, seen = inputs(), branch(2, 4), Seen()
    observer = target(part, backend=backend)
    output = attend(ObserverGroup((observer, seen)), query, key, value, None)
    [call] = seen.calls
    assert call.query is query and call.key is key and call.value is value
    assert call.attended is output and call.mask is None and call.scale == DIM**-0.5
    check(part, query, key)
    wanted = F.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(output, wanted, rtol=1e-5, atol=1e-6)
    assert torch.equal(output, wanted) == (backend != "fused")
    assert used(observer) == (backend, ASKED)


def test_an_observer_that_is_no_target_sees_the_stock_attention():
    (query, key, value), seen = inputs(), Seen()
    output = attend(seen, query, key, value, None)
    assert torch.equal(output, F.scaled_dot_product_attention(query, key, value))
    [call] = seen.calls
    assert call.attended is output


@pytest.mark.parametrize("grad", ["query", "key", "value"])
def test_gradients_are_those_of_the_stock_attention(grad):
    part, grads = branch(2, 4), []
    for observed in (True, False):
        given = dict(zip(("query", "key", "value"), inputs(), strict=True))
        leaf = given[grad].requires_grad_()
        observer = target(part)
        if observed:
            output = attend(observer, **given, mask=None)
            assert used(observer) == (
                "maps_only",
                "gradients are wanted, and the fused kernel has none",
            )
            check(part, given["query"].detach(), given["key"].detach())
        else:
            output = F.scaled_dot_product_attention(**given)
        output.square().sum().backward()
        grads.append(leaf.grad)
    assert torch.equal(*grads)
    with torch.no_grad():
        attend(observer := target(branch(2, 4)), **given, mask=None)
        assert used(observer)[0] == "fused"


@pytest.mark.parametrize("backend", ["fused", "maps_only"])
def test_a_call_that_is_not_served_is_the_stock_one_and_tells_why(backend):
    (query, key, value), part = inputs(dim=264), branch(2, 4)
    observer = target(part, backend=backend)
    output = attend(observer, query, key, value, None)
    assert torch.equal(output, F.scaled_dot_product_attention(query, key, value))
    check(part, query, key)
    assert used(observer) == ("portable", "head size 264 is over 256")


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("backend", ["fused", "maps_only", "portable"])
def test_self_attention_takes_the_log_sum_exp_of_the_stock_kernel(monkeypatch, backend, masked):
    query, key, value = inputs(columns=PIXELS)
    mask = torch.randn(ROWS, 1, 1, PIXELS) if masked else None
    known: list[bool] = []

    def watched(*given: Any, **options: Any) -> Any:
        known.append(options["lse"] is not None)
        return accumulate(*given, **options)

    for _ in range(2):
        part = branch(2, 4, PIXELS)
        observer = target(part, backend=backend, kind="self")
        accumulate, observer.accumulate = observer.accumulate, watched
        output = attend(observer, query, key, value, mask)
        assert torch.equal(
            output, F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        )
        check(part, query, key, mask)
    assert known == [backend != "portable" and not masked] * 2
    reason = "self-attention has more columns than one pass holds"
    assert used(observer) == (("maps_only", reason) if backend == "fused" else (backend, ASKED))


@pytest.mark.parametrize("backend", ["fused", "maps_only"])
@pytest.mark.parametrize("kind", ["cross", "self"])
def test_what_does_not_fit_is_named_before_anything_is_written(backend, kind):
    query, key, value = inputs(columns=TOKENS + 1)
    observer = target(part := branch(2, 4), backend=backend, kind=kind)
    output = attend(observer, query, key, value, None)
    what = (
        "8 image positions, where 7 were" if kind == "self" else "8 columns, where 7 were expected"
    )
    assert what in observer.misfit
    assert torch.equal(output, F.scaled_dot_product_attention(query, key, value))
    assert not part.high.any() and not part.low.any() and part.count.item() == 0


class Broken(Seen):
    """An observer whose memory is full."""

    def see(self, call: AttentionCall) -> None:
        raise torch.OutOfMemoryError("no memory")


@pytest.mark.parametrize("backend", ["fused", "maps_only", "portable"])
def test_an_exception_of_recording_leaves_the_attention_as_it_is(backend):
    """Of the kernel, and of a second observer: the image's own attention is computed."""
    query, key, value = inputs()
    wanted = F.scaled_dot_product_attention(query, key, value)
    observer = target(part := branch(2, 4), backend=backend)
    observer.branches[0].high = torch.zeros(1)
    assert torch.equal(attend(observer, query, key, value, None), wanted)
    assert isinstance(observer.failure, Exception) and observer.failure.__traceback__ is None
    assert torch.equal(attend(observer, query, key, value, None), wanted)
    assert part.count.item() == 0
    several = ObserverGroup((target(branch(2, 4), backend="portable"), Broken()))
    assert torch.equal(attend(several, query, key, value, None), wanted)
    assert isinstance(several.failure, torch.OutOfMemoryError)


def test_a_processor_that_attends_by_itself_tells_it():
    torch.manual_seed(0)
    attn = Attention(16, 12, heads=HEADS, dim_head=DIM).eval()
    tapped = tap(stock.AttnProcessor(), "attn2")
    observer = target(branch(2, 4))
    tapped.arm(observer, None)
    attn.set_processor(tapped)
    with torch.no_grad():
        attn(torch.randn(ROWS, PIXELS, 16), torch.randn(ROWS, TOKENS, 12))
    assert used(observer) == ("maps_only", "AttnProcessor computes its attention itself")


def test_a_processor_tells_the_kernel_of_its_last_call():
    torch.manual_seed(0)
    attn = Attention(16, 12, heads=HEADS, dim_head=DIM).eval()
    processor = RDAAMProcessor(backend="fused").bind("mid_block.attn2")
    attn.set_processor(processor)
    assert repr(processor).endswith("backend='fused')")
    processor.arm(target(part := branch(2, 4)), None)
    hidden, text = torch.randn(ROWS, PIXELS, 16), torch.randn(ROWS, TOKENS, 12)
    attn(hidden, text)
    processor.target = None
    assert repr(processor) == (
        "RDAAMProcessor(mid_block.attn2, precision='fp16-pair', backend='fused', used maps_only: "
        "gradients are wanted, and the fused kernel has none)"
    )
    processor.arm(target(part), None)
    with torch.no_grad():
        attn(hidden, text)
    assert repr(processor).endswith(f"backend='fused', used fused: {ASKED})")
    assert part.count.item() == 2


@torch.no_grad()
def test_a_recorded_call_adds_few_operators(monkeypatch):
    """On a GPU a small site's call costs what its launches cost."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.names: list[str] = []

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.names.append(function.__name__)
            return function(*args, **(kwargs or {}))

    (query, key, value), seen = inputs(), []
    mask = torch.rand(ROWS, HEADS, 1, TOKENS) > 0.2
    observer = Target("attn2", (branch(2, 4),), lambda *a, **k: seen.append(k))
    with Count() as counted:
        attend(observer, query, key, value, mask)
    with Count() as plain:
        F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    rest = counted.names[:]
    for name in plain.names:
        rest.remove(name)
    # Kernels are given all rows, and which of them are recorded.
    assert rest == []
    assert len(seen) == 1


class NeverLaunches:
    """A kernel that Triton cannot compile."""

    def __getitem__(self, grid: Any) -> Any:
        def launch(*arguments: Any, **options: Any) -> None:
            raise RuntimeError("Failed to find C compiler.")

        return launch


@pytest.mark.parametrize("backend", ["maps_only", "fused"])
def test_a_kernel_that_cannot_be_launched_gives_way_and_the_site_tells_why(monkeypatch, backend):
    from diffusers_rdaam.kernels import fused, fused_launch, fused_text

    monkeypatch.setattr(fused_text, "attend_to_text", NeverLaunches())
    refused: dict[Any, str] = {}
    for module in (fused, fused_launch):
        monkeypatch.setattr(module, "refused", refused)
    query, key, value = inputs()
    why = "Triton could not launch its kernel (RuntimeError: Failed to find C compiler.)"
    # The first call finds out, the second knows.
    for _ in range(2):
        part = branch(1, 3)
        observer = target(part, backend=backend)
        output = attend(observer, query, key, value, None)
        assert torch.equal(output, F.scaled_dot_product_attention(query, key, value))
        check(part, query, key)
        assert used(observer) == ("portable", why)

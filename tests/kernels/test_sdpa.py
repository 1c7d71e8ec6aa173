"""The stock attention's output in every bit, and a log-sum-exp that is one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from diffusers_rdaam.kernels import sdpa
from diffusers_rdaam.kernels.sdpa import attention_with_lse

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
HEADS = 4


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdpa, "_agreed", {})


def inputs(
    dtype: torch.dtype, *, dim: int = 8, key_heads: int = HEADS, device: str = "cpu"
) -> tuple[Tensor, Tensor, Tensor]:
    """As a processor makes them: heads are transposed to the front."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for length, heads in ((37, HEADS), (53, key_heads), (53, key_heads)):
        states = torch.randn(2, length, heads * dim, generator=generator)
        parts.append(states.to(device, dtype).unflatten(-1, (heads, dim)).transpose(1, 2))
    return tuple(parts)


def masks() -> dict[str, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    chosen = torch.rand(2, 1, 37, 53, generator=generator) > 0.4
    chosen[1, :, 4] = False
    return {"none": None, "columns": chosen[:, :, :1], "positions": chosen}


def stock(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    gqa = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(query, key, value, enable_gqa=gqa, **options)


def check(device: str, dtype: torch.dtype, dim: int, key_heads: int, kind: str, scale: Any) -> None:
    query, key, value = inputs(dtype, dim=dim, key_heads=key_heads, device=device)
    mask = masks()[kind]
    mask = None if mask is None else mask.to(device)
    options = {} if scale is None else {"scale": scale}
    wanted = stock(query, key, value, attn_mask=mask, **options)
    logits = query.double() @ key.double().repeat_interleave(HEADS // key_heads, dim=1).mT
    logits *= dim**-0.5 if scale is None else scale
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    sums = logits.logsumexp(dim=-1)
    attending = sums > -torch.inf
    for _ in range(2):
        output, lse = attention_with_lse(query, key, value, mask=mask, scale=scale)
        assert torch.equal(output.view(torch.uint8), wanted.view(torch.uint8))
        assert output.stride() == wanted.stride()
        if device != "cpu" and lse is None:
            pytest.skip("the stock attention takes no kernel here that has one")
        assert lse is not None and lse.dtype == torch.float32
        torch.testing.assert_close(
            lse.double()[attending], sums[attending], rtol=1e-5, atol=1e-4, check_dtype=False
        )


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("kind", masks())
@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize("dim", [5, 8, 40])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_on_a_processor(dtype, dim, key_heads, kind, scale):
    check("cpu", dtype, dim, key_heads, kind, scale)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["none", "positions"])
@pytest.mark.parametrize("dim", [40, 64, 160])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_on_a_cuda_device(dtype, dim, kind):
    check("cuda", dtype, dim, HEADS, kind, None)


def test_what_agreed_is_compared_no_more(monkeypatch):
    calls: list[int] = []
    original = sdpa._compare
    monkeypatch.setattr(sdpa, "_compare", lambda *given: (calls.append(1), original(*given))[1])
    parts = inputs(torch.float32)
    for _ in range(3):
        assert attention_with_lse(*parts)[1] is not None
    assert len(calls) == 1
    assert attention_with_lse(*(part.half() for part in parts))[1] is not None
    assert len(calls) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        lambda output, lse: (output + 1e-6, lse),
        lambda output, lse: (output.contiguous(), lse),
        lambda output, lse: (output, lse * 1.44),
        lambda output, lse: (output, lse.double()),
        lambda output, lse: (output, lse.mT),
        lambda output, lse: (output,),
    ],
    ids=["other bits", "other layout", "base two", "other type", "transposed", "other results"],
)
def test_an_operator_that_does_not_agree_is_left_alone(monkeypatch, wrong):
    original = sdpa._call
    calls: list[int] = []

    def call(*given: Any) -> Any:
        calls.append(1)
        output, lse = wrong(*original(*given))
        return output, lse

    monkeypatch.setattr(sdpa, "_call", call)
    query, key, value = inputs(torch.float32)
    for _ in range(2):
        output, lse = attention_with_lse(query, key, value)
        assert lse is None and torch.equal(output, stock(query, key, value))
    assert len(calls) == 1


def test_outputs_that_are_no_numbers_agree_too():
    query, key, value = inputs(torch.float32)
    value = torch.full_like(value, torch.nan)
    output, lse = attention_with_lse(query, key, value)
    assert output.isnan().all() and lse is not None


class Elsewhere(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        return result + 1 if function is F.scaled_dot_product_attention else result


def test_where_somebody_else_has_a_say_the_stock_function_is_called(monkeypatch):
    query, key, value = inputs(torch.float32)
    wanted = stock(query, key, value)
    with Elsewhere():
        output, lse = attention_with_lse(query, key, value)
    assert lse is None and torch.equal(output, wanted + 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, lse = attention_with_lse(query, key, value)
    assert lse is None and output.dtype == torch.bfloat16
    output, lse = attention_with_lse(query.requires_grad_(), key, value)
    assert lse is None and output.requires_grad
    query = query.detach()
    _, lse = attention_with_lse(query, key, value, mask=torch.zeros(2, 1, 1, 53))
    assert lse is None
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        output, lse = attention_with_lse(query, key, value)
        assert lse is None and torch.equal(output, stock(query, key, value))
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, **given: q)
    output, lse = attention_with_lse(query, key, value)
    assert lse is None and output is query


@pytest.mark.usefixtures("types_unchecked")
def test_compiled_code_has_the_stock_function_alone():
    query, key, value = inputs(torch.float32)

    @torch.compile(backend="eager", fullgraph=True)
    def step(query, key, value):
        output, lse = attention_with_lse(query, key, value)
        assert lse is None
        return output

    torch._dynamo.reset()
    assert torch.equal(step(query, key, value), stock(query, key, value))


def test_another_version_without_the_private_operators(monkeypatch):
    def missing(*given: Any, **options: Any) -> int:
        raise AttributeError("_fused_sdp_choice")

    monkeypatch.setattr(torch, "_fused_sdp_choice", missing)
    query, key, value = inputs(torch.float32)
    output, lse = attention_with_lse(query, key, value)
    assert lse is None and torch.equal(output, stock(query, key, value))

"""One value to observers; at a joint site the maps are the image's attention to the text alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_rdaam.attention.attention_call import AttentionCall, image_queries, text_attention
from diffusers_rdaam.attention.call import attend
from diffusers_rdaam.attention.map_target import BranchTarget, Target
from diffusers_rdaam.attention.observer import ObserverGroup
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.kernels.reference import attention_probabilities
from diffusers_rdaam.recording.records.queries import QueryTarget

ROWS, HEADS, PIXELS, TOKENS, DIM = 4, 2, 15, 7, 8
# Positions and columns of the two orders in which diffusers concatenates.
ORDERS = {
    "image, text": (slice(0, PIXELS), slice(PIXELS, PIXELS + TOKENS)),
    "text, image": (slice(TOKENS, TOKENS + PIXELS), slice(0, TOKENS)),
}
MASKS = ("none", "columns", "positions and columns")


def joint_call(order: str, mask: str = "none") -> AttentionCall:
    """The log-sum-exp is over image and text together, as a kernel returns it."""
    image, text = ORDERS[order]
    generator = torch.Generator().manual_seed(3)
    query, key, value = torch.randn(3, ROWS, HEADS, PIXELS + TOKENS, DIM, generator=generator)
    scale = DIM**-0.5
    bias = None
    if mask != "none":
        positions = PIXELS + TOKENS if mask != "columns" else 1
        bias = torch.randn(ROWS, 1, positions, PIXELS + TOKENS, generator=generator)
    logits = scale * query @ key.mT + (0 if bias is None else bias)
    return AttentionCall(
        query, key, value, bias, scale, None, logits.logsumexp(dim=-1), image, text
    )


def wanted(call: AttentionCall) -> Tensor:
    """By the definition, over all columns, and only then cut: ``(rows, tokens, pixels)``."""
    mask = None if call.mask is None else call.mask.double()
    maps = attention_probabilities(
        call.query.double(), call.key.double(), mask=mask, scale=call.scale
    )
    return maps[:, :, call.image][..., call.text].mean(dim=1).mT


def branch(start: int, stop: int) -> BranchTarget:
    planes = torch.zeros(2, stop - start, TOKENS, PIXELS, dtype=torch.float16)
    return BranchTarget(planes[0], planes[1], torch.zeros(1, dtype=torch.int32), start, stop)


def joint_target(*branches: BranchTarget, backend: Any = "portable") -> Target:
    choice = choose(backend, device=torch.device("cpu"))
    return Target.of("block.attn", branches, choice, rows=ROWS, kind="joint")


def read(part: BranchTarget) -> Tensor:
    assert part.low is not None
    return part.high.double() + part.low.double() / 2048


@pytest.mark.parametrize("backend", ["portable", "maps_only", "fused", "reference"])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("order", ORDERS)
def test_a_joint_call_adds_the_images_attention_to_the_text(order, mask, backend):
    call, parts = joint_call(order, mask), (branch(2, 4), branch(0, 2))
    target = joint_target(*parts, backend=backend)
    target.see(call)
    maps = wanted(call)
    # The text has a part of the mass at every position, and what is left is the image's.
    assert maps.sum(dim=1).min() > 0.05 and maps.sum(dim=1).max() < 0.95
    for part in parts:
        torch.testing.assert_close(read(part), maps[part.start : part.stop], rtol=2e-4, atol=1e-6)
        assert part.count.item() == 1
    assert target.misfit is None


@pytest.mark.parametrize("backend", ["portable", "fused"])
@pytest.mark.parametrize("order", ORDERS)
def test_a_joint_site_takes_the_log_sum_exp_of_the_stock_kernel(order, backend):
    call = joint_call(order)._replace(lse=None)
    # The first call of a shape compares the operator with the stock function, the second trusts it.
    for _ in range(2):
        part = branch(2, 4)
        target = joint_target(part, backend=backend)
        output = attend(target, call)
        assert torch.equal(output, F.scaled_dot_product_attention(call.query, call.key, call.value))
        assert target.failure is None
        torch.testing.assert_close(read(part), wanted(call)[2:], rtol=2e-4, atol=1e-6)


def test_a_joint_call_without_its_log_sum_exp_is_refused_and_the_image_is_made():
    """A float mask: no kernel's log-sum-exp is known to be exact."""
    call = joint_call("text, image", "columns")._replace(lse=None)
    target = joint_target(part := branch(2, 4))
    output = attend(target, call)
    assert torch.equal(
        output,
        F.scaled_dot_product_attention(call.query, call.key, call.value, attn_mask=call.mask),
    )
    assert str(target.failure) == (
        "block.attn attends to text and image together, and its maps need the log-sum-exp over "
        "both, which the attention's kernel did not return. Give an AttentionCall with lse, "
        "float32 (rows, heads, positions)."
    )
    assert not part.high.any() and part.count.item() == 0


@pytest.mark.parametrize("order", ORDERS)
def test_queries_of_a_joint_call_are_the_images(order):
    call = joint_call(order)
    buffer, count = torch.zeros(2, HEADS, PIXELS, DIM), torch.zeros(1, dtype=torch.int32)
    QueryTarget(((buffer, count, 2, 4),)).see(call)
    assert torch.equal(buffer, call.query[2:4, :, call.image]) and count.item() == 1


def test_a_part_of_a_call_is_of_views_and_a_call_without_parts_is_itself():
    call = joint_call("text, image", "positions and columns")
    part = text_attention(call)
    for mine, whole in ((part.query, call.query), (part.key, call.key), (part.mask, call.mask)):
        assert mine is not None and whole is not None
        assert mine.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
    assert part.value is None and part.attended is None and part.image is None
    plain = call._replace(image=None, text=None)
    assert text_attention(plain) is plain and image_queries(plain) is plain.query


class Seen:
    failure: Exception | None = None

    def __init__(self) -> None:
        self.calls: list[AttentionCall] = []

    def see(self, call: AttentionCall) -> None:
        self.calls.append(call)


def test_later_observers_see_output_and_log_sum_exp():
    call, seen = joint_call("text, image")._replace(lse=None), Seen()
    for _ in range(2):
        output = attend(ObserverGroup((joint_target(branch(2, 4)), seen)), call)
    last = seen.calls[-1]
    assert last.attended is output and last.image == call.image and last.text == call.text
    assert last.lse is not None
    torch.testing.assert_close(last.lse, joint_call("text, image").lse)
    assert last.query is call.query and last.key is call.key and last.value is call.value


@torch.no_grad()
def test_the_fused_kernel_is_asked_once_whether_it_serves_a_call(monkeypatch):
    from diffusers_rdaam.kernels import fused, fused_proof

    asked: list[int] = []
    inner = fused.unserved

    def counted(*arguments: Any, **named: Any) -> str | None:
        asked.append(1)
        return inner(*arguments, **named)

    monkeypatch.setattr(fused_proof, "_proved", set())
    monkeypatch.setattr(fused, "unserved", counted)
    query, key, value = (torch.randn(ROWS, HEADS, n, DIM) for n in (PIXELS, TOKENS, TOKENS))
    choice = choose("fused", device=torch.device("cpu"))
    target = Target.of("attn2", (branch(0, ROWS),), choice)
    for calls in (1, 1):
        attend(target, AttentionCall(query, key, value, None, DIM**-0.5))
        # The second call is of a kind that was proved in the first.
        assert len(asked) == calls and choice.used.name == "fused"

"""HiddenColumns: masks of both attention functions, with and without a mask of their own."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import dispatch_attention_fn

from diffusers_rdaam.attention.hidden_columns import HiddenColumns, check_backend
from diffusers_rdaam.errors import InputError

ROWS, HEADS, POSITIONS, COLUMNS = 3, 2, 7, 9


def hidden(**more):
    settings = {
        "columns": torch.tensor([1, 4]),
        "rows": slice(1, 2),
        "queries": slice(2, 5),
        "thread": threading.get_ident(),
    }
    return HiddenColumns(**(settings | more))


def tensors(dispatched):
    generator = torch.Generator().manual_seed(0)
    sizes = (POSITIONS, COLUMNS, COLUMNS)
    made = [torch.randn(ROWS, HEADS, size, 8, generator=generator) for size in sizes]
    return [one.transpose(1, 2) for one in made] if dispatched else made


def wanted(mask=None):
    """In the plainest way: logits of -inf at the columns."""
    query, key, value = tensors(False)
    logits = query @ key.transpose(-1, -2) * 8**-0.5
    if mask is not None:
        logits = logits + mask
    for column in (1, 4):
        logits[1, :, 2:5, column] = -torch.inf
    return logits.softmax(dim=-1) @ value


KINDS = ("none", "boolean", "float")


# A mask of rows by columns is an argument of diffusers' function only.
@pytest.mark.parametrize(
    "dispatched, kind",
    [*((False, kind) for kind in KINDS), *((True, kind) for kind in (*KINDS, "rows"))],
)
def test_the_columns_get_nothing(dispatched, kind):
    allowed = torch.ones(ROWS, 1, 1, COLUMNS, dtype=torch.bool)
    allowed[0, ..., 8] = False
    added = torch.zeros(ROWS, 1, 1, COLUMNS).masked_fill(~allowed, -torch.inf)
    masks = {"none": None, "boolean": allowed, "float": added, "rows": allowed[:, 0, 0]}
    function = dispatch_attention_fn if dispatched else F.scaled_dot_product_attention
    options = hidden().arguments(function, tuple(tensors(dispatched)), {"attn_mask": masks[kind]})
    found = function(**options)
    found = found.transpose(1, 2) if dispatched else found
    assert torch.allclose(found, wanted(None if kind == "none" else added), atol=1e-6)


def test_another_threads_calls_are_not_concerned():
    assert hidden().concerns()
    assert not hidden(thread=threading.get_ident() + 1).concerns()


def test_a_sparse_mask_is_refused():
    given = {"attn_mask": object()}
    with pytest.raises(InputError, match=r"with a sparse mask \(object\).*Use mode='padding'"):
        hidden().arguments(dispatch_attention_fn, tuple(tensors(True)), given)


def test_backends():
    check_backend("native")
    with pytest.raises(InputError, match="'flash' takes no mask, so columns cannot be hidden"):
        check_backend("flash")

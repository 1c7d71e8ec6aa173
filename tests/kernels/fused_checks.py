"""What the tests of the Triton kernels share: inputs in the middle of NaN, and the definition.

The device is the processor with Triton's interpreter, else a GPU.
"""

from __future__ import annotations

import torch

from diffusers_rdaam.kernels import fused
from diffusers_rdaam.kernels.planes import read_planes
from diffusers_rdaam.kernels.reference import attention_probabilities

DEVICE = torch.device("cpu" if fused.interpreted() else "cuda")
# Without a GPU: half precision is what the interpreter multiplies as the tensor cores do.
TYPES = [torch.float32, torch.float16] + [torch.bfloat16] * (DEVICE.type == "cuda")
OUTPUT_ERROR = {torch.float32: 3e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def vectors(rows, heads, count, dim, *, seed, dtype=torch.float32, size=1.5):
    """``(rows, heads, count, dim)`` as diffusers has it, in the middle of NaN."""
    generator = torch.Generator().manual_seed(seed)
    around = torch.full((rows + 2, count + 3, heads, dim), torch.nan)
    drawn = torch.randn(rows, count, heads, dim, generator=generator) * size
    around[1:-1, 1:-2] = drawn
    return around.to(DEVICE, dtype)[1:-1, 1:-2].transpose(1, 2)


def make_planes(*shape):
    """A pair of zeros in the middle of NaN, and a check that the NaN is still there."""
    first, *others = shape
    pair = torch.full((2, first + 2, *others), torch.nan, dtype=torch.float16, device=DEVICE)
    pair[:, 1:-1] = 0.0

    def untouched():
        return bool(pair[:, [0, -1]].isnan().all())

    return pair[0, 1:-1], pair[1, 1:-1], untouched


def added(mask):
    """A boolean mask as one to add."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)


def definition(query, key, *, mask=None, scale):
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    if mask is not None:
        mask = added(mask).double().expand(len(query), -1, -1, -1)
    return attention_probabilities(query.double(), key.double(), mask=mask, scale=scale)


def check_maps(high, low, wanted, *, per_head=False):
    wanted = wanted.mT if per_head else wanted.mean(dim=1).mT
    torch.testing.assert_close(read_planes(high, low), wanted.float(), rtol=2e-5, atol=3e-7)


def check_attend(query, key, value, *, first=0, images=None, mask=None, cut=None):
    rows, heads, positions, dim = query.shape
    scale = dim**-0.5
    images = rows - first if images is None else images
    high, low, untouched = make_planes(images, key.shape[2], positions)
    count = torch.full((1,), 4, dtype=torch.int32, device=DEVICE)
    output = fused.attend(
        query, key, value, high, low, first=first, mask=mask, scale=scale, count=count, cut=cut
    )
    probabilities = definition(query, key, mask=mask, scale=scale)
    values = value.double().repeat_interleave(heads // key.shape[1], dim=1)
    error = (output.double() - probabilities @ values).abs().max()
    assert error <= OUTPUT_ERROR[query.dtype]
    check_maps(high, low, probabilities[first : first + images])
    assert untouched() and int(count) == 5
    assert output.transpose(1, 2).is_contiguous() and output.dtype == query.dtype


def check_maps_only(query, key, *, mask=None, cut=None, per_head=False):
    rows, heads, positions, dim = query.shape
    shape = (rows, heads) if per_head else (rows,)
    high, low, untouched = make_planes(*shape, key.shape[2], positions)
    fused.accumulate(query, key, high, low, mask=mask, scale=dim**-0.5, cut=cut)
    check_maps(high, low, definition(query, key, mask=mask, scale=dim**-0.5), per_head=per_head)
    assert untouched()

"""Triton: functions that the kernels share. Import this only where Triton is installed."""

# Without ``from __future__ import annotations``: Triton reads the annotations of its functions.
import triton
import triton.language as tl

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)
# See diffusers_rdaam.kernels.planes.
REMAINDER_SCALE: tl.constexpr = tl.constexpr(2048.0)


@triton.jit
def load_part(
    start, index, limit, stride, FIRST: tl.constexpr, SIZE: tl.constexpr, DIM: tl.constexpr
):
    """Load channels ``FIRST`` to ``FIRST + SIZE`` of the vectors ``index``; 0 outside of them."""
    channels = FIRST + tl.arange(0, SIZE)
    inside = (index < limit)[:, None]
    if FIRST + SIZE > DIM:
        inside = inside & (channels < DIM)[None, :]
    # Offsets of 32 bits, because registers are few; the launcher refuses rows that span more.
    return tl.load(start + index[:, None] * stride + channels[None, :], mask=inside, other=0.0)


@triton.jit
def dot_products(
    query_main, query_rest, start, columns_at, columns, stride,
    DIM: tl.constexpr, DIM_MAIN: tl.constexpr, DIM_REST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """``query @ key.T`` for the keys ``columns_at``, summed over main and remaining channels."""
    main = load_part(start, columns_at, columns, stride, 0, DIM_MAIN, DIM)
    products = tl.dot(query_main, tl.trans(main), input_precision=PRECISION)
    if DIM_REST:
        rest = load_part(start, columns_at, columns, stride, DIM_MAIN, DIM_REST, DIM)
        products = tl.dot(query_rest, tl.trans(rest), products, input_precision=PRECISION)
    return products


@triton.jit
def add_mask(
    logits, start, here, positions, columns_at, columns, stride_position, stride_column,
    MASK: tl.constexpr,
):  # fmt: skip
    """Apply a mask that is ``"added"``, or ``"chosen"`` where true; -inf after the last column."""
    inside = (here < positions)[:, None] & (columns_at < columns)[None, :]
    # A mask with every head and position is the largest of all tensors: self-attention of a grid of
    # 128x128 has over 2**31 elements.
    rows = here.to(tl.int64)[:, None] * stride_position
    offsets = rows + columns_at.to(tl.int64)[None, :] * stride_column
    found = tl.load(start + offsets, mask=inside, other=0)
    if MASK == "added":
        logits += found.to(tl.float32)
    else:
        logits = tl.where(found != 0, logits, float("-inf"))
    return tl.where((columns_at < columns)[None, :], logits, float("-inf"))


@triton.jit
def add_to_cells(addend, high, low, offsets, inside, PAIR: tl.constexpr):
    """Add to cells of the planes, in the arithmetic of ``diffusers_rdaam.kernels.planes``."""
    total = tl.load(high + offsets, mask=inside, other=0.0).to(tl.float32)
    if PAIR:
        remainder = tl.load(low + offsets, mask=inside, other=0.0).to(tl.float32)
        total += addend + remainder * (1.0 / REMAINDER_SCALE)
        rounded = total.to(tl.float16)
        lost = (total - rounded.to(tl.float32)) * REMAINDER_SCALE
        tl.store(low + offsets, lost.to(tl.float16), mask=inside)
    else:
        rounded = (total + addend).to(tl.float16)
    tl.store(high + offsets, rounded, mask=inside)


@triton.jit
def add_to_planes(
    addend, high, low, columns_at, columns, here, positions, stride, PAIR: tl.constexpr
):
    """Add a block ``(positions, columns)`` to the planes."""
    # Transposed once a block, so that the threads of a warp write to contiguous cells.
    addend = tl.trans(addend)
    inside = (columns_at < columns)[:, None] & (here < positions)[None, :]
    offsets = columns_at.to(tl.int64)[:, None] * stride + here[None, :]
    add_to_cells(addend, high, low, offsets, inside, PAIR)


@triton.jit
def store_vectors(
    vectors, start, here, positions, stride,
    FIRST: tl.constexpr, SIZE: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """Write channels ``FIRST`` to ``FIRST + SIZE`` of the vectors of the positions ``here``."""
    channels = FIRST + tl.arange(0, SIZE)
    inside = (here < positions)[:, None] & (channels < DIM)[None, :]
    pointers = start + here[:, None] * stride + channels[None, :]
    tl.store(pointers, vectors.to(start.dtype.element_ty), mask=inside)

"""Triton: what the kernels share. Import it only where Triton is installed."""

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
    """Channels ``FIRST`` to ``FIRST + SIZE`` of the vectors ``index``, 0 where there are none."""
    channels = FIRST + tl.arange(0, SIZE)
    inside = (index < limit)[:, None]
    if FIRST + SIZE > DIM:
        inside = inside & (channels < DIM)[None, :]
    # Of 32 bits: a head's vectors would take 2**31 elements to need more, and registers are few.
    return tl.load(start + index[:, None] * stride + channels[None, :], mask=inside, other=0.0)


@triton.jit
def dot_products(
    query_main, query_rest, start, columns_at, columns, stride,
    DIM: tl.constexpr, DIM_MAIN: tl.constexpr, DIM_REST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """``query @ key.T`` with the keys ``columns_at``; both by their main and other channels."""
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
    """Logits and their mask: ``"added"``, or ``"chosen"`` where it is true; -inf past the end."""
    inside = (here < positions)[:, None] & (columns_at < columns)[None, :]
    # A mask of every head and position is the largest tensor there is: over 2**31 elements from a
    # grid of 128x128 to itself on.
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
    """Add to cells of the planes, as ``diffusers_rdaam.kernels.planes`` does."""
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
    """Add ``(positions, columns)`` to the planes."""
    # Turned once a block, so that a warp writes neighbours of a row of the planes.
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

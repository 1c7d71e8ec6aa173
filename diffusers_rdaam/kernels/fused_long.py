"""Triton: attention to more columns than fit one tile, in two passes.

The first pass is flash attention and leaves the log-sum-exp of every position. The second computes
the maps of any columns from it, ``P = exp(scale * q.k + mask - lse)``, a tile of positions and
columns at a time, without a probability matrix in memory and without atomics. The text's columns of
joint attention and self-attention need the second pass alone, with the stock kernel's log-sum-exp.
"""

import triton
import triton.language as tl

from diffusers_rdaam.kernels.fused_parts import (
    LOG2E,
    add_mask,
    add_to_planes,
    dot_products,
    load_part,
    store_vectors,
)


@triton.jit
def attend_and_sum(
    query, key, value, output, sums, mask,
    positions, columns, heads, group, factor,
    query_row, query_head, query_position, key_row, key_head, key_column,
    value_row, value_head, value_column, mask_row, mask_head, mask_position, mask_column,
    DIM: tl.constexpr, DIM_MAIN: tl.constexpr, DIM_REST: tl.constexpr, BLOCK: tl.constexpr,
    TILE: tl.constexpr, VECTOR: tl.constexpr, ATTENDS: tl.constexpr, MASK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute the log-sum-exp, and if ``ATTENDS`` the output, of a block of one head's positions.

    Online softmax of Milakov and Gimelshein (2018), as in FlashAttention of Dao et al. (2022).
    """
    head = tl.program_id(1)
    row = tl.program_id(2).to(tl.int64)
    here = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    query_at = query + tl.multiple_of(row * query_row + head * query_head, VECTOR)
    key_at = key + tl.multiple_of(row * key_row + (head // group) * key_head, VECTOR)
    value_at = value + tl.multiple_of(row * value_row + (head // group) * value_head, VECTOR)
    mask_at = mask + row * mask_row + head.to(tl.int64) * mask_head
    query_main = load_part(query_at, here, positions, query_position, 0, DIM_MAIN, DIM)
    query_rest = query_main
    attended = tl.zeros([BLOCK, DIM_MAIN], tl.float32)
    if DIM_REST:
        query_rest = load_part(query_at, here, positions, query_position, DIM_MAIN, DIM_REST, DIM)
        attended_rest = tl.zeros([BLOCK, DIM_REST], tl.float32)
    highest = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    unit: tl.constexpr = LOG2E if MASK != "none" else tl.constexpr(1.0)

    for start in range(0, columns, TILE):
        columns_at = start + tl.arange(0, TILE)
        logits = factor * dot_products(
            query_main, query_rest, key_at, columns_at, columns, key_column,
            DIM, DIM_MAIN, DIM_REST, PRECISION,
        )  # fmt: skip
        if MASK != "none":
            logits = add_mask(
                logits, mask_at, here, positions, columns_at, columns,
                mask_position, mask_column, MASK,
            )  # fmt: skip
        else:
            logits = tl.where((columns_at < columns)[None, :], logits, float("-inf"))
        new = tl.maximum(highest, tl.max(logits, 1))
        base = new
        if MASK != "none":
            base = tl.where(new == float("-inf"), 0.0, new)
        powers = tl.exp2((logits - base[:, None]) * unit)
        shrunk = tl.exp2((highest - base) * unit)
        total = total * shrunk + tl.sum(powers, 1)
        highest = new
        if ATTENDS:
            values = load_part(value_at, columns_at, columns, value_column, 0, DIM_MAIN, DIM)
            attended = tl.dot(
                powers.to(values.dtype), values, attended * shrunk[:, None],
                input_precision=PRECISION,
            )  # fmt: skip
            if DIM_REST:
                values = load_part(
                    value_at, columns_at, columns, value_column, DIM_MAIN, DIM_REST, DIM
                )
                attended_rest = tl.dot(
                    powers.to(values.dtype), values, attended_rest * shrunk[:, None],
                    input_precision=PRECISION,
                )  # fmt: skip

    if MASK != "none":
        # No column may be attended to: the maximum is -inf and so is the log-sum-exp.
        total = tl.where(total > 0.0, total, 1.0)
    sums_at = sums + (row * heads + head) * positions + here
    tl.store(sums_at, (highest * unit + tl.log2(total)) / LOG2E, mask=here < positions)
    if ATTENDS:
        inverse = 1.0 / total
        output_at = output + tl.multiple_of((row * positions * heads + head) * DIM, VECTOR)
        store_vectors(
            attended * inverse[:, None], output_at, here, positions, heads * DIM,
            0, DIM_MAIN, DIM,
        )  # fmt: skip
        if DIM_REST:
            store_vectors(
                attended_rest * inverse[:, None], output_at, here, positions, heads * DIM,
                DIM_MAIN, DIM_REST, DIM,
            )  # fmt: skip


@triton.jit
def add_columns(
    query, key, sums, high, low, count, mask,
    positions, columns, heads, group, factor, weight,
    query_row, query_head, query_position, key_row, key_head, key_column,
    sums_row, sums_head, sums_position, plane_row, plane_head, plane_column,
    mask_row, mask_head, mask_position, mask_column,
    DIM: tl.constexpr, DIM_MAIN: tl.constexpr, DIM_REST: tl.constexpr, BLOCK: tl.constexpr,
    TILE: tl.constexpr, VECTOR: tl.constexpr, MASK: tl.constexpr, PER_HEAD: tl.constexpr,
    PAIR: tl.constexpr, COUNTS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add a tile of positions and columns to one row's maps: the heads' mean, or one head's."""
    here = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    columns_at = tl.program_id(1) * TILE + tl.arange(0, TILE)
    if PER_HEAD:
        row = (tl.program_id(2) // heads).to(tl.int64)
        first = tl.program_id(2) % heads
        stop = first + 1
        plane = row * plane_row + first.to(tl.int64) * plane_head
    else:
        row = tl.program_id(2).to(tl.int64)
        first = 0
        stop = heads
        plane = row * plane_row
    totals = tl.zeros([BLOCK, TILE], tl.float32)
    for head in range(first, stop):
        # Offsets into masks and sums need 64 bits: they may have over 2**31 elements.
        head_long = tl.full([], head, tl.int64)
        query_at = query + tl.multiple_of(row * query_row + head * query_head, VECTOR)
        key_at = key + tl.multiple_of(row * key_row + (head // group) * key_head, VECTOR)
        query_main = load_part(query_at, here, positions, query_position, 0, DIM_MAIN, DIM)
        query_rest = query_main
        if DIM_REST:
            query_rest = load_part(
                query_at, here, positions, query_position, DIM_MAIN, DIM_REST, DIM
            )
        logits = factor * dot_products(
            query_main, query_rest, key_at, columns_at, columns, key_column,
            DIM, DIM_MAIN, DIM_REST, PRECISION,
        )  # fmt: skip
        sums_at = sums + row * sums_row + head_long * sums_head + here.to(tl.int64) * sums_position
        found = tl.load(sums_at, mask=here < positions, other=0.0)
        # A position without any column has -inf, or NaN from some kernels: its maps are 0.
        found = tl.where(found > float("-inf"), found, float("inf"))
        if MASK == "none":
            powers = tl.exp2(logits - (found * LOG2E)[:, None])
        else:
            mask_at = mask + row * mask_row + head_long * mask_head
            logits = add_mask(
                logits, mask_at, here, positions, columns_at, columns,
                mask_position, mask_column, MASK,
            )  # fmt: skip
            powers = tl.exp2((logits - found[:, None]) * LOG2E)
        totals += powers * weight
    add_to_planes(
        totals, high + plane, low + plane, columns_at, columns, here, positions, plane_column, PAIR
    )
    if COUNTS:
        if (tl.program_id(0) + tl.program_id(1) + tl.program_id(2)) == 0:
            tl.store(count, tl.load(count) + 1)

"""Triton: attention to a text whose columns fit one tile, and its maps in the same pass.

A program has a block of image positions of a row. For every head it holds all logits of its block
at once, so the softmax needs no second pass, the output follows as in flash attention, and the
probabilities are summed in registers. Only this program reads and writes its cells of the planes,
once: there are no atomics, and the sums are the same every time.
"""

import triton
import triton.language as tl

from diffusers_rdaam.kernels.fused_parts import (
    LOG2E,
    add_mask,
    add_to_cells,
    add_to_planes,
    dot_products,
    load_part,
    store_vectors,
)


@triton.jit
def _logits(
    query_main, query_rest, key, columns_at, columns, key_column, mask, here, positions,
    mask_position, mask_column, factor, FULL: tl.constexpr, MASK: tl.constexpr,
    DIM: tl.constexpr, DIM_MAIN: tl.constexpr, DIM_REST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    logits = factor * dot_products(
        query_main, query_rest, key, columns_at, columns, key_column,
        DIM, DIM_MAIN, DIM_REST, PRECISION,
    )  # fmt: skip
    if MASK != "none":
        logits = add_mask(
            logits, mask, here, positions, columns_at, columns, mask_position, mask_column, MASK
        )
    elif not FULL:
        logits = tl.where((columns_at < columns)[None, :], logits, float("-inf"))
    return logits


@triton.jit
def _weigh(
    attended, probabilities, value, columns_at, columns, value_column,
    FIRST: tl.constexpr, SIZE: tl.constexpr, DIM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    values = load_part(value, columns_at, columns, value_column, FIRST, SIZE, DIM)
    return tl.dot(probabilities.to(values.dtype), values, attended, input_precision=PRECISION)


@triton.jit
def attend_to_text(
    query, key, value, output, high, low, partial, count, mask,
    positions, columns, heads, group, first, stop, factor, weight,
    query_row, query_head, query_position, key_row, key_head, key_column,
    value_row, value_head, value_column, plane_row, plane_head, plane_column,
    mask_row, mask_head, mask_position, mask_column,
    DIM: tl.constexpr, DIM_MAIN: tl.constexpr, DIM_REST: tl.constexpr,
    COLUMNS_MAIN: tl.constexpr, COLUMNS_REST: tl.constexpr, BLOCK: tl.constexpr,
    SPLITS: tl.constexpr, VECTOR: tl.constexpr, ATTENDS: tl.constexpr, MASK: tl.constexpr,
    PER_HEAD: tl.constexpr, PAIR: tl.constexpr, COUNTS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Serve a block of positions of one row, for all heads or for one of ``SPLITS`` shares.

    ``factor`` is the scale, times log2(e) where there is no mask; ``weight`` is one over the number
    of heads. A size is ``MAIN + REST``, both powers of two: 77 columns take 64 + 16, 40 channels
    32 + 16. ``VECTOR`` divides all strides and addresses, in elements: a head of 40 channels does
    not start at a multiple of 16, and without this hint the compiler loads single elements.
    """
    row = tl.program_id(1) // SPLITS
    if not ATTENDS:
        # The recorded rows alone have programs.
        row += first
    share = tl.program_id(1) % SPLITS
    here = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    main = tl.arange(0, COLUMNS_MAIN)
    totals = tl.zeros([BLOCK, COLUMNS_MAIN], tl.float32)
    if COLUMNS_REST:
        rest = COLUMNS_MAIN + tl.arange(0, COLUMNS_REST)
        totals_rest = tl.zeros([BLOCK, COLUMNS_REST], tl.float32)
    recorded = (row >= first) & (row < stop)
    row_long = row.to(tl.int64)
    image = row_long - first

    for head in range(share * heads // SPLITS, (share + 1) * heads // SPLITS):
        # Offsets into masks and planes need 64 bits, as those of rows do. For queries, keys and
        # values 32 are enough, and registers are few.
        head_long = tl.full([], head, tl.int64)
        query_at = query + tl.multiple_of(row_long * query_row + head * query_head, VECTOR)
        kept = head // group
        key_at = key + tl.multiple_of(row_long * key_row + kept * key_head, VECTOR)
        mask_at = mask + row_long * mask_row + head_long * mask_head
        query_main = load_part(query_at, here, positions, query_position, 0, DIM_MAIN, DIM)
        query_rest = query_main
        if DIM_REST:
            query_rest = load_part(
                query_at, here, positions, query_position, DIM_MAIN, DIM_REST, DIM
            )
        logits = _logits(
            query_main, query_rest, key_at, main, columns, key_column, mask_at, here, positions,
            mask_position, mask_column, factor, COLUMNS_REST > 0, MASK,
            DIM, DIM_MAIN, DIM_REST, PRECISION,
        )  # fmt: skip
        highest = tl.max(logits, 1)
        if COLUMNS_REST:
            logits_rest = _logits(
                query_main, query_rest, key_at, rest, columns, key_column, mask_at, here,
                positions, mask_position, mask_column, factor, False, MASK,
                DIM, DIM_MAIN, DIM_REST, PRECISION,
            )  # fmt: skip
            highest = tl.maximum(highest, tl.max(logits_rest, 1))
        if MASK != "none":
            # Where every column is masked with -inf the differences would be NaN.
            highest = tl.where(highest == float("-inf"), 0.0, highest)
        # A mask's finite minimum would overflow if it were multiplied first.
        unit: tl.constexpr = LOG2E if MASK != "none" else tl.constexpr(1.0)
        powers = tl.exp2((logits - highest[:, None]) * unit)
        total = tl.sum(powers, 1)
        if COLUMNS_REST:
            powers_rest = tl.exp2((logits_rest - highest[:, None]) * unit)
            total += tl.sum(powers_rest, 1)
        if MASK != "none":
            # No column may be attended to: all powers are 0.
            total = tl.where(total > 0.0, total, 1.0)
        inverse = 1.0 / total

        if PER_HEAD:
            plane = image * plane_row + head_long * plane_head
            until = tl.where(recorded, positions, 0)
            add_to_planes(
                powers * inverse[:, None], high + plane, low + plane,
                main, columns, here, until, plane_column, PAIR,
            )  # fmt: skip
            if COLUMNS_REST:
                add_to_planes(
                    powers_rest * inverse[:, None], high + plane, low + plane,
                    rest, columns, here, until, plane_column, PAIR,
                )  # fmt: skip
        else:
            share_of_head = (inverse * weight)[:, None]
            totals += powers * share_of_head
            if COLUMNS_REST:
                totals_rest += powers_rest * share_of_head

        if ATTENDS:
            value_at = value + tl.multiple_of(row_long * value_row + kept * value_head, VECTOR)
            # Written as (rows, positions, heads, channels).
            output_at = output + tl.multiple_of((row_long * positions * heads + head) * DIM, VECTOR)
            attended = tl.zeros([BLOCK, DIM_MAIN], tl.float32)
            attended = _weigh(
                attended, powers, value_at, main, columns, value_column,
                0, DIM_MAIN, DIM, PRECISION,
            )  # fmt: skip
            if COLUMNS_REST:
                attended = _weigh(
                    attended, powers_rest, value_at, rest, columns, value_column,
                    0, DIM_MAIN, DIM, PRECISION,
                )  # fmt: skip
            store_vectors(
                attended * inverse[:, None], output_at, here, positions, heads * DIM,
                0, DIM_MAIN, DIM,
            )  # fmt: skip
            if DIM_REST:
                attended = tl.zeros([BLOCK, DIM_REST], tl.float32)
                attended = _weigh(
                    attended, powers, value_at, main, columns, value_column,
                    DIM_MAIN, DIM_REST, DIM, PRECISION,
                )  # fmt: skip
                if COLUMNS_REST:
                    attended = _weigh(
                        attended, powers_rest, value_at, rest, columns, value_column,
                        DIM_MAIN, DIM_REST, DIM, PRECISION,
                    )  # fmt: skip
                store_vectors(
                    attended * inverse[:, None], output_at, here, positions, heads * DIM,
                    DIM_MAIN, DIM_REST, DIM,
                )  # fmt: skip

    if not PER_HEAD:
        if recorded:
            if SPLITS == 1:
                plane = image * plane_row
                add_to_planes(
                    totals, high + plane, low + plane,
                    main, columns, here, positions, plane_column, PAIR,
                )  # fmt: skip
                if COLUMNS_REST:
                    add_to_planes(
                        totals_rest, high + plane, low + plane,
                        rest, columns, here, positions, plane_column, PAIR,
                    )  # fmt: skip
            else:
                part = partial + (share * (stop - first) + image) * columns * positions
                _store_share(part, totals, main, columns, here, positions)
                if COLUMNS_REST:
                    _store_share(part, totals_rest, rest, columns, here, positions)
    if COUNTS:
        if (tl.program_id(0) == 0) & (tl.program_id(1) == 0):
            tl.store(count, tl.load(count) + 1)


@triton.jit
def _store_share(start, totals, columns_at, columns, here, positions):
    inside = (columns_at < columns)[:, None] & (here < positions)[None, :]
    offsets = columns_at[:, None] * positions + here[None, :]
    tl.store(start + offsets, tl.trans(totals), mask=inside)


@triton.jit
def fold_shares(
    partial, high, low, count, positions, columns, plane_row, plane_column,
    SPLITS: tl.constexpr, PAIR: tl.constexpr, COUNTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add the partial sums of the shares of heads to the planes, always in the same order."""
    cells = columns * positions
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    image = tl.program_id(1).to(tl.int64)
    inside = cell < cells
    addend = tl.zeros([BLOCK], tl.float32)
    for share in tl.static_range(SPLITS):
        start = partial + (share * tl.num_programs(1) + image) * cells
        addend += tl.load(start + cell, mask=inside, other=0.0)
    offsets = image * plane_row + (cell // positions) * plane_column + cell % positions
    add_to_cells(addend, high, low, offsets, inside, PAIR)
    if COUNTS:
        if (tl.program_id(0) == 0) & (tl.program_id(1) == 0):
            tl.store(count, tl.load(count) + 1)

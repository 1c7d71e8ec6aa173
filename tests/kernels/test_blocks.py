"""How the Triton kernels cut their work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusers_rdaam.kernels import blocks
from diffusers_rdaam.kernels.blocks import Split, cover


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        (1, Split(16, 0)),
        (16, Split(16, 0)),
        (17, Split(32, 0)),
        (40, Split(32, 16)),
        (64, Split(64, 0)),
        (77, Split(64, 16)),
        (80, Split(64, 16)),
        (100, Split(128, 0)),
        (154, Split(128, 32)),
        (160, Split(128, 32)),
        (231, Split(256, 0)),
    ],
)
def test_a_size_is_covered_tightly(size, wanted):
    assert cover(size) == wanted


@given(st.integers(1, 5000))
def test_a_cover_is_of_powers_of_two_and_holds_the_size(size):
    found = cover(size)
    whole = max(16, 1 << (size - 1).bit_length())
    assert size <= found.total <= whole
    for part in (found.main, found.rest):
        assert part == 0 or (part >= 16 and part & (part - 1) == 0)
    assert found.rest < found.main


@given(
    rows=st.integers(1, 16),
    positions=st.integers(1, 20000),
    columns=st.integers(1, 256),
    heads=st.integers(1, 40),
    channels=st.integers(1, 160),
    size=st.sampled_from([2, 4]),
    attends=st.booleans(),
)
def test_programs_fill_the_device_as_far_as_there_are_heads(
    rows, positions, columns, heads, channels, size, attends
):
    processors = 132
    cut = blocks.for_text(
        rows, positions, columns, heads, channels, size, processors, attends=attends
    )
    assert 1 <= cut.splits <= heads
    programs = rows * -(-positions // cut.positions)
    assert cut.splits == heads or programs * cut.splits >= blocks.PROGRAMS * processors
    # One share fewer would not have been enough.
    assert cut.splits == 1 or programs * (cut.splits - 1) < blocks.PROGRAMS * processors
    # Blocks are halved before sums of many shares meet.
    assert cut.splits <= blocks.MOST_SHARES or cut.positions == blocks.SMALLEST


def test_no_sums_meet_where_heads_are_apart():
    """So the blocks stay large, whatever number of shares that takes."""
    cut = blocks.for_text(1, 1024, 77, 20, 64, 2, 132, attends=False, per_head=True)
    assert (cut.positions, cut.splits) == (64, 17)


@pytest.mark.parametrize("processors", [108, 132])
@pytest.mark.parametrize(("rows", "attends"), [(1, False), (2, True), (2, False)])
@pytest.mark.parametrize(
    ("positions", "heads", "channels"),
    [(4096, 8, 40), (1024, 8, 80), (4096, 10, 64), (1024, 20, 64)],
)
def test_sizes_of_released_models(positions, heads, channels, rows, attends, processors):
    """At 64x64 and 32x32 of Stable Diffusion 1.5 and SDXL: two programs a multiprocessor."""
    cut = blocks.for_text(rows, positions, 77, heads, channels, 2, processors, attends=attends)
    assert rows * -(-positions // cut.positions) * cut.splits >= 2 * processors
    assert cut.splits <= 5


@pytest.mark.parametrize(
    ("columns", "channels", "size", "fits"),
    [
        (77, 40, 2, True),
        (77, 160, 2, True),
        (77, 200, 2, False),
        (256, 64, 2, True),
        (257, 64, 2, False),
        (256, 160, 2, False),
        (77, 64, 4, True),
        (77, 80, 4, False),
        (128, 40, 4, True),
        (154, 40, 4, False),
    ],
)
def test_what_fits_one_tile(columns, channels, size, fits):
    assert blocks.fits_one_tile(columns, channels, size, attends=True) == fits


@given(columns=st.integers(1, 10000), channels=st.integers(1, 256), size=st.sampled_from([2, 4]))
def test_long_sequences_fit_the_shared_memory(columns, channels, size):
    cut = blocks.for_columns(columns, channels, size)
    loaded = (cut.positions + 2 * cut.stages * cut.columns) * cover(channels).total * size
    assert loaded <= blocks.SHARED_BYTES
    assert min(cut.positions, cut.columns) >= 16

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
def test_shares_of_heads_are_equal_and_fill_the_device(
    rows, positions, columns, heads, channels, size, attends
):
    processors = 132
    cut = blocks.for_text(
        rows, positions, columns, heads, channels, size, processors, attends=attends
    )
    assert heads % cut.splits == 0
    programs = rows * -(-positions // cut.positions) * cut.splits
    assert cut.splits == heads or 4 * programs >= 3 * processors
    # One share fewer would not have been enough.
    fewer = [n for n in range(1, cut.splits) if heads % n == 0]
    assert not fewer or 4 * programs // cut.splits * fewer[-1] < 3 * processors


def test_sizes_of_released_models():
    """Of a guided call on 132 multiprocessors: one program a multiprocessor, nothing shared."""
    largest = blocks.for_text(2, 4096, 77, 8, 40, 2, 132, attends=True)
    assert (largest.positions, largest.splits, largest.stages) == (64, 1, 2)
    assert blocks.for_text(2, 1024, 77, 20, 64, 2, 132, attends=True).splits == 4


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

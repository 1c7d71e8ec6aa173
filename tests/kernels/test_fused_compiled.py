"""The kernels compiled for GPUs that are not there: they fit, and use the matrix units."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed")

# Of compute capability 8.6 and 8.9, the least of those served.
SHARED_BYTES = 99 * 1024


# Bytes that the calls used most keep off the registers: with Triton 3.7 a few, with 3.8 none.
USUAL_STACK = 8 if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 8) else 0

# By compute capability, the instructions of its matrix units.
MATRIX = {89: "mma", 90: "wgmma", 100: "tcgen05", 120: "mma"}


def compile_in_a_process(folder, *arguments):
    """What was compiled there, without the interpreter."""
    root = Path(__file__).parents[2]
    environment = os.environ | {
        "TRITON_INTERPRET": "0",
        "TRITON_CACHE_DIR": str(folder),
        "PYTHONPATH": str(root),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.compilation", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=root,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


CAPABILITIES = [
    pytest.param(capability, id=f"sm_{capability}", marks=pytest.mark.slow)
    for capability in (80, 90)
]


@pytest.fixture(scope="module", params=CAPABILITIES)
def compiled(request, tmp_path_factory):
    """Every kernel of every case."""
    return compile_in_a_process(tmp_path_factory.mktemp("triton"), str(request.param))


@pytest.fixture(scope="module")
def most_used(tmp_path_factory):
    """A guided call of one image at the largest sites, for every other kind of matrix unit too."""
    folder = tmp_path_factory.mktemp("triton")
    return compile_in_a_process(folder, "--one-row", *map(str, MATRIX))


def test_every_kernel_is_compiled(compiled):
    assert {found["kernel"] for found in compiled} == {
        "attend_to_text",
        "fold_shares",
        "attend_and_sum",
        "add_columns",
    }
    assert {found["way"] for found in compiled} == {
        "attend",
        "maps_only",
        "per_head",
        "masked",
        "chosen",
        "columns",
    }


def test_shared_memory_fits_every_gpu_that_is_served(compiled):
    for found in compiled:
        assert found["shared"] <= SHARED_BYTES, found


def test_half_precision_hardly_spills(compiled):
    """Nothing at the sizes that are used most; some bytes with masks, long texts, wide heads."""
    for found in compiled:
        *_, columns, channels, dtype = found["case"]
        if dtype == "float32" or found["kernel"] == "fold_shares":
            continue
        usual = columns == 77 and channels <= 80 and found["way"] in ("attend", "maps_only")
        assert found["stack"] <= (USUAL_STACK if usual else 0 if columns > 256 else 176), found


def test_products_run_on_the_matrix_units(compiled):
    for found in compiled:
        if found["kernel"] == "fold_shares":
            continue
        assert found["mma"] + found["wgmma"] > 0, found
        # Blocks of 64 positions in half precision feed Hopper's own.
        if found["capability"] == 90 and found["block"] >= 64:
            assert found["wgmma"] > 0 and found["mma"] == 0, found


def test_no_element_is_loaded_or_stored_alone(compiled):
    """A head of 40 channels starts at a multiple of 8 elements, which the launcher has to say."""
    for found in compiled:
        *_, channels, dtype = found["case"]
        if dtype != "float32" and channels % 8 == 0 and found["way"] in ("attend", "maps_only"):
            assert found["narrow"] == 0, found


@pytest.mark.slow
def test_the_most_used_call_is_compiled_for_every_architecture(most_used):
    found = {(one["capability"], one["case"][1], one["way"]) for one in most_used}
    wanted = set(product(MATRIX, (8, 10), ("attend one row", "maps_only one row")))
    assert found == wanted | {(90, 8, "uncounted")}


@pytest.mark.slow
def test_the_most_used_call_fits_and_runs_on_the_matrix_units(most_used):
    for found in most_used:
        assert found["shared"] <= SHARED_BYTES and found["narrow"] == 0, found
        assert found["stack"] <= USUAL_STACK, found
        if found["kernel"] == "attend_to_text":
            used = {unit for unit in ("mma", "wgmma", "tcgen05") if found[unit] > 0}
            assert used == {MATRIX[found["capability"]]}, found


@pytest.mark.slow
def test_numbers_that_are_one_are_compiled_in(most_used):
    """Another binary than where several rows are recorded."""
    for found in most_used:
        if found["kernel"] == "attend_to_text":
            assert "first" in found["ones"], found


def test_kernels_are_compiled_with_a_count_and_without(most_used):
    """Where shares of the heads meet, the kernel that adds them counts."""
    calls = {}
    for found in most_used:
        call = (found["capability"], tuple(found["case"]), found["way"])
        calls[call] = calls.get(call, 0) + found["counts"]
    assert len(calls) == 4 * len(MATRIX) + 1
    for (*_, way), counts in calls.items():
        assert counts == (0 if way == "uncounted" else 1), way

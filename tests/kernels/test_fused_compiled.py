"""The kernels compiled for GPUs that are not there: they fit, and use the matrix units."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

# Of compute capability 8.6 and 8.9, the least of those served.
SHARED_BYTES = 99 * 1024


@pytest.fixture(scope="module", params=[80, 90], ids=["sm_80", "sm_90"])
def compiled(request, tmp_path_factory):
    """Every kernel of every case, compiled in a process without the interpreter."""
    root = Path(__file__).parents[2]
    environment = os.environ | {
        "TRITON_INTERPRET": "0",
        "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton")),
        "PYTHONPATH": str(root),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.compilation", str(request.param)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=root,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_kernel_is_compiled(compiled):
    assert {found["kernel"] for found in compiled} == {
        "attend_to_text",
        "fold_shares",
        "attend_and_sum",
        "add_columns",
    }
    assert {found["way"] for found in compiled} == {
        "attend",
        "beside",
        "apart",
        "masked",
        "chosen",
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
        usual = columns == 77 and channels <= 80 and found["way"] in ("attend", "beside")
        assert found["stack"] <= (0 if usual or columns > 256 else 176), found


def test_products_run_on_the_matrix_units(compiled):
    for found in compiled:
        *_, positions, columns, channels, dtype = found["case"]
        if found["kernel"] == "fold_shares":
            continue
        assert found["mma"] + found["wgmma"] > 0, found
        # Blocks of 64 positions in half precision feed Hopper's own.
        large = positions >= 64 and channels <= 128 and columns != 154 and dtype != "float32"
        if found["capability"] == 90 and large:
            assert found["wgmma"] > 0 and found["mma"] == 0, found


def test_no_element_is_loaded_or_stored_alone(compiled):
    """A head of 40 channels starts at a multiple of 8 elements, which the launcher has to say."""
    for found in compiled:
        *_, channels, dtype = found["case"]
        if dtype != "float32" and channels % 8 == 0 and found["way"] in ("attend", "beside"):
            assert found["narrow"] == 0, found

"""The Triton kernels' tests once more, on the GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["test_fused.py", "test_fused_gpu.py", "test_fused_proof.py"])
def test_without_the_interpreter(name):
    """In a process of its own, because Triton interprets or compiles for a whole one."""
    folder = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", folder / name],
        cwd=folder.parents[1],
        # Deterministic mode poisons memory; with the second, cuBLAS runs in it.
        env=os.environ | {"TRITON_INTERPRET": "0", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]

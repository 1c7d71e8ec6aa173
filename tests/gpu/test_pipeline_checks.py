"""Whole pipelines on a device: the checks of the first run on a GPU, on the tests' toy pipeline.

On a processor the same checks run with Triton's interpreter, so that they are known to work where
there is a GPU; what only a device has is then skipped, and named here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import CASES, build, parts_of

from benchmarks.first_gpu.end_to_end import CHECKS
from benchmarks.first_gpu.host import Host
from benchmarks.first_gpu.portable_checks import SETTINGS, check
from diffusers_rdaam.kernels import fused

pytest.importorskip("triton", reason="Triton is not installed")
pytest.importorskip("accelerate", reason="offloading needs accelerate")

INTERPRETED = "interpreted: test_without_the_interpreter runs these"
ON_DEVICE = [
    pytest.mark.gpu,
    pytest.mark.skipif(fused.interpreted() or not torch.cuda.is_available(), reason=INTERPRETED),
]
DEVICES = ["cpu", pytest.param("cuda", marks=ON_DEVICE)]
# What a check cannot see on a processor; of every other row it sees something.
NOT_ON_A_PROCESSOR = {
    "synchronisation": 1,
    "second_device": 1,
    "graph_capture": 1,
    "reduce_overhead": 1,
}


def toy_pipeline(cls: type) -> Any:
    """The tests' smallest pipeline as one of a class, with modules of its own."""
    parts = parts_of(CASES["StableDiffusion"])
    return build(cls, parts, own=parts)


def toy_host(device: str) -> Host:
    """Not square, and small: on a processor Triton's kernels are interpreted."""
    arguments = {"prompt": "a red cat near a house", "height": 32, "width": 48}
    return Host(torch.device(device), toy_pipeline, arguments | {"num_inference_steps": 3})


# On a processor these take ten seconds and more; all of them run on a device.
LONG = ("compiled", "reduce_overhead", "backends")
SHORT = [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in CHECKS]


@pytest.mark.every(3)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", SHORT)
def test_a_pipeline_on_a_device(name: str, device: str):
    if device == "cpu" and fused.interpreted() is False:
        pytest.skip("needs Triton's interpreter")
    rows = list(CHECKS[name](toy_host(device)))
    assert [row for row in rows if row.status == "FAIL"] == []
    unseen = [row for row in rows if row.status == "SKIP"]
    if device == "cpu":
        assert len(unseen) == NOT_ON_A_PROCESSOR.get(name, 0)
    elif not (name == "second_device" and torch.cuda.device_count() < 2):
        assert unseen == []


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_portable_keeps_its_accuracy(setting: str, device: str):
    before = torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32
    rows = list(check(torch.device(device), setting))
    assert len(rows) == 9
    assert [row for row in rows if row.status != "PASS"] == []
    after = torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32
    assert after == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.skipif(not fused.interpreted(), reason="this process does not interpret")
def test_without_the_interpreter():
    """In a process of its own, because Triton interprets or compiles for a whole one."""
    options = ["-p", "no:cacheprovider", "-p", "no:xdist", "-m", "gpu"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, Path(__file__)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]

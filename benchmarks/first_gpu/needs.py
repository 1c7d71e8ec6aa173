"""What a command needs that a machine may not have."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("pytest", "hypothesis", "triton", "diffusers", "accelerate")
SANITIZER = "compute-sanitizer"


def sanitizer() -> str | None:
    """The path of NVIDIA's compute-sanitizer; None where there is none."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    folders = [str(Path(home) / "bin") for home in homes if home]
    return shutil.which(SANITIZER) or shutil.which(SANITIZER, path=os.pathsep.join(folders))


def missing(needs: tuple[str, ...], facts: Mapping[str, str]) -> str:
    """Why a command cannot run here; empty where it can.

    Args:
        needs: ``"cuda"``, ``"compute-sanitizer"``, a package, or ``"benchmark NAME"``.
        facts: of the machine, see :mod:`benchmarks.first_gpu.facts`. Where they could not be found
            out there may be a device, and the command shows what is wrong with it.
    """
    for need in needs:
        if need == "cuda":
            if facts.get("device", "cuda") != "cuda":
                return "torch sees no CUDA device"
        elif need == SANITIZER:
            if sanitizer() is None:
                return f"{SANITIZER} is not on the path, nor in CUDA_HOME"
        elif need.startswith("benchmark "):
            from benchmarks.__main__ import BENCHMARKS

            if need.removeprefix("benchmark ") not in BENCHMARKS:
                return f"there is no {need} in this checkout"
        elif need not in PACKAGES:
            raise ValueError(f"{need!r} is not known as something that a command needs.")
        elif find_spec(need) is None:
            return f"{need} is not installed"
    return ""

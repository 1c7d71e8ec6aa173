"""On what numbers were made: versions and hardware."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import diffusers_rdaam

PACKAGES = ("diffusers", "transformers", "numpy")


def environment(pipe: Any) -> dict[str, str]:
    """The facts by name.

    Args:
        pipe: the pipeline that was asked.
    """
    device = getattr(pipe, "device", torch.device("cpu"))
    return {
        "diffusers_rdaam": diffusers_rdaam.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: _version(name) for name in PACKAGES},
        "processor": _processor(),
        "device": _device(device),
        "threads": str(torch.get_num_threads()),
        "dtype": str(getattr(pipe, "dtype", "unknown")).removeprefix("torch."),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _device(device: Any) -> str:
    if getattr(device, "type", "cpu") == "cuda":
        return torch.cuda.get_device_name(device)
    return str(device)


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

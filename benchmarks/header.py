"""The header above all results: on what, with which versions, of which commit, when."""

from __future__ import annotations

import platform
import shutil
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

VERSIONS = ("triton", "diffusers", "transformers", "numpy")


def header(device: str = "cpu") -> dict[str, str]:
    """The facts by name; the same names on every machine.

    Args:
        device: ``"cpu"`` or ``"cuda"``: where those benchmarks run that can choose.
    """
    threads = torch.get_num_threads()
    return {
        "processor": _processor(),
        "gpu": _gpu(),
        "device": device,
        "threads": f"{threads} of torch",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "none",
        **{name: _version(name) for name in VERSIONS},
        "commit": _commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def markdown_header(facts: dict[str, str]) -> str:
    """The header as one line."""
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    return f"{name} ({len(models) or 'unknown number of'} cores)"


def _gpu() -> str:
    """Name, memory, driver and compute capability of the current CUDA device, or ``"none"``."""
    if not torch.cuda.is_available():
        return "none"
    facts = torch.cuda.get_device_properties(torch.cuda.current_device())
    return (
        f"{facts.name} ({facts.total_memory / 2**30:.0f} GiB, {facts.multi_processor_count} "
        f"multiprocessors, compute capability {facts.major}.{facts.minor}, driver {_driver()})"
    )


def _driver() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = done.stdout.split()
    return found[0] if done.returncode == 0 and found else "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        changed = " with changes" if git("status", "--porcelain", "--", "..") else ""
        return git("rev-parse", "--short", "HEAD") + changed
    except (OSError, subprocess.CalledProcessError):
        return "unknown"

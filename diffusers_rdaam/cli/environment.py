"""``rdaam env``: what a report of a problem should say."""

from __future__ import annotations

import platform
from importlib import metadata

import torch

import diffusers_rdaam
from diffusers_rdaam.cli.report import Report
from diffusers_rdaam.demo.loader import WEIGHTS
from diffusers_rdaam.families.registry import RECORDED
from diffusers_rdaam.kernels.dispatch import choose

_PACKAGES = ("torch", "triton", "diffusers", "transformers", "safetensors", "numpy", "matplotlib")


def describe(report: Report) -> None:
    """Print versions, devices, the kernel that would record, and the embedded model."""
    facts = environment_facts()
    width = max(map(len, facts))
    for name, value in facts.items():
        report.say(f"{name:<{width}}  {value}")
    report.add(**facts)


def environment_facts() -> dict[str, str]:
    """What a report of a problem should say of the machine, by name."""
    facts: dict[str, str] = {
        "diffusers_rdaam": diffusers_rdaam.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    for package in _PACKAGES:
        facts[package] = _version(package)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    facts["device"] = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    choices = {
        "kernel": choose("auto", device=device),
        "fused kernel": choose("fused", device=device),
    }
    facts |= {name: f"{choice.name} ({choice.reason})" for name, choice in choices.items()}
    facts["pipelines"] = (
        f"{len(RECORDED)} classes can be recorded; docs/compatibility.md lists them"
    )
    size = sum(path.stat().st_size for path in WEIGHTS.rglob("*.safetensors"))
    facts["embedded model"] = f"{size / 1e6:.1f} MB of weights" if size else "not installed"
    return facts


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"

"""``rdaam env``: what a report of a problem should say."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from importlib import metadata

import torch

import diffusers_rdaam
from diffusers_rdaam.cli.report import Report
from diffusers_rdaam.demo.loader import WEIGHTS
from diffusers_rdaam.families.refused import REFUSED
from diffusers_rdaam.families.registry import RECORDED
from diffusers_rdaam.kernels.dispatch import choose

_PACKAGES = (
    *("torch", "triton", "diffusers", "transformers", "tokenizers", "accelerate", "safetensors"),
    *("numpy", "einops", "Pillow", "jaxtyping", "typer", "matplotlib"),
)
# Extras of those who work on the package itself.
_INTERNAL_EXTRAS = ("dev",)


def describe(report: Report, *, pipelines: bool = False) -> None:
    """Print versions, devices, the kernel that would record, and the embedded model.

    Args:
        report: takes them.
        pipelines: list every class of diffusers that can be recorded, and why others cannot.
    """
    facts = environment_facts()
    width = max(map(len, facts))
    for name, value in facts.items():
        report.say(f"{name:<{width}}  {value}")
    report.add(**facts)
    if pipelines:
        report.say("\n".join(["", "Recorded:", *(f"  {name}" for name in sorted(RECORDED))]))
        refused = (f"  {name}: {reason}" for name, reason in sorted(REFUSED.items()))
        report.say("\n".join(["", "Not recorded:", *refused]))
        report.add(recorded=sorted(RECORDED), refused=dict(sorted(REFUSED.items())))


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
    facts["extras"] = extras_text(_requirements())
    facts["pipelines"] = (
        f"{len(RECORDED)} classes can be recorded; rdaam env --pipelines lists them"
    )
    size = sum(path.stat().st_size for path in WEIGHTS.rglob("*.safetensors"))
    facts["embedded model"] = f"{size / 1e6:.1f} MB of weights" if size else "not installed"
    return facts


def _requirements() -> list[str]:
    """What the installed package declares; nothing where it only lies on the path."""
    try:
        return metadata.requires("diffusers_rdaam") or []
    except metadata.PackageNotFoundError:
        return []


def extras_text(requirements: Iterable[str]) -> str:
    """Which extras are installed, of those that a package's requirements name.

    Args:
        requirements: as package metadata has them, ``"gradio<7; extra == 'app'"``.
    """
    libraries: dict[str, list[str]] = {}
    for requirement in requirements:
        found = re.match(r"([\w.-]+).*extra == ['\"]([\w-]+)['\"]", requirement)
        if found is not None and found[2] not in _INTERNAL_EXTRAS:
            libraries.setdefault(found[2], []).append(found[1])
    if not libraries:
        return "unknown: the package is on the path, and not installed"
    there = [name for name, all_of in sorted(libraries.items()) if all(map(_is_there, all_of))]
    absent = sorted(libraries.keys() - set(there))
    return f"{', '.join(there) or 'none'} (not installed: {', '.join(absent) or 'none'})"


def _is_there(package: str) -> bool:
    return _version(package) != "not installed"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"

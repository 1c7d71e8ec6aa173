"""Whole UNet calls at full size, stock against recorded: gigabytes, and minutes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from benchmarks.report import Row, equality
from benchmarks.sizes import Model, fill_with_noise, unet_without_memory
from benchmarks.timing import Sample, interleaved
from diffusers_rdaam.recording.families.unet import UNetFamily
from diffusers_rdaam.recording.processor import RDAAMProcessor
from diffusers_rdaam.recording.recorder import Recorder
from diffusers_rdaam.recording.sites import Site, install

# The rows of a guided call: unconditional, conditional.
ROWS = 2
# Beside the weights: activations, and what the libraries take.
SPARE_BYTES = 2e9


def whole_unet(benchmark: str, model: Model, *, rounds: int) -> list[Row]:
    """Calls with all weights in fp32; skipped where the memory is not free."""
    unet = unet_without_memory(model)
    parameters = sum(parameter.numel() for parameter in unet.parameters())
    what = (
        f"whole UNet call, {parameters / 1e6:.0f} million parameters, fp32, same input, "
        f"{rounds} {'round' if rounds == 1 else 'rounds'}"
    )
    needed, free = 4 * parameters + SPARE_BYTES, _free_bytes()
    if free is not None and free < needed:
        measured = f"{needed / 1e9:.0f} GB of memory needed, {free / 1e9:.0f} GB free"
        return [Row(benchmark, what, measured, status="SKIP")]
    fill_with_noise(unet)
    return _calls(benchmark, model, unet, what, rounds)


def _calls(benchmark: str, model: Model, unet: Any, what: str, rounds: int) -> list[Row]:
    family, template = UNetFamily(), RDAAMProcessor()
    sites = family.sites(unet)
    install(sites, template)
    pipe = SimpleNamespace(unet=unet, do_classifier_free_guidance=True, _num_timesteps=rounds)
    inputs = model.inputs(ROWS)
    outputs: dict[str, Tensor] = {}
    inside: dict[str, list[float]] = {"stock": [], "recorded": []}

    def stock() -> None:
        with _stock_processors(sites), _clocked(sites, inside["stock"]):
            outputs["stock"] = unet(**inputs).sample

    def recorded() -> None:
        with Recorder(pipe, family, template), _clocked(sites, inside["recorded"]):
            outputs["recorded"] = unet(**inputs).sample

    with torch.no_grad():
        # No warm-up: a call takes long enough to drown what only the first one pays.
        taken = interleaved({"stock": stock, "recorded": recorded}, rounds=rounds, warm_up=False)
    modules = {name: Sample(tuple(seconds)) for name, seconds in inside.items()}
    return [
        Row(benchmark, what, _against(taken)),
        Row(benchmark, f"of this, inside the {len(sites)} attn2 modules", _against(modules)),
        equality(
            benchmark,
            "its output, recorded against stock",
            torch.equal(outputs["stock"], outputs["recorded"]),
        ),
    ]


def _against(taken: dict[str, Sample]) -> str:
    stock, recorded = taken["stock"], taken["recorded"]
    ratio, low, high = recorded.over(stock)
    span = "" if low == high else f" ({low:.3f} to {high:.3f})"
    return f"stock {stock.text('s')}, recorded {recorded.text('s')}, ratio {ratio:.3f}{span}"


@contextmanager
def _clocked(sites: tuple[Site, ...], seconds: list[float]) -> Iterator[None]:
    """Append the CPU seconds that all sites' modules took together."""
    total = 0.0

    def start(*unused: Any) -> None:
        nonlocal total
        total -= time.thread_time()

    def stop(*unused: Any) -> None:
        nonlocal total
        total += time.thread_time()

    handles = [site.module.register_forward_pre_hook(start) for site in sites]
    handles += [site.module.register_forward_hook(stop) for site in sites]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    seconds.append(total)


@contextmanager
def _stock_processors(sites: tuple[Site, ...]) -> Iterator[None]:
    before = [site.processor for site in sites]
    for site in sites:
        site.module.processor = AttnProcessor2_0()
    try:
        yield
    finally:
        for site, processor in zip(sites, before, strict=True):
            site.module.processor = processor


def _free_bytes() -> int | None:
    """Memory that can be had without swapping, where the system tells."""
    information = Path("/proc/meminfo")
    if not information.is_file():
        return None
    lines = information.read_text().splitlines()
    kibibytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kibibytes[0]) * 1024 if kibibytes else None

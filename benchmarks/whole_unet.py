"""Whole UNet calls at full size, stock against recorded: gigabytes, and minutes on a processor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn

from benchmarks.report import Row, equality, judged
from benchmarks.sizes import Model, fill_with_noise, unet_without_memory
from benchmarks.systems.memory_use import free_bytes
from benchmarks.timing import Sample, interleaved
from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.families.unet import UNetFamily
from diffusers_rdaam.recording.recorder import Recorder

# The rows of a guided call: unconditional, conditional.
ROWS = 2
# Beside the weights: activations, and what the libraries take.
SPARE_BYTES = 2e9
STOCK = "stock"
# The same as stock: what its ratio to stock strays from 1 is noise.
CONTROL = "stock again"


class WholeUNet:
    """A UNet with all its weights, random, and an input; called stock and recorded.

    Args:
        unet: without memory; gets it here.
        model: whose it is.
        templates: of the recorded calls, by name.
        device: ``"cpu"`` or ``"cuda"``.
        dtype: of weights and input.
        calls: of the denoiser in one run.
    """

    def __init__(
        self,
        unet: Any,
        model: Model,
        templates: Mapping[str, RDAAMProcessor],
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        calls: int = 1,
    ) -> None:
        # Not the model's own method, which warns of modules to keep in float32: it has none.
        self.unet = fill_with_noise(nn.Module.to(unet, dtype), device)
        self.inputs = _moved(model.inputs(ROWS), device, dtype)
        self.calls = calls
        self.family = UNetFamily()
        self.sites = self.family.sites(self.unet)
        self.templates = templates
        self.processors: dict[str, list[Any]] = {STOCK: [AttnProcessor2_0() for _ in self.sites]}
        for name, template in templates.items():
            self.processors[name] = [template.bind(site.name) for site in self.sites]
        self.pipe = SimpleNamespace(
            unet=self.unet, do_classifier_free_guidance=True, _num_timesteps=calls
        )
        self.outputs: dict[str, Tensor] = {}
        # CPU seconds inside of the text attention, of every run.
        self.inside: dict[str, list[float]] = {}
        # Bytes of the planes and counts of a recorded run, by name.
        self.kept: dict[str, int] = {}

    def runs(self) -> dict[str, Callable[[], None]]:
        """What makes one run, by name; the first is the stock one."""
        return {name: partial(self.run, name) for name in (STOCK, *self.templates)}

    def run(self, name: str) -> None:
        """Call the denoiser as often as a run does, with the processors of that name.

        Those without a template do not record.
        """
        self.install(name)
        with torch.no_grad(), _clocked(self.sites, self.inside.setdefault(name, [])):
            if name not in self.templates:
                self._call(name)
                return
            with Recorder(self.pipe, self.family, self.templates[name].options) as recorder:
                self._call(name)
            if recorder.calls != self.calls:
                raise RuntimeError(f"{recorder.calls} of {self.calls} calls were recorded.")
            self.kept[name] = recorder.buffers.nbytes

    def _call(self, name: str) -> None:
        for _ in range(self.calls):
            self.outputs[name] = self.unet(**self.inputs).sample

    def install(self, name: str) -> None:
        """Give the sites the processors of that name."""
        for site, processor in zip(self.sites, self.processors[name], strict=True):
            site.module.processor = processor


def whole_unet(
    benchmark: str, model: Model, *, rounds: int, goal: float | None = None
) -> list[Row]:
    """Calls with all weights in fp32 on the processor; skipped where the memory is not free.

    Args:
        benchmark: the rows' name.
        model: whose UNet.
        rounds: calls of each kind.
        goal: the ratio to stock at most.
    """
    unet = unet_without_memory(model)
    counted = f"{rounds} {'round' if rounds == 1 else 'rounds'}"
    what = f"whole UNet call, {size_text(unet)}, fp32, same input, {counted}"
    missing = memory_missing(unet, torch.float32, "cpu")
    if missing:
        return [Row(benchmark, what, missing, status="SKIP")]
    whole = WholeUNet(unet, model, {"recorded": RDAAMProcessor()})
    runs = whole.runs()
    if rounds > 1:
        whole.processors[CONTROL] = whole.processors[STOCK]
        runs[CONTROL] = partial(whole.run, CONTROL)
    # No warm-up: a call takes long enough to drown what only the first one pays.
    taken = interleaved(runs, rounds=rounds, warm_up=False)
    inside = {name: Sample(tuple(seconds)) for name, seconds in whole.inside.items()}
    equal = torch.equal(whole.outputs[STOCK], whole.outputs["recorded"])
    control = "the same without recording: the noise of that ratio"
    return [
        against_stock(benchmark, what, taken, "recorded", goal),
        *([against_stock(benchmark, control, taken, CONTROL)] if CONTROL in taken else []),
        against_stock(
            benchmark, f"of this, inside the {len(whole.sites)} attn2 modules", inside, "recorded"
        ),
        equality(benchmark, "its output, recorded against stock", equal),
    ]


def against_stock(
    benchmark: str, what: str, taken: Mapping[str, Sample], name: str, goal: float | None = None
) -> Row:
    """Both times and their ratio; judged by the median of the ratios."""
    stock, recorded = taken[STOCK], taken[name]
    ratio, low, high = recorded.over(stock)
    span = "" if low == high else f" ({low:.3f} to {high:.3f})"
    measured = f"stock {stock.text('s')}, {name} {recorded.text('s')}, ratio {ratio:.3f}{span}"
    if goal is None:
        return Row(benchmark, what, measured)
    return judged(benchmark, what, measured, f"at most {goal:g}", ratio <= goal)


def size_text(unet: Any) -> str:
    """``"860 million parameters"``."""
    count = sum(parameter.numel() for parameter in unet.parameters())
    return f"{count / 1e6:.0f} million parameters"


def memory_missing(unet: Any, dtype: torch.dtype, device: str) -> str:
    """What is needed and what is free, where that is less; else an empty text."""
    weights = dtype.itemsize * sum(parameter.numel() for parameter in unet.parameters())
    needed, free = weights + SPARE_BYTES, free_bytes(device)
    if free is None or free >= needed:
        return ""
    return f"{needed / 1e9:.0f} GB of memory needed, {free / 1e9:.0f} GB free"


def _moved(inputs: Any, device: str, dtype: torch.dtype) -> Any:
    """Tensors on the device, those of floats in the type; dictionaries likewise."""
    if isinstance(inputs, dict):
        return {name: _moved(value, device, dtype) for name, value in inputs.items()}
    return inputs.to(device, dtype if inputs.is_floating_point() else inputs.dtype)


@contextmanager
def _clocked(sites: tuple[Site, ...], seconds: list[float]) -> Iterator[None]:
    """Append the CPU seconds that all sites' modules took together; nothing off the processor."""
    if next(sites[0].module.parameters()).device.type != "cpu":
        yield
        return
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

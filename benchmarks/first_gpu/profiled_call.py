"""One recorded UNet call as torch's profiler sees it, as ``python -m …profiled_call`` runs it.

The second call of a run: the first one has chosen, proved and compiled the kernels. The stock call
is profiled beside it, because a wait that it has as well is not recording's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.first_gpu.scripts import run_checks
from benchmarks.report import Row, judged
from benchmarks.sizes import SD15, SDXL, Model, unet_without_memory
from benchmarks.whole_unet import STOCK, WholeUNet, memory_missing
from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.recording.recorder import Recorder

NAME = "profile"
MODELS = {model.name: model for model in (SD15, SDXL)}
BACKEND = "maps_only"
RECORDING, SHARING = "attend_to_text", "fold_shares"
COPY, WAIT = "Memcpy DtoH", "cudaStreamSynchronize"


@dataclass(frozen=True)
class Profile:
    """What one call put on the device, and waited for.

    Args:
        launches: of the recording kernels, by name.
        seconds: of the device in these, by name.
        device_seconds: in all kernels.
        copies: from the device to the host.
        waits: for a stream.
    """

    launches: dict[str, int]
    seconds: dict[str, float]
    device_seconds: float
    copies: int
    waits: int


def read(events: Iterable[Any]) -> Profile:
    """Count a profiler's events.

    Args:
        events: each with ``name``, ``device_type`` and ``device_time`` in microseconds.
    """
    launches = dict.fromkeys((RECORDING, SHARING), 0)
    seconds = dict.fromkeys(launches, 0.0)
    total, copies, waits = 0.0, 0, 0
    for event in events:
        if event.device_type != DeviceType.CUDA:
            waits += event.name == WAIT
            continue
        total += event.device_time * 1e-6
        copies += event.name.startswith(COPY)
        for name in launches:
            if event.name.startswith(name):
                launches[name] += 1
                seconds[name] += event.device_time * 1e-6
    return Profile(launches, seconds, total, copies, waits)


def profiled(whole: WholeUNet, name: str, device: str) -> Profile:
    """The second call of a run with the processors of that name."""
    activities = [ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    for site, processor in zip(whole.sites, whole.processors[name], strict=True):
        site.module.processor = processor

    def call_twice() -> Profile:
        whole.unet(**whole.inputs)
        _wait(device)
        with profile(activities=activities) as seen:
            whole.unet(**whole.inputs)
        return read(seen.events())

    with torch.no_grad():
        if name == STOCK:
            return call_twice()
        with Recorder(whole.pipe, whole.family, whole.templates[name].options) as recorder:
            found = call_twice()
        if recorder.calls != 2:
            raise RuntimeError(f"{recorder.calls} of 2 calls were recorded.")
        return found


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def rows(model: str, sites: int, stock: Profile, recorded: Profile) -> Iterator[Row]:
    """What recording adds to the stock call."""
    what = f"{model}, one guided call, {BACKEND!r}"
    launched = recorded.launches[RECORDING]
    yield judged(
        NAME, f"{what}, launches of {RECORDING}", f"{launched}", f"{sites}", launched == sites
    )
    yield Row(NAME, f"{what}, launches of {SHARING}", f"{recorded.launches[SHARING]}")
    ours = sum(recorded.seconds.values())
    measured = f"{ours * 1e3:.3f} ms of {recorded.device_seconds * 1e3:.2f} ms in all kernels"
    yield Row(NAME, f"{what}, device time of the recording kernels", measured)
    for kind, name in (("copies", COPY), ("waits", WAIT)):
        found, before = getattr(recorded, kind), getattr(stock, kind)
        measured = f"{found}, stock {before}"
        yield judged(NAME, f"{what}, {name}", measured, "no more than stock", found <= before)


def check(device: str, model: Model) -> Iterator[Row]:
    """The rows of one model's whole UNet with random weights in fp16; or why there are none."""
    what = f"{model.name}, one guided call, {BACKEND!r}"
    if device != "cuda":
        yield Row(NAME, what, "there is no CUDA device", status="SKIP")
        return
    choice = choose(BACKEND, device=torch.device(device))
    if choice.name != BACKEND:
        yield Row(NAME, what, choice.reason, status="SKIP")
        return
    unet = unet_without_memory(model)
    if reason := memory_missing(unet, torch.float16, device):
        yield Row(NAME, what, reason, status="SKIP")
        return
    templates = {BACKEND: RDAAMProcessor(backend=BACKEND)}
    whole = WholeUNet(unet, model, templates, device=device, dtype=torch.float16, calls=2)
    stock, recorded = (profiled(whole, name, device) for name in (STOCK, BACKEND))
    yield from rows(model.name, len(whole.sites), stock, recorded)


def main(arguments: list[str]) -> int:
    """The named models' rows, or all; exit status 1 where one is not as it should be."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_gpu.profiled_call", description=__doc__
    )
    parser.add_argument("models", nargs="*", metavar="model", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.models if name not in MODELS]
    if unknown:
        parser.error(f"{unknown[0]!r} is not a model. Models: {', '.join(MODELS)}.")
    chosen = given.models or MODELS
    checks = {name: partial(check, given.device, MODELS[name]) for name in chosen}
    return run_checks(NAME, checks, given.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

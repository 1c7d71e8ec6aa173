"""A recorded pipeline against the stock one on a device: images, maps, and what is told of both.

Each check takes a :class:`~benchmarks.first_gpu.host.Host` and yields rows, so that the same code
runs from a command and in tests, on a GPU and on a processor. What cannot run there is a row that
says why.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.first_gpu.host import Host, told, used
from benchmarks.first_gpu.steps import SECOND_RUN
from benchmarks.report import Row, equality, judged
from diffusers_rdaam.errors import NoAttributionError
from diffusers_rdaam.kernels import fused

NAME = "end to end"
# Of maps that are means of probabilities. Two planes of half precision keep 22 bits.
GOAL_MAPS = 1e-4
# Where the image differs by rounding, its later steps attend from other latents.
GOAL_MAPS_ROUNDED = 1e-3
# The largest of many differences scatters: what two stock kernels differ by, and half as much.
SCATTER = 1.5
Check = Callable[[Host], Iterator[Row]]
Prepare = Callable[[Any], Any]
Around = Callable[[], AbstractContextManager[Any]]


def skipped(what: str, reason: str, goal: str = "") -> Row:
    """A row of what could not run."""
    return Row(NAME, what, reason, goal, "SKIP")


def check_backends(host: Host) -> Iterator[Row]:
    """Each backend's image and maps; the fused one's image beside two stock kernels' difference."""
    stock = host.generate(host.stock().to(host.device)).images
    again = host.generate(host.stock().to(host.device)).images
    # Where this differs, no other image can be equal, and the device's libraries are why.
    yield equality(NAME, "image, stock twice", np.array_equal(stock, again))
    reference = host.generate(host.recorded("reference").to(host.device))
    yield equality(NAME, "image, reference", np.array_equal(stock, reference.images))
    for backend in ("auto", "portable", "maps_only"):
        if backend == "maps_only" and (why := fused.unavailable(host.device)):
            yield skipped("image and maps, maps_only", why)
            continue
        output = host.generate(host.recorded(backend).to(host.device))
        yield equality(NAME, f"image, {backend}", np.array_equal(stock, output.images))
        yield maps_row(backend, output, reference)
    yield from _fused(host, stock, reference)


def _fused(host: Host, stock: Any, reference: Any) -> Iterator[Row]:
    if why := fused.unavailable(host.device):
        yield skipped("image and maps, fused", why)
        return
    output = host.generate(host.recorded("fused").to(host.device))
    with sdpa_kernel(SDPBackend.MATH):
        other = host.generate(host.stock().to(host.device)).images
    found, between = (float(np.abs(image - stock).max()) for image in (output.images, other))
    yield judged(
        NAME,
        "image, fused against stock",
        f"{found:.1e} at most; two stock kernels: {between:.1e}",
        f"at most {SCATTER:g} times two stock kernels'",
        found <= SCATTER * between,
    )
    yield maps_row("fused", output, reference, GOAL_MAPS_ROUNDED)


def check_processors(host: Host) -> Iterator[Row]:
    """What processors say of the kernel that they used, by each backend."""
    for backend in ("auto", "portable", "maps_only", "fused"):
        wanted = host.taken if backend == "auto" else backend
        if backend in ("maps_only", "fused") and (why := fused.unavailable(host.device)):
            yield skipped(f"kernel used, {backend}", why)
            continue
        pipe = host.recorded(backend).to(host.device)
        host.generate(pipe)
        right = all(f"used {wanted}: " in text for text in told(pipe))
        names = ", ".join(f"{name} ({reason})" for name, reason in sorted(used(pipe)))
        yield judged(NAME, f"kernel used, {backend}", names, f"{wanted} at every site", right)


def maps_row(what: str, output: Any, reference: Any, goal: float = GOAL_MAPS) -> Row:
    """How far maps of all images are from the reference's, over all cells, and their counts."""
    text, wanted = f"maps, {what} against reference", f"at most {goal:g}"
    if not output.attributions or not reference.attributions:
        why = next(_why_none(run) for run in (output, reference) if not run.attributions)
        return judged(NAME, text, f"not recorded: {why}", wanted, False)
    pairs = [
        (one, other)
        for ours, theirs in zip(output.attributions, reference.attributions, strict=True)
        for one, other in zip(ours.grids, theirs.grids, strict=True)
    ]
    difference = max(float((one.maps - other.maps).abs().max()) for one, other in pairs)
    counted = all(one.additions == other.additions for one, other in pairs)
    finite = all(bool(one.maps.isfinite().all()) for one, _ in pairs)
    more = "" if counted else "; additions differ"
    measured = f"{difference:.1e} at most{more}"
    met = difference <= goal and counted and finite
    return judged(NAME, text, measured, wanted, met)


def _why_none(output: Any) -> str:
    try:
        return f"{len(output.attribution.grids)} grids"
    except NoAttributionError as error:
        return str(error)


def against_stock(
    host: Host,
    what: str,
    *,
    dtype: torch.dtype = torch.float32,
    prepare: Prepare | None = None,
    around: Around = contextlib.nullcontext,
    **call: Any,
) -> Iterator[Row]:
    """The default backend under a condition, against stock and the reference under the same.

    Args:
        host: where.
        what: the condition.
        dtype: of the models.
        prepare: what is done to a pipeline before its run; it is moved to the device if not given.
        around: what a run happens in.
        call: arguments of the pipeline that differ.
    """
    prepare = prepare or (lambda pipe: pipe.to(host.device))
    outputs = []
    for pipe in (
        host.stock(dtype),
        host.recorded("auto", dtype),
        host.recorded("reference", dtype),
    ):
        prepare(pipe)
        with around():
            outputs.append(host.generate(pipe, **call))
    stock, output, reference = outputs
    yield equality(NAME, f"image, {what}", np.array_equal(stock.images, output.images))
    yield maps_row(what, output, reference)


def check_offload(host: Host) -> Iterator[Row]:
    """Models on the device only while they are used."""
    return against_stock(host, "model offload", prepare=host.offload)


def check_inference_mode(host: Host) -> Iterator[Row]:
    """In ``torch.inference_mode``."""
    return against_stock(host, "inference mode", around=torch.inference_mode)


def check_bfloat16(host: Host) -> Iterator[Row]:
    """All models in bfloat16."""
    return against_stock(host, "bfloat16", dtype=torch.bfloat16)


def check_four_images(host: Host) -> Iterator[Row]:
    """Four images of one prompt."""
    return against_stock(host, "four images", num_images_per_prompt=4)


def check_second_device(host: Host) -> Iterator[Row]:
    """On another device than the current one."""
    if host.device.type != "cuda" or torch.cuda.device_count() < 2:
        yield skipped("second device", "there is no second CUDA device")
        return
    other = Host(torch.device("cuda", 1), host.load, host.arguments, host.seed)
    yield from against_stock(other, "second device")


def check_compiled(host: Host, mode: str = "default") -> Iterator[Row]:
    """A compiled UNet, twice: nothing is compiled or captured again in the second run."""
    options = host.compile_options[mode]
    what = f"compiled, {mode}"
    pipes = [pipe.to(host.device) for pipe in (host.stock(), host.recorded("auto"))]
    images = []
    for pipe in pipes:
        torch.compiler.reset()
        torch._dynamo.utils.counters.clear()
        pipe.unet.compile(fullgraph=True, **options)
        host.generate(pipe)
        # What is logged from here on is of code that should be ready.
        print(SECOND_RUN, file=sys.stderr, flush=True)
        with torch.compiler.set_stance("fail_on_recompile"):
            output = host.generate(pipe)
        images.append(output.images)
    counters = {name: dict(found) for name, found in torch._dynamo.utils.counters.items()}
    torch.compiler.reset()
    reference = host.generate(host.recorded("reference").to(host.device))
    yield equality(NAME, f"image, {what}, second run", np.array_equal(*images))
    yield maps_row(f"{what}, second run", output, reference, GOAL_MAPS_ROUNDED)
    graphs = counters["stats"]["unique_graphs"]
    yield judged(NAME, f"graphs, {what}", f"{graphs}", "1", graphs == 1)
    if mode == "default":
        return
    if host.device.type != "cuda":
        yield skipped(f"CUDA graphs, {what}", "there is no CUDA device")
        return
    left = counters.get("inductor", {}).get("cudagraph_skips", 0)
    yield judged(NAME, f"CUDA graphs skipped, {what}", f"{left}", "0", left == 0)


def check_reduce_overhead(host: Host) -> Iterator[Row]:
    """The same with CUDA graphs."""
    return check_compiled(host, "reduce-overhead")

"""examine: does recording tell the truth, and what does it cost, with this model on this device."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusers_rdaam.attention.options import RecordingOptions
from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.video import VideoAttribution
from diffusers_rdaam.checkpoints.failures import run_error
from diffusers_rdaam.diagnosis.call_inputs import CallInputs
from diffusers_rdaam.diagnosis.first_run import FailedRun, first_run, tiling_as_it_was
from diffusers_rdaam.diagnosis.site_oracle import SiteOracle, SiteSums
from diffusers_rdaam.errors import NoAttributionError, NotRecordedWarning
from diffusers_rdaam.families import family_of, sites_of
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.pipelines.record_attention import record_attention

# Sites and positions that are compared: enough to meet every kind of site, in seconds.
SITES, POSITIONS = 6, 64
# Of probabilities, by the type of the denoiser's weights: kernels may round to it on their way.
LARGEST_ERRORS = {torch.float32: 1e-4, torch.float64: 1e-4}
LARGEST_ERROR = 1e-3
# Memory is no concern of a run that compares maps layer by layer.
_BUDGET = 1 << 34


@dataclass(frozen=True)
class SiteError:
    """How far a site's recorded maps are from the float64 ones.

    Args:
        name: the attention module.
        largest: of the absolute differences of probabilities.
        mean: of the absolute differences.
        compared: how many probabilities.
    """

    name: str
    largest: float
    mean: float
    compared: int


@dataclass(frozen=True)
class Examination:
    """What :func:`examine` measured.

    Args:
        pipeline, denoiser, attention: what was examined, ``"joint"`` or ``"cross"`` attention.
        device, dtype: where the denoiser is, and its type.
        kernel, why: what recorded, and why this one.
        image: height and width.
        steps: of a run.
        is_identical: whether the recorded run's image equals the stock one in every bit; None
            where two stock runs of one seed differ themselves.
        sites: the comparison at the sampled sites.
        unseen: sites whose attention could not be computed a second time, and why.
        stock_seconds, recorded_seconds: medians of runs that took turns.
        stock_peak, recorded_peak: the most bytes of the device's memory in a run; 0 on a CPU.
        reason: why there is no attribution; empty where there is one.
        tolerance: the largest absolute error of a probability that is taken for rounding.
        words: mean attention probability of each word of the prompt over the image.
        is_finite: whether every value of the stock image is.
        inputs: the pictures and other arguments that were built for the runs, in words; empty
            where the call needs no more than a prompt, or the user gave what it needs.
        left_out: the pictures that the call takes as well, and was not given.
    """

    pipeline: str
    denoiser: str
    attention: str
    device: str
    dtype: str
    kernel: str
    why: str
    image: tuple[int, int]
    steps: int
    is_identical: bool | None
    sites: tuple[SiteError, ...]
    unseen: str = ""
    stock_seconds: float = 0.0
    recorded_seconds: float = 0.0
    stock_peak: int = 0
    recorded_peak: int = 0
    reason: str = ""
    tolerance: float = LARGEST_ERROR
    words: dict[str, float] = field(default_factory=dict)
    is_finite: bool = True
    inputs: str = ""
    left_out: str = ""

    @property
    def largest_error(self) -> float:
        """Of all sites; NaN where none was compared."""
        # The builtin max passes over a NaN that is not the first.
        return float(np.max([site.largest for site in self.sites])) if self.sites else float("nan")

    @property
    def are_maps_right(self) -> bool | None:
        """Whether every compared site is right; None where nothing could be compared."""
        if self.is_identical is None or not self.sites:
            return None
        return self.largest_error <= self.tolerance

    @property
    def is_whole(self) -> bool:
        """Whether image and maps were compared, at every sampled site."""
        return self.is_identical is not None and bool(self.sites) and not self.unseen

    @property
    def passed(self) -> bool:
        """Whether nothing that was compared is wrong, and there is an attribution."""
        return (
            not self.reason
            and self.is_finite
            and self.is_identical is not False
            and self.are_maps_right is not False
        )


def examine(
    pipe: Any,
    *,
    prompt: str = "a red circle and a blue square",
    steps: int = 2,
    seed: int = 0,
    rounds: int = 3,
    **call: Any,
) -> Examination:
    """Run a pipeline stock and recorded, and compare images, maps, time and memory.

    Args:
        pipe: a stock pipeline of a supported class; it stays as it is.
        prompt: what it generates.
        steps: of each run. A picture's ``strength`` is 1 if it is not in the call, so that all of
            them are made.
        seed: of the noise.
        rounds: pairs of a stock and a recorded run whose time is taken, in addition to the three
            runs that are compared.
        call: further arguments of the pipeline's call, such as ``height`` or ``image``. The
            pictures, masks and videos that it needs and that are not among them are drawn; of a
            call without ``height`` and ``width`` these are the sides of what is drawn.

    Raises:
        UnsupportedPipelineError: this class of pipeline is not recorded.
        InputError: the call takes no number of steps, an argument is wrong, or the pipeline does
            not run without recording either.
    """
    with tiling_as_it_was(pipe):
        return _examine(pipe, prompt=prompt, steps=steps, seed=seed, rounds=rounds, call=call)


def _examine(
    pipe: Any, *, prompt: str, steps: int, seed: int, rounds: int, call: dict[str, Any]
) -> Examination:
    family = family_of(pipe)
    inputs = CallInputs(pipe, family, prompt=prompt, steps=steps, call=call)
    sites = sites_of(family, pipe)
    # From the first to the last, and every stream.
    chosen = sorted({round(i * (len(sites) - 1) / (SITES - 1)) for i in range(SITES)})

    def stock(arguments: dict[str, Any]) -> tuple[np.ndarray, SiteOracle]:
        oracle = SiteOracle(
            pipe,
            family,
            [sites[index] for index in chosen],
            POSITIONS,
            arguments=_arguments(pipe, arguments),
        )
        with torch.no_grad(), oracle:
            return _image(run_of(pipe, prompt, arguments, seed=seed)), oracle

    try:
        (wanted, oracle), arguments = first_run(inputs, stock)
    except FailedRun as failed:
        where = ", without recording either"
        if failed.built:
            where += f", with {failed.built} made for this check"
        hint = f" {failed.inputs}." if failed.inputs else ""
        raise run_error(pipe, failed.error, where=where, hint=hint) from failed.error

    def generate() -> Any:
        return run_of(pipe, prompt, arguments, seed=seed)

    # A model that overflows makes NaN each time, which is no difference of two runs.
    is_repeatable = np.array_equal(_image(generate()), wanted, equal_nan=True)
    attribution, image, reason = _recorded(
        pipe, generate, RDAAMProcessor(keep="layers", budget=_BUDGET)
    )
    errors, unseen = _compare(attribution, oracle.by_site) if attribution is not None else ((), "")
    (stock_time, stock_peak), (recorded_time, recorded_peak) = _costs(pipe, generate, rounds)
    denoiser = family.denoiser(pipe)
    weight = next(denoiser.parameters())
    choice = choose(RecordingOptions().backend, device=weight.device)
    same = None
    if is_repeatable and image is not None and wanted is not None:
        same = np.array_equal(image, wanted, equal_nan=True)
    return Examination(
        pipeline=type(pipe).__name__,
        denoiser=type(denoiser).__name__,
        attention="joint" if any(site.kind == "joint" for site in sites) else "cross",
        device=_device_name(weight.device),
        dtype=str(weight.dtype).removeprefix("torch."),
        kernel=choice.name,
        why=choice.reason,
        image=(wanted.shape[-3], wanted.shape[-2]),
        steps=steps,
        is_identical=same,
        sites=errors,
        unseen=unseen,
        stock_seconds=stock_time,
        recorded_seconds=recorded_time,
        stock_peak=stock_peak,
        recorded_peak=recorded_peak,
        reason=reason,
        words={} if attribution is None else _words(attribution),
        tolerance=LARGEST_ERRORS.get(weight.dtype, LARGEST_ERROR),
        is_finite=bool(np.isfinite(wanted).all()),
        inputs=inputs.described(arguments),
        left_out=inputs.left_out(arguments),
    )


def run_of(pipe: Any, prompt: str, arguments: Mapping[str, Any], *, seed: int = 0) -> Any:
    """The output of a pipeline's call, the same each time.

    Args:
        pipe: the pipeline.
        prompt: what it generates.
        arguments: further ones of its call.
        seed: of the noise.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    # Some pipelines write their template into the list of texts that they are given.
    given = {"output_type": "np", "prompt": prompt, **arguments}
    own = {name: list(one) if isinstance(one, list) else one for name, one in given.items()}
    # Some pipelines draw from the global generator where they encode a picture.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return pipe(generator=generator, **own)


def _arguments(pipe: Any, call: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, with the pipeline's own values for those not given."""
    taken = inspect.signature(type(pipe).__call__).parameters
    usual = {name: one.default for name, one in taken.items()}
    empty = inspect.Parameter.empty
    return {name: value for name, value in usual.items() if value is not empty} | dict(call)


def _words(attribution: Any) -> dict[str, float]:
    named = (word.text for word in attribution.words if word.columns)
    found = {text: attribution.prompt.find(text) for text in dict.fromkeys(named)}
    parts = _parts(attribution)
    return {
        text: fmean(float(part.match(one).values.mean()) for part in parts)
        for text, one in found.items()
    }


def _parts(attribution: Any) -> tuple[Attribution, ...]:
    """The attribution of an image; of a video those of its latent frames."""
    is_video = isinstance(attribution, VideoAttribution)
    return attribution.parts if is_video else (attribution,)


def _image(output: Any) -> np.ndarray:
    """The images or frames, ``(…, height, width, channels)``; of colour and depth the colour."""
    for name in ("images", "frames", "rgb"):
        if hasattr(output, name):
            return np.asarray(getattr(output, name))
    return np.asarray(output[0])


def _recorded(
    pipe: Any, generate: Callable[[], Any], processor: RDAAMProcessor
) -> tuple[Attribution | None, np.ndarray | None, str]:
    """The first attribution and the image of a recorded run, and why there is none."""
    with warnings.catch_warnings(record=True) as caught, record_attention(pipe, processor) as run:
        warnings.simplefilter("always")
        output = generate()
        try:
            attributions = run.attributions
        except NoAttributionError as error:
            return None, _image(output), str(error)
    told = [str(one.message) for one in caught if issubclass(one.category, NotRecordedWarning)]
    if not attributions:
        return None, _image(output), " ".join(told) or "nothing was recorded"
    return attributions[0], _image(output), ""


def _compare(attribution: Any, sums: dict[str, SiteSums]) -> tuple[tuple[SiteError, ...], str]:
    details: dict[str, list[Tensor]] = {}
    for part in _parts(attribution):
        kept = part.kept
        for detail in () if kept is None else kept.details:
            details.setdefault(detail.sites[0], []).append(detail.mean())
    # The frames of a video one below another, as its denoiser has them.
    maps = {name: torch.cat(frames, dim=1) for name, frames in details.items()}
    errors, unseen = [], []
    for name, seen in sums.items():
        if seen.maps is None or name not in maps:
            unseen.append(name)
            continue
        errors.append(_error(name, maps[name], seen, attribution))
    why = ""
    if unseen:
        why = (
            f"{', '.join(unseen)}: no call of scaled_dot_product_attention was seen; another "
            "attention backend may be set"
        )
    return tuple(errors), why


def _error(name: str, maps: Tensor, seen: SiteSums, attribution: Any) -> SiteError:
    tokens = [token for token in attribution.prompt.tokens if token.kind != "rest"]
    columns = [token.column if token.position is None else token.position for token in tokens]
    recorded = maps[[token.column for token in tokens]].flatten(1)
    recorded = recorded[:, seen.positions].double()
    difference = (recorded - seen.mean()[0, columns]).abs()
    return SiteError(name, float(difference.max()), float(difference.mean()), difference.numel())


def _costs(
    pipe: Any, generate: Callable[[], Any], rounds: int
) -> tuple[tuple[float, int], tuple[float, int]]:
    """Median seconds and peak bytes of stock and recorded runs, which take turns."""
    stock: list[tuple[float, int]] = []
    recorded: list[tuple[float, int]] = []
    for _ in range(rounds):
        stock.append(_cost(generate))
        with warnings.catch_warnings(), record_attention(pipe):
            warnings.simplefilter("ignore")
            recorded.append(_cost(generate))
    return _middle(stock), _middle(recorded)


def _middle(costs: list[tuple[float, int]]) -> tuple[float, int]:
    return median(seconds for seconds, _ in costs), max(peak for _, peak in costs)


def _cost(generate: Callable[[], Any]) -> tuple[float, int]:
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    generate()
    if has_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - begun, torch.cuda.max_memory_allocated() if has_gpu else 0


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

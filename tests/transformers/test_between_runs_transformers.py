"""Runs of transformers that stop, are copied, share a denoiser or overlap: each as if alone."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import accelerate
import builders_joint
import numpy as np
import pytest
import torch
from dense_checks import check_maps, parts_of
from diffusers import FluxImg2ImgPipeline, FluxPipeline
from diffusers.callbacks import SD3CFGCutoffCallback
from toy_models import every_row, picture
from transformer_conditions import FAMILIES, Condition
from transformer_outcome import PLAIN, ConditionedRun, images, ours_of, quiet, same_maps

from diffusers_rdaam import (
    ImageMismatchWarning,
    NoAttributionError,
    RDAAMProcessor,
    record_attention,
)
from diffusers_rdaam.errors import AlreadyRecordingError

NAMES = ["FluxPipeline", "ZImagePipeline"]


class Boom(Exception):
    """Raised in the middle of a run."""


def recorded(name: str) -> Any:
    ours = ours_of(FAMILIES[name]())
    ours.set_attn_processor(RDAAMProcessor())
    return ours


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["attention", "callback"])
def test_a_run_that_ends_with_an_exception(where: str, error: type[BaseException]):
    """The next run is as the first, and an earlier output keeps its attributions."""
    case = FAMILIES["FluxPipeline"]()
    ours = recorded("FluxPipeline")
    first = case.run(ours)
    maps = ours.attributions

    def stop(*_: Any, **__: Any) -> None:
        raise error("stop")

    handle, settings = None, {}
    if where == "attention":
        block = ours.transformer.single_transformer_blocks[0]
        handle = block.attn.register_forward_hook(stop)
    else:
        settings["callback_on_step_end"] = stop
    with pytest.raises(error, match="stop"):
        case.run(ours, prompt=["two dogs", "a box"], **settings)
    if handle is not None:
        handle.remove()
    again = case.run(ours)
    assert np.array_equal(images(again), images(first))
    assert same_maps(ours.attributions, maps)


@pytest.mark.parametrize("name", NAMES)
def test_a_stock_pipeline_is_what_it_was(name: str):
    case = FAMILIES[name]()
    stock = quiet(case.make())
    first = case.run(stock)
    before = {n: m.processor for n, m in _attentions(stock)}, set(stock.__dict__), type(stock)

    def stop(*_: Any) -> None:
        raise Boom

    handle = stock.transformer.register_forward_hook(stop)
    with pytest.raises(Boom), record_attention(stock):
        case.run(stock)
    handle.remove()
    after = {n: m.processor for n, m in _attentions(stock)}, set(stock.__dict__), type(stock)
    assert after == before and not stock.transformer._forward_pre_hooks
    assert np.array_equal(images(case.run(stock)), images(first))


def _attentions(pipe: Any) -> list[tuple[str, Any]]:
    return [(n, m) for n, m in pipe.transformer.named_modules() if hasattr(m, "processor")]


@pytest.mark.parametrize("when", ["before", "after", "within"])
def test_a_copied_pipeline_records_by_itself(when: str):
    case = FAMILIES["FluxPipeline"]()
    ours = recorded("FluxPipeline")
    twins: list[Any] = []
    settings: dict[str, Any] = {}
    if when == "before":
        twins.append(copy.deepcopy(ours))
    elif when == "within":

        def duplicate(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> Any:
            if step == 0:
                twins.append(copy.deepcopy(pipe))
            return tensors

        settings["callback_on_step_end"] = duplicate
    first = case.run(ours, **settings)
    maps = ours.attributions
    if when == "after":
        twins.append(copy.deepcopy(ours))
    (twin,) = twins
    assert twin.transformer is not ours.transformer
    output = case.run(twin)
    assert np.array_equal(images(output), images(first))
    assert same_maps(twin.attributions, maps) and ours.attributions is maps
    case.run(ours)
    assert same_maps(ours.attributions, maps)


def test_pipelines_that_share_a_denoiser_in_turns():
    """Made by ``from_pipe``: a stock one, and one of ours for another task."""
    case = FAMILIES["FluxPipeline"]()
    ours = recorded("FluxPipeline")
    first = case.run(ours)
    maps = ours.attributions
    stock = quiet(FluxPipeline.from_pipe(ours))
    other = quiet(FluxImg2ImgPipeline.from_pipe(ours))
    assert stock.transformer is ours.transformer is other.transformer
    image = {"image": picture(16, 24), "strength": 0.9}
    alone = quiet(FluxImg2ImgPipeline(**parts_of(case.make())))
    wanted = case.run(alone, **image)
    for _ in range(2):
        assert np.array_equal(images(case.run(stock)), images(first))
        with record_attention(other) as recording:
            output = case.run(other, **image)
        assert np.array_equal(images(output), images(wanted))
        assert len(recording.attributions) == 2
        case.run(ours)
        assert same_maps(ours.attributions, maps)


def together(*tasks: Callable[[], None]) -> None:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)


def test_pipelines_of_their_own_in_threads():
    """Every step of one waits for the same step of the other."""
    alone = {}
    for name in NAMES:
        pipe = recorded(name)
        alone[name] = images(FAMILIES[name]().run(pipe)), pipe.attributions
    pipes = {name: recorded(name) for name in NAMES}
    meeting = threading.Barrier(len(NAMES), timeout=60)
    results: dict[str, np.ndarray] = {}

    def task(name: str) -> Callable[[], None]:
        def meet(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            meeting.wait()
            return tensors

        def work() -> None:
            output = FAMILIES[name]().run(pipes[name], callback_on_step_end=meet)
            results[name] = images(output)

        return work

    together(*(task(name) for name in NAMES))
    for name in NAMES:
        assert np.array_equal(results[name], alone[name][0])
        assert same_maps(pipes[name].attributions, alone[name][1])


def test_one_pipeline_in_two_threads():
    """The later run is refused with its reason, and the first is what it is alone."""
    case = FAMILIES["FluxPipeline"]()
    ours = recorded("FluxPipeline")
    wanted = images(case.run(ours))
    maps = ours.attributions
    inside, refused = threading.Event(), threading.Event()
    results: list[Any] = []

    def hold(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        inside.set()
        assert refused.wait(60)
        return tensors

    def first() -> None:
        results.append(images(case.run(ours, callback_on_step_end=hold)))

    def later() -> None:
        assert inside.wait(60)
        try:
            with pytest.raises(AlreadyRecordingError, match="is being recorded already"):
                case.run(ours)
        finally:
            refused.set()

    together(first, later)
    assert np.array_equal(results[0], wanted) and same_maps(ours.attributions, maps)


def test_guidance_that_stops_in_mid_run():
    """Rows are (unconditional, conditional) in the first step, then conditional alone."""
    case = FAMILIES["StableDiffusion3Pipeline"]()
    # Diffusers' callback leaves the last row of the text, so it is made for one prompt.
    one = {name: case.call[name][:1] for name in ("prompt", "negative_prompt")}
    case = replace(case, rows=lambda call: every_row(call)[-1:], call={**case.call, **one})
    condition = Condition(
        "guidance that stops",
        call=lambda pipe: {
            "callback_on_step_end": SD3CFGCutoffCallback(
                cutoff_step_ratio=None, cutoff_step_index=0
            ),
            "callback_on_step_end_tensor_inputs": ["prompt_embeds", "pooled_prompt_embeds"],
            "num_inference_steps": 3,
        },
    )
    stock = ConditionedRun(case, condition)
    lengths = [len(one.kwargs["hidden_states"]) for one in stock.calls.denoiser_calls]
    assert lengths == [2, 1, 1]
    ours = recorded("StableDiffusion3Pipeline")
    output = case.run(ours, **condition.call(ours))
    assert np.array_equal(images(output), images(stock.output))
    check_maps(stock, ours.attributions)


# Accelerate needs the places of the denoiser's own parameters, and says that it does not know them.
@pytest.mark.filterwarnings("ignore:The following device_map keys do not match any submodules")
@pytest.mark.parametrize("name", NAMES)
def test_a_device_map(name: str, tmp_path: Any):
    """Blocks on the processor, and some on the disk until they are called.

    This torch has one device of the processor: ``cpu:1`` is ``cpu``.
    """
    case = FAMILIES[name]()
    stock = ConditionedRun(case, PLAIN)
    ours = recorded(name)
    denoiser = ours.transformer
    places = {child: "cpu" for child, _ in denoiser.named_children()}
    places |= {child: "cpu" for child, _ in denoiser.named_parameters(recurse=False)}
    on_disk = "transformer_blocks" if name == "FluxPipeline" else "layers"
    places[on_disk] = "disk"
    accelerate.dispatch_model(
        denoiser, places, main_device="cpu", offload_dir=tmp_path, force_hooks=True
    )
    assert torch.device("meta") in {one.device for one in denoiser.parameters()}
    output = case.run(ours)
    assert np.array_equal(images(output), images(stock.output))
    check_maps(stock, ours.attributions)


def test_a_crop_that_is_pasted_back_has_no_attribution():
    case = builders_joint.CASES["FluxInpaintPipeline"]()
    wanted = case.run(case.make(), padding_mask_crop=4, output_type="pil").images
    pipe = case.make()
    with (
        pytest.warns(ImageMismatchWarning, match="With padding_mask_crop the denoiser works on an"),
        record_attention(pipe) as recording,
    ):
        output = case.run(pipe, padding_mask_crop=4, output_type="pil")
    assert [one.tobytes() for one in output.images] == [one.tobytes() for one in wanted]
    with pytest.raises(NoAttributionError, match="Leave padding_mask_crop out"):
        recording.attributions  # noqa: B018

"""One denoiser, several runs: nested, in threads, from two pipelines."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from diffusers_rdaam.errors import AlreadyRecordingError
from diffusers_rdaam.recording.recorder import Recorder

BUSY = (
    "This UNet2DConditionModel is being recorded already, by another call, pipeline or thread that "
    "shares it. Wait for that run to end, or give each thread a pipeline with its own "
    "denoiser."
)


def same(one: Any, other: Any) -> bool:
    maps = zip(one.attribution.grids, other.attribution.grids, strict=True)
    pictures = zip(one.images, other.images, strict=True)
    return all(torch.equal(a.maps, b.maps) for a, b in maps) and all(
        np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pictures
    )


def test_two_pipelines_that_share_a_denoiser_take_turns(make, generate, left):
    one = make()
    other = make(share=one)
    assert one.unet is other.unet
    first, second = generate(one, "a red cat"), generate(other, "two dogs")
    assert first.attribution.prompt.text == "a red cat"
    assert one.attribution is first.attribution and other.attribution is second.attribution
    assert same(generate(one, "a red cat"), first)
    alone = make()
    assert same(generate(alone, "two dogs"), second)


@pytest.mark.parametrize("shared", ["itself", "denoiser"])
def test_a_run_within_a_run_is_refused(make, generate, left, shared):
    one = make()
    other = one if shared == "itself" else make(share=one)
    texts = []

    def nest(pipe, step, timestep, tensors):
        with pytest.raises(AlreadyRecordingError) as error:
            generate(other, "two dogs")
        texts.append(str(error.value))
        return tensors

    output = generate(one, callback_on_step_end=nest)
    assert texts == [BUSY, BUSY]
    assert same(output, generate(make()))
    assert left(one) == []


def test_two_threads_on_one_pipeline(ours, generate, left):
    alone = generate(ours)
    inside, tried = threading.Event(), threading.Event()
    results: dict[str, Any] = {}

    def wait(pipe, step, timestep, tensors):
        inside.set()
        assert tried.wait(20)
        return tensors

    def first():
        results["output"] = generate(ours, callback_on_step_end=wait)

    def second():
        assert inside.wait(20)
        try:
            generate(ours, "two dogs")
        except AlreadyRecordingError as error:
            results["error"] = str(error)
        finally:
            tried.set()

    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results["error"] == BUSY
    assert same(results["output"], alone)
    assert left(ours) == []
    assert same(generate(ours), alone)


def test_a_run_is_read_before_another_may_take_its_buffers(ours, generate, monkeypatch):
    """The second thread's run would begin with zeroing what the first has not read."""
    busy = []
    read = Recorder.read

    def read_and_try(recorder):
        with (
            pytest.raises(AlreadyRecordingError),
            Recorder(ours, recorder.family, recorder.options),
        ):
            pass
        busy.append(True)
        return read(recorder)

    monkeypatch.setattr(Recorder, "read", read_and_try)
    generate(ours)
    assert busy == [True]


def test_two_pipelines_in_two_threads(make, generate):
    prompts = ["a red cat", "two blue dogs on a mat"]
    pipes = [make(), make()]
    alone = [generate(make(), prompt, num_inference_steps=4) for prompt in prompts]
    results: dict[int, Any] = {}
    start = threading.Barrier(2)

    def work(index: int) -> None:
        def meet(pipe, step, timestep, tensors):
            start.wait(20)
            return tensors

        results[index] = generate(
            pipes[index], prompts[index], num_inference_steps=4, callback_on_step_end=meet
        )

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for index in range(2):
        assert results[index].attribution.prompt.text == prompts[index]
        assert same(results[index], alone[index])

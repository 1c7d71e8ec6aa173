"""Copies of a pipeline, its type and device, offloading.

This machine may have no accelerator; what diffusers does then is compared too. Offloading to the
CPU itself goes through the same hooks as offloading from an accelerator.
"""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from alike import alike, failure, twins
from diffusers.utils.torch_utils import get_device
from toys import CASES, call, toy

SOME = ["StableDiffusion", "StableDiffusionXLControlNet", "StableDiffusionInstructPix2Pix"]
SOME = [pytest.param(CASES[name], id=name) for name in [*SOME, "LatentConsistencyModel"]]
AGAIN = {"deepcopy": copy.deepcopy, "pickle": lambda pipe: pickle.loads(pickle.dumps(pipe))}


@pytest.mark.parametrize("after", [False, True], ids=["before a run", "after a run"])
@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
@pytest.mark.parametrize("case", SOME[::2])
def test_copies_of_a_pipeline(case, again, after):
    def treat(pipe: Any) -> Any:
        if after:
            call(case, pipe)
        twin = again(pipe)
        twin.set_progress_bar_config(disable=True)
        assert type(twin) is type(pipe) and twin.unet is not pipe.unet
        return dict(twin.config), call(case, twin, output_type="latent")

    pipes = twins(case)
    for pipe in pipes:
        # Where hidden states were asked for transformers leaves hooks that no pickle can hold.
        for module in pipe.text_encoder.modules():
            module._forward_hooks.clear()
    assert len(alike(pipes, treat).result[1].attributions) == 1


def types(pipe: Any) -> Any:
    modules = {
        name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)
    }
    return (
        {name: (part.dtype, part.device) for name, part in modules.items()},
        pipe.dtype,
        (pipe.device),
    )


MOVES: dict[str, Any] = {
    "type": ((torch.bfloat16,), {}),
    "type by name": ((), {"dtype": torch.float16}),
    "device": (("cpu",), {}),
    "device and type": (("cpu", torch.float16), {}),
    "device and type, in silence": (("cpu", torch.float16), {"silence_dtype_warnings": True}),
    "meta": (("meta",), {}),
    "nothing": ((), {}),
    "twice a type": ((torch.float16,), {"dtype": torch.float16}),
    "the wrong way round": ((torch.float16, "cpu"), {}),
    "no such device": (("moon",), {}),
}


@pytest.mark.every(2)
@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_moves(move):
    args, kwargs = move
    pipes = twins(CASES["StableDiffusionXL"])

    def treat(pipe: Any) -> Any:
        moved = pipe.to(*args, **kwargs)
        assert moved is pipe
        return types(pipe)

    error = failure(lambda: copy.deepcopy(pipes[0]).to(*args, **kwargs))
    alike(pipes, treat, error=error)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("case", SOME[:2])
def test_runs_in_another_type(case, dtype):
    pipes = tuple(pipe.to(dtype) for pipe in twins(case))
    error = failure(lambda: call(case, pipes[0]))
    output = alike(pipes, lambda pipe: call(case, pipe, output_type="np"), error=error).result
    if error is None:
        assert np.isfinite(output.attribution.word("cat").values.numpy()).all()


OFFLOADS = ["enable_model_cpu_offload", "enable_sequential_cpu_offload"]


@pytest.mark.skipif(get_device() != "cpu", reason="needs a machine without an accelerator")
@pytest.mark.parametrize("name", OFFLOADS)
@pytest.mark.parametrize("case", SOME)
def test_offloading_needs_an_accelerator(case, name):
    alike(toy(case), lambda pipe: getattr(pipe, name)(), error=RuntimeError)


@pytest.mark.parametrize("name", OFFLOADS)
@pytest.mark.parametrize("case", SOME[:2])
def test_offloading_by_way_of_the_cpu(case, name):
    pipes = twins(case)

    def treat(pipe: Any) -> Any:
        getattr(pipe, name)(device="cpu")
        first = call(case, pipe)
        hooks = [part for part in pipe.components.values() if hasattr(part, "_hf_hook")]
        second = call(case, pipe)
        pipe.maybe_free_model_hooks()
        device = pipe._execution_device
        pipe.remove_all_hooks()
        pipe.reset_device_map()
        return first, second, len(hooks), device

    error = failure(lambda: treat(copy.deepcopy(pipes[0])))
    result = alike(pipes, treat, error=error).result
    if error is None:
        assert result[2] >= 3
        for output in result[:2]:
            assert len(output.attributions) == 1
        # Hooks gone, everything is as it was.
        alike(pipes, lambda pipe: call(case, pipe))


@pytest.mark.parametrize("kind", ["leaf_level", "block_level"])
def test_group_offloading(kind):
    case = CASES["StableDiffusion"]
    settings = {"offload_type": kind, "onload_device": torch.device("cpu")}
    settings |= {"num_blocks_per_group": 1} if kind == "block_level" else {}
    pipes = twins(case)

    def treat(pipe: Any) -> Any:
        pipe.enable_group_offload(**settings)
        output = call(case, pipe)
        with pytest.raises(ValueError, match="group offloading"):
            pipe.enable_model_cpu_offload(device="cpu")
        return output

    error = failure(lambda: treat(copy.deepcopy(pipes[0])))
    alike(pipes, treat, error=error)


def test_a_device_map_is_reset():
    def treat(pipe: Any) -> Any:
        pipe.hf_device_map = {"unet": "cpu", "vae": "cpu"}
        refused = [failure(lambda: pipe.to("cpu")), failure(pipe.enable_model_cpu_offload)]
        pipe.reset_device_map()
        return refused, pipe.hf_device_map, types(pipe)

    result = alike(twins(CASES["StableDiffusion"]), treat).result
    assert result[:2] == ([ValueError, ValueError], None)


@pytest.mark.parametrize("case", SOME[:2])
def test_settings_that_change_the_image(case):
    def treat(pipe: Any) -> Any:
        if hasattr(pipe, "enable_freeu"):
            pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
        pipe.vae.enable_tiling()
        pipe.vae.enable_slicing()
        pipe.unet.to(memory_format=torch.channels_last)
        return call(case, pipe)

    assert len(alike(twins(case), treat).result.attributions) == 1

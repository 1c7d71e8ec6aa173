"""What a call hands back: dictionary or tuple, its kinds of image, copies, pytrees, pickles."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.utils._pytree as pytree
from alike import alike, failure, same
from diffusers.utils import BaseOutput
from toys import CASES, call, toy

from diffusers_rdaam import Attribution

ALL = [pytest.param(case, id=name) for name, case in CASES.items()]
SOME = [pytest.param(CASES[name], id=name) for name in ("StableDiffusion", "StableDiffusionXL")]


@pytest.mark.parametrize("case", ALL)
def test_dictionary_and_tuple_are_equivalent(case):
    pipes = toy(case)
    output = alike(pipes, lambda pipe: call(case, pipe, output_type="np")).result
    values = alike(pipes, lambda pipe: call(case, pipe, output_type="np", return_dict=False)).result
    assert isinstance(output, BaseOutput) and type(values) is tuple
    same([output[name] for name in output if name != "attributions"], [values[0]])
    assert output[0] is output["images"] is output.images


KINDS = [(it.values[0], "pt") for it in ALL] + [(it.values[0], "latent") for it in ALL[::4]]


@pytest.mark.parametrize("case, kind", KINDS, ids=lambda it: getattr(it, "name", it))
def test_kinds_of_image(case, kind):
    output = alike(toy(case), lambda pipe: call(case, pipe, output_type=kind)).result
    assert output.attribution.image_size == (64, 96)
    assert (output.attribution.image is None) == (kind == "latent")


def test_an_unknown_kind_of_image():
    """diffusers answers with a warning and PIL images, or with an exception."""
    for case in list(CASES.values())[::4]:
        pipes = toy(case)
        error = failure(lambda case=case, pipes=pipes: call(case, pipes[0], output_type="jpeg"))
        alike(pipes, lambda pipe, case=case: call(case, pipe, output_type="jpeg"), error=error)


@pytest.mark.parametrize("case", ALL)
def test_what_an_output_is(case):
    stock, ours = (call(case, pipe) for pipe in toy(case))
    assert isinstance(ours, type(stock)) and isinstance(ours, (BaseOutput, OrderedDict))
    assert ours.to_tuple()[: len(stock.to_tuple())] == tuple(ours[name] for name in stock)
    assert ours.to_tuple() == (*(ours[name] for name in stock), ours.attributions)
    assert list(ours) == [*stock, "attributions"] and len(ours) == len(stock) + 1
    assert ours[0] is ours.images and ours[:1] == (ours.images,)
    assert all(getattr(ours, name, 0) is None for name in vars(stock) if name not in stock)
    for name in ("__delitem__", "setdefault", "pop", "update"):
        texts = []
        for output in (stock, ours):
            with pytest.raises(Exception, match="cannot use") as error:
                getattr(output, name)("images")
            texts.append(str(error.value).replace(type(output).__name__, ""))
        assert texts[0] == texts[1]


@pytest.mark.parametrize("case", SOME)
def test_an_output_may_be_written_to(case):
    stock, ours = (call(case, pipe) for pipe in toy(case))
    for output in (stock, ours):
        output.images = ["other"]
        assert output["images"] == ["other"] and output[0] == ["other"]
        output["images"] = ["third"]
        assert output.images == ["third"]
    assert isinstance(ours.attribution, Attribution)


@pytest.mark.parametrize("case", SOME)
def test_pytrees(case):
    pipes = toy(case)
    stock, ours = (call(case, pipe, output_type="pt") for pipe in pipes)
    leaves, spec = pytree.tree_flatten(ours)
    wanted, _ = pytree.tree_flatten(stock)
    assert torch.equal(leaves[0], wanted[0]) and leaves[len(wanted) :] == [ours.attribution]
    # The stock output of Stable Diffusion cannot be made again without its second field.
    error = None if case.xl else TypeError
    alike((stock, ours), lambda it: pytree.tree_unflatten(*pytree.tree_flatten(it)), error=error)
    if case.xl:
        again = pytree.tree_unflatten(leaves, spec)
        assert type(again) is type(ours) and list(again) == list(ours)
        assert again.images is ours.images and again.attribution is ours.attribution
        shapes = pytree.tree_map_only(torch.Tensor, lambda it: tuple(it.shape), ours)
        assert shapes.images == (1, 3, 64, 96) and shapes.attribution is ours.attribution


COPIES = [copy.copy, copy.deepcopy, lambda output: pickle.loads(pickle.dumps(output))]


@pytest.mark.parametrize("again", COPIES, ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("kind", ["np", "pil"])
@pytest.mark.parametrize("case", SOME)
def test_copies_of_an_output(case, kind, again):
    def treat(pipe: Any) -> Any:
        output = call(case, pipe, output_type=kind)
        twin = again(output)
        assert type(twin) is type(output) and list(twin) == list(output)
        return twin

    twin = alike(toy(case), treat).result
    assert twin.attribution.word("cat").values.isfinite().all()


@pytest.mark.parametrize("case", ALL[::5])
def test_a_call_leaves_its_arguments_alone(case):
    """And needs them in no other form: everything by name, or the prompt alone by place."""

    def treat(pipe: Any) -> Any:
        settings = case.call | {"num_inference_steps": case.call.get("num_inference_steps", 2)}
        before = dict(settings)
        first = pipe(prompt="a red cat", generator=torch.Generator().manual_seed(1), **settings)
        second = pipe("a red cat", generator=torch.Generator().manual_seed(1), **settings)
        assert settings == before
        same(list(first.images), list(second.images))
        return first

    alike(toy(case), treat)


@pytest.mark.parametrize("case", ALL[::2])
def test_arguments_that_are_not_there(case):
    """Some stock pipelines take any keyword, others do not."""
    pipes = toy(case)
    takes = inspect.signature(case.stock.__call__).parameters
    error = None if "kwargs" in takes else TypeError
    alike(pipes, lambda pipe: call(case, pipe, nothing_of_this_name=1), error=error)
    alike(pipes, lambda pipe: call(case, pipe, "one", prompt="two"), error=TypeError)
    alike(pipes, lambda pipe: pipe(), error=failure(lambda: pipes[0]()))


BAD = {
    "no prompt": {"prompt": None},
    "a number": {"prompt": 3},
    "a size": {"height": 65},
    "embeddings too": {"prompt_embeds": torch.zeros(1, 77, 32)},
    "callback inputs": {"callback_on_step_end_tensor_inputs": ["nothing"]},
    "lengths": {"negative_prompt": ["one", "two"], "prompt": ["a", "b", "c"]},
    "generators": {"generator": [torch.Generator()] * 3},
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("case", SOME)
def test_arguments_that_are_wrong(case, bad):
    def treat(pipe: Any) -> Any:
        settings = {"prompt": "a red cat", "num_inference_steps": 2} | case.call | bad
        return pipe(**settings)

    pipes = toy(case)
    error = failure(lambda: treat(pipes[0]))
    assert error is not None
    alike(pipes, treat, error=error)
    # The next call is none the worse for it.
    assert len(alike(pipes, lambda pipe: call(case, pipe)).result.attributions) == 1

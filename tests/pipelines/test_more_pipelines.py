"""Pipelines with rows, parts or frames of their own: the stock image bit for bit, and the maps."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from oracle import check, watched
from toys import ALL_CASES, DEPRECATED, MORE, PROMPT, Case, call, picture, toy

from diffusers_rdaam import record_attention
from diffusers_rdaam.families import Branch, family_of, images_of
from diffusers_rdaam.recording.recorder import Recorder

OTHERS = [pytest.param(case, id=name) for name, case in (MORE | DEPRECATED).items()]
PROMPTS = [PROMPT, "two blue dogs on the mat"]


@pytest.fixture(autouse=True)
def quiet(recwarn):
    """diffusers' own notices of what it will stop doing; a warning of ours fails the test."""
    yield
    assert not [w.message for w in recwarn if w.category.__module__.startswith("diffusers_rdaam")]


pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:diffusers")


def pictures(output: Any) -> list[np.ndarray]:
    return [np.asarray(image) for image in images_of(output)]


def same(one: Any, other: Any) -> bool:
    pairs = list(zip(pictures(one), pictures(other), strict=True))
    return bool(pairs) and all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.every(4)
@pytest.mark.parametrize("guidance", [5.0, 1.0])
@pytest.mark.parametrize("case", OTHERS)
def test_image_and_maps(case: Case, guidance):
    stock, ours = toy(case)
    with watched(ours) as seen:
        output = call(case, ours, guidance_scale=guidance)
    assert same(output, call(case, stock, guidance_scale=guidance))
    attributions = ours.attributions
    assert len(attributions) == len(pictures(output)) == case.frames
    check(attributions, seen, case.sites, rows=case.rows(guidance), stride=case.stride)
    for index, (attribution, image) in enumerate(zip(attributions, pictures(output), strict=True)):
        assert attribution.image_size == case.size
        if image.dtype == np.uint8:
            assert np.array_equal(np.asarray(attribution.image), image)
        assert [word.text for word in attribution.words] == PROMPT.split()
        assert attribution.run["denoiser_calls"] == 2
        assert attribution.run["image_index"] == index
        assert attribution.run["pipeline"] == case.ours.__name__


@pytest.mark.every(4)
@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in MORE.items()])
def test_signatures_and_outputs(case):
    for name in ("__call__", "__init__"):
        ours, stock = (inspect.signature(getattr(cls, name)) for cls in (case.ours, case.stock))
        assert ours == stock
    assert case.ours.__mro__[2] is case.stock
    stock, ours = toy(case)
    output = call(case, ours)
    assert output.attributions is ours.attributions and len(output.attributions) == case.frames
    assert isinstance(output, type(call(case, stock)))
    tuples = [call(case, pipe, return_dict=False) for pipe in (ours, stock)]
    assert type(tuples[0]) is type(tuples[1]) is tuple and len(tuples[0]) == len(tuples[1])
    assert same(*tuples)


BATCHED = [name for name in MORE if "Img2Img" not in name and "Inpaint" not in name]
BATCHED += ["StableDiffusionSAG", "StableDiffusionGLIGEN", "TextToVideoSD", "StableUnCLIP"]
BATCHED += ["StableDiffusionControlNetXS"]
# Their images come one for each prompt, and more of them are not asked for.
ONE_EACH = {"StableDiffusionUpscale", "StableDiffusionLatentUpscale", "StableDiffusionDepth2Img"}
ONE_EACH |= {name for name in ALL_CASES if "Video" in name or "Animate" in name}


@pytest.mark.values
@pytest.mark.parametrize("guidance", [5.0, 1.0])
@pytest.mark.parametrize(
    "name", [n for n in BATCHED if "VideoToVideo" not in n and n != "AnimateDiffControlNet"]
)
def test_two_prompts(name, guidance):
    case = ALL_CASES[name]
    stock, ours = toy(case)
    settings: dict[str, Any] = {"guidance_scale": guidance, "output_type": "latent"}
    each = 1 if name in ONE_EACH else 2
    if each == 2:
        settings["num_images_per_prompt"] = 2
    for key in ("image", "depth_map"):
        if name in ONE_EACH and key in case.call:
            value = case.call[key]
            several = torch.cat([value] * 2) if torch.is_tensor(value) else [value, value]
            settings[key] = several
    if "Adapter" in name:
        settings["image"] = [picture(1), picture(2)]
    if name == "StableDiffusionDepth2Img":
        settings["image"] = [picture(), picture(1)]
    with watched(ours) as seen:
        output = call(case, ours, PROMPTS, **settings)
    latents = call(case, stock, PROMPTS, **settings)[0]
    assert torch.equal(torch.as_tensor(output[0]), torch.as_tensor(latents))
    attributions = ours.attributions
    assert len(attributions) == 2 * each * case.frames
    check(attributions, seen, case.sites, rows=case.rows(guidance), stride=case.stride)
    texts = [attribution.prompt.text for attribution in attributions]
    assert texts == [prompt for prompt in PROMPTS for _ in range(each * case.frames)]


REPRESENTATIVE = ["StableDiffusion", "StableDiffusionXL", "StableDiffusionInstructPix2Pix"]
REPRESENTATIVE += ["StableDiffusionXLInstructPix2Pix", "StableDiffusionPAG", "AnimateDiff"]
REPRESENTATIVE += ["AnimateDiffPAG", "TextToVideoSD", "StableDiffusionSAG", "Kolors"]
REPRESENTATIVE += ["StableDiffusionLatentUpscale", "StableDiffusionControlNetXS"]


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_rows_of_the_negative_prompt(name, monkeypatch):
    """Another negative prompt changes their text only; without guidance there are none."""
    case = ALL_CASES[name]
    _, ours = toy(case)
    calls: list[Any] = []

    def note(recorder, module, args, kwargs):
        found = recorder.family.read_call(recorder.pipe, args, kwargs)
        if found is not None:
            timestep = kwargs["timestep"] if "timestep" in kwargs else args[1]
            assert found.timestep is timestep and found.frames == case.frames
            text = kwargs["encoder_hidden_states"]
            # A 3-D UNet repeats the text for its frames by itself.
            repeat = case.frames if name == "TextToVideoSD" else 1
            calls.append((found, text.repeat_interleave(repeat, dim=0).clone()))
        return None

    monkeypatch.setattr(Recorder, "_before_call", note)
    settings = {"output_type": "latent"}
    for negative in ("ugly", "two dogs"):
        with pytest.warns(UserWarning, match="not its attribution"):
            call(case, ours, negative_prompt=negative, **settings)
    ((first, text), (second, other)) = calls[0], calls[len(calls) // 2]
    assert first.branches == second.branches
    branches = (Branch.CONDITIONAL, Branch.UNCONDITIONAL)
    rows, negative = (slice(*first.branches[branch]) for branch in branches)
    assert rows.stop - rows.start == negative.stop - negative.start == case.frames
    assert torch.equal(text[rows], other[rows])
    assert not torch.equal(text[negative], other[negative])
    calls.clear()
    with pytest.warns(UserWarning, match="not its attribution"):
        call(case, ours, guidance_scale=1.0, image_guidance_scale=1.0) if case.first else call(
            case, ours, guidance_scale=1.0
        )
    assert all(set(found.branches) == {Branch.CONDITIONAL} for found, _ in calls)


@pytest.mark.parametrize("scale", [0.0, 2.0])
@pytest.mark.parametrize("guidance", [5.0, 1.0])
@pytest.mark.parametrize("name", ["StableDiffusionPAG", "StableDiffusionXLPAG", "KolorsPAG"])
def test_perturbed_guidance_switched_off_and_adaptive(name, guidance, scale):
    case = ALL_CASES[name]
    stock, ours = toy(case)
    settings = {"pag_scale": scale, "pag_adaptive_scale": 0.01, "guidance_scale": guidance}
    before = dict(ours.unet.attn_processors)
    with watched(ours) as seen:
        output = call(case, ours, **settings)
    assert same(output, call(case, stock, **settings))
    rows = case.rows(guidance).replace("" if scale else "p", "")
    check(output.attributions, seen, case.sites, rows=rows)
    assert output.attribution.run["pag_scale"] == scale
    assert {name: id(p) for name, p in ours.unet.attn_processors.items()} == {
        name: id(p) for name, p in before.items()
    }


@pytest.mark.parametrize("name", DEPRECATED)
def test_record_attention(name):
    case = DEPRECATED[name]
    stock, ours = toy(case)
    wanted = [grid.maps for grid in (call(case, ours), ours.attributions)[1][0].grids]
    with record_attention(stock) as recording:
        call(case, stock)
    for grid, maps in zip(recording.attributions[0].grids, wanted, strict=True):
        assert torch.equal(grid.maps, maps)
    assert type(stock) is case.stock and family_of(stock)


@pytest.mark.parametrize("output_type", ["np", "pt", "pil"])
def test_frames_of_every_output_type(output_type):
    case = ALL_CASES["AnimateDiff"]
    stock, ours = toy(case)
    output = call(case, ours, PROMPTS, output_type=output_type)
    assert np.array_equal(
        *(
            np.asarray(x.frames)
            for x in (output, call(case, stock, PROMPTS, output_type=output_type))
        )
    )
    for index, attribution in enumerate(output.attributions):
        frame = np.asarray(output.frames[index // 3][index % 3])
        frame = np.moveaxis(frame, 0, -1) if output_type == "pt" else frame
        levels = frame if output_type == "pil" else (frame.clip(0, 1) * 255).round()
        assert np.array_equal(np.asarray(attribution.image), levels.astype(np.uint8))


def test_colour_and_depth_in_a_tuple():
    case = ALL_CASES["StableDiffusionLDM3D"]
    _, ours = toy(case)
    (colour, depth), _ = call(case, ours, return_dict=False)
    assert colour.shape == (*depth.shape, 3) == (1, 64, 96, 3)
    levels = (colour[0].clip(0, 1) * 255).round()
    assert np.array_equal(np.asarray(ours.attribution.image), levels.astype(np.uint8))

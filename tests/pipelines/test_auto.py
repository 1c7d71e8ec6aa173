"""Auto pipelines: our class where diffusers' own would take the stock one."""

from __future__ import annotations

import json

import diffusers
import pytest
import torch
from diffusers.pipelines import auto_pipeline
from toys import ALL_CASES, CASES, build, call, parts_of, toy, toy_controlnet

import diffusers_rdaam
from diffusers_rdaam.errors import UnsupportedPipelineError
from diffusers_rdaam.families.layouts import LAYOUTS_WITH_CLASS, PIPELINES
from diffusers_rdaam.families.refused import REFUSED
from diffusers_rdaam.families.registry import stock_class
from diffusers_rdaam.pipelines.classes import recording_class

TASKS = {"Text2Image": "", "Image2Image": "Img2Img", "Inpainting": "Inpaint"}
MODELS = ["StableDiffusion", "StableDiffusionXL", "LatentConsistencyModel"]
PAIRS = [
    (model, task)
    for model in MODELS
    for task in TASKS
    if model != "LatentConsistencyModel" or task != "Inpainting"
]


def ours(task: str):
    return getattr(diffusers_rdaam, f"AutoRDAAMPipelineFor{task}")


def stock(task: str):
    return getattr(diffusers, f"AutoPipelineFor{task}")


def recording(name: str):
    return getattr(diffusers_rdaam, f"{name}RDAAMPipeline")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for model in MODELS:
        made[model] = tmp_path_factory.mktemp(model)
        toy(CASES[model])[0].save_pretrained(made[model])
    return made


def test_every_class_that_an_auto_pipeline_of_diffusers_takes_is_known():
    mappings = (
        auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
        auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
        auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING,
    )
    stock = {cls.__name__ for mapping in mappings for cls in mapping.values()}
    # Only where sentencepiece is installed.
    stock |= {name for name in PIPELINES if name.startswith("Kolors")}
    known = stock & set(PIPELINES)
    assert known <= LAYOUTS_WITH_CLASS.keys() and len(known) > 20
    for name in known:
        assert recording_class(name) is recording(name.removesuffix("Pipeline"))


@pytest.mark.parametrize(("model", "task"), PAIRS)
def test_from_pretrained(folders, model, task):
    none = {} if "XL" in model else {"safety_checker": None}
    pipe = ours(task).from_pretrained(folders[model], **none, dtype=torch.bfloat16)
    assert type(pipe) is recording(model + TASKS[task])
    assert pipe.unet.dtype == torch.bfloat16
    wanted = stock(task).from_pretrained(folders[model], **none)
    assert isinstance(pipe, type(wanted))
    assert str(pipe.name_or_path) == str(folders[model])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", MODELS[:2])
def test_with_a_controlnet(folders, model, task):
    none = {} if "XL" in model else {"safety_checker": None}
    net = toy_controlnet(toy(CASES[model])[0].unet)
    pipe = ours(task).from_pretrained(folders[model], controlnet=net, **none)
    assert type(pipe) is recording(f"{model}ControlNet{TASKS[task]}")
    assert pipe.controlnet is net
    assert isinstance(
        pipe, type(stock(task).from_pretrained(folders[model], controlnet=net, **none))
    )


@pytest.mark.every(3)
@pytest.mark.parametrize("owner", [0, 1], ids=["stock", "ours"])
@pytest.mark.parametrize(("model", "task"), PAIRS)
def test_from_pipe(model, task, owner):
    case = CASES[model + TASKS[task]]
    given = build((CASES[model].stock, CASES[model].ours)[owner], parts_of(CASES[model]))
    pipe = ours(task).from_pipe(given)
    assert type(pipe) is case.ours and pipe.unet is given.unet
    pipe.set_progress_bar_config(disable=True)
    output = call(case, pipe)
    assert output.attribution.words
    wanted = call(case, build(case.stock, pipe.components | {"scheduler": given.scheduler}))
    assert output.images[0].tobytes() == wanted.images[0].tobytes()


def test_a_controlnet_comes_stays_and_goes():
    model = "StableDiffusionXL"
    given = build(CASES[model].stock, parts_of(CASES[model]))
    nets = [toy_controlnet(given.unet, seed) for seed in (1, 2)]
    with_nets = ours("Text2Image").from_pipe(given, controlnet=nets)
    assert type(with_nets) is recording(f"{model}ControlNet")
    assert list(with_nets.controlnet.nets) == nets
    stays = ours("Image2Image").from_pipe(with_nets)
    assert type(stays) is recording(f"{model}ControlNetImg2Img")
    goes = ours("Inpainting").from_pipe(stays, controlnet=None)
    assert type(goes) is recording(f"{model}Inpaint") and "controlnet" not in goes.components


@pytest.mark.parametrize("several", [False, True])
def test_types_of_shared_and_new_modules_stay(several):
    given = build(CASES["StableDiffusion"].stock, parts_of(CASES["StableDiffusion"]))
    given.unet.to(torch.bfloat16)
    net = toy_controlnet(toy(CASES["StableDiffusion"])[0].unet).to(torch.float16)
    pipe = ours("Text2Image").from_pipe(given, controlnet=[net] if several else net)
    kinds = [part.dtype for part in (pipe.unet, net, pipe.text_encoder)]
    assert kinds == [torch.bfloat16, torch.float16, torch.float32]


@pytest.mark.parametrize(
    ("name", "task", "kwargs", "named"),
    [
        ("DiTPipeline", "Text2Image", {}, "DiTPipeline"),
        (
            "StableDiffusionControlNetPipeline",
            "Image2Image",
            {"enable_pag": True},
            "StableDiffusionControlNetPAGPipeline",
        ),
        ("KolorsPipeline", "Inpainting", {}, "KolorsPipeline"),
        ("LatentConsistencyModelPipeline", "Inpainting", {}, "LatentConsistencyModelPipeline"),
        ("StableDiffusionInstructPix2PixPipeline", "Image2Image", {}, "StableDiffusionInstruct"),
        ("NoSuchPipeline", "Text2Image", {}, "NoSuchPipeline"),
    ],
)
def test_what_cannot_be_recorded_is_not_even_loaded(tmp_path, name, task, kwargs, named):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name}))
    wanted = rf"^{named}\w*, for AutoRDAAMPipelineFor{task}, cannot be recorded: .* Supported: Sta"
    with pytest.raises(UnsupportedPipelineError, match=wanted):
        ours(task).from_pretrained(tmp_path, **kwargs)


def test_a_class_without_this_task_is_named_and_a_refused_one_has_its_reason(tmp_path):
    index = tmp_path / "model_index.json"
    # It is recorded, so that nothing may say that its layout is not known.
    for name, task in (("AnimateDiffPipeline", "Text2Image"), ("KolorsPipeline", "Inpainting")):
        index.write_text(json.dumps({"_class_name": name}))
        own = name.replace("Pipeline", "RDAAMPipeline")
        wanted = f"no pipeline of this task for its model. {own} records it in its own task."
        with pytest.raises(UnsupportedPipelineError, match=wanted):
            ours(task).from_pretrained(tmp_path)
    for name in ("StableDiffusionPanoramaPipeline", "AudioLDMPipeline"):
        index.write_text(json.dumps({"_class_name": name}))
        with pytest.raises(UnsupportedPipelineError) as caught:
            ours("Text2Image").from_pretrained(tmp_path)
        assert str(caught.value).endswith(f"cannot be recorded: {REFUSED[name]}.")


@pytest.mark.parametrize("task", TASKS)
def test_a_union_controlnet(task):
    name = f"StableDiffusionXLControlNetUnion{TASKS[task]}"
    net = parts_of(ALL_CASES[name])["controlnet"]
    pipe = ours(task).from_pipe(toy(CASES["StableDiffusionXL"])[0], controlnet=net)
    assert type(pipe) is recording(name) and pipe.controlnet is net


@pytest.mark.parametrize(
    ("given", "task", "name"),
    [
        ("StableDiffusion", "Text2Image", "StableDiffusionPAG"),
        ("StableDiffusionImg2Img", "Text2Image", "StableDiffusionPAG"),
        ("StableDiffusionPAG", "Image2Image", "StableDiffusionPAGImg2Img"),
        ("StableDiffusionXLInpaint", "Inpainting", "StableDiffusionXLPAGInpaint"),
        ("StableDiffusionXLControlNet", "Text2Image", "StableDiffusionXLControlNetPAG"),
        ("StableDiffusionControlNet", "Inpainting", "StableDiffusionControlNetPAGInpaint"),
        ("StableDiffusionXLControlNet", "Image2Image", "StableDiffusionXLControlNetPAGImg2Img"),
    ],
)
def test_perturbed_attention_guidance_comes_stays_and_goes(given, task, name):
    pipe = ours(task).from_pipe(toy(ALL_CASES[given])[0], enable_pag=True)
    assert type(pipe) is recording(name) and stock_class(type(pipe)).__name__ == f"{name}Pipeline"
    assert type(ours(task).from_pipe(pipe)) is recording(name)
    assert type(ours(task).from_pipe(pipe, enable_pag=False)) is recording(name.replace("PAG", ""))


def test_perturbed_attention_guidance_stays_where_a_controlnet_comes():
    net = parts_of(ALL_CASES["StableDiffusionControlNetPAG"])["controlnet"]
    pipe = ours("Text2Image").from_pipe(toy(ALL_CASES["StableDiffusionPAG"])[0], controlnet=net)
    assert type(pipe) is recording("StableDiffusionControlNetPAG")


def test_perturbed_attention_guidance_from_a_folder(folders):
    pipe = ours("Text2Image").from_pretrained(
        folders["StableDiffusionXL"], enable_pag=True, pag_applied_layers="mid"
    )
    assert type(pipe) is recording("StableDiffusionXLPAG")
    assert pipe.pag_applied_layers == ["mid"]


def test_kolors_where_diffusers_has_it(monkeypatch):
    given = toy(ALL_CASES["Kolors"])[0]
    texts = auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING
    monkeypatch.setitem(texts, "kolors", type(given))
    monkeypatch.setitem(texts, "kolors-pag", ALL_CASES["KolorsPAG"].stock)
    assert type(ours("Text2Image").from_pipe(given)) is recording("Kolors")
    assert type(ours("Text2Image").from_pipe(given, enable_pag=True)) is recording("KolorsPAG")


def test_constructors_are_refused():
    with pytest.raises(TypeError, match=r"^AutoRDAAMPipelineForInpainting is not made by its"):
        ours("Inpainting")()

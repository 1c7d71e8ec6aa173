"""Saving and loading: the same files, and the same pipelines from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from alike import alike, failure
from diffusers import AutoPipelineForText2Image, DiffusionPipeline
from diffusers.utils import dynamic_modules_utils
from safetensors.torch import save_file
from toys import CASES, Case, call, parts_of, toy

ALL = [pytest.param(case, id=name) for name, case in CASES.items()]
SOME = [CASES["StableDiffusion"], CASES["StableDiffusionXLInpaint"]]
SOME = [pytest.param(case, id=case.name) for case in SOME]
# The folder's own name stands in logs, so both classes load one folder.
NONE = {"safety_checker": None}


def none(case: Case) -> dict[str, Any]:
    return {} if case.xl else dict(NONE)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def facts(pipe: Any) -> Any:
    """Of a loaded pipeline: configuration, classes, types and weights."""
    parts = {}
    for name, part in pipe.components.items():
        state = part.state_dict() if isinstance(part, torch.nn.Module) else {}
        parts[name] = (type(part), state)
    return dict(pipe.config), parts, pipe.dtype, str(pipe.device), pipe.hf_device_map


@pytest.mark.parametrize("case", ALL)
def test_the_files_are_those_of_the_stock_pipeline(case, tmp_path):
    folders = []
    for pipe in toy(case):
        folders.append(tmp_path / type(pipe).__name__)
        pipe.save_pretrained(folders[-1])
    stock, ours = (files(folder) for folder in folders)
    assert list(ours) == list(stock) and "model_index.json" in ours
    assert [name for name in stock if ours[name] != stock[name]] == []


SAVED = [{"variant": "fp16"}, {"safe_serialization": False}, {"max_shard_size": "20KB"}]
SAVED += [{"safe_serialization": False, "variant": "ema"}]


@pytest.mark.values
@pytest.mark.parametrize("how", SAVED, ids=str)
@pytest.mark.parametrize("case", SOME)
def test_ways_to_save(case, how, tmp_path):
    names = []
    for pipe in toy(case):
        folder = tmp_path / type(pipe).__name__
        alike((pipe, pipe), lambda it, folder=folder: it.save_pretrained(folder, **how))
        names.append([name for name, _ in files(folder).items()])
    assert names[0] == names[1]
    variant = how.get("variant")
    assert variant is None or any(f".{variant}." in name for name in names[1])
    told = none(case) | ({"variant": variant} if variant else {})

    def load(cls: Any) -> Any:
        return facts(cls.from_pretrained(folder, **told))

    alike((case.stock, case.ours), load)
    alike((case.stock, DiffusionPipeline), load)


@pytest.fixture(scope="module", params=[it.values[0] for it in SOME], ids=lambda it: it.name)
def saved(request, tmp_path_factory) -> tuple[Case, Path]:
    """A folder that ours has saved."""
    case = request.param
    folder = tmp_path_factory.mktemp(case.name)
    toy(case)[1].save_pretrained(folder)
    return case, folder


LOADED: dict[str, dict[str, Any]] = {
    "half": {"dtype": torch.float16},
    "a type for each": {"dtype": {"unet": torch.float16, "default": torch.bfloat16}},
    "a type for one": {"dtype": {"vae": torch.bfloat16}},
    "types of old": {"torch_dtype": {"unet": torch.float16, "default": torch.float32}},
    "no type": {"dtype": "float16"},
    "both types": {"dtype": torch.float16, "torch_dtype": torch.float16},
    "a device": {"device_map": "cpu"},
    "several devices": {"device_map": "balanced"},
    "no such device": {"device_map": "moon"},
    "low memory": {"low_cpu_mem_usage": False},
    "another variant": {"variant": "fp16"},
    "a part": {"scheduler": None, "unet": None},
    "unknown": {"nothing_of_this_name": 1},
    "an option": {"requires_safety_checker": False},
    "connected": {"load_connected_pipeline": True},
}


@pytest.mark.every(2)
@pytest.mark.parametrize("how", LOADED.values(), ids=LOADED)
def test_ways_to_load(saved, how):
    case, folder = saved
    if case.xl and "dtype" not in how:
        pytest.skip("the same code as for Stable Diffusion; only types are looked at twice")

    def load(cls: Any) -> Any:
        return facts(cls.from_pretrained(folder, **(none(case) | how)))

    error = failure(lambda: load(case.stock))
    alike((case.stock, case.ours), load, error=error)


def test_who_loads_it(saved):
    case, folder = saved
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == case.stock.__name__
    assert case.ours.load_config(folder) == case.stock.load_config(folder) == index
    for loader, cls in ((DiffusionPipeline, case.stock), (case.ours, case.ours)):
        assert type(loader.from_pretrained(folder, **none(case))) is cls
    text_to_image = AutoPipelineForText2Image.from_pretrained(folder, **none(case))
    assert type(text_to_image) is CASES[case.name.removesuffix("Inpaint")].stock


def test_our_class_as_a_pipeline_from_a_file(saved, tmp_path, monkeypatch):
    """diffusers calls that a custom pipeline, and copies the file into a folder of its own."""
    case, folder = saved
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path)
    text = "import diffusers_rdaam\n\n\n"
    text += f"class Custom(diffusers_rdaam.{case.ours.__name__}):\n    pass\n"
    (tmp_path / "pipeline.py").write_text(text)
    told = {"custom_pipeline": str(tmp_path), "trust_remote_code": True} | none(case)

    def load(cls: Any) -> Any:
        pipe = cls.from_pretrained(folder, **told)
        pipe.set_progress_bar_config(disable=True)
        return type(pipe).__name__, len(call(case, pipe).attributions)

    assert alike((DiffusionPipeline, case.ours), load).result == ("Custom", 1)


@pytest.mark.parametrize("case", ALL[::3])
def test_parts_that_may_be_left_out(case, tmp_path):
    parts = parts_of(case)
    optional = [name for name in case.stock._optional_components if name in parts]
    for cls in (case.stock, case.ours):
        pipe = cls(**parts)
        for name in case.stock._optional_components:
            setattr(pipe, name, None)
        pipe.save_pretrained(tmp_path / cls.__name__)
    folders = (tmp_path / cls.__name__ for cls in (case.stock, case.ours))
    stock, ours = (files(folder) for folder in folders)
    assert ours == stock

    def load(cls: Any) -> Any:
        pipe = cls.from_pretrained(tmp_path / case.ours.__name__)
        assert all(getattr(pipe, name) is None for name in optional)
        return facts(pipe)

    alike((case.stock, case.ours), load)


def test_one_file(saved, tmp_path):
    """``from_single_file``, with the parts given that it would have to convert."""
    case, folder = saved
    # Enough of a checkpoint to be looked at.
    key = "model.diffusion_model.input_blocks.0.0.weight"
    save_file({key: torch.zeros(320, 4, 3, 3)}, tmp_path / "one.safetensors")
    parts = parts_of(case)
    names = ["unet", "vae", "text_encoder"] + (["text_encoder_2"] if case.xl else [])
    given = {name: parts[name] for name in names}

    def load(cls: Any) -> Any:
        path = str(tmp_path / "one.safetensors")
        return facts(cls.from_single_file(path, config=str(folder), **given))

    error = failure(lambda: load(case.stock))
    alike((case.stock, case.ours), load, error=error)
    assert error is None

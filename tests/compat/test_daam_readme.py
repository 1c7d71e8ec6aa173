"""The code of castorini/daam's README, with its import and its model changed and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot

from diffusers_rdaam.compat.daam import GenerationExperiment, set_seed

FIRST = """
from daam import trace, set_seed
from diffusers import DiffusionPipeline
from matplotlib import pyplot as plt
import torch


model_id = 'stabilityai/stable-diffusion-xl-base-1.0'
device = 'cuda'

pipe = DiffusionPipeline.from_pretrained(model_id, use_auth_token=True, \
torch_dtype=torch.float16, use_safetensors=True, variant='fp16')
pipe = pipe.to(device)

prompt = 'A dog runs across the field'
gen = set_seed(0)  # for reproducibility

with torch.no_grad():
    with trace(pipe) as tc:
        out = pipe(prompt, num_inference_steps=50, generator=gen)
        heat_map = tc.compute_global_heat_map()
        heat_map = heat_map.compute_word_heat_map('dog')
        heat_map.plot_overlay(out.images[0])
        plt.show()
"""

SECOND = """
from daam import GenerationExperiment, trace

with trace(pipe) as tc:
    pipe('A dog and a cat')
    exp = tc.to_experiment('experiment-dir')
    exp.save()  # experiment-dir now contains all the data and heat maps

exp = GenerationExperiment.load('experiment-dir')  # load the experiment
"""


def ours(code: str) -> str:
    """The import changed, and the embedded model in place of one from a hub."""
    code = code.replace("from daam import", "from diffusers_rdaam.compat.daam import")
    code = re.sub(r"^pipe = DiffusionPipeline.*$", "pipe = load_demo_pipeline()", code, flags=re.M)
    code = code.replace("device = 'cuda'", "device = 'cpu'")
    return "from diffusers_rdaam import load_demo_pipeline\n" + code


# That a window cannot be shown is the test's doing.
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_the_first_example() -> None:
    found: dict[str, Any] = {}
    exec(compile(ours(FIRST), "README", "exec"), found)  # the README's own words
    heat_map, image = found["heat_map"], found["out"].images[0]
    assert heat_map.word == "dog"
    assert heat_map.value.shape == (16, 16) and 0 < heat_map.value.max() < 50
    # The figure is pyplot's, as in DAAM; its upper layer is the image, see-through by the map.
    axes = pyplot.gcf().axes
    assert len(axes) == 1 and axes[0].get_title() == "dog"
    colours, picture = (layer.get_array() for layer in axes[0].get_images())
    expanded = heat_map.expand_as(image)
    np.testing.assert_allclose(colours, expanded.numpy())
    np.testing.assert_allclose(picture[..., 3], 1 - expanded.numpy(), atol=1e-6)
    np.testing.assert_allclose(picture[..., :3] * 255, np.asarray(image), atol=1e-3)
    pyplot.close("all")
    assert found["tc"].last_image is image


def test_the_second_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo: Any) -> None:
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {"pipe": demo}
    exec(compile(ours(SECOND), "README", "exec"), found)  # the README's own words
    written = sorted(path.name for path in Path("experiment-dir").rglob("*"))
    words = [f"{word}.heat_map.png" for word in ("a", "and", "cat", "dog")]
    assert written == sorted([*words, "generation.safetensors", "output.png", "prompt.txt"])
    assert Path("experiment-dir/prompt.txt").read_text() == "A dog and a cat"
    experiment = found["exp"]
    assert isinstance(experiment, GenerationExperiment)
    np.testing.assert_array_equal(experiment.image, found["tc"].last_image)
    saved = found["tc"].compute_global_heat_map()
    assert torch.equal(experiment.global_heat_map, saved.heat_maps)
    # Without a tokenizer, and without the model: the tokens are in the file.
    assert experiment.tokenizer is None
    loaded = experiment.heat_map().compute_word_heat_map("dog").value
    assert torch.equal(loaded, saved.compute_word_heat_map("dog").value)


def test_set_seed_seeds_everything() -> None:
    import random

    generator = set_seed(5)
    first = (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002
    own = torch.rand(1, generator=generator).item()
    generator = set_seed(5)
    assert first == (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002
    assert own == torch.rand(1, generator=generator).item()

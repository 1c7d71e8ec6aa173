"""The code of diffusers-interpret's README, with its import, its model and its sizes changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

FIRST = """
import torch
from contextlib import nullcontext
from diffusers import StableDiffusionPipeline
from diffusers_interpret import StableDiffusionPipelineExplainer

device = 'cuda' if torch.cuda.is_available() else 'cpu'

pipe = load_demo_pipeline().to(device)

# Enabling attention slicing to require less GPU memory
pipe.enable_attention_slicing()

# pass pipeline to the explainer class
explainer = StableDiffusionPipelineExplainer(
    pipe,
    gradient_checkpointing=True # this also reduces GPU memory usage, but makes computation slower
)

# generate an image with `explainer`
prompt = "A cute corgi with the Eiffel Tower in the background"
generator = torch.Generator(device).manual_seed(2022)
with torch.autocast('cuda') if device == 'cuda' else nullcontext():
    output = explainer(
        prompt,
        num_inference_steps=4,
        generator=generator
    )

whole = output

output = explainer(
    prompt,
    num_inference_steps=4,
    generator=generator,
    height=96,
    width=160,
    n_last_diffusion_steps_to_consider_for_attributions=2
)
last = output
output.image
output.all_images_during_generation.show()
output.token_attributions # (token, attribution)
output.normalized_token_attributions # (token, attribution_percentage)

generator = torch.Generator(device).manual_seed(2022) # re-use generator
with torch.autocast('cuda') if device == 'cuda' else nullcontext():
    output = explainer(
        prompt,
        num_inference_steps=4,
        generator=generator,
        explanation_2d_bounding_box=((18, 45), (100, 109)), # (upper left, bottom right)
    )
output.image
output.normalized_token_attributions # (token, attribution_percentage)
"""

SECOND = """
from diffusers import StableDiffusionImg2ImgPipeline
from diffusers_interpret import StableDiffusionImg2ImgPipelineExplainer

pipe = StableDiffusionImg2ImgPipeline(**demo.components, requires_safety_checker=False)

explainer = StableDiffusionImg2ImgPipelineExplainer(pipe)

prompt = "A fantasy landscape, trending on artstation"

init_image = init_image.resize((128, 96))

output = explainer(
    prompt=prompt, init_image=init_image, strength=0.75, guidance_scale=7.5, num_inference_steps=4
)
output.input_saliency_map.show()
output.pixel_attributions
output.normalized_pixel_attributions
"""

THIRD = """
from diffusers import StableDiffusionInpaintPipeline
from diffusers_interpret import StableDiffusionInpaintPipelineExplainer

pipe = StableDiffusionInpaintPipeline(**demo.components, requires_safety_checker=False)

explainer = StableDiffusionInpaintPipelineExplainer(pipe)

prompt = "a cat sitting on a bench"

output = explainer(
    prompt=prompt, init_image=init_image, mask_image=mask_image, strength=0.75, guidance_scale=7.5,
    num_inference_steps=4
)
output.input_saliency_map.show()
"""


def run(code: str, **given: Any) -> dict[str, Any]:
    """With the import changed."""
    code = code.replace(
        "from diffusers_interpret import", "from diffusers_rdaam.compat.diffusers_interpret import"
    )
    found = dict(given)
    head = "from diffusers_rdaam import load_demo_pipeline\n"
    exec(compile(head + code, "README", "exec"), found)  # the README's own words
    return found


def picture(width: int, height: int) -> Image.Image:
    levels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(levels)


@pytest.fixture
def slider(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a notebook would show; IPython is not needed for that."""
    import sys
    from types import ModuleType

    shown: list[str] = []
    module: Any = ModuleType("IPython.display")
    module.HTML, module.display = str, shown.append
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def test_text_to_image(slider: list[str]) -> None:
    found = run(FIRST)
    whole, last, boxed = found["whole"], found["last"], found["output"]
    names = "a cute corgi with the eiffel tower in the background"
    joined = "".join(token.lower() for token, _ in whole.token_attributions)
    assert joined == names.replace(" ", "")
    assert sum(share for _, share in whole.normalized_token_attributions) == pytest.approx(
        100, abs=0.1
    )
    assert whole["image"] is whole.image and whole.image.size == (128, 128)
    assert last.image.size == (160, 96) and len(last.all_images_during_generation) == 4
    assert "<iframe" in slider[0] and "step 4 of 4" in slider[0]
    # The last of the images on the way is the result.
    difference = np.asarray(whole.all_images_during_generation[-1], dtype=float)
    assert abs(difference - np.asarray(whole.image)).max() <= 1
    # The box is drawn where it was explained: x first.
    assert boxed.explanation_2d_bounding_box == ((18, 45), (100, 109))
    changed = np.asarray(boxed.image) != np.asarray(whole.image)
    rows, columns = np.nonzero(changed.any(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (45, 108, 18, 99)
    assert np.asarray(boxed.image)[45, 18].tolist() == [255, 0, 0]
    assert boxed.normalized_token_attributions != whole.normalized_token_attributions


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_image_to_image(demo: Any, tmp_path: Path) -> None:
    found = run(SECOND, demo=demo, init_image=picture(64, 48))
    output = found["output"]
    figure = pyplot.gcf()
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["Image", "Pixel attributions", "Image Overlayed"]
    shown = figure.axes[0].get_images()[0].get_array()
    np.testing.assert_allclose(shown * 255, np.asarray(found["init_image"]), atol=1)
    pyplot.close("all")
    assert output.pixel_attributions.shape == (96, 128)
    assert isinstance(output.pixel_attributions, np.ndarray)
    assert output.normalized_pixel_attributions.sum() == pytest.approx(100, rel=1e-4)
    assert output.pixel_attributions[:4].saliency_map is output.input_saliency_map
    path = output.all_images_during_generation.gif(tmp_path / "steps.gif", show=False)
    with Image.open(path) as gif:
        assert gif.n_frames == 3 and gif.size == (128, 96)


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_inpainting(demo: Any) -> None:
    mask = Image.new("L", (128, 96))
    mask.paste(255, (32, 16, 96, 64))
    found = run(THIRD, demo=demo, init_image=picture(128, 96), mask_image=mask)
    output = found["output"]
    assert output.image.size == (128, 96) and output.pixel_attributions.shape == (96, 128)
    shown = np.asarray(pyplot.gcf().axes[0].get_images()[0].get_array())
    # What is painted anew is grey.
    assert abs(shown[20:60, 40:90] - 0.5).max() < 1e-6 and shown[70:].std() > 0.1
    pyplot.close("all")
    output.input_saliency_map.show(apply_mask=True)
    colours = np.asarray(pyplot.gcf().axes[1].get_images()[0].get_array())
    assert (colours[70:] == colours[80, 5]).all() and not (colours[:60] == colours[80, 5]).all()
    pyplot.close("all")

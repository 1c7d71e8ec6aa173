"""The code of DAAM-I2I's README, with its import and its model changed and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib import pyplot

from diffusers_rdaam.attention.processor import RDAAMProcessor

README = """
# Plotting
from matplotlib import pyplot as plt

# Data Handling
import numpy as np

# Image Processing
from PIL import Image

# Image Generation
from diffusers import StableDiffusionPipeline
import daami2i

DEVICE = 'cuda' # device

model = StableDiffusionPipeline.from_pretrained('stabilityai/stable-diffusion-2-base')
model = model.to(DEVICE) # Set it to something else if needed, make sure DAAM supports that

prompt = 'Dinner table with chairs and flower pot'

# Image generation
with daami2i.trace(model) as trc:
  output_image = model(prompt).images
  global_heat_map = trc.compute_global_heat_map()

display(output_image[0]) # Output image

# Example
# Compute heatmap for latent pixel lists row-major. It will return the heatmap for pixels \
# [0,1,..,1023]
pixel_heatmap = global_heat_map.compute_pixel_heat_map(list(range(CELLS)))\
.expand_as(output_image[0]).numpy()

# Casting heatmap from 0-1 floating range to 0-255 unsigned 8 bit integer
heatmap = np.array(pixel_heatmap * 255, dtype = np.uint8)

plt.imshow(heatmap)
display(heatmap)

# Example
# Compute heatmap for latent bbox pixels with corners specified
pixel_heatmap = global_heat_map.compute_bbox_heat_map(0,10,25,64).expand_as(output_image[0]).numpy()

# Casting heatmap from 0-1 floating range to 0-255 unsigned 8 bit integer
heatmap = np.array(pixel_heatmap * 255, dtype = np.uint8)

plt.imshow(heatmap)
display(heatmap)

# Example
# Compute heatmap for inner pixels for contour boundary specified
pixel_heatmap = global_heat_map.compute_contour_heat_map([[0,300], [256, 100], [512, 300], \
[512, 400], [0, 400], [0, 300]], 512, 512).expand_as(output_image[0]).numpy()

# Casting heatmap from 0-1 floating range to 0-255 unsigned 8 bit integer
heatmap = np.array(pixel_heatmap * 255, dtype = np.uint8)

plt.imshow(heatmap)
display(heatmap)
"""


def ours(code: str) -> str:
    """The import changed, and the embedded model, whose grid has 256 cells."""
    code = code.replace("import daami2i", "from diffusers_rdaam.compat import daami2i")
    hub = "StableDiffusionPipeline.from_pretrained('stabilityai/stable-diffusion-2-base')"
    code = code.replace(hub, "load_demo_pipeline()").replace("DEVICE = 'cuda'", "DEVICE = 'cpu'")
    code = code.replace("range(CELLS)", "range(64)")
    return "from diffusers_rdaam import load_demo_pipeline\n" + code


def test_the_readme() -> None:
    shown: list[Any] = []
    found: dict[str, Any] = {"display": shown.append}
    exec(compile(ours(README), "README", "exec"), found)  # the README's own words
    pyplot.close("all")
    image, *maps = shown
    assert image is found["trc"].last_image
    assert found["global_heat_map"].heat_maps.shape == (256, 16, 16)
    assert len(maps) == 3 and all(heatmap.shape == (128, 128) for heatmap in maps)
    assert not np.array_equal(maps[0], maps[1]) and not np.array_equal(maps[1], maps[2])
    # The pipeline is one of this package, and afterwards has the processors that it had.
    model = found["model"]
    assert model(found["prompt"], num_inference_steps=1).attribution.self_grids == ()
    kinds = {
        name: isinstance(processor, RDAAMProcessor)
        for name, processor in model.unet.attn_processors.items()
    }
    assert not any(kinds.values())


def test_a_word_guides(demo: Any) -> None:
    """DAAM's map of a word as a guide: sharper, as its README has it."""
    from diffusers_rdaam.compat import daam, daami2i

    settings: dict[str, Any] = {"num_inference_steps": 6}
    prompt = "a red circle"
    with daam.trace(demo) as tc:
        demo(prompt, generator=torch.Generator().manual_seed(3), **settings)
    word = tc.compute_global_heat_map().compute_word_heat_map("circle")
    with daami2i.trace(demo) as trc:
        demo(prompt, generator=torch.Generator().manual_seed(3), **settings)
    maps = trc.compute_global_heat_map()
    guided = maps.compute_guided_heat_map(word)
    weights = word.heatmap.flatten() / word.heatmap.sum()
    torch.testing.assert_close(
        guided.value.flatten(), weights @ maps.heat_maps.flatten(1), rtol=1e-4, atol=1e-6
    )
    assert guided.expand_as(trc.last_image).shape == (128, 128)

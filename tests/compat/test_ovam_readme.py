"""The code of OVAM's README, with its imports and its model changed and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot

from diffusers_rdaam import load_demo_pipeline
from diffusers_rdaam.compat.ovam import get_device, optimize_embedding

README = """
import torch
import matplotlib.pyplot as plt
from diffusers import StableDiffusionPipeline
from ovam.stable_diffusion import StableDiffusionHooker
from ovam.utils import set_seed

pipe = StableDiffusionPipeline.from_pretrained("runwayml/stable-diffusion-v1-5")
pipe = pipe.to("mps") #mps, cuda, ...

with StableDiffusionHooker(pipe) as hooker:
    set_seed(123456)
    out = pipe("monkey with hat walking")
    image = out.images[0]

ovam_evaluator = hooker.get_ovam_callable(
    expand_size=(512, 512)
  )  # You can configure OVAM here (aggregation, activations, size, ...)

with torch.no_grad():
    attention_maps = ovam_evaluator("monkey with hat walking and mouth")
    attention_maps = attention_maps[0].cpu().numpy() # (8, 512, 512)

# Get maps for monkey, hat and mouth
monkey = attention_maps[1]
hat = attention_maps[3]
mouth = attention_maps[6]

# Plot using matplotlib
fig, (ax0, ax1, ax2, ax3) = plt.subplots(1, 4, figsize=(20, 5))
ax0.imshow(image)
ax1.imshow(monkey, alpha=monkey / monkey.max())
ax2.imshow(hat, alpha=hat / hat.max())
ax3.imshow(mouth, alpha=mouth / mouth.max())
plt.show()
"""


def ours(code: str) -> str:
    """The imports changed, and the embedded model in place of one from a hub."""
    code = code.replace("from ovam.", "from diffusers_rdaam.compat.ovam.")
    hub = 'StableDiffusionPipeline.from_pretrained("runwayml/stable-diffusion-v1-5")'
    code = code.replace(hub, "load_demo_pipeline()").replace('pipe.to("mps")', 'pipe.to("cpu")')
    return "from diffusers_rdaam import load_demo_pipeline\n" + code


# That a window cannot be shown is the test's doing.
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_the_readme() -> None:
    found: dict[str, Any] = {}
    exec(compile(ours(README), "README", "exec"), found)  # the README's own words
    pyplot.close("all")
    maps = found["attention_maps"]
    assert maps.shape[1:] == (512, 512) and maps.min() >= 0 and maps.std(axis=(1, 2)).min() > 0
    # The tokens compete at every call, head and layer.
    total = maps.sum(axis=0)
    np.testing.assert_allclose(total, total.mean(), rtol=1e-4)


def test_a_token_for_other_images() -> None:
    """As in its notebook: start token and word, fitted to a mask of one image."""
    from diffusers_rdaam.compat.ovam.stable_diffusion import StableDiffusionHooker

    pipe = load_demo_pipeline()
    generator = torch.Generator().manual_seed(0)
    with StableDiffusionHooker(pipe) as hooker:
        pipe("a red circle", num_inference_steps=3, generator=generator)
    evaluator = hooker.get_ovam_callable()
    start = evaluator.encode_text("a red circle", remove_special_tokens=False)[[0, 3]]
    with torch.no_grad():
        size = evaluator(start).shape[-2:]
    mask = torch.zeros(size)
    mask[: size[0] // 2] = 1
    target = torch.stack([1 - mask, mask])[None]
    losses: list[float] = []
    token = optimize_embedding(
        evaluator,
        start,
        target,
        epochs=15,
        initial_lr=3.0,
        callback=lambda epoch, x, maps, loss: losses.append(float(loss.detach())),
    )
    assert min(losses) < losses[0]
    with torch.no_grad():
        word = evaluator(token)[0, 1]
    assert float((word * mask).sum() / word.sum()) > 0.5
    assert get_device() in ("cpu", "cuda", "mps")

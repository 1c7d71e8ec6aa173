"""diffusers-interpret 0.5.0's numbers by its own names, on the predecessors' model."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from matplotlib import pyplot
from PIL import Image
from predecessors import tensors

from diffusers_rdaam import explain_gradient
from diffusers_rdaam.compat.diffusers_interpret import (
    AttributionAlgorithm,
    AttributionMethods,
    GeneratedImages,
    StableDiffusionImg2ImgPipelineExplainer,
    StableDiffusionPipelineExplainer,
    TokenAttributions,
)
from diffusers_rdaam.errors import InputError, RegionError, UnsupportedPipelineError

FILE = "parity/data/diffusers_interpret.safetensors"
SMALL: dict[str, Any] = {"num_inference_steps": 2, "height": 64, "width": 96}


def corners(box: Any) -> Any:
    """Theirs took rows first, and drew columns first; here both are columns first."""
    return tuple(tuple(reversed(corner)) for corner in box)


def test_the_last_steps_of_a_box(tiny: Any, latents: torch.Tensor, close: Any) -> None:
    stored, facts = tensors(FILE)
    run = "box3.grad_x_input.last2"
    box = corners(facts["p0_simple.boxes"][run])
    output = StableDiffusionPipelineExplainer(tiny, verbose=False)(
        facts["p0_simple"],
        latents=latents,
        num_inference_steps=4,
        guidance_scale=7.5,
        explanation_2d_bounding_box=box,
        n_last_diffusion_steps_to_consider_for_attributions=2,
        get_images_for_all_inference_steps=False,
    )
    scores = torch.tensor([score for _, score in output.token_attributions])
    close(scores, stored[f"p0_simple.{run}"])
    assert output.all_images_during_generation is None


def small(pipe: Any, **options: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    explainer = StableDiffusionPipelineExplainer(pipe, verbose=False)
    return explainer("a red cat", generator=generator, **(SMALL | options))


def test_methods_and_tokens(tiny: Any) -> None:
    plain = small(tiny)
    named = small(tiny, attribution_method=AttributionAlgorithm.GRAD_X_INPUT)
    assert named.token_attributions == plain.token_attributions
    # Theirs failed.
    means = small(tiny, attribution_method=AttributionMethods("mean_grad"))
    assert means.token_attributions != plain.token_attributions
    special = small(tiny, consider_special_tokens=True, clean_token_prefixes_and_suffixes=False)
    assert len(special.token_attributions) == 77
    assert special.token_attributions[0][0] == tiny.tokenizer.bos_token
    names = [token for token, _ in special.token_attributions[1:4]]
    assert names == tiny.tokenizer.tokenize("a red cat")
    assert [token for token, _ in plain.token_attributions] == ["a", "red", "cat"]
    assert [s for _, s in special.token_attributions[1:4]] == [
        s for _, s in plain.token_attributions
    ]


def test_no_scores_and_the_pipeline_as_it_was(tiny: Any) -> None:
    before = dict(tiny.__dict__)
    state = torch.random.get_rng_state()
    off = small(tiny, n_last_diffusion_steps_to_consider_for_attributions=0)
    assert off.token_attributions is None and off.normalized_token_attributions is None
    on = small(tiny, output_type=None)
    assert on.image.shape == (64, 96, 3)
    np.testing.assert_allclose(on.image * 255, np.asarray(off.image), atol=1)
    assert tiny.__dict__ == before and torch.is_grad_enabled()
    assert torch.equal(state, torch.random.get_rng_state())
    explainer = StableDiffusionPipelineExplainer(tiny)
    explainer.gradient_checkpointing_enable()
    assert explainer.gradient_checkpointing
    explainer.gradient_checkpointing_disable()
    assert not explainer.gradient_checkpointing


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_plots_of_tokens() -> None:
    tokens = TokenAttributions([("the", 1.0), ("cow", 2.0), ("the", 1.0)])
    assert tokens.normalized == [("the", 25.0), ("cow", 50.0), ("the", 25.0)]
    for kind in ("bar", "barh", "pie"):
        tokens.plot(kind, normalize=True)
        axes = pyplot.gcf().axes[0]
        assert axes.get_title() == "Normalized Token Attributions"
        # A token that stands twice has two bars.
        assert len(axes.patches) == 3
        pyplot.close("all")
    with pytest.raises(InputError, match="'dots' is not a plot of tokens"):
        tokens.plot("dots")


def test_pixels_are_those_of_the_core(tiny: Any) -> None:
    pipe = StableDiffusionImg2ImgPipeline(**tiny.components, requires_safety_checker=False)
    levels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    image = Image.fromarray(levels)

    def settings() -> dict[str, Any]:
        return {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(0)}

    explainer = StableDiffusionImg2ImgPipelineExplainer(pipe, verbose=False)
    box = ((10, 20), (60, 50))
    output = explainer("a cat", image, explanation_2d_bounding_box=box, **settings())
    wanted = explain_gradient(pipe, "a cat", region=(10, 20, 60, 50), image=image, **settings())
    np.testing.assert_allclose(output.pixel_attributions, wanted.pixels.values, rtol=1e-4)
    assert output.pixel_attributions.std() > 0 and output.explanation_2d_bounding_box == box
    last = explainer(
        "a cat", image, n_last_diffusion_steps_to_consider_for_attributions=1, **settings()
    )
    assert last.pixel_attributions is None and last.input_saliency_map is None
    assert last.normalized_pixel_attributions is None and last.token_attributions


def test_images_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    images = GeneratedImages([Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")])
    assert len(images) == 2 and list(images)[1] is images[-1] and len(images[:1]) == 1
    assert "step 2 of 2" in images.html() and "srcdoc=" in images._repr_html_()
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    images.show()
    (page,) = tmp_path.glob("images-*.html")
    assert capsys.readouterr().out == f"The slider is in {page}: open it in a browser.\n"
    assert page.read_text(encoding="utf-8") == images.html()
    assert images.gif(tmp_path / "steps.gif").exists()
    with pytest.raises(InputError, match="could not be written"):
        images.gif(tmp_path / "none" / "steps.gif", show=False)
    with pytest.raises(InputError, match="no images on the way"):
        GeneratedImages([])


def test_what_is_refused(tiny: Any) -> None:
    for options, error, message in (
        ({"init_image": Image.new("RGB", (8, 8))}, InputError, "does not take init_image="),
        ({"output_type": "np"}, InputError, "'pil' or None"),
        ({"explanation_2d_bounding_box": (1, 2, 3, 4)}, InputError, r"\(\(left, top\), \(right"),
        ({"explanation_2d_bounding_box": ((90, 70), (99, 80))}, RegionError, "outside"),
        ({"attribution_method": "other"}, InputError, "'other'"),
    ):
        with pytest.raises(error, match=message):
            small(tiny, get_images_for_all_inference_steps=False, **options)
    with pytest.raises(UnsupportedPipelineError):
        StableDiffusionPipelineExplainer(object())
    with pytest.raises(InputError, match="needs init_image="):
        StableDiffusionImg2ImgPipelineExplainer(tiny)("a cat")

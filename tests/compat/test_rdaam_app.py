"""rdaam's page under its names: painted regions as bars, and no tunnel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from diffusers_rdaam import InputError, StableDiffusionRDAAMPipeline
from diffusers_rdaam.compat.rdaam import ReverseDAAMAnalyzer
from diffusers_rdaam.compat.rdaam import app as ui

TINY = "tests/data/tiny_sd"


@pytest.fixture(scope="module")
def analyzer(request: pytest.FixtureRequest) -> ReverseDAAMAnalyzer:
    pipe = StableDiffusionPipeline.from_pretrained(
        request.config.rootpath / TINY, safety_checker=None
    )
    pipe.set_progress_bar_config(disable=True)
    return ReverseDAAMAnalyzer(pipe)


def test_what_is_painted_in_any_layer_is_analysed(analyzer: Any) -> None:
    image = ui.generate_image("a cat", 1, 2, analyzer=analyzer)
    assert image is not None and ui.generate_image("", analyzer=analyzer) is None
    layers = np.zeros((2, image.height, image.width, 4), dtype=np.uint8)
    layers[0, :20, :20, 3] = 255
    layers[1, 30:50, 30:50, 3] = 9
    figure = ui.analyze_drawing({"layers": list(layers)}, analyzer=analyzer)
    both = (layers[..., 3] > 0).any(axis=0)
    words = analyzer.attribution.region(torch.from_numpy(both).float())
    assert figure is not None
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    # Without the start, as rdaam counts: the prompt's tokens are columns 1 and 2.
    assert heights == pytest.approx(words.scores[1 : 1 + len(heights)].tolist())
    assert ui.analyze_drawing(None, analyzer=analyzer) is None
    assert ui.analyze_drawing({"layers": []}, analyzer=analyzer) is None


def test_no_tunnel_is_opened() -> None:
    with pytest.raises(InputError, match="not done here"):
        ui.demo.launch(share=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_page_has_the_model(analyzer: Any) -> None:
    server = ui.Demo(analyzer.pipe).server(port=0)
    try:
        (denoiser,) = server._denoisers
        run = denoiser.submit(lambda pipelines, run: pipelines.pipe())
        assert run.wait(60) and isinstance(run.outcome(), StableDiffusionRDAAMPipeline)
    finally:
        server.close()

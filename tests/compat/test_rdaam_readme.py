"""The code of rdaam's README, with its import and its model changed and nothing else."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from matplotlib.figure import Figure

from diffusers_rdaam.compat.rdaam import ReverseDAAMAnalyzer, ReverseDAAMBatch, setup_logger
from diffusers_rdaam.demo.loader import WEIGHTS
from diffusers_rdaam.errors import RegionError

REVERSE = """
from rdaam import run_reverse_daam

# Analyze which words contributed to a bounding box region
image, tokens, scores = run_reverse_daam(
    prompt="A cat with blue eyes",
    seed=42,
    steps=50,
    model_id="CompVis/stable-diffusion-v1-4",
    bbox=[100, 100, 300, 300]  # [x_min, y_min, x_max, y_max]
)
"""

FORWARD = """
from rdaam import run_forward_daam
from diffusers import DiffusionPipeline

# Load pipeline once
pipe = DiffusionPipeline.from_pretrained("CompVis/stable-diffusion-v1-4")
pipe.to("cuda")

# Analyze which regions a word contributed to
image, heatmap, mask = run_forward_daam(
    pipe=pipe,
    prompt="A cat with blue eyes",
    word="eyes",
    seed=42
)
"""

INTERACTIVE = """
from rdaam import ReverseDAAMAnalyzer

# For interactive applications (e.g., Gradio)
analyzer = ReverseDAAMAnalyzer()

# Generate image
image = analyzer.generate("A cat with a hat", seed=42)

# Analyze a drawn mask
fig = analyzer.analyze_mask(mask_array)
"""

LOGGING = """
from r_daam.utils.logging import setup_logger
import logging

# Enable debug logging
logger = setup_logger(__name__, level=logging.DEBUG)

# Log to file
logger = setup_logger(__name__, log_file="daam_analysis.log")
"""


def run(code: str, **given: Any) -> dict[str, Any]:
    """Run it with the import changed, and the embedded model in place of one from a hub."""
    code = re.sub(
        r"from (rdaam|r_daam\S*) import", "from diffusers_rdaam.compat.rdaam import", code
    )
    code = code.replace('"CompVis/stable-diffusion-v1-4"', repr(str(WEIGHTS)))
    code = code.replace("ReverseDAAMAnalyzer()", f"ReverseDAAMAnalyzer({str(WEIGHTS)!r})")
    code = code.replace('pipe.to("cuda")', 'pipe.to("cpu")')
    found: dict[str, Any] = {"__name__": "readme"} | given
    exec(compile(code, "README", "exec"), found)  # the README's own words
    return found


def test_reverse() -> None:
    found = run(REVERSE)
    tokens, scores = found["tokens"], found["scores"]
    # The embedded tokenizer spells what it was not trained on.
    assert "".join(tokens) == "acatwithblueeyes"
    assert scores.shape == (len(tokens),) and np.all(scores > 0) and scores.sum() < 1
    assert found["image"].size == (128, 128)


def test_forward() -> None:
    found = run(FORWARD)
    assert type(found["pipe"]) is StableDiffusionPipeline
    heat_map, mask = found["heatmap"], found["mask"]
    assert heat_map.shape == mask.shape == (128, 128)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(mask > 0, heat_map > 0.5 * heat_map.max())


def test_interactive() -> None:
    mask = np.zeros((128, 128, 4), dtype=np.uint8)
    mask[:50, :100, 0] = 3
    found = run(INTERACTIVE, mask_array=mask)
    analyzer, figure = found["analyzer"], found["fig"]
    assert isinstance(figure, Figure) and analyzer.last_image is found["image"]
    axes = figure.axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    assert [label.get_text() for label in axes.get_xticklabels()] == analyzer.decoded_tokens[1:-1]
    painted = torch.from_numpy(mask[..., 0] > 0)
    means = analyzer.global_map[painted].mean(dim=0)[1 : len(heights) + 1]
    np.testing.assert_allclose(heights, means.numpy(), rtol=1e-4)
    assert analyzer.analyze_mask(np.zeros((128, 128))) is None
    with pytest.raises(RegionError):
        analyzer.analyze_mask(np.ones((64, 128)))


def test_nothing_to_analyze_is_none_and_logged(demo: Any, caplog: Any) -> None:
    analyzer = ReverseDAAMAnalyzer(demo)
    assert analyzer.pipe is demo and analyzer.global_map is None
    assert analyzer.analyze_mask(np.ones((128, 128))) is None
    assert "There is no image yet" in caplog.text


def test_many_boxes_of_one_run(demo: Any) -> None:
    batch = ReverseDAAMBatch(demo, device="cpu")
    global_map, tokens, image = batch.generate_map("a red circle", seed=1, steps=2)
    assert tokens[1:-1] == ["a", "red", "circle"] and image.size == (128, 128)
    for box in ([0, 0, 64, 128], [64, 0, 128, 128]):
        scores, own = batch.extract_bbox_scores(global_map, tokens, box)
        expected = demo.attribution.region(tuple(box))
        assert own == tokens[1:-1]
        assert scores[2] == pytest.approx(expected["circle"], rel=1e-4)


def test_a_long_prompt_has_no_more_tokens_than_columns(demo: Any) -> None:
    batch = ReverseDAAMBatch(demo)
    with pytest.warns(UserWarning, match="longer than the text encoder"):
        global_map, tokens, _ = batch.generate_map("red " * 100, steps=1)
    assert len(tokens) == global_map.shape[2] == 77
    scores, own = batch.extract_bbox_scores(global_map, tokens, [0, 0, 9, 9])
    # rdaam counts 102 tokens, and takes a red for the end.
    assert own == ["red"] * 75 and len(scores) == 75


def test_logging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    found = run(LOGGING)
    logger = found["logger"]
    try:
        assert logger.name == "readme" and logger.level == logging.INFO
        assert len(logger.handlers) == 1, "lines are written once"
        logger.info("seen")
        assert "readme - INFO - seen" in capsys.readouterr().out
    finally:
        logger.handlers.clear()
    written = setup_logger("readme.file", log_file="daam_analysis.log", console=False)
    try:
        written.warning("kept")
        assert "readme.file - WARNING - kept" in Path("daam_analysis.log").read_text()
    finally:
        for handler in written.handlers:
            handler.close()
        written.handlers.clear()

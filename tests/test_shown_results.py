"""Every public result says in a line or two what is inside; in a notebook most show themselves."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from PIL import Image

import diffusers_rdaam as rdaam
from diffusers_rdaam.attribution.prompt import Match
from diffusers_rdaam.attribution.site_queries import SiteQueries
from diffusers_rdaam.pipelines.output import with_attributions

BOX = (10, 10, 60, 50)
LONGEST = 600
# Options and what stands for a run that goes on; they hold no result.
NO_RESULTS = {
    "ClassName", "DataSet", "DenoiserRecording", "DenseCRF", "MapRecipe", "Maps", "MaskOptions",
    "ObjectClass", "OptimizationStep", "OptimizedToken", "PromptRow", "Protocol", "QueryOptions",
    "Recording", "RecordingOptions", "Sample", "SavedAttention", "Schedule", "Target",
}  # fmt: skip


def _attribution(make_attribution) -> rdaam.Attribution:
    plain = make_attribution()
    tokens = len(plain.prompt.tokens)
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 2, tokens, 8, 12, generator=generator).softmax(dim=2)
    stack = rdaam.MapStack(maps, (1, 1, 1), ("mid_block.attn2",))
    kept = rdaam.KeptMaps(("steps", "heads"), (stack,), (900.0, 500.0, 100.0))
    grid = rdaam.Grid(maps.mean(dim=(0, 1)), 3, ("mid_block.attn2",))
    sums = torch.rand(24, 24, generator=generator).softmax(dim=0) * 3
    site = SiteQueries("mid_block.attn2", (8, 12), 2, 4, (0,), (torch.zeros(2, 96, 4),))
    return dataclasses.replace(
        plain,
        grids=(grid,),
        kept=kept,
        self_grids=(rdaam.SelfGrid(sums, 3, (4, 6)),),
        queries=rdaam.Queries((site,)),
        vocabulary={"a dog": make_attribution("a dog", grids=((8, 12),))},
    )


def _results(make_attribution) -> dict[str, object]:
    attribution = _attribution(make_attribution)
    prompt, image = attribution.prompt, attribution.image
    words = attribution.region(BOX)
    tokens = len(prompt.tokens)
    matches = (Match("cat", ((2, 5),), (1,)), Match("red", ((28, 31),), (9,)))
    changes = ((0.2, 0.1, 0.05), (0.3, 0.1, 0.0))
    pixels = rdaam.InputPixels(torch.rand(64, 96), "max_grad", image)
    gradient = rdaam.GradientWords(
        prompt, words.region, image, torch.rand(tokens), "grad_x_input", pixels=pixels
    )
    ablation = rdaam.AblationWords(prompt, words.region, image, matches, changes, (image, image))
    frames = rdaam.FrameMapping.causal(2, 4)
    video = rdaam.VideoAttribution((attribution, attribution), frames, (image,) * 5)
    made = [
        attribution, attribution["cat"], words, words[0], attribution.inside(BOX),
        attribution.inside(BOX)[0], attribution.self_attention,
        attribution.self_attention.diffused(), attribution.self_grids[0], attribution.steps,
        attribution["cat"].over_time(),
        attribution.vocabulary, attribution.queries, attribution.queries.sites[0],
        attribution.grids[0], attribution.kept, attribution.kept.details[0], prompt,
        prompt.tokens[1], prompt.words[0], words.region, rdaam.Mask(torch.eye(64, 96)),
        rdaam.Polygon(((0, 0), (9, 0), (9, 9))), pixels, gradient, gradient[0], ablation,
        ablation[0], rdaam.compare_explanations(gradient=gradient, ablation=ablation),
        rdaam.DeletionCurve(("cat", "red"), (0.0, 0.1, 0.2)), video, video.frame_mapping,
        video["cat"], video["cat"].over_frames(), rdaam.compare(attribution, attribution),
        rdaam.compare(attribution, attribution)["cat"], attribution.aggregated("rdaam"),
        rdaam.aggregations()["mean"],
        *_segmentation(attribution), *_of_many(),
    ]  # fmt: skip
    stock = StableDiffusionPipelineOutput(images=[image], nsfw_content_detected=None)
    found: dict[str, object] = {type(one).__name__: one for one in made}
    found["output"] = with_attributions(stock, [attribution], None)
    return found


def _segmentation(attribution: rdaam.Attribution) -> list[object]:
    facts = rdaam.SampleFacts("000001", "a cat", 3, {"cat": 0.2})
    marked = rdaam.AnnotatedObject("cat", (1, 2, 9, 9))
    return [
        *(rdaam.segment(attribution, ["cat", "mat"]), facts, rdaam.choose([facts])),
        *(marked, rdaam.Annotations((marked,), ("cat",), (64, 96))),
    ]


def _of_many() -> list[object]:
    row = {"id": "a", "cluster": "a", "status": "error", "error": "no <such> file"}
    evaluation = rdaam.Evaluation(
        "daam (strict)", True, False, ("miou",), ("mean",), (row,), {"data": "drawn"}
    )
    files = (Path("out/rows-00000.parquet"),)
    values = {"id": "a", "prompt": "a cat", "error": None}
    return [
        *(evaluation, evaluation.table(), rdaam.BatchRow(values)),
        rdaam.BatchSummary(Path("out"), 2, 1, files, 2, 1.0, "no image"),
    ]


@pytest.fixture(scope="module")
def shown(make_attribution) -> MappingProxyType:
    return MappingProxyType(_results(make_attribution))


def test_none_is_forgotten(shown):
    public = {name for name in rdaam.__all__ if dataclasses.is_dataclass(getattr(rdaam, name))}
    public |= {"Vocabulary"}
    abstract = {"RankedWords"}
    assert public - NO_RESULTS - abstract == set(shown) & public, public - set(shown)


def test_a_repr_is_a_line_or_two_without_tensors(shown):
    for name, result in shown.items():
        text = repr(result)
        assert len(text) <= LONGEST and text.count("\n") <= 1, (name, text)
        assert "tensor(" not in text and "array(" not in text and "<PIL" not in text, (name, text)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Attribution", "cat 0."), ("HeatMap", "'cat'"), ("RegionWords", "by lift: "),
        ("WordsInside", "by inside: "), ("GradientWords", "by share: "),
        ("AblationWords", "by score: red 0.3, cat 0.2"), ("Timeline", "'cat', 3 steps"),
        ("Steps", "Steps(3 of "), ("Vocabulary", "Vocabulary(1 text: 'a dog')"),
        ("output", "images=1 x image 96x64"), ("Prompt", "'a cat with"),
        ("VideoAttribution", "5 frames of 96x64 from 2"), ("VideoHeatMap", "'cat', 5 frames"),
        ("FrameTimeline", "'cat', 5 frames"), ("FrameMapping", "each later one 4 frames"),
        ("Evaluation", "1 failed, the first a: no <such> file"),
        ("EvaluationTable", "strict, real"),
        ("BatchRow", "'a cat'"), ("BatchSummary", "errors=1"),
    ],
)  # fmt: skip
def test_a_repr_says_what_is_inside(shown, name, wanted):
    assert wanted in repr(shown[name])


PICTURES = {
    "Attribution", "HeatMap", "RegionWords", "WordsInside", "GradientWords", "AblationWords",
    "SelfAttention", "Segments", "Timeline", "InputPixels", "Vocabulary", "output",
    "VideoAttribution", "VideoHeatMap", "FrameTimeline", "AttributionComparison", "Segmentation",
}  # fmt: skip
TABLES = {
    "RegionWords", "WordsInside", "GradientWords", "AblationWords", "Steps", "Comparison",
    "AttributionComparison", "Evaluation", "EvaluationTable",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(PICTURES | TABLES))
def test_a_notebook_shows_it(shown, name):
    html = shown[name]._repr_html_()
    assert ("data:image/png;base64," in html) == (name in PICTURES)
    assert ("<table>" in html) == (name in TABLES)
    for tag in ("div", "p", "figure", "figcaption", "span", "table"):
        assert len(re.findall(rf"<{tag}[ >]", html)) == html.count(f"</{tag}>"), tag


# The scale of a film strip is in its picture.
IN_THE_PICTURE = {"Timeline", "FrameTimeline", "VideoHeatMap"}


# Segments have a legend of their colours; the images of two runs stand there without colours.
@pytest.mark.parametrize(
    "name",
    sorted(PICTURES - IN_THE_PICTURE - {"Segments", "Segmentation", "AttributionComparison"}),
)
def test_colours_have_a_scale(shown, name):
    html = shown[name]._repr_html_()
    assert "linear-gradient" in html


def test_classes_have_a_legend(shown):
    html = shown["Segmentation"]._repr_html_()
    assert "background:rgb(128,0,0)" in html and "cat: " in html and "mat: " in html


def test_segments_have_a_legend(shown):
    segments = shown["Segments"]
    html = segments._repr_html_()
    assert html.count("background:rgb(") == min(len(segments), 12)
    assert f"0: {segments.areas[0]:.1%}" in html


def test_an_output_says_why_there_is_no_attribution():
    image = Image.new("RGB", (96, 64))
    stock = StableDiffusionPipelineOutput(images=[image], nsfw_content_detected=None)
    output = with_attributions(stock, None, "<It> failed.")
    assert repr(output).endswith("(images=1 x image 96x64, attributions=None)")
    assert "&lt;It&gt; failed." in output._repr_html_()
    arrays = StableDiffusionPipelineOutput(np.zeros((2, 64, 96, 3)), [False, True])
    text = repr(with_attributions(arrays, None, None))
    assert "images=ndarray (2, 64, 96, 3)" in text and "nsfw_content_detected=" in text

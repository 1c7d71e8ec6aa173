"""One word over the steps: each step's map is that of the step's attribution."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.errors import InputError, NoAttributionError, RegionError

MID = "mid_block.attentions.0.transformer_blocks.0.attn2"
COUNTS = {
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2": (1, 0, 1, 0, 1),
    MID: (0, 2, 0, 3, 1),
}
AXES = [("steps",), ("steps", "layers", "heads")]


@pytest.mark.parametrize("axes", AXES, ids="+".join)
@pytest.mark.parametrize("word", ["cat", "blue eyes", (0, 12)])
def test_each_step_is_that_of_the_steps_attribution(make_kept, axes, word):
    attribution, _ = make_kept(axes, counts=COUNTS)
    attribution = attribution.select(resolutions={(8, 12): 0.3, (4, 6): 1.0, (2, 3): 2.0})
    timeline = attribution[word].over_time()
    assert len(timeline) == 5 and timeline.timesteps == attribution.kept.timesteps
    for step, heat in enumerate(timeline):
        wanted = attribution.steps[step][word]
        torch.testing.assert_close(heat.values, wanted.values, rtol=1e-5, atol=1e-7)
        assert (heat.text, heat.spans, heat.columns) == (wanted.text, wanted.spans, wanted.columns)
        assert heat.image is attribution.image
    assert torch.equal(timeline[-1].values, heat.values)


def test_half_precision(make_kept):
    attribution, _ = make_kept(dtype=torch.float16)
    heat = attribution["cat"].over_time()[2]
    assert heat.values.dtype == torch.float32
    torch.testing.assert_close(heat.values, attribution.steps[2]["cat"].values)


def test_a_slice_is_a_timeline(make_kept):
    timeline = make_kept()[0]["cat"].over_time()
    part = timeline[1:4]
    assert (len(part), part.steps, part.timesteps) == (3, (1, 2, 3), (800.0, 700.0, 600.0))
    assert torch.equal(part[0].values, timeline[1].values)
    assert torch.equal(part[::2][1].values, timeline[3].values)
    with pytest.raises(InputError, match=r"^There are 3 steps, numbered from 0; there is no 3\.$"):
        part[3]
    with pytest.raises(InputError, match=r"chooses none of the 5 steps\.$"):
        timeline[9:]


@pytest.mark.parametrize("box", [(0, 0, 96, 64), (10, 5, 30, 60), (90, -5, 200, 9)])
def test_mass_is_that_of_each_heat_map(make_kept, box):
    timeline = make_kept(counts=COUNTS)[0]["blue eyes"].over_time()
    masses = timeline.mass(box)
    assert masses == pytest.approx([heat.mass(box) for heat in timeline], rel=2e-5)
    assert len(set(masses)) == 5
    with pytest.raises(RegionError, match="lies outside the image"):
        timeline.mass((200, 0, 300, 10))


def test_cumulative_is_the_mean_of_the_steps_so_far(make_kept):
    attribution, _ = make_kept(counts=COUNTS)
    attribution = attribution.select(resolutions={(8, 12): 0.3, (4, 6): 1.0, (2, 3): 2.0})
    cumulative = attribution["cat"].over_time().cumulative()
    for step, heat in enumerate(cumulative):
        wanted = attribution.steps[: step + 1]["cat"].values
        torch.testing.assert_close(heat.values, wanted, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(cumulative[-1].values, attribution["cat"].values)
    later = attribution["cat"].over_time()[2:].cumulative()
    torch.testing.assert_close(later[-1].values, attribution.steps[2:]["cat"].values)
    assert later.labels[1] == "steps 3 to 4 of 5, timestep 600"
    assert later[1:].labels[0] == "steps 3 to 4 of 5, timestep 600"
    with pytest.raises(InputError, match=r"^This timeline is cumulative already\.$"):
        later.cumulative()


def test_steps_without_a_record_are_left_out(make_kept):
    attribution, _ = make_kept(counts=COUNTS)
    timeline = attribution.select(layers="mid_block")["cat"].over_time()
    assert timeline.steps == (1, 3, 4) and timeline.timesteps == (800.0, 600.0, 500.0)
    wanted = attribution.select(layers="mid_block", steps=3)["cat"].values
    torch.testing.assert_close(timeline[1].values, wanted)
    assert timeline.labels == (
        "step 2 of 5, timestep 800", "step 4 of 5, timestep 600", "step 5 of 5, timestep 500",
    )  # fmt: skip
    assert all(np.isfinite(timeline.mass((0, 0, 96, 64))))


def test_labels_without_timesteps(make_kept):
    from dataclasses import replace

    attribution, _ = make_kept(("steps",))
    attribution = replace(attribution, kept=replace(attribution.kept, timesteps=()))
    timeline = attribution["cat"].over_time()
    assert timeline.labels[:2] == ("step 1 of 5", "step 2 of 5") and timeline.timesteps == ()
    assert timeline[1:].labels[0] == "step 2 of 5"


def test_columns_have_a_timeline_too(make_kept):
    attribution, _ = make_kept()
    ones = sum(attribution.column(i).over_time()[2].values for i in range(17))
    torch.testing.assert_close(ones, torch.ones(64, 96), rtol=0, atol=5e-6)


def test_the_maps_are_kept_as_they_are(make_kept):
    attribution, _ = make_kept()
    before = [detail.maps.clone() for detail in attribution.kept.details]
    timeline = attribution["cat"].over_time()
    for maps in (*timeline.maps, *timeline.cumulative().maps):
        maps.fill_(9.0)
    after = [detail.maps for detail in attribution.kept.details]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_what_was_not_kept(make_kept, make_attribution):
    for attribution in (make_attribution(), make_kept(("heads",))[0]):
        with pytest.raises(NoAttributionError, match=r"^This run did not keep its steps"):
            attribution["cat"].over_time()
    with pytest.raises(InputError) as caught:
        HeatMap(torch.ones(4, 6), "cat").over_time()
    assert str(caught.value) == (
        "The heat map of 'cat' has no attribution, so it has no steps: made by hand, "
        "copied or unpickled, a heat map is its values alone. Ask attribution.word(…).over_time()."
    )


def test_a_heat_map_of_another_size_has_the_same_steps(make_kept):
    attribution, _ = make_kept()
    heat = attribution["cat"].resize((10, 15))
    assert heat.attribution is attribution and "attribution" not in repr(heat)
    assert heat.over_time()[0].size == (64, 96)


@pytest.mark.parametrize("image", [True, False])
def test_film_strip(make_kept, image):
    timeline = make_kept(image=image)[0]["cat"].over_time()
    strip = timeline.film_strip()
    assert strip.mode == "RGB" and strip.width > 5 * 192 and strip.height < 2 * 192
    assert timeline.film_strip(columns=1).height > 5 * 128
    assert timeline.film_strip(every=2).width > 3 * 192 > timeline.film_strip(every=9).width
    for options, text in (
        ({"columns": 0}, "columns= is a whole number from 1; got 0."),
        ({"every": 0}, "every= is a whole number from 1; got 0."),
    ):
        with pytest.raises(InputError) as caught:
            timeline.film_strip(**options)
        assert str(caught.value) == text


def test_one_scale_for_all_steps(make_kept):
    """The brightest pixel stands where the highest value of all steps is, and there only once."""
    timeline = make_kept(image=False)[0]["cat"].over_time()
    frames, (low, high) = timeline._frames(96)
    assert frames[0].size == (96, 64)
    values = torch.stack([heat.values for heat in timeline])
    assert (low, high) == pytest.approx((float(values.min()), float(values.max())))
    brightest = [int(np.asarray(frame).sum(axis=2, dtype=int).max()) for frame in frames]
    peaks = [float(heat.values.max()) for heat in timeline]
    assert np.argsort(brightest).tolist() == np.argsort(peaks).tolist()


def test_no_frame_is_smaller_than_its_grid(make_kept):
    timeline = make_kept(image=False)[0]["cat"].over_time()
    assert timeline._frames(5)[0][0].size == (12, 8)


def test_gif_has_every_step(make_kept, tmp_path):
    timeline = make_kept()[0]["cat"].over_time()
    path = timeline.gif(f"{tmp_path}/cat.gif", duration=0.2)
    with Image.open(path) as animation:
        assert (animation.format, animation.n_frames) == ("GIF", 5)
        assert (animation.info["duration"], animation.info["loop"]) == (200, 0)
    with Image.open(timeline.gif(tmp_path / "few.gif", every=3)) as animation:
        assert animation.n_frames == 3
    with Image.open(timeline[:1].gif(tmp_path / "one.gif")) as animation:
        assert animation.n_frames == 1


def test_plot(make_kept):
    timeline = make_kept()[0]["cat"].over_time()[1:]
    (whole,) = timeline.plot().axes[0].lines
    assert whole.get_xdata().tolist() == [2, 3, 4, 5]
    assert whole.get_ydata().tolist() == pytest.approx(timeline.mass((0, 0, 96, 64)))
    figure = timeline.plot((0, 0, 20, 20))
    region, _ = figure.axes[0].lines
    assert region.get_ydata().tolist() == pytest.approx(timeline.mass((0, 0, 20, 20)))
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["region", "whole image"] and figure.axes[0].get_title() == "cat"
    figure.savefig(io.BytesIO())


@pytest.mark.parametrize("steps", [1, 2, 40])
def test_html(make_kept, steps):
    sites = {MID: (2, 3)}
    attribution, _ = make_kept(("steps",), "<b>'cat\"</b>", steps=steps, sites=sites)
    timeline = attribution["cat"].over_time()
    html = timeline._repr_html_()
    assert set(re.findall(r"</?(\w+)", html)) == {"figure", "img", "figcaption"}
    assert f"Timeline(&#x27;cat&#x27;, {steps} steps, 96x64 pixels, mean " in html
    page = timeline.slider()
    assert page.count("<figure>") == steps and f"step {steps} of {steps}" in page


def test_repr(make_kept):
    timeline = make_kept()[0]["cat"].over_time()
    scores = timeline.mass((0, 0, 96, 64))
    at = f"mean {scores[0]:.3g} at the first to {scores[-1]:.3g} at the last"
    assert repr(timeline) == f"Timeline('cat', 5 steps, 96x64 pixels, {at})"
    assert repr(timeline.cumulative()).startswith("Timeline('cat', cumulative, 5 steps, 96x64 ")

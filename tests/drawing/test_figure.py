"""Figures are returned, and the host's matplotlib is left as it was."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_rdaam.drawing.figure import (
    bars_figure,
    heat_map_figure,
    heat_maps_figure,
    new_figure,
)
from diffusers_rdaam.drawing.overlay import OPACITY
from diffusers_rdaam.errors import PlotExtraError, RDAAMError

HEAT = torch.arange(64.0 * 96.0).reshape(64, 96) / 6144.0
IMAGE = Image.new("RGB", (96, 64), (200, 30, 30))
MAPS = [(f"word{i}", HEAT) for i in range(7)]
BARS = [("cat", 2.5), ("hat", 1.0), ("$\\frac{", 0.2)]
EDGES = [(10.0, 20.0), (30.0, 20.0), (30.0, 40.0), (10.0, 40.0)]


def test_heat_map_has_its_values_a_title_and_a_scale():
    figure = heat_map_figure(HEAT, IMAGE, "cat")
    axes, scale = figure.axes
    assert axes.get_title() == "cat"
    assert scale.get_ylabel() == "attention probability"
    assert np.array_equal(axes.images[-1].get_array(), HEAT.numpy())
    # The image keeps its colours; the map's opacity rises from nothing.
    assert np.array_equal(axes.images[0].get_array(), np.asarray(IMAGE))
    assert [axes.images[-1].cmap(level)[3] for level in (0.0, 1.0)] == [0.0, OPACITY]
    alone = heat_map_figure(HEAT, None, "cat").axes[0]
    assert len(alone.images) == 1 and alone.images[0].cmap(0.0)[3] == 1.0


def test_several_heat_maps_have_a_scale_each_or_one_for_all():
    maps = [("weak", HEAT / 4), ("strong", HEAT + 1.0)]
    figure = heat_maps_figure(maps, IMAGE, "title")
    shown = [axes for axes in figure.axes if axes.images]
    scales = [axes for axes in figure.axes if hasattr(axes, "_colorbar")]
    assert len(scales) == len(maps)
    limits = [axes.images[-1].get_clim() for axes in shown[1:]]
    assert limits[0][1] == pytest.approx(float(HEAT.max()) / 4) and limits[1][0] == 1.0
    figure = heat_maps_figure(maps, IMAGE, "title", shared_scale=True)
    shown = [axes for axes in figure.axes if axes.images]
    assert {axes.images[-1].get_clim() for axes in shown[1:]} == {(0.0, float((HEAT + 1.0).max()))}
    (scale,) = [axes for axes in figure.axes if axes.get_ylabel()]
    assert scale.get_ylabel() == "attention probability"
    heat_maps_figure([], IMAGE, "title", shared_scale=True).savefig(io.BytesIO())


@pytest.mark.parametrize("count", [0, 1, 4, 5, 7])
@pytest.mark.parametrize("image", [IMAGE, None])
def test_heat_maps_stand_five_in_a_row(count, image):
    figure = heat_maps_figure(MAPS[:count], image, "title")
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == count + (image is not None)
    assert [axes.get_title() for axes in shown][-count or len(shown) :] == [
        name for name, _ in MAPS[:count]
    ]
    places = figure.axes[0].get_gridspec()
    assert places.ncols == max(1, min(5, len(shown)))
    assert (places.nrows - 1) * places.ncols < max(len(shown), 1) <= places.nrows * places.ncols
    figure.savefig(io.BytesIO())


@pytest.mark.parametrize("image", [IMAGE, None])
@pytest.mark.parametrize("bars", [BARS, BARS[:1], []])
def test_bars_stand_in_order_best_on_top(bars, image):
    figure = bars_figure(bars, "lift", image, EDGES)
    axes = figure.axes[-1]
    assert [bar.get_width() for bar in axes.patches] == [value for _, value in bars]
    assert [label.get_text() for label in axes.get_yticklabels()] == [name for name, _ in bars]
    assert axes.yaxis_inverted() and axes.get_xlabel() == "lift"
    if image is not None:
        assert all(len(line.get_xdata()) == 5 for line in figure.axes[0].lines)
        assert figure.axes[0].lines[0].get_xdata()[0] == 9.5
    figure.savefig(io.BytesIO())


@pytest.mark.parametrize("text", ["a $\\frac{cat$", "$5 and $6", "50 % _x^2_"])
def test_a_prompt_is_no_formula(text):
    for figure in (
        heat_map_figure(HEAT, IMAGE, text),
        heat_maps_figure([(text, HEAT)], None, text),
        bars_figure([(text, 1.0)], "lift", None, []),
    ):
        figure.savefig(io.BytesIO())
    assert heat_map_figure(HEAT, IMAGE, text).axes[0].get_title() == text


def test_matplotlib_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for call in (
        new_figure,
        lambda: heat_map_figure(HEAT, IMAGE, "cat"),
        lambda: heat_maps_figure(MAPS, IMAGE, "title"),
        lambda: bars_figure(BARS, "lift", IMAGE, EDGES),
    ):
        with pytest.raises(PlotExtraError) as caught:
            call()
        assert str(caught.value) == (
            'Figures need matplotlib. Install it with: pip install "diffusers_rdaam[plot]"'
        )
        assert isinstance(caught.value, (RDAAMError, ImportError))


SCRIPT = """
import sys, io, torch
from PIL import Image
from diffusers_rdaam.drawing import figure
assert not any(name.partition(".")[0] == "matplotlib" for name in sys.modules)
import matplotlib
def settings():
    # All but those whose reading imports pyplot.
    names = [name for name in matplotlib.rcParams if not name.startswith("backend")]
    return {name: matplotlib.rcParams[name] for name in names}
before = settings()
heat, image = torch.rand(6, 9), Image.new("RGB", (9, 6))
for made in (
    figure.heat_map_figure(heat, image, "cat"),
    figure.heat_maps_figure([("cat", heat)], image, "a cat"),
    figure.bars_figure([("cat", 1.0)], "lift", image, [(0, 0), (3, 0), (3, 3)]),
):
    made.savefig(io.BytesIO())
assert "matplotlib.pyplot" not in sys.modules
assert settings() == before
"""


def test_no_global_state():
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        capture_output=True, text=True, env=dict(os.environ), timeout=120, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr

"""DAAM-I2I 0.2.0's numbers by its own names, on the predecessors' model."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from PIL import Image
from predecessors import stock, tensors

from diffusers_rdaam.compat.daam import WordHeatMap
from diffusers_rdaam.compat.daami2i import GlobalHeatMap, PixelHeatMap, trace
from diffusers_rdaam.compat.daami2i.formulas import diffuse_all
from diffusers_rdaam.errors import (
    AlreadyRecordingError,
    InputError,
    NoAttributionError,
    RegionError,
)

FILE = "parity/data/daami2i_p0_simple.safetensors"
SMALL = {"num_inference_steps": 2, "height": 128, "width": 192, "output_type": "latent"}


@cache
def theirs() -> GlobalHeatMap:
    latents = tensors("parity/data/init.safetensors")[0]["latents"]
    with trace(stock()) as trc:
        stock()(
            tensors(FILE)[1]["prompt"],
            latents=latents,
            num_inference_steps=4,
            guidance_scale=7.5,
            output_type="latent",
        )
    return trc.compute_global_heat_map()


def test_cells_and_boxes(close: Any) -> None:
    stored, maps = tensors(FILE)[0], theirs()
    assert maps.heat_maps.shape == (4096, 64, 64) and (maps.latent_h, maps.latent_w) == (64, 64)
    close(maps.heat_maps[::512], stored["global_rows"])
    # Theirs: what a place looks at, over all cells, is the number of steps.
    torch.testing.assert_close(
        maps.heat_maps.sum(dim=0), torch.full((64, 64), 4.0), rtol=1e-3, atol=0
    )
    close(maps.compute_pixel_heat_map(2080).value, stored["pixel_single_2080"])
    close(maps.compute_pixel_heat_map(list(range(1024))).value, stored["pixel_list_0_1023"])
    close(maps.compute_bbox_heat_map(10, 20, 25, 40).value, stored["bbox_10_20_25_40"])
    # Its README's box ends one row below the grid.
    rows = [y * 64 + x for y in range(10, 64) for x in range(26)]
    wanted = maps.compute_pixel_heat_map(rows).value
    assert torch.equal(maps.compute_bbox_heat_map(0, 10, 25, 64).value, wanted)
    # One to the right went on in the next row there.
    inside = maps.compute_bbox_heat_map(50, 50, 63, 60).value
    assert torch.equal(maps.compute_bbox_heat_map(50, 50, 64, 60).value, inside)


def test_contours_and_guides(close: Any) -> None:
    stored, facts = tensors(FILE)
    maps, guide = theirs(), stored["guide"]
    contour, segments = facts["contour"], facts["segments"]
    close(maps.compute_contour_heat_map(contour, 512, 512).value, stored["contour"])
    flat = np.array(contour).flatten()
    guided = maps.compute_contour_heat_map(flat, 512, 512, guide_heatmap=guide)
    close(guided.value, stored["contour_guided"])
    close(maps.compute_segmentation_heat_map(segments, 512, 512).value, stored["segmentation"])
    found = maps.compute_segmentation_heat_map(segments, 512, 512, guide)
    close(found.value, stored["segmentation_guided"])
    close(maps.compute_guided_heat_map(guide).value, stored["guided"])
    # A word's map of compat.daam as it is.
    word = maps.compute_guided_heat_map(WordHeatMap(guide, "cat"))
    assert torch.equal(word.value, maps.compute_guided_heat_map(guide).value)


def test_diffusion(close: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[np.ndarray] = []
    monkeypatch.setattr(pyplot, "imshow", shown.append)
    monkeypatch.setattr(pyplot, "show", lambda: None)
    found = theirs().compute_pixel_diffused_heat_map(
        2080, n_iter=3, thresh=1e-4, plot_intermediate=True
    )
    close(found.value, tensors(FILE)[0]["pixel_diffused_2080_n3_thr1e-4"])
    assert len(shown) == 3 and not np.array_equal(shown[0], shown[2])
    with pytest.raises(InputError, match=r"Nothing is 0\.9 over a map's minimum"):
        theirs().compute_pixel_diffused_heat_map(2080, thresh=0.9)


def test_diffusion_of_all_cells() -> None:
    torch.manual_seed(0)
    small = torch.softmax(3 * torch.randn(24, 24), dim=0)
    maps = GlobalHeatMap(small.unflatten(1, (4, 6)))
    found = maps.compute_diffused_heatmap("thresholding", n_iter=2)
    assert found.heat_maps.shape == (24, 4, 6)
    wanted = diffuse_all(small, iterations=2, threshold=0.02)
    torch.testing.assert_close(found.heat_maps.flatten(1), wanted)
    one = maps.compute_pixel_diffused_heatmap(5, n_iter=2)
    torch.testing.assert_close(one.value, found.heat_maps[5])


def test_without_guidance_batches_and_sizes(tiny: Any) -> None:
    """Where theirs had errors: other sizes than the model's own, and several images."""
    with trace(tiny, grid=(8, 12)) as trc:
        tiny(["a cat", "a dog"], guidance_scale=1.0, **SMALL)
        maps = [trc.compute_global_heat_map(image_index=index) for index in (0, 1)]
        assert trc.last_image is None
        with pytest.raises(InputError, match="numbered from 0; there is no 2"):
            trc.compute_global_heat_map(image_index=2)
    assert maps[0].heat_maps.shape == (96, 8, 12)
    assert not torch.allclose(maps[0].heat_maps, maps[1].heat_maps, rtol=0.01)
    total = torch.full((8, 12), 2.0)
    for one in maps:
        torch.testing.assert_close(one.heat_maps.sum(dim=0), total, rtol=1e-3, atol=0)
    shares = trc.compute_global_heat_map(normalize=True).heat_maps.sum(dim=0)
    torch.testing.assert_close(shares, torch.ones(8, 12), rtol=1e-4, atol=0)
    expanded = maps[0].compute_pixel_heat_map(7).expand_as(Image.new("RGB", (192, 128)))
    assert expanded.shape == (128, 192)


def test_both_halves_are_added(tiny: Any) -> None:
    """As in DAAM-I2I; the attribution of this package has the prompt's alone."""
    from diffusers_rdaam import RDAAMProcessor, record_attention

    def settings() -> dict[str, Any]:
        return SMALL | {"guidance_scale": 3.0, "generator": torch.Generator().manual_seed(0)}

    with trace(tiny, grid=(16, 24)) as trc:
        tiny("a cat", **settings())
    ours = trc.compute_global_heat_map().heat_maps.flatten(1)
    template = RDAAMProcessor(self_attention=(16, 24))
    with record_attention(tiny.unet, template, rows="conditional") as recording:
        tiny("a cat", **settings())
    halves = [attribution.self_grids[0] for attribution in recording.attributions]
    means = [grid.sums.float() * 2 / grid.additions for grid in halves]
    assert len(means) == 2 and not torch.allclose(means[0], means[1], rtol=0.01)
    torch.testing.assert_close(ours, (means[0] + means[1]) / 2, rtol=1e-3, atol=1e-6)


def test_pictures(tmp_path: Any) -> None:
    heat_map = PixelHeatMap(torch.rand(4, 6, generator=torch.Generator().manual_seed(0)))
    image = Image.new("RGB", (48, 32), "white")
    heat_map.plot_overlay(image, (3, 2), tmp_path / "map.png")
    assert tuple(pyplot.gcf().get_size_inches()) == (3, 2) and (tmp_path / "map.png").exists()
    drawn = heat_map.expand_as(image, threshold=0.5, plot=True)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    pyplot.close("all")
    axes = pyplot.figure().subplots()
    heat_map.plot_overlay(image, ax=axes)
    np.testing.assert_allclose(axes.get_images()[0].get_array(), heat_map.expand_as(image).numpy())
    pyplot.close("all")
    assert heat_map.compute_ioa(PixelHeatMap(torch.ones(4, 6))) == pytest.approx(1.0)


def test_what_is_refused(tiny: Any) -> None:
    trc = trace(tiny)
    with pytest.raises(NoAttributionError, match="No heat maps found"):
        trc.compute_global_heat_map()
    with trc, pytest.raises(AlreadyRecordingError, match="hooked already"):
        trc.hook()
    for options, message in (({"head_idx": 1}, "head_idx="), ({"factors": {2}}, "leaves out 1")):
        with pytest.raises(InputError, match=message):
            trc.compute_global_heat_map(**options)
    for options, message in (
        ({"save_heads": True}, "put back"),
        ({"track_all": True}, "track_all"),
    ):
        with pytest.raises(InputError, match=message):
            trace(tiny, **options)
    maps = GlobalHeatMap(torch.ones(24, 4, 6))
    for call, error, message in (
        (lambda: maps.compute_pixel_heat_map(24), RegionError, "has cells 0 to 23"),
        (lambda: maps.compute_pixel_heat_map([0, -1]), RegionError, "There is no cell -1"),
        (lambda: maps.compute_bbox_heat_map(6, 0, 9, 2), RegionError, "does not lie in a grid"),
        (lambda: maps.compute_contour_heat_map([1, 2, 3], 8, 8), InputError, r"shape \(3,\)"),
        (lambda: maps.compute_guided_heat_map(torch.ones(6, 4)), InputError, r"is \(6, 4\)"),
        (lambda: maps.compute_guided_heat_map(None), InputError, "Give a guide"),
        (lambda: maps.compute_diffused_heat_map("other"), InputError, "not a method of diffusion"),
        (lambda: GlobalHeatMap(torch.ones(3, 4, 6)), InputError, r"got \(3, 4, 6\)"),
    ):
        with pytest.raises(error, match=message):
            call()

"""The levels of ``attribute_image``: the numbers are those of a scene asked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import levels
from benchmarks.truth.drawn import draw
from benchmarks.truth.regions import regions_of
from benchmarks.truth.sanity import other_names
from benchmarks.truth.scenes import prompts_of
from diffusers_rdaam import load_demo_pipeline


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of one scene at one level, by what is said of it."""
    monkeypatch.setattr(levels, "CALLS", {"0.37": {"noise": 0.37, "draws": 1}})
    return {row.what: row.measured for row in levels.rows_of("stable-diffusion", 1)}


def test_one_scene(rows: dict[str, str]) -> None:
    ((text, names, seed),) = prompts_of("test", 1)
    image, masks = draw(names, np.random.default_rng(seed), 128)
    pipe = load_demo_pipeline()
    attribution = pipe.attribute_image(image, text, noise=0.37, draws=1)
    overlaps, firsts = [], []
    for name in names:
        made = attribution.word(name).mask().numpy()
        overlaps.append((made & masks[name]).sum() / (made | masks[name]).sum())
        answer = attribution.region(regions_of(masks[name])["tight box"])
        firsts.append(answer[0].text in name.split())
    maps, words, absent = rows.values()
    assert maps.startswith(f"default threshold {np.mean(overlaps):.3f} (")
    assert words.startswith(f"first word {np.mean(firsts):.1%}, first two ")
    # By default: the caption names another object in place of the second one.
    wrong = other_names(names, seed)[0]
    mixed = pipe.attribute_image(image, f"a {names[0]} and a {wrong}")
    box = regions_of(masks[names[1]])["tight box"]
    lift = float(mixed.region(box)[wrong]) / float(mixed.region((0, 0, 128, 128))[wrong])
    assert absent.startswith(f"{lift:.2f} (")

"""A video's attribution is a sequence of its frames'; several share a latent frame."""

from __future__ import annotations

import dataclasses
import random
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diffusers_rdaam import (
    AttributionFileError,
    FrameMapping,
    InputError,
    MapStack,
    NoAttributionError,
    RepeatedWordWarning,
    VideoAttribution,
    WordError,
)
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.kept_maps import KeptMaps, merge_details
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.attribution.stacked_frames import split_frames
from diffusers_rdaam.drawing.timeline import coloured_frames

BOX = (10, 5, 40, 30)
LATENT = 3
# 3 latent frames, 4 frames to each but the first.
FRAMES = 9


def pictures(count: int = FRAMES, size: tuple[int, int] = (64, 96)) -> list[Image.Image]:
    pixels = np.random.default_rng(3).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in pixels]


@pytest.fixture
def make_video(make_attribution):
    """A video whose latent frames lie one below another, with maps of their own."""

    def make(images: bool = True, mapping: FrameMapping | None = None) -> VideoAttribution:
        grids = ((8 * LATENT, 12), (4 * LATENT, 6))
        stacked = make_attribution(image=False, grids=grids)
        mapping = mapping or FrameMapping.causal(LATENT, 4)
        return VideoAttribution.of_stacked(stacked, mapping, pictures() if images else ())

    return make


def test_frames_are_the_latent_frames_rows(make_attribution, make_video):
    stacked = make_attribution(image=False, grids=((8 * LATENT, 12), (4 * LATENT, 6)))
    video = make_video()
    assert len(video) == FRAMES and len(video.parts) == LATENT
    latent = [0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert list(video.frame_mapping.latent) == latent
    for frame, part in enumerate(latent):
        found = video[frame]
        assert found.image is video.images[frame] and found.image_size == (64, 96)
        for grid, whole in zip(found.grids, stacked.grids, strict=True):
            height = whole.maps.shape[1] // LATENT
            wanted = whole.maps[:, part * height : (part + 1) * height]
            assert torch.equal(grid.maps, wanted)
            assert (grid.additions, grid.sites) == (whole.additions, whole.sites)


def test_aggregations_frame_by_frame(make_video):
    video = make_video()
    heat = video.word("cat", aggregation="information")
    for frame, part in zip(heat, video, strict=True):
        assert torch.equal(frame.values, part.word("cat", aggregation="information").values)
    assert torch.equal(heat.values[3], heat[3].values) and heat[2:5].recipe is heat.recipe
    masses = [frame.mass(BOX) for frame in heat]
    assert heat.mass(BOX) == pytest.approx(float(np.mean(masses)))
    with pytest.raises(
        InputError, match=r"is an aggregation, 'information'; over_frames\(\) shows"
    ):
        heat.over_frames()
    with pytest.raises(NoAttributionError, match="needs the maps of single steps"):
        video.word("cat", aggregation="late_half")


def test_mean_squares_are_of_each_frame(make_attribution, tmp_path):
    stacked = make_attribution(image=False, grids=((8 * LATENT, 12),))
    (grid,) = stacked.grids
    squared = dataclasses.replace(grid, squares=grid.maps.square())
    stacked = dataclasses.replace(stacked, grids=(squared,))
    video = VideoAttribution.of_stacked(stacked, FrameMapping.causal(LATENT, 4), pictures())
    loaded = VideoAttribution.load(video.save(tmp_path / "video"))
    for one in (video, loaded):
        for frame in one:
            assert torch.equal(frame.grids[0].squares, frame.grids[0].maps.square())
    rms = video.word("cat", aggregation="rms")
    assert torch.equal(rms.values, loaded.word("cat", aggregation="rms").values)
    assert rms.values.std() > 0.01


def test_latent_frames_are_views(make_attribution):
    stacked = make_attribution(image=False, grids=((8 * LATENT, 12),))
    video = VideoAttribution.of_stacked(stacked, FrameMapping.causal(LATENT, 4))
    storage = stacked.grids[0].maps.untyped_storage().data_ptr()
    assert {f.grids[0].maps.untyped_storage().data_ptr() for f in video} == {storage}
    assert video.nbytes == stacked.nbytes
    # Frames of one latent frame without pictures are one object.
    assert video[1] is video[2] is video.parts[1] and video[0] is not video[1]


def test_a_frame_is_one_object(make_video):
    video = make_video()
    assert video[3] is video[3] and video[-1] is video[8]
    assert list(video) == [video[frame] for frame in range(FRAMES)]
    assert video.index(video[4]) == 4 and video[4] in video
    assert "cat" in video and "dog" not in video


@given(latent=st.integers(1, 40), scale=st.integers(1, 8), together=st.integers(1, 3))
def test_causal_mapping(latent, scale, together):
    mapping = FrameMapping.causal(latent, scale, together=together)
    assert len(mapping) == (latent * together - 1) * scale + 1
    assert mapping.latent_frames == latent
    assert sorted(mapping.latent) == list(mapping.latent)
    # The first latent frame is one frame of the video, every later one scale frames.
    counts = [len(mapping.frames_of(number)) for number in range(latent)]
    assert counts[0] == (together - 1) * scale + 1
    assert set(counts[1:]) <= {together * scale}


@given(latent=st.integers(1, 40), scale=st.integers(2, 8), frames=st.integers(1, 200))
def test_a_mapping_of_any_number_of_frames(latent, scale, frames):
    mapping = FrameMapping.causal_of(latent, scale, frames)
    assert len(mapping) == frames and max(mapping.latent) < latent
    assert sorted(mapping.latent) == list(mapping.latent)
    if frames == (latent - 1) * scale + 1:
        assert mapping == FrameMapping.causal(latent, scale)
    elif frames >= latent:
        assert mapping.latent_frames == latent and "evenly" not in mapping.how
    assert mapping.take(range(frames)) == mapping


def test_frames_that_were_added_to_fill_up():
    """7 latent frames, two at a time: the first of 8 is not decoded."""
    mapping = FrameMapping.causal_of(4, 4, 25, together=2)
    assert mapping.latent[:5] == (0, 1, 1, 1, 1) and mapping.latent[-1] == 3
    assert mapping.latent[5:13] == (1, 1, 1, 1, 2, 2, 2, 2)
    assert mapping.how.endswith("2 latent frames together, and the first 1 were added to fill up")


def test_mappings_say_how():
    assert FrameMapping.causal(LATENT, 4).how == (
        "the first latent frame is the first frame of the video, each later one 4 frames"
    )
    assert FrameMapping.even(3, 12).how == "each latent frame is 4 frames of the video"
    assert FrameMapping.even(3, 11).how == "each latent frame is about 3 frames of the video"
    assert FrameMapping.each(5).latent == (0, 1, 2, 3, 4)
    assert repr(FrameMapping.causal(2, 2)) == (
        "FrameMapping(3 frames of 2 latent frames: the first latent frame is the first frame of "
        "the video, each later one 2 frames; 0, 1, 1)"
    )
    with pytest.raises(InputError, match="at least one; got"):
        FrameMapping((), "none")


def test_a_words_map_over_the_frames(make_video):
    video = make_video()
    heat = video.word("cat")
    assert (heat.text, len(heat), heat.size) == ("cat", FRAMES, (64, 96))
    assert heat.values.shape == (FRAMES, 64, 96)
    for frame in range(FRAMES):
        wanted = video[frame].word("cat")
        assert torch.equal(heat[frame].values, wanted.values)
        assert torch.equal(heat.values[frame], wanted.values)
        assert heat[frame].image is video.images[frame]
    assert np.array_equal(heat.numpy(), heat.values.numpy())
    assert torch.equal(video["cat"][2:5].values, heat.values[2:5])
    assert torch.equal(video[2:5]["cat"].values, heat.values[2:5])
    column = heat.columns[0]
    assert torch.equal(video.column(column).values, video.word("cat").values)
    with pytest.raises(WordError, match="'dog' is not a word of the prompt"):
        video.word("dog")
    with pytest.raises(InputError, match="There are 9 frames, numbered from 0; there is no 9"):
        heat[9]


def test_all_columns_of_a_frame_sum_to_one(make_video):
    video = make_video()
    whole = sum(video.column(i).values for i in range(len(video.prompt.tokens)))
    torch.testing.assert_close(whole, torch.ones(FRAMES, 64, 96), rtol=0, atol=1e-5)
    assert float(video.levels.sum()) == pytest.approx(1.0, abs=1e-5)


def test_a_word_that_occurs_twice_warns_here(make_attribution):
    stacked = make_attribution("a cat and a cat", image=False, grids=((8, 12),))
    video = VideoAttribution.of_stacked(stacked, FrameMapping.causal(2, 4))
    with pytest.warns(RepeatedWordWarning, match="'cat' occurs twice") as caught:
        video.word("cat")
    assert caught[0].filename == __file__
    assert video.word("cat", occurrence=1).columns != video.word("cat", occurrence=0).columns


def test_region_of_a_frame_is_that_frames(make_video):
    video = make_video()
    for frame in (0, 3, -1):
        found, wanted = video.region(BOX, frame=frame), video[frame].region(BOX)
        assert torch.equal(found.scores, wanted.scores)
        assert torch.equal(found.levels, wanted.levels) and found.image is wanted.image
    single = video.region(BOX, frames=slice(3, 4))
    assert torch.equal(single.scores, video[3].region(BOX).scores)


@pytest.mark.parametrize("frames", [None, slice(2, 7), [0, 8], slice(None, None, 3)])
def test_region_of_several_frames_is_their_mean(make_video, frames):
    video = make_video()
    chosen = range(FRAMES) if frames is None else frames
    numbers = list(range(FRAMES)[chosen]) if isinstance(chosen, slice) else list(chosen)
    found = video.region(BOX, frames=frames)
    for name in ("scores", "levels"):
        wanted = torch.stack([getattr(video[n].region(BOX), name) for n in numbers]).mean(dim=0)
        torch.testing.assert_close(getattr(found, name), wanted, rtol=1e-5, atol=1e-8)
    # The law: the mass of a word in a region is the word's score there.
    part = video.at(numbers)
    for word in ("cat", "mat"):
        assert part.word(word).mass(BOX) == found[word]
    assert found.image is video.images[numbers[len(numbers) // 2]]


def test_region_takes_frame_or_frames(make_video):
    with pytest.raises(InputError, match=r"given frame=1 and frames=\[2\]\. Give frame= for one"):
        make_video().region(BOX, frame=1, frames=[2])
    with pytest.raises(InputError, match="there is no 12"):
        make_video().region(BOX, frame=12)


def test_a_slice_is_a_video(make_video):
    video = make_video()
    part = video[4:7]
    assert isinstance(part, VideoAttribution) and len(part) == 3
    assert part.numbers == (4, 5, 6) and part.frame_mapping.latent == (1, 2, 2)
    assert part[1].image is video.images[5] and part[1:].numbers == (5, 6)
    assert part.frame_mapping.how == video.frame_mapping.how
    assert part.word("cat").over_frames().labels[0] == "frame 5, latent frame 2"


def test_over_frames(make_video):
    video = make_video()
    timeline = video.word("cat").over_frames()
    assert len(timeline) == FRAMES
    assert timeline.labels[:2] == ("frame 1, latent frame 1", "frame 2, latent frame 2")
    scores = timeline.mass(BOX)
    assert scores == [video[frame].word("cat").mass(BOX) for frame in range(FRAMES)]
    assert sum(scores) / FRAMES == pytest.approx(video.word("cat").mass(BOX), rel=1e-5)
    assert timeline[3:5].mass(BOX) == scores[3:5]
    each = VideoAttribution.of_frames([video[0], video[5]])
    assert each.word("cat").over_frames().labels == ("frame 1", "frame 2")


@pytest.mark.parametrize("images", [True, False])
def test_film_strip(make_video, images):
    timeline = make_video(images).word("cat").over_frames()
    strip, part = timeline.film_strip(), timeline.film_strip(columns=3, every=4)
    # Five pictures of 192 x 128 in a row, with their margins; then three.
    assert strip.width == 5 * (192 + 6) + 6 and part.width == 3 * (192 + 6) + 6
    assert strip.height > part.height
    with pytest.raises(InputError, match="every="):
        timeline.film_strip(every=0)


def test_the_pictures_lie_over_their_frames(make_video):
    video = make_video()
    # Frames of one latent frame have the same map, each over its own picture.
    heat = video[1:3].word("cat")
    frames, _ = heat.over_frames()._frames(96)
    for frame, found in enumerate(frames):
        (wanted,), _ = coloured_frames([heat.resized((64, 96))[0]], video.images[1 + frame])
        assert np.array_equal(np.asarray(found), np.asarray(wanted))
    assert not np.array_equal(np.asarray(frames[0]), np.asarray(frames[1]))


@pytest.mark.parametrize(("every", "count"), [(1, FRAMES), (4, 3), (100, 2)])
def test_gif(make_video, tmp_path, every, count):
    path = make_video().word("cat").over_frames().gif(tmp_path / "cat.gif", every=every)
    with Image.open(path) as animation:
        assert (animation.format, animation.n_frames) == ("GIF", count)
        assert animation.info["duration"] == 150
        shown = []
        for number in range(animation.n_frames):
            animation.seek(number)
            shown.append(np.asarray(animation.convert("RGB")).copy())
    assert all(one.shape == shown[0].shape for one in shown)
    assert not np.array_equal(shown[0], shown[-1])


def test_saved_by_its_ending(make_video, tmp_path):
    timeline = make_video().word("cat").over_frames()
    with Image.open(timeline.save(tmp_path / "cat.png")) as picture:
        assert picture.format == "PNG" and picture.size == timeline.film_strip().size
    with Image.open(timeline.save(tmp_path / "cat.gif")) as animation:
        assert animation.n_frames == FRAMES
    with pytest.raises(InputError, match=r"as \.png \(a film strip\) or \.gif \(an animation\); "):
        timeline.save(tmp_path / "cat.mp4")


def test_slider_and_plot(make_video):
    timeline = make_video().word("cat").over_frames()
    assert timeline.slider().count("data:image/jpeg") == FRAMES
    figure = timeline.plot(BOX)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "frame"
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert lines["region"] == timeline.mass(BOX)
    assert lines["whole frame"] == timeline.mass((0, 0, 96, 64))


def _kept_video(make_attribution) -> VideoAttribution:
    """With steps and layers, self-attention and a negative prompt."""
    plain = make_attribution(image=False)
    tokens, generator = len(plain.prompt.tokens), torch.Generator().manual_seed(1)

    def stack(site: str) -> MapStack:
        maps = torch.randn(2, 1, tokens, 8 * LATENT, 12, generator=generator).softmax(dim=2)
        return MapStack(maps, (1, 1), (site,))

    kept = KeptMaps(("steps", "layers"), (stack("block.0"), stack("block.1")), (900.0, 100.0))
    positions = 4 * LATENT * 6
    sums = torch.rand(positions, positions, generator=generator).softmax(dim=0) * 2
    negative = make_attribution("ugly", image=False, grids=((8 * LATENT, 12),))
    stacked = dataclasses.replace(
        plain,
        grids=merge_details(kept.details),
        kept=kept,
        self_grids=(SelfGrid(sums, 2, (4 * LATENT, 6)),),
        negative_attribution=negative,
        vocabulary={"a dog": make_attribution("a dog", image=False, grids=((8 * LATENT, 12),))},
    )
    return VideoAttribution.of_stacked(stacked, FrameMapping.causal(LATENT, 4), pictures())


def test_everything_that_was_kept_is_split(make_attribution):
    video = _kept_video(make_attribution)
    assert video.negative.word("ugly").values.shape == (FRAMES, 64, 96)
    assert video.region(BOX).negative.prompt.text == "ugly"
    assert torch.equal(
        video.region(BOX, frame=2).negative.scores, video.negative[2].region(BOX).scores
    )
    chosen = video.select(layers="block.1", steps=0)
    wanted = video[6].select(layers="block.1", steps=0).word("cat")
    assert torch.equal(chosen.word("cat")[6].values, wanted.values)
    assert len(video[6].word("cat").over_time()) == 2
    assert video[3].vocabulary["a dog"].grids[0].size == (8, 12)
    (grid,) = video.parts[2].self_grids
    assert grid.size == (4, 6) and grid.sums.shape == (24, 24)
    assert video.layers == ("block.0", "block.1")


def test_a_grid_that_the_frames_do_not_divide(make_attribution):
    stacked = make_attribution(image=False, grids=((8, 12),))
    with pytest.raises(InputError, match="a height that they divide; got 8"):
        split_frames(stacked, 3)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("images", [True, False])
def test_round_trip(make_attribution, tmp_path, kept, images):
    video = _kept_video(make_attribution)
    path = video.save(tmp_path / "video.safetensors", kept=kept, images=images)
    loaded = VideoAttribution.load(path)
    assert loaded.frame_mapping == video.frame_mapping and loaded.numbers == video.numbers
    assert loaded.prompt == video.prompt and loaded.run == video.run
    assert all(part.prompt is loaded.prompt for part in loaded.parts)
    assert len(loaded.images) == (FRAMES if images else 0)
    for frame in range(FRAMES):
        one, other = video[frame], loaded[frame]
        for grid, same in zip(one.grids, other.grids, strict=True):
            assert torch.equal(grid.maps, same.maps)
            assert (grid.additions, grid.sites) == (same.additions, same.sites)
        if images:
            assert np.array_equal(np.asarray(one.image), np.asarray(other.image))
        assert torch.equal(one.region(BOX).scores, other.region(BOX).scores)
        assert torch.equal(one.negative["ugly"].values, other.negative["ugly"].values)
        assert (other.kept is not None) == kept
        if kept:
            for mine, theirs in zip(one.kept.details, other.kept.details, strict=True):
                assert torch.equal(mine.maps, theirs.maps)
            assert torch.equal(one.self_grids[0].sums, other.self_grids[0].sums)
    assert torch.equal(loaded.region(BOX).scores, video.region(BOX).scores)


def test_a_file_has_a_latent_frame_once(make_video, tmp_path):
    video = make_video()
    size = video.save(tmp_path / "small", images=False).stat().st_size
    assert video.nbytes < size < video.nbytes + 12_000
    # Of a part of the video, the latent frames of that part.
    part = VideoAttribution.load(video[5:7].save(tmp_path / "part", images=False))
    assert len(part.parts) == 1 and part.numbers == (5, 6)
    assert part.frame_mapping.latent == (0, 0)
    assert torch.equal(part.word("cat").values, video[5:7].word("cat").values)


def test_facts_about_each_frame_are_kept(make_video, tmp_path):
    video = make_video()
    frames = [dataclasses.replace(video[i], run={**video[i].run, "image_index": i}) for i in (0, 5)]
    loaded = VideoAttribution.load(VideoAttribution.of_frames(frames).save(tmp_path / "file"))
    assert [frame.run["image_index"] for frame in loaded] == [0, 5]
    assert loaded[1].run == frames[1].run


def test_frames_that_differ_are_not_saved(make_video, tmp_path):
    video = make_video()
    grids = (dataclasses.replace(video.parts[1].grids[0], additions=7), video.parts[1].grids[1])
    parts = (video.parts[0], dataclasses.replace(video.parts[1], grids=grids), video.parts[2])
    other = dataclasses.replace(video, parts=parts)
    with pytest.raises(InputError, match="its latent frames differ in more than maps and facts"):
        other.save(tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused(make_attribution, make_video, tmp_path):
    image, video = tmp_path / "image", tmp_path / "video"
    make_attribution().save(image)
    make_video().save(video)
    with pytest.raises(AttributionFileError, match="not a video's attribution of diffusers_rdaam"):
        VideoAttribution.load(image)
    with pytest.raises(AttributionFileError, match="not an attribution of diffusers_rdaam"):
        type(make_attribution()).load(video)


def test_parts_that_do_not_belong_together(make_attribution, make_video):
    video = make_video()
    with pytest.raises(InputError, match="mapped to latent frames 0 to 2, and 2 are there"):
        dataclasses.replace(video, parts=video.parts[:2])
    with pytest.raises(InputError, match="There are 8 images for 9 frames"):
        dataclasses.replace(video, images=video.images[:8])
    with pytest.raises(InputError, match="There are 2 numbers for 9 frames"):
        dataclasses.replace(video, numbers=(1, 2))
    other = make_attribution("a dog", image=False)
    with pytest.raises(InputError, match="one prompt; these have several"):
        dataclasses.replace(video, parts=(*video.parts[:2], other))
    small = make_attribution(image=False, size=(32, 48))
    with pytest.raises(InputError, match=r"have one size; got \(64, 96\) and \(32, 48\)"):
        dataclasses.replace(video, parts=(*video.parts[:2], small))


def test_they_show_themselves(make_video):
    video = make_video()
    assert repr(video).startswith("VideoAttribution('a cat with blue eyes, on a red mat', 9 words,")
    assert "9 frames of 96x64 from 3 latent frames, grids 12x8, 6x4," in repr(video)
    assert "data:image/png" in video._repr_html_()
    assert "data:image/png" not in make_video(False)._repr_html_()
    heat = video.word("cat")
    assert re.match(r"VideoHeatMap\('cat', 9 frames of 96x64 pixels, mean 0\.\d+\)", repr(heat))
    assert "data:image/png" in heat._repr_html_()
    assert repr(heat.over_frames()).startswith("FrameTimeline('cat', 9 frames, 96x64 pixels, mean")


@given(latent=st.integers(1, 6), height=st.integers(1, 3), width=st.integers(1, 4))
def test_splitting_puts_together_again(latent, height, width, make_attribution):
    plain = make_attribution("a cat", image=False, grids=((latent * height, width),))
    parts = split_frames(plain, latent)
    assert torch.equal(torch.cat([p.grids[0].maps for p in parts], dim=1), plain.grids[0].maps)
    assert all(isinstance(part.grids[0], Grid) for part in parts)


def test_random_bytes_changed(make_attribution, tmp_path):
    """A file that was changed is refused, or its answers are numbers."""
    stacked = make_attribution("a cat", image=False, grids=((8, 6),), size=(16, 24))
    mapping = FrameMapping.causal(2, 4)
    video = VideoAttribution.of_stacked(stacked, mapping, pictures(5, (16, 24)))
    good = video.save(tmp_path / "good").read_bytes()
    end = 8 + int.from_bytes(good[:8], "little")
    generator, outcomes = random.Random(0), []
    for _ in range(300):
        changed = bytearray(good)
        for _ in range(generator.choice([1, 1, 2, 5])):
            changed[generator.randrange(end)] = generator.choice(b'0123456789"[]{},:-')
        (tmp_path / "file").write_bytes(bytes(changed))
        try:
            loaded = VideoAttribution.load(tmp_path / "file")
        except AttributionFileError:
            outcomes.append(False)
            continue
        loaded.region((0, 0, 1, 1)).to_dict()
        assert repr(loaded) and len(list(loaded)) == len(loaded)
        outcomes.append(True)
    assert any(outcomes) and not all(outcomes)


@pytest.mark.parametrize("frame", ["a", "cat", 1.5, slice(0, 2), [0, 1], 99, True])
def test_a_region_of_a_frame_that_is_none(make_video, frame, types_unchecked):
    with pytest.raises(InputError, match="frame"):
        make_video().region((1, 1, 9, 9), frame=frame)

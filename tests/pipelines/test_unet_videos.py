"""The videos of a UNet: a sequence of frames, each a row of its own; old indices still run."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from toys import ALL_CASES, PROMPT, call, toy

from diffusers_rdaam import NoAttributionError, VideoAttribution, record_attention

PROMPTS = [PROMPT, "two blue dogs on the mat"]
VIDEO = ALL_CASES["AnimateDiff"]
BOX = (10, 5, 60, 40)


def test_one_video_is_the_attribution():
    _, ours = toy(VIDEO)
    output = call(VIDEO, ours)
    video = output.attribution
    assert isinstance(video, VideoAttribution) and video is ours.attribution
    # As before there were attributions of videos.
    assert len(output.attributions) == 3
    for number, frame in enumerate(output.attributions):
        assert video[number] is frame and frame.run["image_index"] == number
        assert np.array_equal(np.asarray(frame.image), np.asarray(output.frames[0][number]))
    assert video.frame_mapping.latent == (0, 1, 2)
    assert video.frame_mapping.how == "each frame of the video has a latent frame of its own"
    assert output.attributions.videos == [video]
    assert repr(output).count("VideoAttribution(") == 1
    assert output._repr_html_().count("<figure") == 1


def test_videos_of_several_prompts():
    _, ours = toy(VIDEO)
    output = call(VIDEO, ours, PROMPTS)
    attributions = output.attributions
    assert len(attributions) == 6 and [len(video) for video in attributions.videos] == [3, 3]
    for number, frame in enumerate(attributions):
        assert attributions.videos[number // 3][number % 3] is frame
    assert [video.prompt.text for video in attributions.videos] == PROMPTS
    message = r"made 2 videos, each .* Use output\.attributions\.videos\[i\], i from 0 to 1\."
    with pytest.raises(NoAttributionError, match=message):
        _ = output.attribution


def test_words_over_the_frames(tmp_path):
    stock, _ = toy(VIDEO)
    with record_attention(stock) as recording:
        call(VIDEO, stock)
    video, frames = recording.attribution, recording.attributions
    heat = video.word("cat")
    for number, frame in enumerate(frames):
        assert torch.equal(heat.values[number], frame.word("cat").values)
    mean = sum(frame.region(BOX)["cat"] for frame in frames) / 3
    assert video.region(BOX)["cat"] == pytest.approx(mean, rel=1e-5)
    with Image.open(heat.over_frames().gif(tmp_path / "cat.gif")) as animation:
        assert animation.n_frames == 3
    loaded = VideoAttribution.load(video.save(tmp_path / "video.safetensors"))
    assert [frame.run["image_index"] for frame in loaded] == [0, 1, 2]
    assert torch.equal(loaded.word("cat").values, heat.values)


def test_an_image_with_an_axis_of_one_frame_is_a_video():
    _, ours = toy(VIDEO)
    output = call(VIDEO, ours, num_frames=1)
    assert isinstance(output.attribution, VideoAttribution)
    assert len(output.attribution) == len(output.attributions) == 1


def test_images_are_not_videos():
    case = ALL_CASES["StableDiffusion"]
    _, ours = toy(case)
    attributions = call(case, ours).attributions
    assert type(attributions) is list and not isinstance(attributions[0], VideoAttribution)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_have_their_videos(copied):
    _, ours = toy(VIDEO)
    before = call(VIDEO, ours).attributions
    after = copied(before)
    assert len(after) == 3 and len(after.videos) == 1
    assert after.videos[0][1] is after[1] is not before[1]
    wanted = before.videos[0].region(BOX).scores
    assert torch.equal(after.videos[0].region(BOX).scores, wanted)


def test_the_memory_cost_counts_every_frame():
    _, ours = toy(VIDEO)
    call(VIDEO, ours)
    (steps,) = ours._rdaam_buffers.text.values()
    height, width = VIDEO.size
    found = ours.recording_bytes(height=height, width=width, frames=3, steps=2)
    assert found == steps.shape.nbytes
    assert found == 3 * ours.recording_bytes(height=height, width=width, steps=2)

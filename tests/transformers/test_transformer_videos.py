"""Runs of video transformers hand back one attribution a video, a sequence of its frames'."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from builders_single import CASES
from dense_checks import StockRun, images_of
from PIL import Image
from single_parts import PROMPTS

from diffusers_rdaam import (
    ImageMismatchWarning,
    InputError,
    NoAttributionError,
    RDAAMProcessor,
    VideoAttribution,
    WanRDAAMPipeline,
    record_attention,
)
from diffusers_rdaam.pipelines.classes import recording_class

pytestmark = [
    # Mochi's transformer asks for float32 autocast, which the CPU does not have.
    pytest.mark.filterwarnings("ignore:In CPU autocast"),
    # HunyuanVideo's tokenizer of bytes has more tokens than the toy has columns.
    pytest.mark.filterwarnings("ignore:The prompt is longer than the text encoder's"),
]
# Frames of the latent frames, in words and in numbers.
CAUSAL_4 = (
    (0, 1, 1, 1, 1),
    "the first latent frame is the first frame of the video, each later one 4 frames",
)
EVEN_4 = ((0, 0, 0, 0, 1, 1, 1, 1), "each latent frame is 4 frames of the video")
MAPPINGS = {
    "WanPipeline": CAUSAL_4,
    "WanImageToVideoPipeline": CAUSAL_4,
    "WanVideoToVideoPipeline": CAUSAL_4,
    "WanVACEPipeline": CAUSAL_4,
    "WanAnimatePipeline": CAUSAL_4,
    # Its autoencoder decodes two latent frames at a time; only a first third one is one frame.
    "CogVideoXPipeline": EVEN_4,
    "HunyuanVideoPipeline": CAUSAL_4,
    "MochiPipeline": ((0, 1, 1, 1, 1, 1, 1), CAUSAL_4[1].replace("4", "6")),
    "AllegroPipeline": EVEN_4,
}


def recorded(name: str, processor: RDAAMProcessor | None = None, **changes: Any) -> Any:
    """The pipeline's output and the recording of a case."""
    case = CASES[name]()
    pipe = case.make()
    pipe.set_progress_bar_config(disable=True)
    with record_attention(pipe, processor) as recording:
        output = case.run(pipe, **changes)
    return output, recording


@pytest.mark.parametrize("name", MAPPINGS)
def test_frames_of_the_output_are_those_of_the_video(name):
    output, recording = recorded(name)
    frames = images_of(output)
    latent, how = MAPPINGS[name]
    videos = recording.attributions
    assert videos.videos == list(videos) and len(videos) == len(frames)
    for video, pictures in zip(videos, frames, strict=True):
        assert isinstance(video, VideoAttribution) and len(video) == len(pictures)
        assert (video.frame_mapping.latent, video.frame_mapping.how) == (latent, how)
        assert len(video.parts) == 2 and video.image_size == pictures.shape[1:3]
        for frame, picture in zip(video, pictures, strict=True):
            levels = (picture.clip(0, 1) * 255).round().astype(np.uint8)
            assert np.array_equal(np.asarray(frame.image), levels)
    first = videos[0]
    assert first.word("cat" if "cat" in first else first.words[0]).values.shape[0] == len(latent)


def test_an_odd_number_of_latent_frames_of_cogvideox():
    output, recording = recorded("CogVideoXPipeline", num_frames=9)
    video = recording.attributions[0]
    assert len(video) == images_of(output).shape[1] == 9
    assert video.frame_mapping.latent == (0, 1, 1, 1, 1, 2, 2, 2, 2)
    assert video.frame_mapping.how == CAUSAL_4[1]


def test_a_frames_maps_are_those_of_its_latent_frame():
    stock = StockRun(CASES["WanPipeline"]())
    _, recording = recorded("WanPipeline")
    for index, video in enumerate(recording.attributions):
        wanted = stock.case.map_of(stock.calls, index)
        for number, frame in enumerate(video):
            (grid,) = frame.grids
            latent = video.frame_mapping.latent[number]
            for token in frame.prompt.tokens[:-1]:
                column = token.column if token.position is None else token.position
                found = grid.maps[token.column].double()
                error = (found - wanted[column, latent]).abs().max()
                assert error <= 1e-5 * wanted.max()
    assert not torch.equal(video[0].grids[0].maps, video[1].grids[0].maps)


def test_one_video_is_the_attribution_and_two_are_not():
    _, recording = recorded("WanPipeline")
    message = r"made 2 videos, .* Use recording\.attributions\.videos\[i\], i from 0 to 1\."
    with pytest.raises(NoAttributionError, match=message):
        _ = recording.attribution
    texts = [video.prompt.text for video in recording.attributions.videos]
    assert texts == PROMPTS
    _, recording = recorded("WanPipeline", prompt=PROMPTS[0], negative_prompt="bad")
    assert recording.attribution is recording.attributions[0]


@pytest.mark.parametrize("output_type", ["pil", "pt"])
def test_other_output_types(output_type):
    output, recording = recorded("WanPipeline", output_type=output_type)
    for pictures, video in zip(output.frames, recording.attributions, strict=True):
        assert len(video) == len(pictures) == 5
        for picture, frame in zip(pictures, video, strict=True):
            if output_type == "pt":
                picture = (picture.permute(1, 2, 0).clamp(0, 1) * 255).round()
            wanted = np.asarray(picture).astype(np.uint8)
            assert np.array_equal(np.asarray(frame.image), wanted)


@pytest.mark.parametrize(("name", "frames"), [("WanPipeline", 5), ("AllegroPipeline", 8)])
def test_latents_have_as_many_frames_as_would_be_decoded(name, frames):
    _, recording = recorded(name, output_type="latent")
    video = recording.attributions[0]
    assert len(video) == frames and video.images == ()
    assert video.image_size == (32, 48) and video[3].image is None
    assert video.frame_mapping.latent == MAPPINGS[name][0]


def test_a_video_of_a_run_in_files_and_pictures(tmp_path):
    _, recording = recorded("WanPipeline", prompt=PROMPTS[0], negative_prompt="bad")
    video = recording.attribution
    loaded = VideoAttribution.load(video.save(tmp_path / "video.safetensors"))
    assert loaded.frame_mapping == video.frame_mapping and loaded.run == video.run
    box = (5, 3, 30, 20)
    for frame in range(len(video)):
        scores = loaded.region(box, frame=frame).scores
        torch.testing.assert_close(scores, video.region(box, frame=frame).scores)
        assert np.array_equal(np.asarray(loaded[frame].image), np.asarray(video[frame].image))
    path = video.word("cat").over_frames().gif(tmp_path / "cat.gif")
    with Image.open(path) as animation:
        assert animation.n_frames == 5


def test_both_transformers_of_wan_are_recorded():
    name = "WanPipeline two transformers"
    stock = StockRun(CASES[name]())
    # Of three steps the first is the first transformer's.
    kernels = [call for call in stock.calls.denoiser_calls if call.number % 2 == 0]
    assert len(kernels) == 3
    _, recording = recorded(name, RDAAMProcessor(keep=("steps", "layers")))
    video = recording.attributions[0]
    first = [f"blocks.{i}.attn2" for i in range(2)]
    second = [f"transformer_2.{site}" for site in first]
    assert video.layers == (*first, *second)
    (grid,) = video[0].grids
    of_each = [video.select(layers=names) for names in (first, second)]
    counts = [one[0].grids[0].additions for one in of_each]
    assert sum(counts) == grid.additions == 3 * 2 and min(counts) > 0
    whole = sum(one[0].grids[0].maps * count for one, count in zip(of_each, counts, strict=True))
    torch.testing.assert_close(whole / 6, grid.maps)
    assert len(video[0].steps) == 3 and len(video[0].word("cat").over_time()) == 3


def test_a_transformer_without_a_step_is_not_missed():
    case = CASES["WanPipeline two transformers"]()
    pipe = case.make()
    pipe.register_to_config(boundary_ratio=0.0)
    with record_attention(pipe) as recording:
        case.run(pipe)
    (grid,) = recording.attributions[0][0].grids
    assert grid.additions == 3 * 2
    pipe.register_to_config(boundary_ratio=1.1)
    with record_attention(pipe) as recording:
        case.run(pipe)
    assert recording.attributions[0][0].grids[0].additions == 3 * 2


def test_the_second_transformer_alone():
    case = CASES["WanPipeline two transformers"]()
    pipe = case.make()
    parts = pipe.components | {"transformer": None}
    alone = WanRDAAMPipeline(**parts, boundary_ratio=1.1)
    alone.set_progress_bar_config(disable=True)
    output = case.run(alone)
    assert output.attributions[0].layers == ("blocks.0.attn2", "blocks.1.attn2")


def test_processors_of_both_transformers():
    case = CASES["WanPipeline two transformers"]()
    pipe = case.make()
    ours = WanRDAAMPipeline(**pipe.components, boundary_ratio=0.875)
    ours.set_progress_bar_config(disable=True)
    ours.set_attn_processor(RDAAMProcessor())
    processors = ours.attn_processors
    assert len(processors) == 8 and sum(n.startswith("transformer_2.") for n in processors) == 4
    stock = type(pipe.transformer.blocks[0].attn1.processor)
    for name, processor in processors.items():
        assert hasattr(processor, "target") == ("attn2" in name)
    ours.set_attn_processor(processors)
    assert len(case.run(ours).attributions[0].layers) == 4
    ours.set_attn_processor(stock())
    assert case.run(ours).attributions is None
    assert not any(hasattr(p, "target") for p in ours.attn_processors.values())


def test_the_block_gives_both_transformers_their_processors_back():
    case = CASES["WanPipeline two transformers"]()
    pipe = case.make()
    modules = [pipe.transformer, pipe.transformer_2]
    before = [list(module.attn_processors.values()) for module in modules]
    with record_attention(pipe):
        case.run(pipe)
    for module, processors in zip(modules, before, strict=True):
        after = module.attn_processors.values()
        assert all(one is other for one, other in zip(after, processors, strict=True))
        assert not module._forward_pre_hooks


def test_queries_are_of_the_latent_frames_one_below_another():
    _, recording = recorded("WanPipeline", RDAAMProcessor(keep="queries"))
    video = recording.attributions[0]
    assert video.queries.sizes == ((4, 3),) and video[0].grids[0].size == (2, 3)
    assert video.queries.layers == video.layers and video[0].queries is None


def test_queries_of_two_transformers_are_refused():
    processor = RDAAMProcessor(keep="queries")
    with pytest.raises(InputError, match="keeps those of one denoiser, and this pipeline has 2, "):
        recorded("WanPipeline two transformers", processor)


@pytest.mark.parametrize("name", ["WanPipeline", "AllegroPipeline", "LTXPipeline"])
def test_the_memory_cost_counts_latent_frames(name):
    case = CASES[name]()
    stock = case.make()
    pipe = recording_class(type(stock).__name__)(**stock.components)
    pipe.set_progress_bar_config(disable=True)
    case.run(pipe)
    (steps,) = pipe._rdaam_buffers.text.values()
    tokens, sizes = steps.shape.tokens, ("height", "width", "num_frames")
    height, width, frames = (case.call[size] for size in sizes)
    found = pipe.recording_bytes(
        height=height, width=width, frames=frames, steps=2, images=2, columns=tokens
    )
    # The planes of two videos: 4 bytes a cell.
    cells = int(np.prod(case.grid))
    assert found == steps.shape.nbytes == 2 * tokens * cells * 4


def test_in_the_middle_of_a_run():
    case = CASES["WanPipeline"]()
    pipe = case.make()
    ours = WanRDAAMPipeline(**pipe.components)
    ours.set_progress_bar_config(disable=True)
    seen = []

    def note(pipe, step, timestep, values):
        (first, _) = pipe.attributions_so_far
        seen.append((len(first), first.run["denoiser_calls"], first.images))
        return values

    case.run(ours, callback_on_step_end=note)
    assert seen == [(5, 1, ()), (5, 2, ())]


def test_a_transformer_without_a_pipeline():
    case = CASES["WanPipeline without guidance"]()
    pipe = case.make()
    with record_attention(pipe.transformer, rows="conditional") as recording:
        case.run(pipe)
    videos = recording.attributions
    assert len(videos) == 2 and videos[0].frame_mapping.latent == (0, 1)
    assert videos[0].column(3).values.shape == (2, *videos[0].image_size)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        (
            "SkyReelsV2DiffusionForcingPipeline",
            {"num_frames": 9, "base_num_frames": 5, "overlap_history": 1},
            "A video of 9 frames is made in parts of 5 that overlap",
        ),
        (
            "SkyReelsV2DiffusionForcingImageToVideoPipeline",
            {"last_image": Image.new("RGB", (48, 32)), "num_frames": 9},
            "With last_image the denoiser has latent frames that are cut off",
        ),
        (
            "WanAnimatePipeline",
            {
                "pose_video": [Image.new("RGB", (48, 32))] * 6,
                "face_video": [Image.new("RGB", (16, 16))] * 6,
                # Rounded to 5 by the pipeline.
                "segment_frame_length": 7,
            },
            "A video of 6 frames is made in segments of 5 that share 1 frames",
        ),
    ],
)
def test_a_video_in_parts_has_no_attribution(name, changes, reason):
    stock = CASES[name]()
    pipe = stock.make()
    pipe.set_progress_bar_config(disable=True)
    wanted = images_of(stock.run(pipe, **changes))
    with pytest.warns(ImageMismatchWarning, match=reason):
        output, recording = recorded(name, **changes)
    assert np.array_equal(images_of(output), wanted)
    with pytest.raises(NoAttributionError, match=reason):
        recording.attribution  # noqa: B018

"""What the arguments of transformers' calls say that are lists, packed videos or ids."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import BriaFibo2Pipeline

from diffusers_rdaam.errors import RecordingError
from diffusers_rdaam.families.transformers import sequence_readers as readers
from diffusers_rdaam.families.transformers.kind import Arguments
from diffusers_rdaam.families.transformers.texts_as_pictures import bria_fibo2_drawn_texts


class Denoiser(torch.nn.Module):
    """A denoiser whose call takes anything."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = SimpleNamespace(**config)


def call(values: dict[str, Any], **config: Any) -> Arguments:
    return Arguments(None, Denoiser(**config), values)


def test_z_image_pads_image_and_text_and_keeps_the_length_of_each_row():
    texts = [torch.randn(9, 4), torch.randn(5, 4)]
    found = readers.z_image(call({"x": [torch.zeros(4, 1, 14, 10)] * 2, "cap_feats": texts}))
    assert found.grid == (7, 5) and found.columns == (9, 5)
    assert found.joint.queries == (0, 0) and found.joint.text == (64, 64)
    assert found.joint.key_columns(1, (0, 4)) == [64, 68]
    assert torch.equal(found.states[1, :5], texts[1]) and not found.states[1, 5:].any()


def test_z_image_with_several_pictures_a_row_is_refused():
    pictures = [[torch.zeros(4, 1, 4, 4)]]
    with pytest.raises(RecordingError, match="several pictures a row, whose places"):
        readers.z_image(call({"x": pictures, "cap_feats": [torch.zeros(3, 4)]}))


def test_lumina2_has_texts_of_different_length_before_the_image():
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    values = {
        "hidden_states": torch.zeros(2, 4, 6, 10),
        "encoder_hidden_states": torch.zeros(2, 4, 8),
        "encoder_attention_mask": mask,
    }
    found = readers.lumina2(call(values, patch_size=2))
    assert found.grid == (3, 5) and found.columns == (3, 1)
    assert found.joint.queries == found.joint.keys == (3, 1) and found.joint.text == (0, 0)


def test_mochi_calls_its_attention_for_each_row():
    values = {
        "hidden_states": torch.zeros(2, 4, 3, 6, 10),
        "encoder_hidden_states": torch.zeros(2, 4, 8),
        "encoder_attention_mask": torch.tensor([[True, True, False, False], [True] * 4]),
    }
    found = readers.mochi(call(values, patch_size=2))
    assert found.grid == (3, 3, 5) and found.columns == (2, 4)
    assert found.joint.row_by_row and found.joint.of_rows(1, 2).row_by_row
    assert found.joint.text == (45, 45)


def test_grids_of_videos():
    frames_first = call(
        {"hidden_states": torch.zeros(1, 5, 4, 6, 10)}, patch_size=2, patch_size_t=2
    )
    assert readers.frames_first_grid(frames_first) == (3, 3, 5)
    last = torch.zeros(1, 4, 6, 10, 16)
    assert readers.channels_last_grid(call({"hidden_states": last}, patch_size=(1, 2, 2))) == (
        4,
        3,
        5,
    )
    one = call({"hidden_states": last[:, :1]}, patch_size=(1, 2, 2))
    assert readers.channels_last_grid(one) == (3, 5)


def test_ltx_has_positions_of_conditions_before_the_video():
    values = {
        "hidden_states": torch.zeros(1, 64, 4),
        "encoder_hidden_states": torch.zeros(1, 5, 8),
    }
    packed = readers.ltx(call(values | {"num_frames": 2, "height": 4, "width": 8}))
    assert packed.grid == (2, 4, 8) and packed.joint.queries == (0,)
    # One latent frame of a picture at frame 9 of the video.
    places = torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(8)).T.float()
    condition = places[:, :32] + torch.tensor([[9.0], [0.0], [0.0]])
    coordinates = torch.cat([condition, places], dim=1)[None]
    found = readers.ltx(call(values | {"video_coords": coordinates}))
    assert found.grid == (2, 4, 8) and found.joint.queries == (32,)


def test_a_picture_of_a_video_model_has_no_frames():
    latents = torch.zeros(1, 16, 1, 6, 10)
    assert readers.picture_grid(call({"hidden_states": latents}, patch_size=(1, 2, 2))) == (3, 5)
    video = call({"hidden_states": latents.repeat(1, 1, 2, 1, 1)}, patch_size=(1, 2, 2))
    assert readers.picture_grid(video) == (2, 3, 5)


def test_omnigen_has_the_time_between_text_and_image():
    values = {
        "hidden_states": torch.zeros(2, 4, 6, 10),
        "input_ids": torch.zeros(2, 7, dtype=torch.int64),
    }
    found = readers.omnigen(call(values, patch_size=2))
    assert found.grid == (3, 5) and found.columns == (7, 7)
    assert found.joint.queries == (8, 8) and found.joint.text == (0, 0)


def test_kandinsky_with_positions_in_blocks_is_refused():
    values = {
        "hidden_states": torch.zeros(1, 2, 16, 32, 4),
        "encoder_hidden_states": torch.zeros(1, 5, 8),
        "sparse_params": {"to_fractal": True},
    }
    with pytest.raises(RecordingError, match="the order of blocks of 8 x 8"):
        readers.kandinsky5(call(values, patch_size=(1, 2, 2)))
    assert readers.kandinsky5(
        call(values | {"sparse_params": None}, patch_size=(1, 2, 2))
    ).grid == (
        2,
        8,
        16,
    )


def test_easyanimate_with_a_second_text_is_refused():
    values = {
        "hidden_states": torch.zeros(1, 4, 3, 8, 12),
        "encoder_hidden_states": torch.zeros(1, 5, 8),
    }
    found = readers.easyanimate(call(values, patch_size=2))
    assert found.grid == (3, 4, 6) and found.joint.queries == (5,)
    with pytest.raises(RecordingError, match="called with encoder_hidden_states_t5"):
        second = {"encoder_hidden_states_t5": torch.zeros(1, 7, 8)}
        readers.easyanimate(call(values | second, patch_size=2))


def test_calls_of_guidance_of_ltx2_belong_to_no_prompt():
    values = {
        "hidden_states": torch.zeros(2, 96, 4),
        "encoder_hidden_states": torch.zeros(2, 5, 8),
        "num_frames": 3,
        "height": 4,
        "width": 8,
    }
    assert readers.ltx2(call(values)).grid == (3, 4, 8)
    assert readers.ltx2(call(values | {"isolate_modalities": True})) is None
    assert readers.ltx2(call(values | {"spatio_temporal_guidance_blocks": [28]})) is None


@pytest.mark.parametrize(
    ("call", "is_refused"),
    [
        ({"prompt": '{"short_description": "a box", "text_render": [{"text": "PACK"}]}'}, True),
        ({"prompt": "a box", "text_images": [object()]}, True),
        ({"prompt": ["a box", '{"text_render": [{"text": "PACK"}]}']}, True),
        ({"prompt": '{"text_render": [{"text": "PACK"}]}', "render_text_images": False}, False),
        ({"prompt": '{"short_description": "a box", "text_render": []}'}, False),
        ({"prompt": "a box"}, False),
    ],
)
def test_bria_fibo2_with_drawn_texts_is_refused(call, is_refused):
    pipe = BriaFibo2Pipeline.__new__(BriaFibo2Pipeline)
    why = bria_fibo2_drawn_texts(pipe, call)
    assert bool(why) is is_refused
    assert not why or "Set render_text_images=False and leave text_images out." in why

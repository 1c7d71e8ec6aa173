"""What the arguments of transformers' calls say that are lists, packed videos or ids."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from diffusers_rdaam.errors import RecordingError
from diffusers_rdaam.families.transformers import sequence_readers as readers
from diffusers_rdaam.families.transformers.kind import Arguments


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
    packed = {"num_frames": 2, "height": 8, "width": 16}
    assert readers.ltx_grid(call(packed)) == (2, 8, 16)
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

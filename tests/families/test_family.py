"""What a family says of a pipeline: sizes in pixels, columns of text, whose a denoiser is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from diffusers_rdaam.errors import UnsupportedPipelineError
from diffusers_rdaam.families import Branch, DenoiserCall, Family, TextColumns, family_of_module
from diffusers_rdaam.families.registry import has_denoiser
from diffusers_rdaam.families.unet import UNetFamily

CPU = torch.device("cpu")


@pytest.mark.parametrize("factor", [2, 8])
def test_pixels_of_a_grid_and_back(factor: int) -> None:
    family, pipe = UNetFamily(), SimpleNamespace(vae_scale_factor=factor)
    assert family.image_size(pipe, (5, 3)) == (5 * factor, 3 * factor)
    # The pipelines round down.
    assert family.grid_of_image(pipe, (5 * factor + 1, 4 * factor - 1)) == (5, 3)


def test_a_unet_alone_is_taken_for_stable_diffusions(make_unet: Any) -> None:
    unet, family = make_unet(), UNetFamily()
    assert isinstance(family, Family) and family.has(unet) and not family.has(unet.conv_in)
    assert family.image_size(unet, (5, 3)) == (40, 24)
    assert family.text_columns(unet) == 77


class ChatGLMTokenizer:
    model_max_length = 10**30


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        ({"tokenizer": SimpleNamespace(model_max_length=16)}, 16),
        ({"tokenizer": None, "tokenizer_2": SimpleNamespace(model_max_length=32)}, 32),
        ({"tokenizer": SimpleNamespace(model_max_length=10**30)}, 77),
        ({"tokenizer": ChatGLMTokenizer()}, 256),
    ],
    ids=["first", "second", "length not saved", "Kolors"],
)
def test_columns_of_a_pipelines_text(names: dict[str, Any], columns: int) -> None:
    assert UNetFamily().text_columns(SimpleNamespace(**names)) == columns


def test_columns_of_two_text_encoders(make_unet: Any) -> None:
    pipe = SimpleNamespace(text_encoder=object(), text_encoder_2=object())
    text = torch.zeros(2, 5, 16)
    call = UNetFamily("conditional").read_call(pipe, (torch.zeros(2, 4, 8, 12), 5, text), {})
    assert call is not None and call.columns == 5
    assert [(one.encoder, one.start, one.stop) for one in call.texts] == [
        ("text_encoder", 0, 5),
        ("text_encoder_2", 0, 5),
    ]


def test_a_call_with_the_negative_prompt_alone() -> None:
    call = DenoiserCall((8, 12), (TextColumns("a", 0, 5),), {Branch.UNCONDITIONAL: (0, 2)}, CPU)
    assert (call.images, call.columns) == (0, 5)


def test_the_family_of_a_denoiser_that_no_class_describes(make_unet: Any) -> None:
    unet = make_unet()
    assert family_of_module(unet, "conditional") == UNetFamily("conditional")
    assert family_of_module(SimpleNamespace(unet=unet)) == UNetFamily(None)
    assert has_denoiser(SimpleNamespace(unet=unet)) and not has_denoiser(SimpleNamespace(unet=3))
    with pytest.raises(UnsupportedPipelineError, match=r"^Linear has no attention to a text"):
        family_of_module(torch.nn.Linear(2, 3))


def test_a_branch_is_written_as_its_name() -> None:
    assert f"{Branch.UNCONDITIONAL}-{Branch.CONDITIONAL!s}" == "unconditional-conditional"
    assert Branch("perturbed") == "perturbed" and Branch.PERTURBED in {"perturbed"}

"""CLIP's rank of an image by a tiny random CLIP."""

from __future__ import annotations

import pytest
import torch

from diffusers_rdaam import InputError
from diffusers_rdaam.demo.loader import WEIGHTS
from diffusers_rdaam.segmentation.clip_rank import ClipRank


@pytest.fixture(scope="module")
def clip():
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip
    tokenizer = CLIPTokenizer.from_pretrained(WEIGHTS / "tokenizer")
    config = CLIPConfig(
        text_config={**small, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id},
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    size = {"height": 32, "width": 32}
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
    return ClipRank(CLIPModel(config).eval(), CLIPProcessor(images, tokenizer))


def test_the_rank_is_the_softmax_of_two_texts(clip, image):
    texts = ["a red circle", "not a red circle"]
    given = clip.processor(text=texts, images=image, return_tensors="pt", padding=True)
    with torch.no_grad():
        logits = clip.model(**given).logits_per_image[0]
    wanted = float(logits.exp()[0] / logits.exp().sum())
    found = clip(image, "red circle")
    assert found == pytest.approx(wanted, rel=1e-4) and 0 < found < 1
    assert found != pytest.approx(clip(image, "heart"), rel=1e-4)


def test_a_folder_that_is_not_a_clip_is_refused(tmp_path):
    with pytest.raises(InputError, match="No CLIP model could be loaded from"):
        ClipRank.from_pretrained(tmp_path)

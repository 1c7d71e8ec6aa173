"""rdaam 0.1.0: the same means over heads, sites and steps, enlarged straight to the image."""

from __future__ import annotations

import pytest
import torch

from diffusers_rdaam.errors import RegionError


def text_columns(attribution) -> slice:
    """rdaam keeps the prompt's tokens and drops the first and the last."""
    return slice(1, 1 + sum(token.kind == "text" for token in attribution.prompt.tokens))


def test_the_map_at_every_32nd_pixel(attribution, rdaam, close):
    ours = torch.stack([attribution.column(k).values[::32, ::32] for k in range(77)], dim=-1)
    close(ours, rdaam.tensors["global_stride8"])


def test_the_mean_of_every_token(attribution, rdaam, close):
    close(attribution.region((0, 0, 512, 512)).scores, rdaam.tensors["global_token_mean"])


@pytest.mark.parametrize("box", ["peer_default", "full", "small", "out_of_range"])
def test_boxes(attribution, rdaam, close, box):
    words = attribution.region(tuple(rdaam.facts["boxes"][box]))
    close(words.scores[text_columns(attribution)], rdaam.tensors[f"bbox.{box}"])


def test_an_empty_box_is_an_error_where_rdaam_gave_nan(attribution, rdaam):
    assert rdaam.tensors["bbox.empty"].isnan().all()
    with pytest.raises(RegionError):
        attribution.region(tuple(rdaam.facts["boxes"]["empty"]))


def test_word_maps_and_masks(attribution, rdaam, close):
    assert rdaam.facts["words"]
    for index, entry in rdaam.facts["words"].items():
        # rdaam takes every token whose text contains the word's letters: "a" is also the start
        # token, "cat" and "chair". The same columns are compared, whatever the word is.
        columns = entry["columns"]
        ours = torch.stack([attribution.column(k).values for k in columns]).mean(dim=0)
        heat = rdaam.tensors[f"forward.{index}.heat"]
        close(ours[::4, ::4], heat)
        decided = (heat - 0.5 * ours.max()).abs() > 1e-4 * ours.max()
        mask = rdaam.tensors[f"forward.{index}.mask"].bool()
        assert torch.equal((ours > 0.5 * ours.max())[::4, ::4][decided], mask[decided])
        assert decided.float().mean() > 0.99


def test_words_that_rdaam_finds_whole_are_ours(attribution, rdaam, close):
    """Where rdaam's columns are the word's, its mean over the tokens is our sum by their number."""
    compared = 0
    for index, entry in rdaam.facts["words"].items():
        match = attribution.prompt.find(entry["word"])
        if list(match.columns) == entry["columns"]:
            ours = attribution.match(match).values[::4, ::4] / len(match.columns)
            close(ours, rdaam.tensors[f"forward.{index}.heat"])
            compared += 1
    assert compared

"""OVAM 0.0.1: maps of texts that were not the prompt, and the losses of its token optimisation.

OVAM sums over calls, heads and layers, leaves the middle block out, enlarges bilinearly, and by
default reads the unconditional rows; here these are choices.
"""

from __future__ import annotations

import pytest
import torch
from ovam_runs import OPTIMIZATIONS, OTHER, maps, optimized, pipeline, stored, text, without_middle

from diffusers_rdaam.open_vocabulary.encode import encoded


@pytest.mark.values
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_texts_over_the_unconditional_rows(precision, number, close):
    negative = without_middle(pipeline(precision).attribution.negative)
    ours = maps(negative, text(number), precision)
    close(ours, stored().tensors[f"att{number}.default"])


@pytest.mark.parametrize("name", OTHER)
def test_other_stages(name, close):
    negative = without_middle(pipeline("fp32").attribution.negative)
    close(maps(negative, text(0), "fp32", **OTHER[name]), stored().tensors[name])


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_conditional_rows_and_the_middle_block(precision, close):
    attribution = pipeline(precision).attribution
    close(
        maps(without_middle(attribution), text(0), precision), stored().tensors["cond.att0.default"]
    )
    close(maps(attribution.negative, text(0), precision), stored().tensors["mid.att0.default"])


def test_without_special_tokens_these_do_not_compete(close):
    negative = without_middle(pipeline("fp32").attribution.negative)
    with torch.no_grad():
        words = encoded(pipeline("fp32"), text(0)).embedding[1:-1]
    close(maps(negative, words, "fp32"), stored().tensors["att0.no_special"])


def test_a_token_in_the_context_of_a_sentence(close):
    pipe, tensors = pipeline("fp32"), stored().tensors
    with torch.no_grad():
        in_context = encoded(pipe, "cat", context=stored().facts["prompt"])
    close(in_context.embedding, tensors["encode_text_context"])
    negative = without_middle(pipe.attribution.negative)
    wanted = tensors["att_from_embedding"]
    close(maps(negative, tensors["encode_text_context"], "fp32"), wanted)
    close(maps(negative, in_context, "fp32"), wanted)


@pytest.mark.parametrize("name", OPTIMIZATIONS)
def test_the_losses_of_token_optimisation(name):
    token, theirs = optimized(name), stored().tensors[f"opt.{name}.losses"]
    assert len(theirs) == 30 and theirs[-1] < theirs[0]
    ours = torch.tensor(token.losses, dtype=torch.float64)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    assert token.loss == min(token.losses) and token.best == int(theirs.argmin())

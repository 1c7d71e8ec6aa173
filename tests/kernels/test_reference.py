"""The definition against numbers that can be worked out by hand."""

from __future__ import annotations

import math

import torch

from diffusers_rdaam.kernels.reference import attention_probabilities, head_mean_probabilities


def test_two_tokens_by_hand():
    query = torch.tensor([[[[2.0]]]], dtype=torch.float64)
    key = torch.tensor([[[[0.0], [math.log(3.0)]]]], dtype=torch.float64)
    probabilities = attention_probabilities(query, key, scale=0.5)
    assert probabilities.flatten().tolist() == [0.25, 0.75]


def test_mask_is_added_to_the_scaled_logits():
    query = torch.tensor([[[[2.0]]]], dtype=torch.float64)
    key = torch.tensor([[[[0.0], [math.log(3.0)]]]], dtype=torch.float64)
    mask = torch.tensor([[[[math.log(3.0), 0.0]]]], dtype=torch.float64)
    probabilities = attention_probabilities(query, key, mask=mask, scale=0.5)
    torch.testing.assert_close(probabilities.flatten(), torch.full((2,), 0.5).double())


def test_head_mean_is_a_distribution_with_tokens_before_pixels():
    query, key = torch.randn(2, 3, 24, 5).double(), torch.randn(2, 3, 7, 5).double()
    maps = head_mean_probabilities(query, key, scale=5**-0.5)
    assert maps.shape == (2, 7, 24)
    torch.testing.assert_close(maps.sum(dim=1), torch.ones(2, 24).double())
    alone = [head_mean_probabilities(query[:, [i]], key[:, [i]], scale=5**-0.5) for i in range(3)]
    torch.testing.assert_close(maps, torch.stack(alone).mean(dim=0))


def test_a_position_that_is_wholly_masked_is_zero_and_no_other_is():
    query, key = torch.randn(1, 2, 6, 5).double(), torch.randn(1, 2, 7, 5).double()
    mask = torch.zeros(1, 1, 6, 7).double()
    mask[..., 4, :] = -math.inf
    sums = head_mean_probabilities(query, key, mask=mask, scale=1.0).sum(dim=1)
    torch.testing.assert_close(sums, torch.tensor([[1.0, 1, 1, 1, 0, 1]]).double())

"""Integrated gradients: the scores sum to the difference between the ends of the path."""

from __future__ import annotations

import pytest

from diffusers_rdaam.explain.gradients.gradient import explain_gradient

BOX, OTHER = (24, 8, 72, 40), (0, 40, 96, 64)


@pytest.mark.parametrize("case", ["StableDiffusion", "StableDiffusionXL"])
def test_the_sum_of_all_parts_is_the_difference(case, make, settings, prompt):
    pipe = make(case)
    found = explain_gradient(
        pipe,
        prompt,
        regions=[BOX, OTHER],
        method="integrated_gradients",
        path_steps=6,
        clamp=False,
        **settings(case, guidance_scale=1.0),
    )
    for words in found:
        parts = sum(word.score for word in words) + sum(words.special.values())
        assert parts == pytest.approx(words.difference * (1 + words.delta), rel=1e-4)
        assert abs(words.delta) < 0.02
        assert abs(words.difference) > 1e-3
        assert sum(abs(word.share) for word in words) == pytest.approx(1.0)
        # Both prompts begin with the same token, which sees nothing of what follows.
        assert words.special["start"] == 0.0
        assert "convergence delta" in str(words)
        assert words.to_dict()["delta"] == words.delta
    assert (
        found[0].image.tobytes()
        == pipe(prompt=prompt, **settings(case, guidance_scale=1.0)).images[0].tobytes()
    )


def test_more_steps_come_closer(make, settings, prompt):
    pipe = make()
    few, many = (
        explain_gradient(
            pipe,
            prompt,
            region=BOX,
            method="integrated_gradients",
            path_steps=steps,
            clamp=False,
            **settings(guidance_scale=3.0),
        )
        for steps in (1, 6)
    )
    assert abs(many.delta) < abs(few.delta) / 2

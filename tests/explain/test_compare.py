"""Explanations side by side, and how faithful an order of words is."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from diffusers_rdaam.errors import InputError, UnsupportedPipelineError
from diffusers_rdaam.explain.ablations.ablation import explain_ablation
from diffusers_rdaam.explain.ablations.deletion import Deletion, DeletionCurve
from diffusers_rdaam.explain.compare import compare_explanations, rank_correlation
from diffusers_rdaam.explain.gradients.gradient import explain_gradient

BOX = (24, 8, 72, 40)
VALUES = st.lists(st.integers(-5, 5).map(float), min_size=3, max_size=12)


@given(VALUES, st.randoms(use_true_random=False))
def test_the_rank_correlation_is_spearmans(values, random):
    other = [random.choice([-1.0, 0.0, 2.0, 3.5]) for _ in values]
    ours = rank_correlation(values, other)
    if len(set(values)) == 1 or len(set(other)) == 1:
        assert math.isnan(ours)
    else:
        assert ours == pytest.approx(spearmanr(values, other).statistic)


@pytest.fixture(scope="module")
def explained(make, settings, prompt):
    pipe = make(ours=True)
    attribution = pipe(prompt=prompt, **settings()).attribution
    return (
        attribution,
        explain_gradient(pipe, prompt, region=BOX, **settings()),
        explain_ablation(pipe, prompt, region=BOX, **settings()),
    )


def test_one_table(explained):
    attribution, gradient, ablation = explained
    table = compare_explanations(
        attention=attribution.region(BOX), gradient=gradient, ablation=ablation
    )
    assert table.words == ("a", "red", "cat", "near", "house")
    assert table.by == {"attention": "lift", "gradient": "share", "ablation": "score"}
    assert table.scores["ablation"] == tuple(ablation[word] for word in table.words)
    wanted = spearmanr(table.scores["gradient"], table.scores["ablation"]).statistic
    assert table.agreement["gradient"] == pytest.approx(wanted)
    assert set(table.agreement) == {"attention", "gradient"}
    text = str(table)
    assert text.splitlines()[1].startswith(ablation.words[0].text)
    assert "rank correlation with ablation: attention" in text
    assert "<table>" in table._repr_html_()
    assert json.loads(json.dumps(table.to_dict()))["reference"] == "ablation"
    by = compare_explanations(attention=attribution.region(BOX), gradient=gradient)
    assert by.reference == "gradient"


def test_what_cannot_be_compared(explained):
    attribution, gradient, ablation = explained
    with pytest.raises(InputError, match="At least two explanations are compared; got 1"):
        compare_explanations(gradient=gradient)
    with pytest.raises(InputError, match="different regions"):
        compare_explanations(attention=attribution.region((0, 0, 9, 9)), gradient=gradient)
    with pytest.raises(
        InputError,
        match=r"reference='attention' is not one of .* Explanations: one, other\.",
    ):
        compare_explanations(one=gradient, other=ablation, reference="attention")
    with pytest.raises(InputError, match="is not an explanation of a region"):
        compare_explanations(one=gradient, other=attribution)


def test_explanations_of_different_prompts(explained, make, settings):
    _, gradient, _ = explained
    other = explain_gradient(make(), "a dog", region=BOX, **settings())
    with pytest.raises(InputError, match=r"different prompts .*'a red cat near a house'"):
        compare_explanations(one=gradient, other=other)


def test_the_area_under_a_deletion_curve():
    assert DeletionCurve(("x", "y"), (0.0, 1.0, 1.0)).area == pytest.approx(0.75)
    assert DeletionCurve(("x", "y"), (0.0, 0.5, 1.0)).area == pytest.approx(0.5)
    assert DeletionCurve(("x",), (0.0, 0.0)).area == 0.0


def test_deletion_takes_words_one_after_another(explained, make, settings, prompt):
    _, _, ablation = explained
    deletion = Deletion(make(), prompt, **settings())
    curve = deletion.curve(BOX, ["cat", "red"])
    assert curve.changes[0] == 0.0 and len(curve.changes) == 3
    assert curve.changes[1] == pytest.approx(ablation["cat"], rel=1e-5)
    both = explain_ablation(make(), prompt, region=BOX, words=["red cat"], **settings())
    assert curve.changes[2] == pytest.approx(both["red cat"], rel=1e-5)
    assert np.isfinite(curve.area)
    with pytest.raises(InputError, match="The order is a list of words, best first; got 'cat'"):
        deletion.curve(BOX, "cat")


def test_deletion_of_another_pipeline(prompt):
    with pytest.raises(UnsupportedPipelineError, match="object cannot be explained"):
        Deletion(object(), prompt)

"""A misspelt keyword is an error that names the nearest, before anything is generated."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from diffusers import StableDiffusionPipeline

from benchmarks.scenarios import BOX
from benchmarks.toy_host import PROMPT, new_host, settings
from diffusers_rdaam import (
    IntermediateImages,
    LivePreview,
    RDAAMProcessor,
    StableDiffusionRDAAMPipeline,
    explain_ablation,
    explain_gradient,
    inject_attention,
    optimize_token,
    save_attention,
)
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.explain.ablations.deletion import Deletion
from diffusers_rdaam.open_vocabulary.attribute_text import attribute_text, text_maps


class _Never(StableDiffusionPipeline):
    """A class of a user's, with a keyword of its own and a call that must not be made."""

    def __call__(self, *args: Any, style: str = "plain", **kwargs: Any) -> Any:
        raise AssertionError("nothing is generated")


@pytest.mark.parametrize("cls", [StableDiffusionPipeline, _Never, StableDiffusionRDAAMPipeline])
@pytest.mark.parametrize(
    ("ask", "name", "nearest"),
    [
        (lambda p, **k: explain_gradient(p, PROMPT, **k), "reigon", "region"),
        (lambda p, **k: explain_gradient(p, PROMPT, **k), "numinference_steps", None),
        (lambda p, **k: explain_gradient(p, PROMPT, **k), "path_step", "path_steps"),
        (lambda p, **k: explain_ablation(p, PROMPT, **k), "wrds", "words"),
        (lambda p, **k: explain_ablation(p, PROMPT, **k), "guidance", None),
        (lambda p, **k: Deletion(p, PROMPT, **k), "mod", "mode"),
        (lambda p, **k: save_attention(p, PROMPT, **k), "grid", "grids"),
        (lambda p, **k: save_attention(p, PROMPT, **k), "genrator", "generator"),
        (lambda p, **k: inject_attention(p, None, PROMPT, **k), "step", "steps"),
        (lambda p, **k: optimize_token(p, None, BOX, **k), "learning_rat", "learning_rate"),
        (lambda p, **k: attribute_text(p, None, "a dog", **k), "contxt", "context"),
        (lambda p, **k: text_maps(p, None, "a dog", **k), "recipes", "recipe"),
    ],
)
def test_a_misspelt_keyword(ask: Any, name: str, nearest: str | None, cls: type) -> None:
    hint = re.escape(f"has no argument {name!r}.")
    hint += re.escape(f" Did you mean {nearest}=?") if nearest else " Did you mean "
    with pytest.raises(InputError, match=hint):
        ask(_pipe(cls), **{name: 1})


_pipes: dict[type, Any] = {}


def _pipe(cls: type) -> Any:
    if cls not in _pipes:
        _pipes[cls] = new_host(cls)
    return _pipes[cls]


def test_those_of_the_pipeline_and_of_its_class_pass() -> None:
    pipe = _pipe(StableDiffusionPipeline)
    with pytest.warns(FutureWarning, match="callback"):
        more = {"callback": lambda *given: None, "callback_steps": 1, "eta": 0.0}
        explain_ablation(pipe, PROMPT, words=["cat"], **settings(**more))
    with pytest.raises(AssertionError, match="nothing is generated"):
        save_attention(_pipe(_Never), PROMPT, style="plain")
    ours = _pipe(StableDiffusionRDAAMPipeline)
    output, _ = save_attention(ours, PROMPT, attribution_prompt=None, **settings())
    assert output.images


def test_methods_of_a_pipeline_and_callbacks() -> None:
    pipe = new_host(StableDiffusionRDAAMPipeline)
    pipe.set_attn_processor(RDAAMProcessor(keep="queries"))
    attribution = pipe(PROMPT, **settings()).attribution
    with pytest.raises(InputError, match=r"query\(\) has no argument 'paddin'\. Did you mean padd"):
        pipe.query(attribution, "a dog", paddin=True)
    with pytest.raises(InputError, match=r"LivePreview\(\) has no argument 'evry'\. Did you mean"):
        LivePreview(print, evry=2)  # type: ignore[call-arg]
    with pytest.raises(InputError, match=r"IntermediateImages\(\) has no argument 'step'"):
        IntermediateImages(step=[1])  # type: ignore[call-arg]


def test_a_prompt_that_is_no_text() -> None:
    with pytest.raises(InputError, match=r"edited for one prompt at a time, given as a text; got"):
        save_attention(_pipe(StableDiffusionPipeline), ["a", "b"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "function"), [("query", attribute_text), ("query_maps", text_maps)]
)
def test_a_method_has_the_keywords_of_its_function(method: str, function: Any) -> None:
    own = inspect.signature(getattr(StableDiffusionRDAAMPipeline, method)).parameters
    wanted = inspect.signature(function).parameters
    assert list(own)[1:] == list(wanted)[1:]
    assert [own[name].default for name in list(own)[1:]] == [
        wanted[name].default for name in list(wanted)[1:]
    ]

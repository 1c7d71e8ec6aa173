"""Concepts over a transformer's image: ConceptAttention's formula, and the image as it was."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import builders_flux
import builders_flux2
import builders_qwen
import builders_sd3
import numpy as np
import pytest
import torch
from concept_oracle import ConceptOracle, Scores
from dense_oracle import Case
from toy_models import text_first
from transformer_conditions import CONDITIONS, FAMILIES, Condition
from transformer_outcome import images, ours_of, with_call
from transformer_switches import own_backend

from diffusers_rdaam import Attribution, RDAAMProcessor, record_attention
from diffusers_rdaam.errors import (
    InputError,
    NoAttributionError,
    NotRecordedWarning,
    UnsupportedPipelineError,
    WordError,
)
from diffusers_rdaam.recording import concept_stream

TEXTS = ["a cat", "red barn", "sky"]
CASES: dict[str, Callable[[], Case]] = {
    "FLUX": partial(
        builders_flux._case, "FluxPipeline", guided=True, num_layers=2, num_single_layers=2
    ),
    "FLUX, embedded guidance": builders_flux.CASES["FluxPipeline, embedded guidance"],
    "FLUX, two images": builders_flux.CASES["FluxPipeline, two images"],
    "FLUX, reference": builders_flux.CASES["FluxKontextPipeline, true guidance"],
    "SD3": builders_sd3.CASES["StableDiffusion3Pipeline"],
    "FLUX.2": builders_flux2.CASES["Flux2Pipeline"],
    "FLUX.2 klein, reference": builders_flux2.CASES["Flux2KleinPipeline, reference"],
    "Qwen": builders_qwen.CASES["QwenImagePipeline"],
}


def recorded(case: Case, texts: Any = TEXTS, **options: Any) -> Any:
    """The output of our class with a vocabulary."""
    pipe = ours_of(case)
    pipe.set_attn_processor(RDAAMProcessor(**options))
    return case.run(pipe, attribution_vocabulary=texts)


def maps_of(attribution: Attribution, texts: Any = TEXTS, **selection: Any) -> torch.Tensor:
    """The maps of the concepts at the grid, ``(concepts, height, width)``."""
    maps = []
    for text in texts:
        part = attribution.vocabulary[text]
        part = part.select(**selection) if selection else part
        shares = zip(part.grids, part.grid_shares, strict=True)
        maps.append(sum(grid.maps[0] * share for grid, share in shares))
    return torch.stack(maps).double()


def is_of(scores: Scores, *, site: str, step: int) -> bool:
    return (scores.site, scores.step) == (site, step)


@pytest.mark.parametrize("name", CASES)
def test_maps_are_those_of_the_formula(name):
    case = CASES[name]()
    oracle = ConceptOracle(case, TEXTS)
    output = recorded(case, keep=("steps", "layers"))
    assert np.array_equal(images(output), images(oracle.output))
    for number, attribution in enumerate(output.attributions):
        wanted = oracle.maps(number)
        assert (maps_of(attribution) - wanted).abs().max() < 1e-5
        assert wanted.std(dim=(1, 2)).min() > 1e-4
        for site in attribution.vocabulary["sky"].layers:
            ours = maps_of(attribution, layers=[site], steps=1)
            theirs = oracle.maps(
                number, of=lambda one, site=site: (one.site, one.step) == (site, 1)
            )
            assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["FLUX", "SD3"])
def test_scores_are_the_products_themselves(name):
    case = CASES[name]()
    oracle = ConceptOracle(case, TEXTS)
    output = recorded(case, concepts="scores")
    for number, attribution in enumerate(output.attributions):
        wanted = oracle.maps(number, softmax=False)
        assert (maps_of(attribution) - wanted).abs().max() < 1e-5 * wanted.abs().max()
        assert (wanted.sum(dim=0) - 1).abs().min() > 1e-3
        heat_map = attribution.vocabulary["sky"].word("sky")
        assert heat_map.quantity == "score of the concept"
        assert len(attribution.vocabulary["sky"].prompt.tokens) == 1


def test_one_concept_alone_has_scores():
    case = CASES["FLUX"]()
    output = recorded(case, "red barn", concepts="scores")
    wanted = ConceptOracle(case, ["red barn"]).maps(0, softmax=False)
    assert (maps_of(output.attributions[0], ["red barn"]) - wanted).abs().max() < 1e-5


def test_a_concept_is_a_text_of_one_word_and_the_rest():
    attribution = recorded(CASES["FLUX"]()).attributions[0]
    assert list(attribution.vocabulary) == TEXTS
    barn = attribution.vocabulary["red barn"]
    assert [word.text for word in barn.words] == ["red barn"]
    with pytest.raises(WordError, match="Ask for 'red barn'"):
        barn.word("barn")
    assert barn["red barn"].quantity == "share among the concepts"
    assert barn.prompt.has_rest and barn.image is attribution.image
    assert barn.run["concepts"] == "a cat; red barn; sky" and barn.kept is None
    for grid in barn.grids:
        assert (grid.maps.sum(dim=0) - 1).abs().max() < 1e-6
    assert (maps_of(attribution).sum(dim=0) - 1).abs().max() < 1e-6
    box = (0, 0, 8, 8)
    assert barn.region(box)["red barn"] == barn["red barn"].mass(box)
    # The prompt's maps are those of a run without other texts.
    plain = ours_of(CASES["FLUX"]())
    plain.set_attn_processor(RDAAMProcessor())
    CASES["FLUX"]().run(plain)
    for ours, theirs in zip(attribution.grids, plain.attributions[0].grids, strict=True):
        assert torch.equal(ours.maps, theirs.maps)


def test_the_order_of_the_concepts_is_of_no_account():
    case = CASES["FLUX"]()
    first, second = (recorded(case, texts).attributions[0] for texts in (TEXTS, TEXTS[::-1]))
    assert (maps_of(first) - maps_of(second)).abs().max() < 1e-6
    # The same text twice is one concept.
    again = recorded(case, [*TEXTS, "sky"]).attributions[0]
    assert torch.equal(maps_of(first), maps_of(again))


def test_streams_layers_and_steps_are_chosen():
    case = CASES["FLUX"]()
    oracle = ConceptOracle(case, TEXTS)
    attribution = recorded(case, keep=("steps", "layers")).attributions[0]
    plain = recorded(case).attributions[0]
    for stream in ("double", "single"):
        wanted = oracle.maps(0, of=lambda one, stream=stream: one.stream == stream)
        assert (maps_of(attribution, stream=stream) - wanted).abs().max() < 1e-5
        assert (maps_of(plain, stream=stream) - wanted).abs().max() < 1e-5
    late = oracle.maps(0, of=lambda one: one.step == 1)
    assert (maps_of(attribution, steps=1) - late).abs().max() < 1e-5
    # A selection of the prompt's attribution is one of its concepts.
    chosen = attribution.select(layers="transformer_blocks.1.attn")
    wanted = oracle.maps(0, of=lambda one: one.site == "transformer_blocks.1.attn")
    assert (maps_of(chosen) - wanted).abs().max() < 1e-5
    assert attribution.vocabulary["sky"].steps[0].run["concept_maps"] == "softmax"
    with_heads = recorded(case, keep=("heads", "layers")).attributions[0]
    assert with_heads.vocabulary["sky"].kept.axes == ("layers",)


def test_concepts_are_ranked_together():
    attribution = recorded(CASES["FLUX"](), keep="steps").attributions[0]
    together = attribution.vocabulary.together()
    assert next(iter(together.words)).text == "a cat"
    for text in TEXTS:
        alone = attribution.vocabulary[text].word(text).values
        assert torch.equal(together.word(text).values, alone)
    words = together.region((0, 0, 8, 8))
    assert sum(words[text] for text in TEXTS) == pytest.approx(1.0, abs=1e-5)
    assert together.select(steps=0).kept.steps == 1
    with pytest.raises(NoAttributionError, match="was given no other texts"):
        attribution.vocabulary["sky"].vocabulary.together()
    scores = recorded(CASES["FLUX"](), concepts="scores").attributions[0]
    with pytest.raises(InputError) as error:
        scores.vocabulary.together()
    assert str(error.value).startswith("Only concepts that compete in one softmax can be put")


def test_files_hold_concepts(tmp_path):
    attribution = recorded(CASES["SD3"](), keep=("steps", "layers")).attributions[0]
    loaded = Attribution.load(attribution.save(tmp_path / "image.safetensors"))
    assert torch.equal(maps_of(loaded), maps_of(attribution))
    site = loaded.vocabulary["sky"].layers[1]
    assert torch.equal(maps_of(loaded, layers=[site]), maps_of(attribution, layers=[site]))
    assert loaded.vocabulary["sky"].word("sky").quantity == "share among the concepts"


def test_every_concept_has_the_first_position_of_the_text(monkeypatch):
    """Of FLUX.2 and Qwen-Image; that of FLUX.1 turns nothing, and Stable Diffusion 3 has none."""
    seen = []
    pass_block = concept_stream.ConceptStream.pass_block

    def spied(self: Any, site: Any, key: Any, value: Any) -> Any:
        output = pass_block(self, site, key, value)
        seen.append(self._inputs[concept_stream.block_name(site)]["image_rotary_emb"])
        return output

    monkeypatch.setattr(concept_stream.ConceptStream, "pass_block", spied)
    recorded(CASES["FLUX.2"]())
    cosines, sines = seen[0]
    # Of 10 tokens and one position of the image.
    assert cosines.shape[0] == 11
    assert torch.equal(cosines[:10], torch.ones_like(cosines[:10]))
    assert not sines[:10].any()


def test_a_wide_image_and_an_image_prompt():
    case = CASES["FLUX"]()
    changed = {"call": case.call | {"height": 8, "width": 32}, "grid": (2, 8)}
    wide = replace(case, **changed, **text_first(tokens=16))
    oracle = ConceptOracle(wide, TEXTS)
    found = maps_of(recorded(wide).attributions[0])
    assert found.shape == (3, 2, 8) and (found - oracle.maps(0)).abs().max() < 1e-5
    prompted = builders_flux.CASES["FluxPipeline, image prompt"]()
    oracle = ConceptOracle(prompted, TEXTS)
    output = recorded(prompted)
    assert np.array_equal(images(output), images(oracle.output))
    assert (maps_of(output.attributions[0]) - oracle.maps(0)).abs().max() < 1e-5


def test_stable_diffusion_3_5_and_skipped_layers():
    for name, case in builders_sd3.CASES.items():
        if "dual" in name or "skip" in name.lower():
            made = case()
            oracle = ConceptOracle(made, TEXTS)
            output = recorded(made)
            assert np.array_equal(images(output), images(oracle.output)), name
            found = maps_of(output.attributions[0])
            assert (found - oracle.maps(0)).abs().max() < 1e-5, name


def test_of_a_stock_pipeline_and_between_runs():
    case = CASES["FLUX"]()
    pipe = case.make()
    pipe.set_progress_bar_config(disable=True)
    with record_attention(pipe, RDAAMProcessor()) as recording:
        case.run(pipe, attribution_vocabulary=TEXTS)
    found = maps_of(recording.attributions[0])
    assert (found - maps_of(recorded(case).attributions[0])).abs().max() < 1e-6
    ours = ours_of(case)
    case.run(ours)
    parts = {name: dict(vars(module)) for name, module in ours.transformer.named_modules()}
    case.run(ours, attribution_vocabulary=TEXTS)
    assert case.run(ours).attributions[0].vocabulary == {}
    now = {name: dict(vars(module)) for name, module in ours.transformer.named_modules()}
    assert now.keys() == parts.keys()
    assert all(now[name].keys() == parts[name].keys() for name in parts)


def test_nothing_of_the_run_is_held_afterwards():
    case = CASES["FLUX"]()
    pipe = ours_of(case)
    pipe.set_attn_processor(RDAAMProcessor())
    seen: list[Any] = []
    hook = pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(weakref.ref(kwargs["hidden_states"])),
        with_kwargs=True,
    )
    case.run(pipe, attribution_vocabulary=TEXTS)
    hook.remove()
    gc.collect()
    assert seen and all(one() is None for one in seen[:-1])


# Conditions that change how the denoiser is computed, and not what.
_SAME_NUMBERS = (
    "nothing special",
    "`enable_",
    "group offload",
    "gradient checkpointing",
    "`fuse_qkv",
    "`set_attention_backend`",
    "`torch.inference_mode`",
)
_TRIED = [
    pytest.param(
        condition,
        id=condition.id,
        marks=() if "FluxPipeline" in condition.often else pytest.mark.slow,
    )
    for condition in CONDITIONS
    # FLUX takes no scheduler of two calls a step.
    if condition.tried("FluxPipeline") and condition.name != "a scheduler with two calls a step"
]


@pytest.mark.every(3)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("condition", _TRIED)
def test_under_conditions_the_image_is_that_without_concepts(condition: Condition):
    case = FAMILIES["FluxPipeline"]()
    outputs = []
    for texts in (None, TEXTS):
        with own_backend():
            pipe = ours_of(case)
            pipe.set_attn_processor(RDAAMProcessor())
            condition.apply(pipe)
            with condition.around(), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                changed = with_call(case, condition, pipe)
                outputs.append(changed.run(pipe, attribution_vocabulary=texts))
            assert not [w for w in caught if issubclass(w.category, NotRecordedWarning)]
    plain, found = outputs
    assert np.array_equal(images(plain), images(found))
    maps = maps_of(found.attributions[0])
    assert (maps.sum(dim=0) - 1).abs().max() < 1e-6 and maps.std() > 1e-4
    if condition.name.startswith(_SAME_NUMBERS):
        assert (maps - maps_of(recorded(case).attributions[0])).abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_blocks_are_compiled_no_more_often():
    case = CASES["FLUX"]()
    eager = maps_of(recorded(case).attributions[0])
    graphs = []
    for texts in (None, TEXTS):
        torch.compiler.reset()
        pipe = ours_of(case)
        pipe.set_attn_processor(RDAAMProcessor())
        counter = torch._dynamo.testing.CompileCounterWithBackend("eager")
        pipe.transformer.compile_repeated_blocks(fullgraph=True, backend=counter)
        output = case.run(pipe, attribution_vocabulary=texts)
        graphs.append((counter.frame_count, images(output)))
    torch.compiler.reset()
    assert graphs[0][0] == graphs[1][0] and np.array_equal(graphs[0][1], graphs[1][1])
    assert (maps_of(output.attributions[0]) - eager).abs().max() < 1e-5


def refused(case: Case, texts: Any, kind: type[Exception] = InputError, **options: Any) -> str:
    with pytest.raises(kind) as error:
        recorded(case, texts, **options)
    return str(error.value)


@pytest.mark.usefixtures("types_unchecked")
def test_vocabularies_that_are_refused():
    case = CASES["FLUX"]()
    assert refused(case, ["sky"]) == (
        "attribution_vocabulary= of a transformer is a list of at least two texts, which compete "
        "at every pixel; got ['sky']. Add what else is to be seen, such as 'background', or record "
        "scores without a softmax with RDAAMProcessor(concepts='scores')."
    )
    assert refused(case, ["sky", " "]) == (
        "A text of the vocabulary is empty. Give a word or a few."
    )
    assert refused(case, ["sky", 3]) == (
        "attribution_vocabulary= of a transformer is a list of texts; got a int in it."
    )
    assert refused(case, 3) == "attribution_vocabulary= is a list of texts; got a int."
    assert refused(case, ["sky", " ".join(["cat"] * 90)]).endswith(
        "does not fit into the 24 tokens of the text encoder. Shorten it."
    )
    assert refused(case, TEXTS, budget=100).startswith(
        "The vocabulary of 3 concepts takes 1.15 kB, together"
    )
    with pytest.raises(InputError) as error:
        RDAAMProcessor(concepts="score")
    assert "Maps of concepts: softmax, scores" in str(error.value).replace("'", "")


def test_models_and_pipelines_without_concepts():
    text = refused(FAMILIES["ZImagePipeline"](), TEXTS, UnsupportedPipelineError)
    assert text.startswith("Maps of another text cannot be computed for ZImage")
    assert text.endswith(
        "FLUX.1, FLUX.2, Stable Diffusion 3 and Qwen-Image take other texts before the run, with "
        "attribution_vocabulary=[…]."
    )
    edit = builders_qwen.CASES["QwenImageEditPipeline"]()
    assert "encodes texts together with a picture" in refused(edit, TEXTS, UnsupportedPipelineError)
    perturbed = next(case for name, case in builders_sd3.CASES.items() if "PAG" in name)()
    assert refused(perturbed, TEXTS).startswith(
        "Concepts cannot be recorded with perturbed-attention guidance"
    )
    case = CASES["FLUX"]()
    pipe = ours_of(case)
    pipe.set_attn_processor(RDAAMProcessor(keep="queries"))
    with pytest.raises(UnsupportedPipelineError) as error:
        pipe.query(case.run(pipe).attributions[0], "sky")
    assert str(error.value).endswith(
        "Name the texts before the run, with pipe(…, attribution_vocabulary=[…])."
    )

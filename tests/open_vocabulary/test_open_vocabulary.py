"""Any text over an image: after the run from its queries, and before it as a vocabulary."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from oracle import watched
from torch._dynamo.utils import counters
from toys import ALL_CASES, CASES, build, call, parts_of

from diffusers_rdaam import (
    Attribution,
    MapRecipe,
    Queries,
    QueryOptions,
    RDAAMProcessor,
    VideoAttribution,
    attribute_text,
    record_attention,
    text_maps,
)
from diffusers_rdaam.errors import InputError, NoAttributionError, WordError
from diffusers_rdaam.open_vocabulary.encode import encoded

TEXT = "a red car near a house"
NAMES = ("StableDiffusion", "StableDiffusionXL", "StableDiffusionInstructPix2Pix", "Kolors")


def fresh(name: str, **options: Any) -> Any:
    pipe = build(ALL_CASES[name].ours, parts_of(ALL_CASES[name]))
    pipe.set_attn_processor(RDAAMProcessor(**options))
    return pipe


@cache
def recorded(name: str = "StableDiffusion") -> tuple[Any, Any]:
    """A pipeline and its output: of two prompts, two images each, whose queries are float32."""
    pipe = fresh(name, keep="queries", keep_negative=True, queries=QueryOptions(precision="fp32"))
    prompts = ["a red cat", "two blue dogs on a mat"]
    images = {}
    if "image" in ALL_CASES[name].call:
        images = {"image": [ALL_CASES[name].call["image"]] * 4}
    return pipe, call(ALL_CASES[name], pipe, prompts, num_images_per_prompt=2, **images)


def difference(ours: Attribution, theirs: Attribution) -> float:
    pairs = zip(ours.grids, theirs.grids, strict=True)
    return max(float((a.maps - b.maps).abs().max()) for a, b in pairs)


@pytest.mark.parametrize("name", NAMES)
def test_the_prompt_itself_padded_has_the_recorded_maps(name):
    pipe, output = recorded(name)
    texts = ["a red cat"] * 2 + ["two blue dogs on a mat"] * 2
    for text, attribution in zip(texts, output.attributions, strict=True):
        again = pipe.query(attribution, text, padding=True)
        assert difference(again, attribution) < 1e-6
        assert again.words == attribution.words
        assert [g.additions for g in again.grids] == [g.additions for g in attribution.grids]
        other = pipe.query(attribution, "a green house", padding=True)
        assert difference(other, attribution) > 1e-3


def test_the_maps_are_the_softmax_over_the_texts_own_tokens():
    pipe = fresh("StableDiffusion", keep="queries")
    with watched(pipe) as seen:
        output = call(CASES["StableDiffusion"], pipe, "a red cat")
    found = pipe.query(output.attribution, TEXT)
    with torch.no_grad():
        text = encoded(pipe, TEXT)
    modules = dict(pipe.unet.named_modules())
    for grid in found.grids:
        wanted = 0
        for site in grid.sites:
            key = modules[site].to_k(text.embedding.double().to(torch.float32)).double()
            key = key.unflatten(-1, (modules[site].heads, -1)).transpose(0, 1)
            for queries, _ in seen[site]:
                logits = key @ queries[-1].double().mT * key.shape[-1] ** -0.5
                wanted = wanted + logits.softmax(dim=1).mean(dim=0)
        wanted = (wanted / grid.additions).unflatten(-1, grid.size)
        assert float((grid.maps - wanted.detach()).abs().max()) < 2e-4
        torch.testing.assert_close(grid.maps.sum(dim=0), torch.ones(grid.size))
    assert [token.kind for token in found.prompt.tokens][:: len(found.prompt.tokens) - 1] == [
        "start",
        "end",
    ]
    assert found.region((0, 0, 30, 30))["house"] == pytest.approx(
        found.word("house").mass((0, 0, 30, 30)), rel=1e-5
    )
    assert found.run["query"] == TEXT and found.image is output.images[0]


def test_the_negative_prompts_rows_have_queries_of_their_own():
    pipe, output = recorded()
    attribution = output.attributions[0]
    conditional, negative = (pipe.query(a, TEXT) for a in (attribution, attribution.negative))
    assert difference(conditional, negative) > 1e-4
    again = pipe.query(attribution.negative, "a red cat", padding=True)
    assert difference(again, attribution) > 1e-4


def test_image_and_maps_are_those_of_a_run_that_keeps_nothing():
    case = CASES["StableDiffusion"]
    plain = call(case, fresh(case.name), output_type="np")
    kept = call(case, fresh(case.name, keep=["queries", "steps"]), output_type="np")
    words = call(case, fresh(case.name), output_type="np", attribution_vocabulary=[TEXT, "hat"])
    for other in (kept, words):
        assert np.array_equal(plain.images, other.images)
        assert difference(plain.attribution, other.attribution) < 1e-6
    assert kept.attribution.steps[0].queries is None
    assert plain.attribution.queries is None and plain.attribution.vocabulary == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_vocabulary_before_the_run_is_the_query_after_it(name):
    pipe = fresh(name, keep="queries", queries=QueryOptions(precision="fp32"))
    case = ALL_CASES[name]
    images = {"image": [case.call["image"]] * 2} if "image" in case.call else {}
    texts = [TEXT, "mouth"]
    output = call(case, pipe, num_images_per_prompt=2, attribution_vocabulary=texts, **images)
    for attribution in output.attributions:
        assert list(attribution.vocabulary) == [TEXT, "mouth"]
        for text, found in attribution.vocabulary.items():
            assert difference(pipe.query(attribution, text), found) < 1e-5
            assert found.image is attribution.image
        assert attribution.vocabulary["mouth"]["mouth"].values.shape == attribution.image_size
    first, second = (a.vocabulary["mouth"] for a in output.attributions)
    assert difference(first, second) > 1e-4
    assert call(case, pipe).attribution.vocabulary == {}


def test_without_guidance_and_of_a_stock_pipeline():
    case = CASES["StableDiffusion"]
    stock = build(case.stock, parts_of(case))
    template = RDAAMProcessor(keep="queries", queries=QueryOptions(precision="fp32"))
    with record_attention(stock, template) as recording:
        call(case, stock, "a red cat", guidance_scale=1.0, attribution_vocabulary="a hat")
        inside = stock.query(recording.attribution, "a hat")
    after = attribute_text(stock, recording.attribution, "a hat")
    assert difference(inside, after) == 0
    assert difference(after, recording.attribution.vocabulary["a hat"]) < 1e-5
    # Of the UNet alone there is no text encoder.
    with torch.no_grad():
        embedding = encoded(stock, "a hat").embedding
    assert difference(attribute_text(stock.unet, recording.attribution, embedding), after) < 1e-6
    with pytest.raises(InputError) as error:
        attribute_text(stock.unet, recording.attribution, "a hat")
    assert str(error.value) == (
        "UNet2DConditionModel encodes no text. Give the embedding (tokens, width) in place of the "
        "text."
    )


def test_an_embedding_and_a_token_in_context():
    pipe, output = recorded()
    attribution = output.attributions[0]
    with torch.no_grad():
        text = encoded(pipe, TEXT)
    by_tensor = pipe.query(attribution, text.embedding[None])
    assert difference(by_tensor, pipe.query(attribution, TEXT)) == 0
    assert by_tensor.words == () and len(by_tensor.prompt.tokens) == len(text.prompt.tokens)
    found = pipe.query(attribution, "car", context="a big car on a carpet, my car")
    assert [word.text for word in found.words] == ["car"]
    both = [token for token in found.prompt.tokens if token.kind == "text"]
    alone = pipe.query(attribution, "car")
    per_word = len([t for t in alone.prompt.tokens if t.kind == "text"])
    assert (
        len(both) == 2 * per_word
        and difference(pipe.query(attribution, "car", context="car"), alone) < 1e-6
    )
    with pytest.raises(WordError, match="'cat' is not a word of the prompt 'my car'"):
        pipe.query(attribution, "cat", context="my car")


def test_maps_are_differentiable_in_the_embedding_and_in_nothing_else():
    pipe, output = recorded()
    attribution = output.attributions[0]
    with torch.no_grad():
        embedding = encoded(pipe, "a hat").embedding.double().float()
    start = embedding.clone().requires_grad_()
    maps = pipe.query_maps(attribution, start)
    direction = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(maps.shape, generator=torch.Generator().manual_seed(1))
    (maps * weight).sum().backward()
    step = 1e-2
    ends = [
        float((pipe.query_maps(attribution, embedding + sign * step * direction) * weight).sum())
        for sign in (1, -1)
    ]
    assert start.grad is not None
    slope = float((start.grad * direction).sum())
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-2)
    assert not any(weights.grad is not None for weights in pipe.unet.parameters())
    assert not pipe.query_maps(attribution, "a hat").requires_grad


def test_stages_of_ones_own():
    pipe, output = recorded()
    attribution = output.attributions[0]
    maps = pipe.query_maps(attribution, TEXT)
    assert tuple(maps.shape[1:]) == attribution.grids[0].size
    shapes = []

    def first_call(values: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(values.shape))
        return values[0]

    only = MapRecipe(over_calls=first_call)
    chosen = attribution.with_queries(attribution.queries.select(steps=0))
    torch.testing.assert_close(
        pipe.query_maps(attribution, TEXT, recipe=only), pipe.query_maps(chosen, TEXT)
    )
    assert {len(shape) for shape in shapes} == {5} and {shape[0] for shape in shapes} == {2}
    highest = pipe.query(attribution, TEXT, aggregation="max")
    assert all(
        bool((a.maps >= b.maps - 1e-6).all())
        for a, b in zip(highest.grids, pipe.query(attribution, TEXT).grids, strict=True)
    )
    enlarged = text_maps(pipe, attribution, TEXT, size=(64, 96))
    assert tuple(enlarged.shape) == (maps.shape[0], 64, 96)


def test_stages_that_there_are_not():
    with pytest.raises(InputError) as error:
        MapRecipe(activation="softmin")
    assert str(error.value) == (
        "'softmin' is not a valid activation of a recipe. Give one of 'linear', 'softmax', "
        "'sigmoid', 'relu', 'tanh', 'sigmoid+relu', 'clamp', or a function."
    )
    with pytest.raises(InputError) as error:
        MapRecipe(interpolation="area")
    assert str(error.value) == (
        "'area' is not a valid interpolation of a recipe. Give one of 'bicubic', 'bilinear', "
        "'nearest'."
    )
    pipe, output = recorded()
    with pytest.raises(InputError, match="An aggregation must take away the first axis of"):
        pipe.query(output.attributions[0], TEXT, aggregation=lambda values: values)


NEEDS = "Asking about another text needs the image's queries, which "
NO_TEXT = (
    "only the attribution of the prompt has, not that of another text. Ask the attribution of the "
    "prompt."
)
NOT_IN_A_SELECTION = (
    "a selection of steps, heads or of other layers and grids does not have. Ask the whole "
    "attribution, or keep some queries only: "
    "attribution.with_queries(attribution.queries.select(steps=…))."
)
NOT_IN_A_FILE = (
    "files of attributions do not hold. Save them as well, with attribution.queries.save(path), "
    "and load both: Attribution.load(file).with_queries(Queries.load(path))."
)
NOT_IN_A_MEAN = (
    "the mean of several runs has only where all of them kept the same of it, and queries never. "
    "Ask the attribution of each run."
)
NOT_KEPT = (
    'this run did not keep. Record with pipe.set_attn_processor(RDAAMProcessor(keep="queries")) '
    "and generate again, or name the texts before the run with pipe(…, attribution_vocabulary=[…])."
)


@cache
def with_everything() -> tuple[Any, Any, Any]:
    """Two images of a run that kept queries and steps, and one of a run that did not."""
    case = CASES["StableDiffusion"]
    pipe = fresh("StableDiffusion", keep=("queries", "steps"), keep_negative=True)
    images = call(
        case, pipe, num_images_per_prompt=2, attribution_vocabulary=["a hat"]
    ).attributions
    return pipe, images, call(case, fresh("StableDiffusion")).attribution


def _loaded(tmp_path: Any) -> Attribution:
    return Attribution.load(with_everything()[1][0].save(tmp_path / "a.safetensors"))


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (lambda _, runs, without, path: without, NOT_KEPT),
        (lambda _, runs, without, path: Attribution.mean([without, without]), NOT_KEPT),
        (lambda pipe, runs, *_: pipe.query(runs[0], "a dog"), NO_TEXT),
        (lambda _, runs, *more: runs[0].vocabulary["a hat"], NO_TEXT),
        (lambda *more: _loaded(more[-1]).vocabulary["a hat"], NO_TEXT),
        (lambda _, runs, *more: Attribution.mean(runs).vocabulary["a hat"], NO_TEXT),
        (lambda _, runs, *more: runs[0].select(steps=[0]), NOT_IN_A_SELECTION),
        (lambda _, runs, *more: runs[0].select(steps=[0]).negative, NOT_IN_A_SELECTION),
        (lambda *more: _loaded(more[-1]), NOT_IN_A_FILE),
        (lambda *more: _loaded(more[-1]).negative, NOT_IN_A_FILE),
        (lambda *more: _loaded(more[-1]).select(steps=[0]), NOT_IN_A_FILE),
        (lambda _, runs, *more: Attribution.mean(runs), NOT_IN_A_MEAN),
        (lambda _, runs, *more: Attribution.mean(runs).negative, NOT_IN_A_MEAN),
    ],
    ids=[
        "a run", "mean of such runs", "query", "vocabulary", "vocabulary of a file",
        "vocabulary of a mean", "selection", "negative of a selection", "file",
        "negative of a file", "selection of a file", "mean", "negative of a mean",
    ],
)  # fmt: skip
def test_without_queries_the_one_true_reason_is_named(of, text, tmp_path):
    pipe, runs, without = with_everything()
    asked = of(pipe, runs, without, tmp_path)
    for ask in (pipe.query, pipe.query_maps):
        with pytest.raises(NoAttributionError) as error:
            ask(asked, "a hat")
        assert str(error.value) == NEEDS + text


def test_what_each_remedy_says_helps(tmp_path):
    pipe, runs, _ = with_everything()
    expected = pipe.query(runs[0], "a dog")
    queries = Queries.load(runs[0].queries.save(tmp_path / "q.safetensors"))
    loaded = _loaded(tmp_path).with_queries(queries)
    assert difference(pipe.query(loaded, "a dog"), expected) < 1e-6
    some = runs[0].with_queries(runs[0].queries.select(steps=[0]))
    assert difference(pipe.query(some, "a dog"), expected) > 1e-6


def test_a_video_file_s_frame_says_how_its_queries_are_kept(tmp_path):
    pipe = fresh("AnimateDiff", keep="queries")
    video = call(ALL_CASES["AnimateDiff"], pipe).attribution
    expected = pipe.query(video[0], "a hat")
    loaded = VideoAttribution.load(video.save(tmp_path / "v.safetensors"))
    with pytest.raises(NoAttributionError) as error:
        pipe.query(loaded[0], "a hat")
    assert str(error.value) == NEEDS + (
        "files of videos do not hold. Where the run kept those of each frame, save them as well, "
        "with video[7].queries.save(path): "
        "VideoAttribution.load(file)[7].with_queries(Queries.load(path))."
    )
    queries = Queries.load(video[0].queries.save(tmp_path / "q.safetensors"))
    assert difference(pipe.query(loaded[0].with_queries(queries), "a hat"), expected) < 1e-6
    for wrong, text in ((video, "got VideoAttribution. Ask about one frame: video[7]."),
                        ([video[0]], "such as output.attribution; got list.")):  # fmt: skip
        with pytest.raises(InputError) as wrong_kind:
            pipe.query(wrong, "a hat")
        assert str(wrong_kind.value).endswith(text)


@pytest.mark.parametrize("asked", ["query", "vocabulary"])
def test_texts_that_cannot_be_asked(asked):
    pipe, output = recorded()

    def ask(text: Any) -> str:
        with pytest.raises(InputError) as error:
            if asked == "query":
                pipe.query(output.attributions[0], text)
            else:
                call(CASES["StableDiffusion"], pipe, attribution_vocabulary=[text])
        return str(error.value)

    assert ask("  ") == "The text is empty. Give a word or a sentence to look for."
    long = " ".join(["cat"] * 90)
    assert ask(long).startswith(
        "The text is longer than the text encoder's 77 tokens; it would not see cat, cat,"
    )


@pytest.mark.usefixtures("types_unchecked")
def test_embeddings_that_do_not_fit():
    pipe, output = recorded()
    attribution = output.attributions[0]
    with pytest.raises(InputError) as error:
        pipe.query(attribution, torch.zeros(3, 31))
    assert str(error.value) == (
        "The embedding has shape (3, 31); this denoiser reads texts of shape (tokens, 32). Give "
        "what its pipeline's encode_prompt returns, without the axis of the batch."
    )
    with pytest.raises(InputError, match=r"got \(2, 3, 32\) of torch.float32"):
        pipe.query(attribution, torch.zeros(2, 3, 32))
    with pytest.raises(InputError, match=r"Give a text or an embedding .*; got a list"):
        pipe.query(attribution, ["a hat"])
    with pytest.raises(InputError, match="context= and padding= go with a text"):
        pipe.query(attribution, torch.zeros(3, 32), padding=True)
    with pytest.raises(NoAttributionError, match="The maps of this text are not finite"):
        pipe.query(attribution, torch.full((3, 32), torch.nan))
    with pytest.raises(InputError, match="attribution_vocabulary= is a list of texts; got a int"):
        call(CASES["StableDiffusion"], pipe, attribution_vocabulary=3)
    with pytest.raises(InputError, match="each with a name to find it by; 3 has none"):
        call(CASES["StableDiffusion"], pipe, attribution_vocabulary=[3])


def test_another_pipeline():
    _, output = recorded("StableDiffusion")
    other = fresh("StableDiffusionXL")
    queries = output.attributions[0].queries
    site = dataclasses.replace(queries.sites[0], site="mid_block.attn2")
    attribution = dataclasses.replace(output.attributions[0], queries=Queries((site,)))
    with pytest.raises(InputError) as error:
        other.query(attribution, "a hat")
    assert str(error.value) == (
        f"UNet2DConditionModel has no mid_block.attn2 with {site.heads} heads, of which the "
        "queries are. Ask the pipeline that made the image."
    )


def test_a_vocabulary_is_saved_with_the_attribution(tmp_path):
    pipe = fresh("StableDiffusion")
    attribution = call(
        CASES["StableDiffusion"], pipe, attribution_vocabulary=["a hat", "mouth"]
    ).attribution
    again = Attribution.load(attribution.save(tmp_path / "cat.safetensors"))
    assert list(again.vocabulary) == ["a hat", "mouth"]
    for text, found in again.vocabulary.items():
        assert difference(found, attribution.vocabulary[text]) == 0
        assert found.words == attribution.vocabulary[text].words and found.image is again.image
    coarse = attribution.select(resolutions=[attribution.grids[-1].size])
    assert len(coarse.vocabulary["mouth"].grids) == 1


@pytest.mark.slow
def test_one_graph_for_queries_and_a_vocabulary():
    torch.compiler.reset()
    counters.clear()
    case = CASES["StableDiffusion"]
    settings = {"num_inference_steps": 3, "attribution_vocabulary": ["a hat"]}
    pipe = fresh(
        case.name,
        keep="queries",
        keep_negative=True,
        queries=QueryOptions(steps=[0, 2], precision="fp32"),
    )
    wanted = call(case, pipe, **settings).attribution
    pipe.unet.compile(fullgraph=True, backend="eager")
    call(case, pipe, **settings)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
    with torch.compiler.set_stance("fail_on_recompile"):
        found = call(case, pipe, **settings).attribution
    torch.compiler.reset()
    assert found.queries.calls == (0, 2)
    assert difference(pipe.query(found, TEXT), pipe.query(wanted, TEXT)) < 1e-6
    negative = [pipe.query(a.negative, TEXT) for a in (found, wanted)]
    assert difference(*negative) < 1e-6
    assert difference(found.vocabulary["a hat"], wanted.vocabulary["a hat"]) < 1e-6


@pytest.mark.parametrize(
    "name",
    ["StableDiffusionPAG", "AnimateDiff", "TextToVideoSD"],
)
def test_other_pipelines(name):
    case = ALL_CASES[name]
    stock = build(case.stock, parts_of(case))
    template = RDAAMProcessor(keep="queries", queries=QueryOptions(precision="fp32"))
    with record_attention(stock, template) as recording:
        call(case, stock, attribution_vocabulary=["a hat"])
    attribution = recording.attributions[-1]
    hat = attribute_text(stock, attribution, "a hat")
    assert difference(hat, attribution.vocabulary["a hat"]) < 1e-5
    again = attribute_text(stock, attribution, attribution.prompt.text, padding=True)
    assert difference(again, attribution) < 1e-5

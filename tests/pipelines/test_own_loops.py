"""Classes with a ``__call__`` of their own: recorded is what makes the image, or nothing."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from oracle import watched
from own_loops import (
    SIZE,
    ConditionalFirst,
    Inverted,
    OnlyOne,
    OwnText,
    Painted,
    Pairs,
    Reference,
    Second,
    Separate,
    Unclear,
    Unscheduled,
    rows_of_calls,
)

from diffusers_rdaam import (
    ImageCountWarning,
    LayoutUnknownWarning,
    RDAAMPipelineMixin,
    RDAAMProcessor,
    UnsupportedPipelineError,
    record_attention,
)
from diffusers_rdaam.errors import InputError, NoAttributionError, NotRecordedWarning

WORDS = ["a", "red", "cat"]


def texts(attribution: Any) -> list[str]:
    return [word.text for word in attribution.words]


# Of each class: which rows of which call are the images', for n images.
LOOPS: dict[type, Any] = {
    Pairs: lambda n: lambda call: range(n, 2 * n),
    ConditionalFirst: lambda n: lambda call: range(n),
    Separate: lambda n: lambda call: range(n) if call % 2 else [],
    Reference: lambda n: lambda call: range(n, 2 * n) if call % 2 else [],
    Second: lambda n: lambda call: [] if call % 2 else range(n, 2 * n),
    Painted: lambda n: lambda call: range(n, 2 * n),
    Inverted: lambda n: lambda call: range(n, 2 * n) if call > 1 else [],
    Unscheduled: lambda n: lambda call: range(n, 2 * n),
}


@pytest.mark.every(2)
@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("cls", LOOPS, ids=lambda cls: cls.__name__)
def test_a_loop_of_its_own_is_followed_by_its_text_and_its_scheduler(make, cls, images):
    pipe = make(cls)
    call = {"num_images_per_prompt": images}
    stock = pipe("a red cat", generator=torch.manual_seed(1), **call)
    with record_attention(pipe) as recording, watched(pipe) as seen:
        output = pipe("a red cat", generator=torch.manual_seed(1), **call)
    for one, other in zip(output.images, stock.images, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))
    assert len(recording.attributions) == images
    rows = LOOPS[cls](images)
    rows_of_calls(recording.attributions, seen, lambda number: list(rows(number)))
    for attribution, image in zip(recording.attributions, output.images, strict=True):
        assert texts(attribution) == WORDS and attribution.image_size == (64, 96)
        assert np.array_equal(np.asarray(attribution.image), np.asarray(image))


@pytest.mark.parametrize("cls", [Reference, Separate], ids=lambda cls: cls.__name__)
def test_what_is_kept_of_such_a_loop(make, cls):
    """Scratch buffers of every record: steps, the negative prompt, self-attention, other texts."""
    pipe = make(cls)
    with record_attention(pipe, RDAAMProcessor(keep="steps")) as recording, watched(pipe) as seen:
        pipe("a red cat", generator=torch.manual_seed(1))
    row = int(cls is Reference)
    for step in range(2):
        chosen = {2 * step + 1: [row]}
        part = recording.attribution.steps[step]
        rows_of_calls([part], seen, lambda number, chosen=chosen: chosen.get(number, []))
    # The same calls named by hand need no scratch buffers.
    parts = ("unconditional", "conditional") if cls is Reference else "conditional"
    numbers = iter(range(100))
    found = []
    for rows in (None, lambda args, kwargs: parts if next(numbers) % 2 else ()):
        with record_attention(pipe, RDAAMProcessor(self_attention=True), rows=rows) as recording:
            pipe("a red cat", generator=torch.manual_seed(1), attribution_vocabulary=["a dog"])
        found.append(recording.attribution)
    for one, two in zip(*(each.self_grids for each in found), strict=True):
        assert one.additions == two.additions
        torch.testing.assert_close(one.sums, two.sums, rtol=0, atol=1e-3)
    for one, two in zip(*(each.vocabulary["a dog"].grids for each in found), strict=True):
        assert one.additions == two.additions
        torch.testing.assert_close(one.maps, two.maps, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("cls", "category", "text"),
    [
        (Unclear, LayoutUnknownWarning, "2 times with the prompt in one step, and which of"),
        (OwnText, LayoutUnknownWarning, "in none of its 2 denoiser calls a row carries an emb"),
        (OnlyOne, ImageCountWarning, "returned 1 images, and 2 were recorded"),
    ],
)
def test_what_cannot_be_known_is_a_warning_and_the_image(make, cls, category, text):
    pipe = make(cls)
    call = {"num_images_per_prompt": 2 if cls is OnlyOne else 1}
    stock = pipe("a red cat", generator=torch.manual_seed(1), **call)
    with pytest.warns(category, match=text) as caught, record_attention(pipe) as recording:
        output = pipe("a red cat", generator=torch.manual_seed(1), **call)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert np.array_equal(np.asarray(output.images[0]), np.asarray(stock.images[0]))
    with pytest.raises(NoAttributionError, match=text):
        _ = recording.attribution


def test_rows_and_prompt_serve_a_loop_that_nothing_describes(make):
    pipe = make(OwnText)
    with (
        record_attention(
            pipe, rows=("unconditional", "conditional"), prompt="a red cat"
        ) as recording,
        watched(pipe) as seen,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", NotRecordedWarning)
        pipe("a red cat", generator=torch.manual_seed(1))
    rows_of_calls(recording.attributions, seen, lambda number: [1])


def test_rows_as_a_function_leave_calls_out(make):
    pipe = make(Unclear)
    numbers = iter(range(100))

    def rows(args: Any, kwargs: Any) -> Any:
        return ("unconditional", "conditional") if next(numbers) % 2 else ()

    with record_attention(pipe, rows=rows) as recording, watched(pipe) as seen:
        pipe("a red cat", generator=torch.manual_seed(1))
    rows_of_calls(recording.attributions, seen, lambda number: [1] if number % 2 else [])
    assert texts(recording.attribution) == WORDS


def test_a_pipeline_of_nobodys_class(make):
    """Derived from what all pipelines are, with parts of its own choice."""

    class Bare(DiffusionPipeline):
        def __init__(self, unet: Any, scheduler: Any, tokenizer: Any, text_encoder: Any) -> None:
            super().__init__()
            self.register_modules(
                unet=unet, scheduler=scheduler, tokenizer=tokenizer, text_encoder=text_encoder
            )

        @torch.no_grad()
        def __call__(self, prompt: str) -> Any:
            ids = self.tokenizer(prompt, padding="max_length", return_tensors="pt").input_ids
            text = self.text_encoder(ids)[0]
            latents = torch.randn(1, 4, 8, 12, generator=torch.manual_seed(1))
            self.scheduler.set_timesteps(2)
            for t in self.scheduler.timesteps:
                prediction = self.unet(latents, t, encoder_hidden_states=text)[0]
                latents = self.scheduler.step(prediction, t, latents)[0]
            return (latents,)

    base = make(StableDiffusionPipeline)
    pipe = Bare(base.unet, base.scheduler, base.tokenizer, base.text_encoder)
    stock = pipe("a red cat")[0]
    with pytest.raises(UnsupportedPipelineError, match="Bare"), record_attention(pipe):
        pass
    with (
        record_attention(pipe, rows="conditional", prompt="a red cat") as recording,
        watched(pipe) as seen,
    ):
        assert torch.equal(pipe("a red cat")[0], stock)
    rows_of_calls(recording.attributions, seen, lambda number: [0])
    assert texts(recording.attribution) == WORDS


def test_a_class_of_ones_own_with_the_mixin(make):
    class Mine(RDAAMPipelineMixin, Reference):
        pass

    pipe = make(Mine)
    with watched(pipe) as seen:
        output = pipe("a red cat", generator=torch.manual_seed(1))
    rows_of_calls(output.attributions, seen, lambda number: [1] if number % 2 else [])
    assert pipe.attribution is output.attribution


class Wrapped(StableDiffusionPipeline):
    """Encodes the negative prompt first, and hands embeddings to the stock call."""

    def __call__(self, prompt: Any, negative_prompt: str = "", **kwargs: Any) -> Any:
        negative, _ = self.encode_prompt(negative_prompt, "cpu", 1, False)
        positive, _ = self.encode_prompt(prompt, "cpu", 1, False)
        return super().__call__(prompt_embeds=positive, negative_prompt_embeds=negative, **kwargs)


class Rewriting(StableDiffusionPipeline):
    """Encodes another text than the one that its call was given."""

    def encode_prompt(self, prompt: Any, *args: Any, **kwargs: Any) -> Any:
        self.encoded_before = super().encode_prompt("a yellow house", *args, **kwargs)
        return super().encode_prompt(f"a painting of {prompt}", *args, **kwargs)


class Busy(StableDiffusionPipeline):
    """Calls its denoiser before and after the stock call, with the same text."""

    def __call__(self, prompt: Any, **kwargs: Any) -> Any:
        text, _ = self.encode_prompt(prompt, "cpu", 1, False)
        self.look(text)
        output = super().__call__(prompt, **kwargs)
        self.look(text)
        return output

    @torch.no_grad()
    def look(self, text: Any) -> None:
        self.unet(torch.ones(1, 4, 8, 12), 500, encoder_hidden_states=text)


class Twice(StableDiffusionPipeline):
    """Two stock calls; the second's image is returned."""

    def __call__(self, prompt: Any, **kwargs: Any) -> Any:
        super().__call__("a blue house", **kwargs)
        return super().__call__(prompt, **kwargs)


class Unbound(StableDiffusionPipeline):
    """Calls the stock method past its ancestors' order."""

    def __call__(self, prompt: Any, **kwargs: Any) -> Any:
        return StableDiffusionPipeline.__call__(self, prompt, **kwargs)


CLASSES = {
    Wrapped: (WORDS, lambda call: True),
    Rewriting: (["a", "painting", "of", *WORDS], lambda call: True),
    Busy: (WORDS, lambda call: call in (1, 2)),
    Twice: (WORDS, lambda call: call > 1),
    Unbound: (WORDS, lambda call: True),
}


@pytest.mark.every(2)
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_last_stock_call_is_what_is_recorded(make, cls, mixed):
    words, counts = CLASSES[cls]
    pipe = make(type(cls.__name__, (RDAAMPipelineMixin, cls), {}) if mixed else cls)
    call = {**SIZE, "generator": torch.manual_seed(1), "negative_prompt": "a green triangle"}
    with watched(pipe) as seen:
        if mixed:
            pipe("a red cat", **call)
            attributions = pipe.attributions
        else:
            with record_attention(pipe) as recording:
                pipe("a red cat", **call)
            attributions = recording.attributions
    assert texts(attributions[0]) == words
    rows_of_calls(attributions, seen, lambda number: [1] if counts(number) else [])


class Split(StableDiffusionPipeline):
    """A stock call for each prompt, and all images at once."""

    def __call__(self, prompt: Any, **kwargs: Any) -> Any:
        outputs = [super(Split, self).__call__(one, **kwargs) for one in prompt]
        outputs[-1].images = [output.images[0] for output in outputs]
        return outputs[-1]


def test_as_many_attributions_as_images_or_none(make):
    pipe = make(Split)
    with (
        pytest.warns(ImageCountWarning, match="returned 2 images, and its last stock run made 1"),
        record_attention(pipe) as recording,
    ):
        output = pipe(["a red cat", "two dogs"], **SIZE)
    assert len(output.images) == 2
    with pytest.raises(NoAttributionError, match="which attribution belongs to which image"):
        _ = recording.attributions


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("attribution_vocabuary", "attribution_vocabulary"),
        ("attributions", "attribution_prompt"),
        ("promt", "prompt"),
        ("seed", "generator"),
    ],
)
def test_misspelt_keywords_are_named(ours, name, near):
    with pytest.raises(InputError) as error:
        ours(**({"prompt": "a red cat"} | SIZE | {name: ["a dog"]}))
    assert str(error.value) == (
        f"{name}= is not an argument of StableDiffusionRDAAMPipeline's call. Did you mean {near}=?"
    )


def test_several_runs_in_a_block_are_said(stock, generate):
    from diffusers_rdaam import SeveralRunsWarning

    with record_attention(stock) as recording:
        generate(stock, "a red cat")
        assert texts(recording.attribution) == WORDS
        generate(stock, "two dogs")
        generate(stock, "a house")
    with pytest.warns(SeveralRunsWarning, match="3 runs were recorded in this block; this is the"):
        assert texts(recording.attribution) == ["a", "house"]
    runs = recording.attributions_of_runs
    assert [texts(run[0]) for run in runs] == [WORDS, ["two", "dogs"], ["a", "house"]]

"""explain_ablation on Stable Diffusion 3 and FLUX.1, against attention that is changed by hand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from dense_oracle import Case, DenoiserCall
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from torch import Tensor
from transformer_cases import (
    BOX,
    NAMES,
    OTHER,
    PROMPT,
    WORDS,
    case_of,
    pipeline,
    processors,
    settings,
)

from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.errors import AlreadyRecordingError, InputError, ProcessorError, RegionError
from diffusers_rdaam.explain.ablations.ablation import explain_ablation
from diffusers_rdaam.explain.ablations.deletion import Deletion
from diffusers_rdaam.explain.ablations.regeneration import AblationRegeneration
from diffusers_rdaam.recording.armed import claim

POSITIONS = 24


@pytest.mark.values
@pytest.mark.parametrize("mode", ["mask", "padding"])
@pytest.mark.parametrize("name", NAMES)
def test_every_pipeline(name, mode):
    pipe = pipeline(name, ours=mode == "mask")
    before, installed, given = dict(pipe.__dict__), processors(pipe), settings(name)
    state = given["generator"].get_state()
    found = explain_ablation(pipe, PROMPT, regions=[BOX, OTHER], mode=mode, **given)
    assert pipe.__dict__ == before and processors(pipe) == installed
    assert torch.equal(given["generator"].get_state(), state)
    stock = pipeline(name)(prompt=PROMPT, **settings(name)).images[0]
    for words, (left, top, right, bottom) in zip(found, (BOX, OTHER), strict=True):
        assert np.array_equal(words.image, stock)
        assert [match.text for match in words.matches] == WORDS
        for word in words:
            change = np.abs(pixels(word.image) - pixels(stock)).mean(axis=-1)
            # The images are rounded to 256 levels.
            assert word.score == pytest.approx(change[top:bottom, left:right].mean(), abs=0.004)
            assert word.score > 0.0


def pixels(image: Any) -> np.ndarray:
    return np.asarray(image, dtype=np.float64) / 255.0


@pytest.mark.parametrize("name", NAMES)
def test_the_image_does_not_attend_to_masked_columns(name):
    """By hand: without the keys, for the image's queries of the prompt's rows."""
    case, columns = case_of(name), (0, 1, 3, 5, 6, 8, 9, 11, 13, 17)
    arguments = settings(name) | {"prompt": PROMPT}
    masked = AblationRegeneration(pipeline(name), columns, "mask").run(fresh(arguments))
    wanted = by_hand(case, fresh(arguments), columns, image_alone)
    assert torch.allclose(masked, wanted, rtol=0.0, atol=2e-6)
    plain = AblationRegeneration(pipeline(name)).run(fresh(arguments))
    assert not torch.allclose(masked, plain, atol=1e-4)
    everywhere = by_hand(case, fresh(arguments), columns, every_query)
    assert not torch.allclose(masked, everywhere, rtol=0.0, atol=3e-6), (
        "text goes on seeing the columns"
    )


def fresh(arguments: dict[str, Any]) -> dict[str, Any]:
    return arguments | {"generator": torch.Generator().manual_seed(7)}


def image_alone(image: slice, positions: int) -> slice:
    return image


def every_query(image: slice, positions: int) -> slice:
    return slice(0, positions)


def by_hand(
    case: Case,
    arguments: dict[str, Any],
    columns: tuple[int, ...],
    queries_of: Callable[[slice, int], slice],
) -> Tensor:
    """The stock pipeline's image, with keys left out in torch's attention function."""
    pipe = case.make()
    text_first = "Flux" in case.name
    rows_now = watched_rows(pipe, case)
    with pytest.MonkeyPatch.context() as patch:
        stock = F.scaled_dot_product_attention

        def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kw: Any) -> Tensor:
            output = stock(query, key, value, *args, **kw)
            length = query.shape[2] - POSITIONS
            if key.shape[2] != query.shape[2] or length <= 0:
                # Another attention: of the image alone, or to an image prompt.
                return output
            image = slice(length, None) if text_first else slice(0, POSITIONS)
            queries = queries_of(image, query.shape[2])
            hidden = [column + (0 if text_first else POSITIONS) for column in columns]
            kept = [column for column in range(key.shape[2]) if column not in hidden]
            output = output.clone()
            for row in rows_now:
                one = slice(row, row + 1)
                keys, values = key[one, :, kept], value[one, :, kept]
                output[one, :, queries] = stock(query[one, :, queries], keys, values)
            return output

        patch.setattr(F, "scaled_dot_product_attention", attention)
        return pipe(**arguments, output_type="pt").images[0]


def watched_rows(pipe: Any, case: Case) -> list[int]:
    """The rows with the prompt of the denoiser call that runs, those with layers left out too."""
    rows: list[int] = []
    calls: list[DenoiserCall] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        call = DenoiserCall(len(calls), args, kwargs)
        calls.append(call)
        perturbed = case.perturbed(call) if case.perturbed else []
        rows[:] = sorted({*case.rows(call), *perturbed})

    # Text encoders and the autoencoder call torch's attention too.
    pipe.transformer.register_forward_hook(lambda *_: rows.clear())
    pipe.transformer.register_forward_pre_hook(note, with_kwargs=True)
    return rows


@pytest.mark.parametrize("name", ["StableDiffusion3Pipeline", "FluxPipeline, true guidance"])
@torch.no_grad()
def test_padding_is_the_empty_prompts_embedding(name):
    pipe, given = pipeline(name), settings(name)
    length = {"max_sequence_length": given["max_sequence_length"]}
    negative = given.pop("negative_prompt")
    if "Flux" in name:
        (text, pooled, _), (empty, _, _), (other, other_pooled, _) = (
            pipe.encode_prompt(prompt=one, prompt_2=None, **length)
            for one in (PROMPT, "", negative)
        )
    else:
        (text, other, pooled, other_pooled), (empty, *_) = (
            pipe.encode_prompt(
                prompt=one, prompt_2=None, prompt_3=None, negative_prompt=negative, **length
            )
            for one in (PROMPT, "")
        )
    text[:, [3, 20]] = empty[:, [3, 20]]
    embedded = {
        "prompt_embeds": text.detach(),
        "pooled_prompt_embeds": pooled.detach(),
        "negative_prompt_embeds": other.detach(),
        "negative_pooled_prompt_embeds": other_pooled.detach(),
    }
    wanted = pipe(**given, **embedded, output_type="pt").images[0]
    regeneration = AblationRegeneration(pipe, (3, 20), "padding")
    assert torch.equal(regeneration.run(settings(name) | {"prompt": PROMPT}), wanted)


def test_a_word_is_taken_away_from_both_encoders():
    name = "StableDiffusion3Pipeline"
    words = explain_ablation(pipeline(name), PROMPT, words=["umbrella"], **settings(name))
    (match,) = words.matches
    tokens = [words.prompt.tokens[column] for column in match.columns]
    assert {token.encoder for token in tokens} == {"clip", "t5"}
    assert all(PROMPT[token.start : token.end].strip() in "umbrella" for token in tokens)


def test_deletion_of_all_words_is_one_ablation():
    name = "FluxPipeline"
    deletion = Deletion(pipeline(name), PROMPT, **settings(name))
    curve = deletion.curve(BOX, ["cat", "umbrella"])
    words = explain_ablation(pipeline(name), PROMPT, region=BOX, words=["cat"], **settings(name))
    assert curve.changes[1] == words["cat"] and curve.changes[2] > 0.0


@pytest.mark.parametrize("name", ["StableDiffusion3Pipeline", "FluxPipeline, image prompt"])
def test_processors_that_record_stay(name):
    """On a pipeline of ours with processors that were put on by hand."""
    pipe = pipeline(name, ours=True)
    pipe.set_attn_processor(RDAAMProcessor())
    installed = processors(pipe)
    words = explain_ablation(pipe, PROMPT, region=BOX, words=["cat"], **settings(name))
    plain = explain_ablation(pipeline(name), PROMPT, region=BOX, words=["cat"], **settings(name))
    assert words.changes == plain.changes
    assert processors(pipe) == installed
    pipe(PROMPT, **settings(name))
    assert pipe.attribution.word("cat").values.max() > 0.0


def test_processors_come_back_after_an_error():
    name = "FluxPipeline"
    pipe = pipeline(name)
    installed = processors(pipe)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    regeneration = AblationRegeneration(pipe, (1,), "mask")
    handle = pipe.transformer.single_transformer_blocks[0].register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        regeneration.run(settings(name) | {"prompt": PROMPT})
    handle.remove()
    assert processors(pipe) == installed
    assert AblationRegeneration(pipe, (1,), "mask").run(settings(name) | {"prompt": PROMPT}).any()


def test_a_denoiser_that_another_run_has():
    name = "FluxPipeline"
    pipe, run = pipeline(name), pipeline(name)
    with ExitStack() as undo:
        claim(pipe.transformer, run, undo)
        with pytest.raises(AlreadyRecordingError):
            explain_ablation(pipe, PROMPT, words=["cat"], **settings(name))
        # An embedding is exchanged without its attention.
        explain_ablation(pipe, PROMPT, words=["cat"], mode="padding", **settings(name))
    explain_ablation(pipe, PROMPT, words=["cat"], **settings(name))


def test_a_backend_without_masks():
    name = "FluxPipeline"
    pipe = pipeline(name)
    pipe.transformer.set_attention_backend("_native_flash")
    text = r"backend '_native_flash' takes no mask, so columns cannot be hidden. Use mode='padding'"
    with pytest.raises(InputError, match=text):
        explain_ablation(pipe, PROMPT, words=["cat"], **settings(name))


def test_a_processor_whose_attention_call_is_not_known():
    name = "FluxPipeline"
    pipe = pipeline(name)
    stock = FluxAttnProcessor()

    class Other:
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return stock(*args, **kwargs)

    pipe.transformer.set_attn_processor(Other())
    with pytest.raises(ProcessorError, match="have the processor Other"):
        explain_ablation(pipe, PROMPT, words=["cat"], **settings(name))


def test_a_region_outside_of_the_image_is_refused_before_it_is_made():
    name = "FluxPipeline"
    pipe = pipeline(name)
    calls: list[Any] = []
    pipe.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    with pytest.raises(RegionError, match="lies outside the image"):
        explain_ablation(pipe, PROMPT, region=(30, 0, 40, 16), **settings(name))
    assert not calls

"""OVAM 0.0.1's numbers by its own names, on the predecessors' model."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from PIL import Image
from predecessors import stock, tensors

from diffusers_rdaam.compat.ovam import StableDiffusionHooker, expand_as, optimize_embedding
from diffusers_rdaam.errors import AlreadyRecordingError, InputError, NoAttributionError, WordError

FILE = "parity/data/ovam_p0_simple.safetensors"
CONDITIONAL = {
    "store_unconditional_hidden_states": False,
    "store_conditional_hidden_states": True,
}


@cache
def run(both: bool = False) -> StableDiffusionHooker:
    rows = CONDITIONAL | {"store_unconditional_hidden_states": True} if both else {}
    latents = tensors("parity/data/init.safetensors")[0]["latents"]
    with StableDiffusionHooker(stock(), block_hooker_kwargs=rows) as hooker:
        stock()(
            tensors(FILE)[1]["prompt"],
            latents=latents,
            num_inference_steps=4,
            guidance_scale=7.5,
            output_type="latent",
        )
    return hooker


def maps(text: Any, **stages: Any) -> torch.Tensor:
    with torch.no_grad():
        return run().get_ovam_callable(**stages)(text)


def text(number: int) -> str:
    return tensors(FILE)[1]["texts"][str(number)]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_any_text(number: int, close: Any) -> None:
    found = maps(text(number))
    assert found.shape[0] == 1 and found.shape[2:] == (64, 64)
    close(found[0, :, ::4, ::4], tensors(FILE)[0][f"att{number}.default"])


MEANS = ("heads_epochs_aggregation", "heads_aggregation", "heatmaps_aggregation")


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("linear", {"heads_epochs_activation": "linear"}),
        ("mean", dict.fromkeys(MEANS, "mean")),
        ("blocks_bicubic", {"block_interpolation_mode": "bicubic"}),
        (
            "heatmaps_sigmoid",
            {
                "block_kwargs": {"heads_epochs_activation": "linear"},
                "module_kwargs": {"heatmaps_activation": "sigmoid"},
            },
        ),
    ],
)
def test_stages(name: str, stages: dict[str, Any], close: Any) -> None:
    close(maps(text(0), **stages)[0, :, ::4, ::4], tensors(FILE)[0][f"att0.{name}"])


def test_special_tokens_and_contexts(close: Any) -> None:
    stored, facts = tensors(FILE)
    evaluator = run().get_ovam_callable()
    with torch.no_grad():
        found = evaluator(text(0), remove_special_tokens=True)
    close(found[0, :, ::4, ::4], stored["att0.no_special"])
    embedding = evaluator.encode_text("cat", facts["prompt"], remove_special_tokens=False)
    close(embedding, stored["encode_text_context"])
    assert torch.equal(evaluator.encode_text("cat", facts["prompt"]), embedding[1:-1])
    close(maps(embedding)[0, :, ::4, ::4], stored["att_from_embedding"])
    assert torch.equal(maps(embedding[None]), maps(embedding))
    assert evaluator.encode_text("cat", remove_special_tokens=False, padding=True).shape == (77, 32)
    with pytest.raises(InputError, match="padding is end tokens"):
        evaluator.encode_text("cat", padding=True)
    with pytest.raises(WordError, match="'dog' is not a word"):
        evaluator.encode_text("dog", facts["prompt"])


def test_both_halves_and_the_middle_block(close: Any) -> None:
    stored = tensors(FILE)[0]
    hooker = run(True)
    with torch.no_grad():
        found = hooker.get_ovam_callable()(text(0))
        # The same run read with the middle block; a hooker decides that once.
        middle = StableDiffusionHooker(stock(), locate_middle_block=True)
        middle._recording = hooker._recording
        more = middle.get_ovam_callable()(text(0))
    close(found[0, :, ::4, ::4], stored["att0.default"])
    close(found[1, :, ::4, ::4], stored["cond.att0.default"])
    close(more[0, :, ::4, ::4], stored["mid.att0.default"])


def test_expanding(close: Any) -> None:
    own = maps("cat")
    wide = torch.nn.functional.interpolate(own, size=(96, 160), mode="bilinear")
    assert torch.equal(maps("cat", expand_size=(96, 160)), wide)
    image = Image.new("RGB", (160, 96))
    stretched = run().get_ovam_callable().expand_as(image, own)
    assert torch.equal(stretched, expand_as(image, own))
    torch.testing.assert_close(stretched, ((wide - wide.min()) / (wide.max() - wide.min()))[0])
    assert torch.equal(expand_as(image, own, absolute=True), wide[0])
    signed = maps("cat", heads_epochs_activation="linear")
    cut = expand_as(image, signed, absolute=True, threshold=0)
    assert set(cut.unique().tolist()) == {0.0, 1.0}
    with pytest.raises(InputError, match="got \\(64, 64\\)"):
        expand_as(image, own[0, 0])


def test_stages_that_were_broken_or_unused() -> None:
    raw: list[torch.Tensor] = []

    def last(values: torch.Tensor) -> torch.Tensor:
        raw.append(values)
        return values[-1]

    one = maps("cat", heads_epochs_aggregation=last)
    assert len(raw) == 9 and raw[0].shape[:3] == (4, 2, 3)
    assert float(one.sum(dim=1).mean()) == pytest.approx(2 * 9, rel=1e-5)
    highest = maps("cat", heads_epochs_aggregation="max")
    assert bool((highest >= one - 1e-5).all())
    halves = maps("cat", blocks_activation=lambda values: values / 2)
    torch.testing.assert_close(halves, maps("cat") / 2)
    clamped = maps("cat", blocks_activation="clamp")
    assert float(clamped.max()) <= 9 and not torch.equal(clamped, maps("cat"))
    for stages, message in (
        ({"heads_epochs_aggregation": "none"}, "'none' is not a valid over_calls"),
        ({"blocks_activation": "cubic"}, "'cubic' is not a valid map_activation"),
        ({"module_kwargs": {"block_latent_size": (64, 64)}}, "block_latent_size is not a stage"),
    ):
        with pytest.raises(InputError, match=message):
            run().get_ovam_callable(**stages)


@pytest.mark.parametrize("name", ["minmax_lr1", "minmax_lr100", "tokennorm_lr1"])
def test_token_optimisation(name: str) -> None:
    stored, facts = tensors(FILE)
    options = facts["optimizations"][f"opt.{name}"]
    losses: list[float] = []

    def callback(epoch: int, x: torch.Tensor, mask: torch.Tensor, loss: torch.Tensor) -> None:
        assert epoch == len(losses) and mask.shape == (1, 2, 64, 64) and x.shape == (2, 32)
        losses.append(float(loss.detach()))

    mask = stored["opt.target"].float()
    target = torch.stack([1 - mask, mask])[None]
    start = stored["opt.embedding_init"]
    evaluator = run().get_ovam_callable()
    options = {**options, "epochs": 10}
    found = optimize_embedding(evaluator, start, target, callback=callback, **options)
    wanted = stored[f"opt.{name}.losses"][:10]
    ours = torch.tensor(losses, dtype=torch.float64)
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=0)
    assert found.shape == start.shape and not found.requires_grad
    assert not torch.equal(found, start)


def test_a_float_divides_and_what_does_not_fit() -> None:
    mask = tensors(FILE)[0]["opt.target"].float()
    start = tensors(FILE)[0]["opt.embedding_init"]
    target, evaluator = torch.stack([1 - mask, mask])[None], run().get_ovam_callable()
    seen: list[torch.Tensor] = []
    options: dict[str, Any] = {"epochs": 1, "initial_lr": 1.0}
    optimize_embedding(
        evaluator,
        start,
        target,
        apply_min_max=8.0,
        callback=lambda *a: seen.append(a[2]),
        **options,
    )
    # Calls, heads and layers over the divisor.
    assert float(seen[0].detach().sum(dim=1).mean()) == pytest.approx(4 * 2 * 9 / 8, rel=1e-5)
    squeezed = optimize_embedding(evaluator, start, target[0], squeezed_target=True, **options)
    assert squeezed.shape == start.shape
    with pytest.raises(InputError, match=r"The maps are \(1, 2, 64, 64\), the target is \(2, 64"):
        optimize_embedding(evaluator, start, target[0], **options)
    with pytest.raises(InputError, match="a number over 0"):
        optimize_embedding(evaluator, start, target, apply_min_max=-1.0, **options)


def test_what_is_refused(tiny: Any) -> None:
    hooker = StableDiffusionHooker(tiny)
    with pytest.raises(NoAttributionError, match="There are no queries"):
        hooker.get_ovam_callable()
    with hooker:
        with pytest.raises(AlreadyRecordingError, match="hooked already"):
            hooker.hook()
        hooker.clear()
        with pytest.raises(NoAttributionError):
            hooker.get_ovam_callable()
    hooker.clear()
    with pytest.raises(InputError, match="the same everywhere"):
        hooker.get_self_attention_map()
    for options, message in (
        ({"extract_self_attentions": True}, "the same everywhere"),
        ({"locator_kwargs": {"locate_attn2": False}}, "leaves out or adds layers"),
        ({"block_hooker_kwargs": {"store": True}}, "got {'store': True}"),
        ({"block_hooker_kwargs": {"store_unconditional_hidden_states": False}}, "no rows"),
    ):
        with pytest.raises(InputError, match=message):
            StableDiffusionHooker(tiny, **options)


def test_images_of_a_batch_and_of_other_sizes(tiny: Any) -> None:
    """Where theirs had one image of a batch, and errors beside squares; then a second run."""
    call = {"height": 128, "width": 192, "num_inference_steps": 2, "output_type": "latent"}
    generator = torch.Generator().manual_seed(0)
    with StableDiffusionHooker(tiny) as hooker, torch.no_grad():
        tiny(["a cat", "a dog"], guidance_scale=4.0, generator=generator, **call)
        first = hooker.get_ovam_callable()
        maps = first("cat")
        # Without guidance there is the prompt's half alone.
        tiny("a cat", guidance_scale=1.0, generator=generator, **call)
        second = hooker.get_ovam_callable()("cat")
    assert maps.shape == (2, 3, 16, 24) and second.shape == (1, 3, 16, 24)
    assert not torch.allclose(maps[0], maps[1], rtol=0.01)
    total = torch.full((2, 16, 24), 2.0 * 2 * 9)
    torch.testing.assert_close(maps.sum(dim=1), total, rtol=1e-4, atol=0)
    with torch.no_grad():
        assert torch.equal(first("cat"), maps)

"""attribute_image on the embedded model: right words, right numbers, clear errors."""

from __future__ import annotations

import math
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import diffusers_rdaam
from diffusers_rdaam import (
    Attribution,
    ImageResizedWarning,
    InputError,
    RDAAMProcessor,
    ReconstructionWarning,
    attribute_image,
    load_demo_pipeline,
    record_attention,
)
from diffusers_rdaam.demo.world import SceneObject, coverage, render

PROMPT = "a red circle and a blue square"
SCENES = {
    PROMPT: (
        SceneObject("red", "circle", 40.0, 45.0, 26.0, (220, 40, 40)),
        SceneObject("blue", "square", 92.0, 85.0, 24.0, (45, 75, 215)),
    ),
    "a green triangle and a black heart": (
        SceneObject("green", "triangle", 90.0, 36.0, 27.0, (40, 165, 70)),
        SceneObject("black", "heart", 36.0, 88.0, 25.0, (25, 25, 25)),
    ),
    "a magenta cross and a yellow circle": (
        SceneObject("magenta", "cross", 34.0, 34.0, 25.0, (208, 50, 190)),
        SceneObject("yellow", "circle", 92.0, 90.0, 26.0, (242, 202, 40)),
    ),
}


def drawn(prompt: str = PROMPT) -> Image.Image:
    """A scene that was drawn, not generated."""
    return Image.fromarray(render(SCENES[prompt]).round().astype(np.uint8))


def mask_of(thing: SceneObject) -> np.ndarray:
    """The pixels that an object covers at least by half."""
    y, x = np.mgrid[0:128, 0:128] + 0.5
    return coverage(thing.shape, x - thing.x, y - thing.y, thing.radius) >= 0.5


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def maps_of(attribution: Attribution) -> list[torch.Tensor]:
    return [grid.maps for grid in attribution.grids]


def assert_same_maps(one: Attribution, other: Attribution, tolerance: float = 0.0) -> None:
    for mine, others in zip(maps_of(one), maps_of(other), strict=True):
        torch.testing.assert_close(mine, others, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def pipe() -> Any:
    return load_demo_pipeline()


@pytest.fixture(scope="module")
def default(pipe) -> Attribution:
    return attribute_image(pipe, drawn(), PROMPT)


@pytest.mark.parametrize("prompt", SCENES)
def test_the_words_of_an_object_win_its_box_and_cover_it(pipe, prompt):
    attribution = pipe.attribute_image(drawn(prompt), prompt)
    for thing in SCENES[prompt]:
        mask = mask_of(thing)
        words = attribution.region(box_of(mask))
        assert {word.text for word in words.words[:2]} == {thing.colour, thing.shape}
        where = np.asarray(attribution.word(thing.name).mask(0.5))
        assert (where & mask).sum() / (where | mask).sum() >= 0.5


def test_almost_pure_noise_shows_nothing(pipe, default):
    """The control: what is found is found in the image."""
    thing = SCENES[PROMPT][0]
    box = box_of(mask_of(thing))
    noisy = pipe.attribute_image(drawn(), PROMPT, noise=0.995, draws=4)
    assert noisy.region(box)["red"] / noisy.region((0, 0, 128, 128))["red"] < 1.3
    assert default.region(box)["red"] / default.region((0, 0, 128, 128))["red"] > 2.0


def test_the_maps_are_those_of_direct_calls_of_the_unet(pipe, default):
    """Without the pipeline's loop: the UNet called with latents noised by the definition."""
    vae, scheduler = pipe.vae, pipe.scheduler
    pixels = torch.from_numpy(np.asarray(drawn(), dtype=np.float32)).permute(2, 0, 1)[None]
    with torch.no_grad():
        clean = vae.encode(pixels / 127.5 - 1).latent_dist.mode() * vae.config.scaling_factor
        text, _ = pipe.encode_prompt(PROMPT, "cpu", 1, False)
    alphas = scheduler.alphas_cumprod.double()
    levels = (1 - alphas).sqrt() / (alphas.sqrt() + (1 - alphas).sqrt())
    noises = iter(torch.randn(6, *clean.shape[1:], generator=torch.Generator().manual_seed(0)))
    with (
        torch.no_grad(),
        record_attention(
            pipe.unet, rows="conditional", prompt=PROMPT, tokenizer=pipe.tokenizer
        ) as recording,
    ):
        for level in (0.26, 0.37, 0.46):
            t = int((levels - level).abs().argmin())
            for _ in range(2):
                signal, amount = alphas[t].sqrt(), (1 - alphas[t]).sqrt()
                noised = (signal * clean + amount * next(noises)).float()
                pipe.unet(noised, torch.tensor(t), encoder_hidden_states=text)
    # The maps are kept to a relative 1e-4.
    assert_same_maps(default, recording.attribution, 1e-5)


def test_the_run_says_what_was_done_and_the_image_is_the_one_given(default, tmp_path):
    run = default.run
    assert np.array_equal(default.image, drawn())
    assert (run["image_is_given"], run["method"], run["draws"]) == (True, "forward", 2)
    assert (run["denoiser_calls"], run["seed"], run["scheduler"]) == (6, 0, "DDIMScheduler")
    assert (run["given_width"], run["given_height"]) == (128, 128)
    levels = [float(level) for level in str(run["noise_levels"]).split(", ")]
    assert levels == pytest.approx([0.26, 0.37, 0.46], abs=2e-3)
    timesteps = [float(t) for t in str(run["timesteps"]).split(", ")]
    assert timesteps == sorted(timesteps) and all(t == int(t) for t in timesteps)
    default.save(tmp_path / "image.safetensors")
    again = Attribution.load(tmp_path / "image.safetensors")
    assert again.run == run and np.array_equal(again.image, default.image)


def test_the_pipeline_and_its_last_run_stay_what_they_were():
    pipe = load_demo_pipeline()
    output = pipe(PROMPT, num_inference_steps=2, generator=torch.Generator().manual_seed(1))
    before, config = dict(vars(pipe)), dict(pipe.config)
    pipe.attribute_image(drawn(), PROMPT, noise=0.3, draws=1)
    assert vars(pipe) == before and dict(pipe.config) == config
    assert pipe.attribution is output.attribution
    again = pipe(PROMPT, num_inference_steps=2, generator=torch.Generator().manual_seed(1))
    assert np.array_equal(again.images[0], output.images[0])


def test_the_pipeline_is_whole_after_an_exception():
    pipe = load_demo_pipeline()
    before = dict(vars(pipe))
    processors = dict(pipe.unet.attn_processors)

    def fail(*given: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe.attribute_image(drawn(), PROMPT, callback_on_step_end=fail)
    assert vars(pipe) == before
    assert pipe.unet.attn_processors == processors


def test_a_stock_pipeline_gives_the_same_and_takes_options(pipe, default):
    stock = diffusers.StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    stock.set_progress_bar_config(disable=True)
    found = attribute_image(stock, drawn(), PROMPT, processor=RDAAMProcessor(keep="steps"))
    assert type(stock) is diffusers.StableDiffusionPipeline
    assert_same_maps(found, default, 2e-6)
    assert len(found.steps) == 6
    with record_attention(stock) as recording:
        within = attribute_image(stock, drawn(), PROMPT)
    assert_same_maps(within, default)
    assert recording.attributions_of_runs == []


def test_the_options_of_a_recording_pipeline_are_its_own():
    pipe = load_demo_pipeline()
    pipe.set_attn_processor(RDAAMProcessor(keep="steps"))
    found = pipe.attribute_image(drawn(), PROMPT, noise=(0.3, 0.5), draws=1)
    assert len(found.steps) == 2
    with pytest.raises(InputError, match="processor= is for a stock pipeline"):
        attribute_image(pipe, drawn(), PROMPT, processor=RDAAMProcessor())


def test_the_seed_decides_and_the_order_of_levels_does_not(pipe, default):
    def found(**options: Any) -> Attribution:
        return pipe.attribute_image(drawn(), PROMPT, **options)

    assert_same_maps(found(generator=torch.Generator().manual_seed(0)), default)
    other = found(generator=torch.Generator().manual_seed(1))
    assert other.run["seed"] == 1
    assert not torch.equal(maps_of(other)[0], maps_of(default)[0])
    clean = found(draws=0, noise=(0.26, 0.46))
    assert clean.run["seed"] is None and clean.run["denoiser_calls"] == 2
    assert_same_maps(found(draws=0, noise=[0.46, 0.26]), clean, 1e-6)


def test_two_images_are_two_single_ones(pipe, default):
    other_prompt = list(SCENES)[1]
    both = pipe.attribute_image([drawn(), drawn(other_prompt)], [PROMPT, other_prompt])
    assert isinstance(both, list)
    assert_same_maps(both[0], default, 2e-6)
    assert_same_maps(both[1], pipe.attribute_image(drawn(other_prompt), other_prompt), 2e-6)
    seeds = [torch.Generator().manual_seed(seed) for seed in (0, 7)]
    same = pipe.attribute_image([drawn(), drawn()], PROMPT, generator=seeds)
    assert [one.run["seed"] for one in same] == [0, 7]
    assert_same_maps(same[0], default, 2e-6)
    assert not torch.equal(maps_of(same[0])[0], maps_of(same[1])[0])


@pytest.mark.filterwarnings("ignore:.*scipy")
@pytest.mark.parametrize(
    "name",
    ["DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "PNDMScheduler", "DDPMScheduler"],
)
def test_every_scheduler_gives_the_same(name, default):
    """They differ in what their add_noise adds, which is not asked."""
    pipe = load_demo_pipeline()
    kept = ("beta_start", "beta_end", "beta_schedule", "prediction_type", "num_train_timesteps")
    config = {key: pipe.scheduler.config[key] for key in kept}
    if pipe.scheduler.config.get("rescale_betas_zero_snr") and name != "PNDMScheduler":
        config["rescale_betas_zero_snr"] = True
    pipe.scheduler = getattr(diffusers, name)(**config)
    found = pipe.attribute_image(drawn(), PROMPT)
    assert found.run["scheduler"] == name
    wanted = default
    if name == "PNDMScheduler":
        pipe.scheduler = diffusers.DDIMScheduler(**config)
        wanted = pipe.attribute_image(drawn(), PROMPT)
    assert_same_maps(found, wanted, 2e-5)


def test_guidance_changes_nothing_but_the_cost(pipe, default):
    guided = pipe.attribute_image(drawn(), PROMPT, guidance_scale=4.0)
    assert guided.run["guidance_scale"] == 4.0 and default.run["guidance_scale"] == 1.0
    assert_same_maps(guided, default, 2e-6)


def test_an_image_that_is_not_square_keeps_its_sides(pipe):
    wide = Image.new("RGB", (160, 112), "white")
    wide.paste(drawn().crop((0, 0, 112, 112)), (40, 0))
    attribution = pipe.attribute_image(wide, PROMPT)
    assert attribution.image_size == (112, 160)
    assert attribution.region((55, 20, 105, 70)).words[0].text in ("red", "circle")


@pytest.mark.parametrize(("size", "wanted"), [((131, 125), (128, 136)), ((640, 480), (112, 152))])
def test_sides_are_rounded_and_large_images_scaled(pipe, size, wanted):
    image = drawn().resize(size)
    attribution = pipe.attribute_image(image, PROMPT, noise=0.3, draws=1)
    assert attribution.image_size == wanted
    assert (attribution.run["given_width"], attribution.run["given_height"]) == size


def test_a_stretched_image_is_said(pipe):
    with pytest.warns(ImageResizedWarning, match=r"256 by 100 pixels .* stretched to 128 by 128"):
        attribution = pipe.attribute_image(
            drawn().resize((256, 100)), PROMPT, size=(128, 128), noise=0.3, draws=1
        )
    assert attribution.image_size == (128, 128)


def _transparent() -> Image.Image:
    image = drawn().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    return image


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        (np.asarray(drawn()), drawn()),
        (torch.from_numpy(np.asarray(drawn()) / np.float32(255)), drawn()),
        (drawn().convert("L"), drawn().convert("L").convert("RGB")),
        (_transparent(), Image.new("RGB", (128, 128), "white")),
        (
            Image.fromarray(np.full((128, 128), 257 * 90, dtype=np.uint16)),
            Image.new("RGB", (128, 128), (90, 90, 90)),
        ),
    ],
    ids=["array", "tensor", "grey", "transparent", "16 bits"],
)
def test_images_of_other_kinds(pipe, image, wanted):
    attribution = pipe.attribute_image(image, PROMPT, noise=0.3, draws=1)
    assert np.array_equal(attribution.image, wanted)


@pytest.mark.parametrize(
    ("solver", "calls", "error", "psnr"),
    [
        ("fireflow", 21, 0.02, 45.0),
        pytest.param("fixed_point", 61, 0.01, 50.0, marks=pytest.mark.slow),
    ],
)
def test_an_inverted_image_comes_back(pipe, solver, calls, error, psnr):
    attribution = pipe.attribute_image(drawn(), PROMPT, method="invert", solver=solver)
    run = attribution.run
    assert (run["method"], run["solver"], run["inversion_calls"]) == ("invert", solver, calls)
    assert run["latent_error"] < error and run["reconstruction_psnr"] > psnr
    assert np.array_equal(attribution.image, drawn())
    thing = SCENES[PROMPT][0]
    words = attribution.region(box_of(mask_of(thing))).words[:2]
    assert {word.text for word in words} == {"red", "circle"}


def test_an_image_that_does_not_come_back_is_said_with_its_error(pipe):
    with pytest.warns(ReconstructionWarning, match=r"relative error of [\d.]+ .* dB") as caught:
        attribution = pipe.attribute_image(
            drawn(), PROMPT, method="invert", solver="euler", steps=2, until=0.98
        )
    assert attribution.run["latent_error"] > 0.25
    assert f"{attribution.run['latent_error']:.2f}" in str(caught[0].message)


def test_the_error_is_that_of_the_latents_that_came_back(pipe):
    """The way out and back by hand, with the UNet alone."""
    attribution = pipe.attribute_image(
        drawn(), PROMPT, method="invert", solver="euler", steps=3, until=0.3
    )
    pixels = torch.from_numpy(np.asarray(drawn(), dtype=np.float32)).permute(2, 0, 1)[None]
    with torch.no_grad():
        clean = pipe.vae.encode(pixels / 127.5 - 1).latent_dist.mode()
        clean = clean * pipe.vae.config.scaling_factor
        text, _ = pipe.encode_prompt(PROMPT, "cpu", 1, False)
        alphas = pipe.scheduler.alphas_cumprod.double()
        table = ((1 - alphas).sqrt() / (alphas.sqrt() + (1 - alphas).sqrt())).numpy()

        def velocity(x: torch.Tensor, level: float) -> torch.Tensor:
            length = math.hypot(1 - level, level)
            signal, amount = (1 - level) / length, level / length
            t = torch.tensor(float(np.interp(level, table, np.arange(len(table)))))
            seen = (x / length).float()
            v = pipe.unet(seen, t, encoder_hidden_states=text).sample
            image, noise = signal * seen - amount * v, amount * seen + signal * v
            return noise - image

        x = clean
        for here, there in ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.2), (0.2, 0.1), (0.1, 0.0)):
            x = x + (there - here) * velocity(x, here)
    error = float((x - clean).norm() / clean.norm())
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    assert attribution.run["latent_error"] == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"method": "inverse"}, r"'inverse' is not a method. Did you mean 'invert'\?"),
        ({"method": "invert", "solver": "ddim"}, "'ddim' is not a solver"),
        ({"noise": 1.0}, "over 0 and under 1, on the scale of flow matching; got 1.0"),
        ({"noise": (0.3, 200)}, "got 200. Timestep 200 of Stable Diffusion is 0.37"),
        ({"noise": ()}, "noise= is empty"),
        ({"draws": -1}, "draws= is a whole number from 0; got -1"),
        ({"steps": 0}, "steps= is a whole number from 1; got 0"),
        ({"until": 1.5}, "until= is a share of noise"),
        (
            {"size": (100, 128)},
            r"multiples of 8 pixels .* got \(100, 128\) .* nearest is \(96, 128\)",
        ),
        ({"size": 128}, r"size= is \(height, width\) in pixels; got 128"),
        ({"strength": 0.5}, "has no argument 'strength'"),
        ({"num_inference_steps": 5}, "Give noise= and draws="),
        ({"height": 64}, r"Give size=\(height, width\)"),
        ({"generator": 3}, "generator= is a torch.Generator"),
        ({"generator": [torch.Generator()] * 3}, "3 generators were given for 1 images"),
        ({"pipeline_image": drawn()}, "pipeline_image= is for pipelines whose call reads another"),
        ({"nois": 0.3}, "has no argument 'nois'. Did you mean noise="),
        ({"negative_prompt": "a cat"}, "an image is attributed without guidance. Leave it out"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_argument_is_an_error_that_says_what_to_do(pipe, options, text):
    for call in (lambda **given: attribute_image(pipe, **given), pipe.attribute_image):
        with pytest.raises(InputError, match=text):
            call(image=drawn(), prompt=PROMPT, **options)


@pytest.mark.parametrize(
    ("image", "prompt", "text"),
    [
        (None, PROMPT, "A NoneType is not an image"),
        ([], PROMPT, "the list is empty"),
        (drawn(), None, "prompt= is missing"),
        (drawn(), 7, "prompt= is a text, or a list"),
        (drawn(), ["a", "b"], "2 prompts were given for 1 images"),
        ([drawn(), drawn().resize((64, 128))], PROMPT, "several sizes"),
        (np.full((128, 128, 3), np.nan), PROMPT, "NaN or infinity"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_wrong_images_and_prompts(pipe, image, prompt, text):
    with pytest.raises(InputError, match=text):
        attribute_image(pipe, image, prompt)


def test_what_is_not_a_pipeline_is_refused(pipe):
    with pytest.raises(InputError, match="takes a pipeline of diffusers; got a UNet2DCondition"):
        diffusers_rdaam.attribute_image(pipe.unet, drawn(), PROMPT)


def test_numbers_of_numpy_are_facts_that_a_file_takes(pipe, tmp_path):
    options = {"noise": np.float32(0.5), "draws": np.int64(1)}
    found = pipe.attribute_image(drawn(), PROMPT, **options)
    loaded = Attribution.load(found.save(tmp_path / "one.safetensors"))
    assert loaded.run["draws"] == 1 and loaded.run["noise_levels"].startswith("0.5")
    inverted = {"method": "invert", "steps": np.int32(2), "until": np.float64(0.1)}
    found = pipe.attribute_image(drawn(), PROMPT, **inverted)
    loaded = Attribution.load(found.save(tmp_path / "two.safetensors"))
    assert (loaded.run["inversion_steps"], loaded.run["until"]) == (2, 0.1)

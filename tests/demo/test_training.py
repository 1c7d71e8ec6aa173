"""The training script, in miniature: every stage runs, goes on from its checkpoint, and exports."""

import pytest
import torch
import torch.distributed as dist
from diffusers import StableDiffusionPipeline

from diffusers_rdaam.demo.train.autoencoder import (
    build_autoencoder,
    encode_pool,
    equalise_latents,
    train_autoencoder,
)
from diffusers_rdaam.demo.train.denoiser import (
    Batch,
    build_text_encoder,
    encode_captions,
    train_denoiser,
)
from diffusers_rdaam.demo.train.export import export_pipeline
from diffusers_rdaam.demo.train.optimizer import orthogonalise
from diffusers_rdaam.demo.train.session import cosine
from diffusers_rdaam.demo.train.tokenizer import build_tokenizer


@pytest.fixture
def one_worker(tmp_path):
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_all_stages_run_resume_and_export(one_worker, tmp_path) -> None:
    train_autoencoder(tmp_path, 0.5, seed=0)
    first = torch.load(tmp_path / "autoencoder.pt", weights_only=True)
    # More than the first took, however busy the machine was.
    train_autoencoder(tmp_path, first["spent"] + 0.5, seed=0)
    second = torch.load(tmp_path / "autoencoder.pt", weights_only=True)
    assert second["step"] > first["step"] >= 1
    assert second["samples"] > first["samples"]

    encode_pool(tmp_path, 32, seed=0)
    train_denoiser(tmp_path, 1.0, seed=0)
    export_pipeline(tmp_path, tmp_path / "pipe")

    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "pipe")
    pipe.set_progress_bar_config(disable=True)
    image = pipe("a red circle", num_inference_steps=2).images[0]
    assert image.size == (128, 128)


def test_words_are_one_token_but_for_the_two_that_are_split_on_purpose() -> None:
    tokenizer = build_tokenizer()
    pieces = tokenizer.tokenize("a photo of a green square and a magenta triangle")
    joined = " ".join(pieces).replace("</w>", "")
    assert joined == "a photo of a green square and a mag enta tri angle"
    text = "Ünïcode 🙂 cats!"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) != ""


def test_orthogonalise_makes_singular_values_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((8, 40), (40, 8), (16, 16)):
        matrix = orthogonalise(torch.randn(shape, generator=generator), steps=10)
        values = torch.linalg.svdvals(matrix)
        assert matrix.shape == shape
        assert float(values.min()) > 0.5 and float(values.max()) < 1.5


def test_equalised_latents_carry_the_same_noise_and_decode_to_the_same() -> None:
    torch.manual_seed(0)
    model = build_autoencoder().eval()
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        before = model.encode(images).latent_dist
        decoded = model.decode(before.mean).sample
        factors = equalise_latents(model, before.parameters)
        after = model.encode(images).latent_dist
        noise = after.logvar.exp().mean(dim=(0, 2, 3))
        torch.testing.assert_close(after.mean, before.mean * factors[:, None, None])
        torch.testing.assert_close(model.decode(after.mean).sample, decoded, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(noise, noise.mean().expand(4), rtol=1e-3, atol=0.0)


def test_dropped_pads_carry_the_empty_captions_states() -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    encoder = build_text_encoder(tokenizer).eval()
    batch = Batch(torch.zeros(2, 4, 16, 16), ["a red circle", "a red circle"], length=8)
    with torch.no_grad():
        states = encode_captions(encoder, tokenizer, batch, torch.tensor([True, False]))
        empty = encoder(
            tokenizer([""], padding="max_length", max_length=8, return_tensors="pt").input_ids
        ).last_hidden_state
    torch.testing.assert_close(states[0, :4], states[1, :4])
    torch.testing.assert_close(states[0, 4:], empty[0, 4:])
    assert not torch.allclose(states[1, 4:], empty[0, 4:])


def test_the_learning_rate_warms_up_holds_and_falls() -> None:
    rates = [cosine(progress, hold=0.2) for progress in (0.0, 0.01, 0.2, 0.6, 1.0)]
    assert rates[0] < rates[1] == rates[2] == 1.0
    assert rates[2] > rates[3] > rates[4] == pytest.approx(0.01)

"""The training of the embedded FLUX: its parts against stock ones, and the whole in miniature."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from safetensors.torch import load_file
from transformers import T5EncoderModel

from diffusers_rdaam.demo.loader import WEIGHTS
from diffusers_rdaam.demo.train.flux.attention import TrainingAttnProcessor
from diffusers_rdaam.demo.train.flux.export import assemble_flux, export_flux
from diffusers_rdaam.demo.train.flux.model import (
    build_t5,
    build_transformer,
    local_causal_bias,
    relative_bias,
)
from diffusers_rdaam.demo.train.flux.pool import Captions, ScenePool, encode_scenes, pack, pool_path
from diffusers_rdaam.demo.train.flux.relearn import start_again
from diffusers_rdaam.demo.train.flux.tokenizer import build_t5_tokenizer
from diffusers_rdaam.demo.train.flux.training import (
    Texts,
    _set_bias,
    build_flux_optimizers,
    noise_levels,
    position_ids,
    train_flux,
)
from diffusers_rdaam.errors import InputError


@pytest.fixture
def one_worker(tmp_path):
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


def moved(transformer: FluxTransformer2DModel) -> FluxTransformer2DModel:
    """Away from the start, at which the output is zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return transformer


def test_words_are_one_piece_but_for_the_two_that_are_split_on_purpose() -> None:
    tokenizer = build_t5_tokenizer()
    pieces = tokenizer.tokenize("a photo of a green square and a magenta triangle, 2")
    joined = "|".join(pieces)
    assert joined == "▁a|▁photo|▁of|▁a|▁green|▁square|▁and|▁a|▁mag|enta|▁tri|angle|,|▁|2"
    assert tokenizer("").input_ids == [tokenizer.eos_token_id]


def test_training_attention_is_the_stock_one_and_so_are_its_gradients() -> None:
    transformer = moved(build_transformer())
    call = {
        "hidden_states": torch.randn(2, 64, 16),
        "encoder_hidden_states": torch.randn(2, 16, 64),
        "pooled_projections": torch.randn(2, 64),
        "timestep": torch.tensor([0.3, 0.8]),
        "img_ids": position_ids(8),
        "txt_ids": torch.zeros(16, 3),
    }
    parameters = list(transformer.parameters())

    def computed() -> list[torch.Tensor]:
        out = transformer(**call).sample
        return [
            out.detach(),
            *torch.autograd.grad(out.square().sum(), parameters, allow_unused=True),
        ]

    stock = computed()
    transformer.set_attn_processor(TrainingAttnProcessor())
    for ours, theirs in zip(computed(), stock, strict=True):
        if theirs is not None:
            assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()


def test_it_starts_with_a_zero_output_and_half_open_gates() -> None:
    transformer = build_transformer()
    block = transformer.transformer_blocks[0].norm1.linear.bias.view(6, 128)
    assert (block[[2, 5]] == 0.5).all() and not block[[0, 1, 3, 4]].any()
    single = transformer.single_transformer_blocks[0].norm.linear.bias.view(3, 128)
    assert (single[2] == 0.5).all() and not single[:2].any()
    assert not transformer.proj_out.weight.any()


def test_a_coarse_grid_lies_at_the_centres_of_the_fine_one() -> None:
    coarse, fine = position_ids(8).view(8, 8, 3), position_ids(16).view(16, 16, 3)
    under = fine.view(8, 2, 8, 2, 3).mean(dim=(1, 3))
    assert torch.equal(coarse, under)
    assert fine[3, 5].tolist() == [0, 3, 5]


def test_packed_latents_are_those_of_the_pipeline() -> None:
    latents = torch.randn(2, 4, 8, 12)
    assert torch.equal(pack(latents), FluxPipeline._pack_latents(latents, 2, 4, 8, 12))


def test_noise_levels_are_stratified_and_leaning_to_noise() -> None:
    torch.manual_seed(0)
    plain, shifted = noise_levels(300, 3.0, 1.0), noise_levels(300, 3.0, 0.0)
    assert torch.equal((plain * 300).floor().sort().values, torch.arange(300.0))
    # k / (1 + (k - 1) / 2) of the middle: three quarters lie over s = 1/2.
    assert float((shifted > 0.5).float().mean()) == pytest.approx(0.75, abs=0.01)
    assert len(noise_levels(32, 2.5, 1 / 3)) == 32


def test_the_bias_makes_the_text_encoder_causal() -> None:
    torch.manual_seed(0)
    tokenizer = build_t5_tokenizer()
    encoder = build_t5(tokenizer).eval()
    ids = tokenizer(["a red circle", "a red square"], return_tensors="pt").input_ids

    def change_of_red() -> float:
        with torch.no_grad():
            states = encoder(ids)[0][:, 1]
        return float((states[0] - states[1]).norm() / states[0].norm())

    before = change_of_red()
    averaged = {name: value.clone() for name, value in encoder.state_dict().items()}
    _set_bias(encoder, averaged)
    assert torch.equal(relative_bias(encoder), local_causal_bias())
    changed = [
        name
        for name, value in averaged.items()
        if not torch.equal(value, encoder.state_dict()[name])
    ]
    assert not changed
    assert change_of_red() < 0.02 * before


def test_every_parameter_has_one_optimizer_and_tables_are_not_orthogonalised() -> None:
    transformer, encoder = build_transformer(), build_t5(build_t5_tokenizer())
    muon, adam = build_flux_optimizers(transformer, encoder, 1e-3)
    ours = [id(p) for o in (muon, adam) for group in o.param_groups for p in group["params"]]
    wanted = {id(p) for module in (transformer, encoder) for p in module.parameters()}
    assert len(ours) == len(set(ours)) and set(ours) == wanted
    matrices = {id(p) for p in muon.param_groups[0]["params"]}
    assert id(relative_bias(encoder)) not in matrices and id(encoder.shared.weight) not in matrices
    assert id(transformer.transformer_blocks[0].norm1.linear.weight) not in matrices
    assert id(transformer.transformer_blocks[0].attn.to_q.weight) in matrices


@pytest.fixture
def pools(one_worker, tmp_path):
    vae = AutoencoderKL.from_pretrained(WEIGHTS / "vae").eval()
    for size in (128, 256):
        encode_scenes(vae, tmp_path, size, 16, seed=0)
    return tmp_path


def test_objects_are_moved_whole(pools) -> None:
    pool = ScenePool(pool_path(pools, 256), moves=True)
    latents, boxes = pool.latents[:8].float(), pool.boxes[:8]
    moved = pool._moved(latents, boxes, np.random.default_rng(0))
    elsewhere = 0
    for before, after, (left, top, right, bottom) in zip(latents, moved, boxes, strict=True):
        objects = before[:, top:bottom, left:right]
        places = [
            (y, x)
            for y in range(32 - (bottom - top) + 1)
            for x in range(32 - (right - left) + 1)
            if torch.equal(after[:, y : y + bottom - top, x : x + right - left], objects)
        ]
        assert places, "the objects' latents are somewhere in the moved scene"
        (y, x), *_ = places
        around = after.clone()
        around[:, y : y + bottom - top, x : x + right - left] = 0
        empty = pool.empty.float().clone()
        empty[:, y : y + bottom - top, x : x + right - left] = 0
        assert torch.equal(around, empty), "all around them is the empty scene"
        elsewhere += (y, x) != (top, left)
    assert elsewhere >= 4


def test_captions_are_of_their_scenes_and_some_leave_a_colour_out() -> None:
    scenes = [["red circle", "blue square"], ["green heart"]]
    captions = Captions(scenes)
    assert captions.texts[0] == ""
    picks = np.repeat([0, 1], 4000)
    drawn = [captions.texts[index] for index in captions.draw(np.random.default_rng(0), picks)]
    pairs, single = drawn[:4000], drawn[4000:]
    assert {"a red circle and a blue square", "a blue square and a red circle"} <= set(pairs)
    assert {"a circle and a blue square", "a drawing of a square and a circle"} <= set(pairs)
    assert {text.split("of ")[-1] for text in single} == {"", "a green heart", "a heart"}
    assert drawn.count("") / 8000 == pytest.approx(0.10, abs=0.02)
    told = [text for text in single if text]
    assert sum("green" in text for text in told) / len(told) == pytest.approx(0.85, abs=0.03)
    assert sum(" of " in text for text in told) / len(told) == pytest.approx(0.15, abs=0.03)


def test_a_caption_is_read_once() -> None:
    torch.manual_seed(0)
    tokenizer = build_t5_tokenizer()
    texts = Texts(["", "a red circle", "a circle"], tokenizer, build_t5(tokenizer))
    first = texts.pooled_of(torch.tensor([1, 2, 0, 1]))
    known = texts.known.clone()
    texts.clip = None  # is not asked again for what it has read
    again = texts.pooled_of(torch.nonzero(known)[:, 0])
    assert again.shape == (int(known.sum()), first.shape[1]) and texts.pooled.any()


@pytest.mark.slow
def test_both_stages_run_resume_and_export(pools) -> None:
    train_flux(pools, "coarse", 128, seed=0)
    first = torch.load(pools / "flux-coarse.pt", weights_only=True)
    train_flux(pools, "coarse", 192, seed=0)
    second = torch.load(pools / "flux-coarse.pt", weights_only=True)
    assert (first["samples"], second["samples"]) == (128, 192)

    train_flux(pools, "fine", 32, seed=0)
    export_flux(pools / "flux-fine.pt", pools / "pipe")
    files = sorted((pools / "pipe").rglob("*.safetensors"))
    assert {tensor.dtype for path in files for tensor in load_file(path).values()} == {
        torch.float16
    }
    FluxTransformer2DModel.from_pretrained(pools / "pipe" / "transformer")
    T5EncoderModel.from_pretrained(pools / "pipe" / "text_encoder_2")
    size = sum(path.stat().st_size for path in files)
    assert size <= 6.5e6

    pipe = assemble_flux(pools / "flux-fine.pt")
    pipe.set_progress_bar_config(disable=True)
    image = pipe(
        "a red circle", negative_prompt="", true_cfg_scale=4.0, num_inference_steps=2,
        height=256, width=256, max_sequence_length=32,
    ).images[0]  # fmt: skip
    assert image.size == (256, 256)


@pytest.mark.slow
def test_a_colour_starts_again_as_the_mean_of_the_others(pools) -> None:
    # The output is zero at first, so that the words have a gradient from the third step on.
    train_flux(pools, "coarse", 192, seed=0)
    path = pools / "flux-coarse.pt"
    before = torch.load(path, weights_only=True)
    start_again(path, "blue")
    after = torch.load(path, weights_only=True)
    tokenizer = build_t5_tokenizer()
    colours = ("red", "green", "yellow", "black", "blue")
    row = {name: tokenizer(name).input_ids[0] for name in colours}
    for part in ("modules", "averaged"):
        old, new = (state[part]["text_encoder"]["shared.weight"] for state in (before, after))
        others = old[[row[name] for name in colours[:-1]]]
        cosine = torch.cosine_similarity(new[row["blue"]], others.mean(dim=0), dim=0)
        assert cosine.item() == pytest.approx(1.0)
        assert new[row["blue"]].norm().item() == pytest.approx(others.norm(dim=1).mean().item())
        kept = torch.arange(len(old)) != row["blue"]
        assert torch.equal(new[kept], old[kept])
    (first,) = (
        moments["exp_avg"]
        for moments in after["optimizers"][1]["state"].values()
        if moments["exp_avg"].shape == old.shape
    )
    assert not first[row["blue"]].any() and first[row["red"]].any()
    with pytest.raises(InputError, match="'magenta' is not a colour of one piece"):
        start_again(path, "magenta")

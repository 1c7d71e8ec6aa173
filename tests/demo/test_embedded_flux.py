"""The FLUX that ships: it generates what it is told, and its attributions are right."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FluxPipeline
from transformers import CLIPTextModel, CLIPTokenizer

from diffusers_rdaam import load_demo_pipeline
from diffusers_rdaam.cli.models import Model, find_model
from diffusers_rdaam.demo import loader
from diffusers_rdaam.demo.judge import find_blobs, judge
from diffusers_rdaam.demo.loader import FLUX_DEFAULTS, FLUX_WEIGHTS, WEIGHTS
from diffusers_rdaam.errors import InputError

PROMPTS = [
    ("a red circle and a blue square", ("red circle", "blue square")),
    ("a yellow heart and a black cross", ("yellow heart", "black cross")),
    ("a green triangle and a red square", ("green triangle", "red square")),
    ("a blue heart and a magenta circle", ("blue heart", "magenta circle")),
]
EACH = 2
NAMES = [names for _, names in PROMPTS for _ in range(EACH)]


@pytest.fixture(scope="module")
def run():
    pipe = load_demo_pipeline("flux")
    return pipe(
        [text for text, _ in PROMPTS],
        num_images_per_prompt=EACH,
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(PROMPTS) * EACH)],
    )


def test_it_draws_what_the_prompts_say(run):
    verdicts = [judge(image, names) for image, names in zip(run.images, NAMES, strict=True)]
    assert all(verdict.both_colours for verdict in verdicts)
    # Of 8; the card has the share of 400.
    assert sum(verdict.both_objects for verdict in verdicts) >= 5


def test_the_right_words_win_in_the_objects_boxes(run):
    right = {"phrase": 0, "colour": 0, "shape": 0}
    for attribution, names in zip(run.attributions, NAMES, strict=True):
        for name, other in (names, names[::-1]):
            blob = next(b for b in find_blobs(attribution.image) if b.colour == name.split()[0])
            rows, columns = np.nonzero(blob.mask)
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            height, width = blob.mask.shape
            inside = attribution.region([int(edge) for edge in box])
            whole = attribution.region((0, 0, width, height))
            pairs = zip((name, *name.split()), (other, *other.split()), strict=True)
            for kind, (mine, theirs) in zip(right, pairs, strict=True):
                right[kind] += inside[mine] / whole[mine] > inside[theirs] / whole[theirs]
    # Of 16; the card has the shares of 800. Colour words win less often: see the card's faults.
    assert right["phrase"] == 2 * len(NAMES)
    assert right["colour"] >= 12 and right["shape"] >= 14


def test_phrases_lie_on_their_objects(run):
    overlaps = []
    for attribution, names in zip(run.attributions, NAMES, strict=True):
        for name in names:
            blob = next(b for b in find_blobs(attribution.image) if b.colour == name.split()[0])
            mask = attribution.word(name).mask(0.55).numpy()
            overlaps.append((mask & blob.mask).sum() / (mask | blob.mask).sum())
    assert np.mean(overlaps) > 0.6


def test_both_streams_are_there_and_everything_sums_to_one(run):
    attribution = run.attributions[0]
    assert {grid.stream for grid in attribution.grids} == {"double", "single"}
    for grid in attribution.grids:
        assert grid.size == (16, 16)
        assert grid.maps.float().sum(dim=0).sub(1).abs().max() < 2e-3


def test_its_call_has_defaults_of_its_own_and_each_may_be_given():
    pipe = load_demo_pipeline("flux")
    prompt = PROMPTS[0][0]
    [plain] = pipe(prompt, num_inference_steps=2, generator=torch.Generator().manual_seed(1)).images
    given = FLUX_DEFAULTS | {"num_inference_steps": 2}
    [same] = pipe(prompt, generator=torch.Generator().manual_seed(1), **given).images
    assert plain.size == (256, 256) and np.array_equal(plain, same)
    [small] = pipe(prompt, height=128, width=192, num_inference_steps=1).images
    assert small.size == (192, 128)


def test_plain_diffusers_makes_the_same_image():
    vae = AutoencoderKL.from_pretrained(WEIGHTS / "vae", shift_factor=0.0)
    stock = FluxPipeline.from_pretrained(
        FLUX_WEIGHTS,
        vae=vae,
        text_encoder=CLIPTextModel.from_pretrained(WEIGHTS / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(WEIGHTS / "tokenizer"),
        dtype=torch.float32,
    )
    stock.set_progress_bar_config(disable=True)
    settings = FLUX_DEFAULTS | {"num_inference_steps": 2}
    prompt, seed = PROMPTS[1][0], torch.Generator().manual_seed
    [wanted] = stock(prompt, generator=seed(3), **settings).images
    pipe = load_demo_pipeline("flux", dtype=torch.float32)
    [found] = pipe(prompt, generator=seed(3), num_inference_steps=2).images
    assert np.array_equal(found, wanted)


def test_it_is_small_and_half_precision():
    files = list(FLUX_WEIGHTS.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in files) <= 6.5e6
    # CLIP and the autoencoder are the embedded Stable Diffusion's, and not here again.
    assert {path.parent.name for path in files} == {"transformer", "text_encoder_2"}
    for path in files:
        header = path.read_bytes()
        length = int.from_bytes(header[:8], "little")
        entries = json.loads(header[8 : 8 + length])
        assert {e["dtype"] for name, e in entries.items() if name != "__metadata__"} == {"F16"}


def test_a_name_that_is_not_a_model():
    with pytest.raises(InputError, match="'fluxx' is not an embedded model"):
        loader.load_demo_pipeline("fluxx")


def test_an_installation_without_the_weights(monkeypatch, tmp_path):
    monkeypatch.setattr(loader, "FLUX_WEIGHTS", tmp_path)
    with pytest.raises(InputError, match=r"FLUX are not in .*Install the package again"):
        loader.load_demo_pipeline("flux")


def test_the_command_knows_its_name_unless_a_folder_has_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    model = find_model("demo-flux")
    assert model == Model(None, embedded="flux") and model.size() == (256, 256)
    (tmp_path / "demo-flux").mkdir()
    (tmp_path / "demo-flux" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    assert find_model("demo-flux") == Model("demo-flux")

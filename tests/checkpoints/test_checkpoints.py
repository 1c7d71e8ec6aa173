"""The folder of a model: damage is named, and no whole one is refused."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, T5Config, T5EncoderModel
from transformers import CLIPTextModelWithProjection as Projecting

from diffusers_rdaam import AutoRDAAMPipelineForText2Image
from diffusers_rdaam.batch.model import load_pipeline as load_for_batch
from diffusers_rdaam.batch.settings import BatchSettings
from diffusers_rdaam.checkpoints import quantized
from diffusers_rdaam.checkpoints.folder import check_folder
from diffusers_rdaam.checkpoints.loading import load_checkpoint
from diffusers_rdaam.checkpoints.weights import random_weights
from diffusers_rdaam.cli.models import find_model, load_pipeline, load_stock_pipeline
from diffusers_rdaam.errors import IncompleteModelWarning, InputError

TINY = Path(__file__).parents[1] / "data" / "tiny_sd"
UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
U, V, T = "unet/config.json", "vae/config.json", "text_encoder/config.json"
S = "scheduler/scheduler_config.json"
TOKENIZER = "tokenizer/tokenizer_config.json"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
Change = Callable[[Path], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "model"))


def without(name: str) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def holding(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text) and None


def cut(name: str, size: int) -> Change:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size]) and None


def lacking(name: str, part: str) -> Change:
    def change(folder: Path) -> None:
        weights = {k: v for k, v in load_file(folder / name).items() if part not in k}
        save_file(weights, folder / name, metadata={"format": "pt"})

    return change


def index(**entries: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "model_index.json"
        settings = json.loads(path.read_text()) | entries
        path.write_text(json.dumps({k: v for k, v in settings.items() if v is not ...}))

    return change


def settings(name: str, **entries: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return change


def shard_index(**entries: Any) -> Change:
    def change(folder: Path) -> None:
        sharded(folder, present=2)
        settings(f"{UNET}.index.json", **entries)(folder)

    return change


def linked(missing: str = "") -> Change:
    """As the hub's cache has it: every file is a link to a blob; one blob may be missing."""

    def change(folder: Path) -> None:
        blobs = folder.parent / "blobs"
        blobs.mkdir()
        files = [path for path in folder.rglob("*") if path.is_file()]
        for number, path in enumerate(files):
            path.rename(blobs / str(number))
            path.symlink_to(os.path.relpath(blobs / str(number), path.parent))
            if path == folder / missing:
                (blobs / str(number)).unlink()

    return change


def own_code(folder: Path) -> None:
    index(_class_name=["pipeline", "Mine"])(folder)
    (folder / "pipeline.py").write_text("raise SystemExit('a command ran it')")


def own_component(folder: Path) -> None:
    index(unet=["mine", "Mine"])(folder)
    (folder / "unet" / "mine.py").write_text("raise SystemExit('a command ran it')")


def unfinished(folder: Path) -> None:
    (folder / UNET).rename(folder / f"{UNET}.incomplete")


def a_file(folder: Path) -> None:
    shutil.rmtree(folder / "vae")
    (folder / "vae").write_text("")


def sharded(folder: Path, *, present: int) -> None:
    weights = load_file(folder / UNET)
    (folder / UNET).unlink()
    names = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    places = {key: names[i % 2] for i, key in enumerate(weights)}
    for name in names[:present]:
        part = {key: weights[key].contiguous() for key in weights if places[key] == name}
        save_file(part, folder / "unet" / name, metadata={"format": "pt"})
    (folder / f"{UNET}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def _variant_of(name: str, variant: str = "fp16") -> str:
    return name.replace(".safetensors", f".{variant}.safetensors")


def as_variant(folder: Path, *names: str, name: str = "fp16") -> None:
    for path in names or (UNET, VAE, TEXT):
        (folder / path).rename(folder / _variant_of(path, name))


def cut_variant(folder: Path) -> None:
    as_variant(folder)
    cut(_variant_of(VAE), 5000)(folder)


def two_variants(folder: Path) -> None:
    as_variant(folder, UNET)
    as_variant(folder, VAE, name="ema")


def no_vocabulary(folder: Path) -> None:
    for path in (folder / "tokenizer").iterdir():
        if "config" not in path.name:
            path.unlink()


# What is wrong, and what the error says of it. Of the files alone:
DAMAGE: dict[str, tuple[Change, str]] = {
    f"no {part}": (without(part), f"no folder {part}/")
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
}
DAMAGE |= {
    f"{what} of {name}": (change(name), f"{name} {says}")
    for name in (UNET, VAE, TEXT)
    for what, change, says in [
        ("half", lambda name: cut(name, 5000), "is cut off or damaged"),
        ("nothing", lambda name: cut(name, 0), "is cut off or damaged"),
        ("a pointer", lambda name: holding(name, POINTER), "is a pointer of git LFS"),
    ]
}
DAMAGE |= {
    f"no {name}": (without(name), f"{name.split('/')[0]}/ has no weights")
    for name in (UNET, VAE, TEXT)
}
DAMAGE |= {
    f"{text} as {name}": (holding(name, text), f"{name} {says}")
    for name in ("unet/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json")
    for text, says in [("[]", "holds a list"), ("{", "cannot be read")]
}
DAMAGE |= {
    "tokenizer's settings": (
        holding("tokenizer/tokenizer_config.json", "{"),
        "tokenizer/tokenizer_config.json cannot be read",
    ),
    "no vocabulary": (no_vocabulary, "tokenizer/ has no vocabulary for its CLIPTokenizer"),
    "no config": (without("vae/config.json"), "vae/config.json is missing"),
    "no shard": (lambda folder: sharded(folder, present=0), "2 of the 2 files that"),
    "one shard": (lambda folder: sharded(folder, present=1), "1 of the 2 files that"),
    "no pair": (index(unet=["diffusers"]), 'has ["diffusers"] for unet'),
    "a text": (index(vae="AutoencoderKL"), 'has "AutoencoderKL" for vae'),
    "no class": (index(_class_name=""), "names no pipeline class"),
}
DAMAGE |= {
    "half of the only variant": (
        cut_variant,
        f"{_variant_of(VAE)} is cut off or damaged",
    ),
    "variants that differ": (
        two_variants,
        "unet/ has no weights (diffusion_pytorch_model.safetensors), only diffusion_pytorch_model.",
    ),
}
DAMAGE |= {
    f"a link to nothing, {name}": (linked(name), f"{name} is a link to ../")
    for name in (UNET, TEXT, "vae/config.json", "tokenizer/vocab.json", "model_index.json")
}
DAMAGE |= {
    "a folder that is a file": (a_file, "a file in place of the folder vae/"),
    "an unfinished download": (unfinished, "only diffusion_pytorch_model.safetensors.incomplete"),
    "shards without names": (shard_index(weight_map={}), "has an empty weight_map"),
    "shards without metadata": (shard_index(metadata=None), 'has no "metadata"'),
    "code of its own": (own_code, "a command runs no code of a model's folder. Read pipeline.py"),
    "code that is missing": (index(_class_name=["pipeline", "Mine"]), "it has no pipeline.py"),
    "quantised in a list": (
        settings("unet/config.json", quantization_config=[8]),
        "unet/config.json holds a list as quantization_config",
    ),
}
# What only the loading shows.
LOADING: dict[str, tuple[Change, str]] = {
    "a model as class": (
        index(_class_name="UNet2DConditionModel"),
        "not as the class of a pipeline",
    ),
    "the base as class": (index(_class_name="DiffusionPipeline"), "not as the class of"),
    "no unet in the index": (index(unet=...), "names no unet, which StableDiffusionPipeline"),
    "null for the vae": (index(vae=[None, None]), "names no vae, which StableDiffusionPipeline"),
    "keys of the unet": (lacking(UNET, "attn2.to_k"), "files of unet/ lack 10 of its 440 weights"),
    "keys of the vae": (lacking(VAE, "decoder.conv_in"), "files of vae/ lack 2 of its 180 weights"),
    "no second encoder": (
        index(_class_name="StableDiffusionXLPipeline"),
        "names no tokenizer_2 and no text_encoder_2, without which StableDiffusionXLPipeline",
    ),
    "all keys": (lacking(UNET, ""), "files of unet/ lack all of its weights"),
    "another encoder": (
        index(text_encoder=["transformers", "T5EncoderModel"]),
        "lack all of its weights, such as shared.weight, so they are of another model than T5",
    ),
    "a newer class": (
        index(_class_name="FutureImagePipeline", _diffusers_version="99.0.0"),
        f"names FutureImagePipeline as _class_name, which diffusers {diffusers.__version__} lacks "
        "(diffusers 99.0.0 wrote the folder). A newer version may have it",
    ),
    "a misspelt class": (
        index(_class_name="StableDifusionPipeline"),
        "or the name is misspelt: StableDiffusionPipeline",
    ),
    "a class of JAX": (
        index(_class_name="FlaxStableDiffusionPipeline"),
        "it is for JAX. Take the model's folder for PyTorch, whose class is StableDiffusionPipe",
    ),
    "a module as class": (index(_class_name="logging"), "not as the class of a pipeline"),
}
LOADING |= {
    f"a class that {library} lacks, {part}": (
        index(**{part: [library, kind]}),
        f"{part}/: model_index.json names {kind} of {library} for it, which {library} "
        f"{version(library)} lacks. A newer version may have it",
    )
    for part, library, kind in [
        ("unet", "diffusers", "UNet9DConditionModel"),
        ("scheduler", "diffusers", "NineScheduler"),
        ("text_encoder", "transformers", "CLIP9Model"),
        ("tokenizer", "transformers", "NineTokenizer"),
    ]
}
LOADING |= {
    "a library that nobody has": (
        index(unet=["no_such_library", "Net"]),
        "unet/: model_index.json names Net of no_such_library for it, and diffusers loads",
    ),
    "code of a component": (own_component, "names Mine of mine.py in this folder, and a command"),
    "a transformer's class over a UNet": (
        index(unet=["diffusers", "PixArtTransformer2DModel"]),
        "unet/config.json has null for num_attention_heads, where PixArtTransformer2DModel takes",
    ),
    "a VAE's class over a UNet": (
        index(unet=["diffusers", "AutoencoderKL"]),
        "unet/config.json holds the settings of UNet2DConditionModel, and model_index.json names "
        "AutoencoderKL for unet",
    ),
    "sizes of a text encoder": (
        settings("text_encoder/config.json", vocab_size=10),
        "embeddings.token_embedding.weight is 848x32 in the file, and 10x32 by the settings",
    ),
    "sizes of a denoiser": (
        settings("unet/config.json", cross_attention_dim=64),
        "attn2.to_k.weight is 32x32 in the file, and 32x64 by the settings, and 19 more",
    ),
}
LOADING |= {
    f"{json.dumps(value)} for {name} of {file}": (settings(file, **{name: value}), says)
    for file, name, value, says in [
        (U, "cross_attention_dim", "32", f'{U} has "32" for cross_attention_dim, where UNet2DCond'),
        (U, "cross_attention_dim", None, f"{U} has null for cross_attention_dim, where UNet2DCond"),
        (U, "cross_attention_dim", -32, f"{U} has -32 for cross_attention_dim, where UNet2DCondit"),
        (U, "attention_head_dim", 0, f"{U} has 0 for attention_head_dim, where UNet2DConditionMo"),
        (U, "norm_num_groups", "4", f'{U} has "4" for norm_num_groups, where UNet2DConditionMode'),
        (U, "layers_per_block", None, f"{U} has null for layers_per_block, where UNet2DCondition"),
        (U, "layers_per_block", [1], "Must provide the same number of `layers_per_block` as"),
        (V, "block_out_channels", [8], f"{V} has 1 entries in block_out_channels, and 4 in down_"),
        (V, "latent_channels", "4", f'{V} has "4" for latent_channels, where AutoencoderKL takes'),
        (T, "hidden_size", "32", "text_encoder/: Validation error for field 'hidden_size': TypeEr"),
        (T, "hidden_size", -32, f"{T} has -32 for hidden_size, where CLIPTextModel takes a posit"),
        (S, "num_train_timesteps", "9", f'{S} has "9" for num_train_timesteps, where DDIMSchedul'),
        (S, "beta_start", None, f"{S} has null for beta_start, where DDIMScheduler takes float"),
    ]
}


LOADING |= {
    f"a {kind} over a CLIP vocabulary": (
        index(tokenizer=["transformers", kind]),
        "tokenizer/tokenizer_config.json holds the settings of CLIPTokenizer, and model_index.json "
        f"names {kind} for tokenizer, which reads 'a red circle and a blue square' as ",
    )
    for kind in ("T5Tokenizer", "BertTokenizer", "GPT2Tokenizer", "ByT5Tokenizer")
}


def any_class_may_have_written(kind: str) -> Change:
    """Settings that do not say of which class of tokenizer they are."""

    def change(folder: Path) -> None:
        settings(TOKENIZER, tokenizer_class=None)(folder)
        index(tokenizer=["transformers", kind])(folder)

    return change


LOADING |= {
    "a vocabulary of another class": (
        any_class_may_have_written("T5Tokenizer"),
        "tokenizer/ has no vocabulary of its T5Tokenizer: of the words of 'a red circle and a blue "
        "square' it knows none. Copy or download",
    ),
    "tokens that the encoder lacks": (
        lambda folder: few_embeddings(folder, 300),
        "tokenizer/ is of another model than text_encoder/: it reads 'a red circle and a blue "
        "square' as tokens up to number 847, and the text encoder has 300. Copy or download",
    ),
}
LOADING |= {
    f"a length of {json.dumps(value)}": (settings(TOKENIZER, model_max_length=value), says)
    for value, says in [
        *(
            (value, f"{TOKENIZER} has {value!r} as model_max_length, where the number of tokens")
            for value in (0, -1, "77", 77.5, True, [77], float("nan"), float("inf"))
        ),
        (1, "has 1 as model_max_length, which 2 start and end tokens fill, so that no word is"),
        (2, "has 2 as model_max_length, which 2 start and end tokens fill, so that no word is"),
    ]
}


def few_embeddings(folder: Path, count: int) -> None:
    name = "text_model.embeddings.token_embedding.weight"
    weights = load_file(folder / TEXT)
    name = next(key for key in weights if name.endswith(key) or key.endswith(name))
    weights[name] = weights[name][:count].contiguous()
    save_file(weights, folder / TEXT, metadata={"format": "pt"})
    settings(T, vocab_size=count)(folder)


def with_a_layer_more(name: str, layer: str) -> Change:
    """Files that go on after the model's last layer, as those of a model with more layers."""

    def change(folder: Path) -> None:
        weights = load_file(folder / name)
        more = [key for key in weights if f"{layer}.0." in key]
        last = max(int(key.split(f"{layer}.")[1].split(".")[0]) for key in weights if layer in key)
        for key in more:
            weights[key.replace(f"{layer}.0.", f"{layer}.{last + 1}.")] = weights[key].clone()
        save_file(weights, folder / name, metadata={"format": "pt"})

    return change


LAYERS = {
    "blocks of a UNet": (
        with_a_layer_more(UNET, "down_blocks.1.attentions"),
        "unet/config.json declares 1 down_blocks.1.attentions, and its files have 2, so that ",
    ),
    "layers of a VAE": (
        with_a_layer_more(VAE, "decoder.up_blocks.0.resnets"),
        "vae/config.json declares 2 decoder.up_blocks.0.resnets, and its files have 3, so that ",
    ),
}
LOADING |= LAYERS


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("form", ["pickles", "shards", "a variant"])
def test_layers_that_are_left_out_in_files_of_other_forms(form, kind, folder):
    change, text = LAYERS[kind]
    change(folder)
    if form == "shards":
        sharded(folder, present=2)
    elif form == "pickles":
        in_pickles(folder)
    else:
        as_variant(folder)
    with pytest.raises(InputError) as caught:
        loaded(folder)
    assert text in str(caught.value)


def test_a_text_encoder_of_fewer_layers_is_warned_of(folder):
    settings(T, num_hidden_layers=1)(folder)
    said = (
        r"^text_encoder/config.json declares 1 (text_model\.)?encoder.layers, and its files have "
        "2: the last are left out, as CLIP skip does, and images are not those of the whole model"
    )
    with pytest.warns(IncompleteModelWarning, match=said):
        pipe = loaded(folder)
    assert pipe.text_encoder.config.num_hidden_layers == 1


def test_weights_that_have_no_place_are_warned_of(folder):
    settings(U, transformer_layers_per_block=0)(folder)
    said = (
        "The files of unet/ have more weights than unet/config.json has a place for: 200, such as "
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight. They are left out"
    )
    with pytest.warns(IncompleteModelWarning, match=said):
        loaded(folder)


@pytest.mark.parametrize("kind", DAMAGE)
def test_files_that_are_damaged_are_named_before_anything_is_loaded(kind, folder):
    change, text = DAMAGE[kind]
    change(folder)
    with pytest.raises(InputError) as caught:
        find_model(str(folder))
    message = str(caught.value)
    assert message.startswith(f"No pipeline could be loaded from --model {folder}: ")
    assert text in message and message.endswith(".")


@pytest.mark.parametrize("kind", [*LOADING, "no tokenizer", "no vocabulary"])
def test_a_batch_says_the_same(kind, folder):
    change, text = (LOADING | DAMAGE)[kind]
    change(folder)
    with pytest.raises(InputError) as caught:
        load_for_batch(BatchSettings(model=str(folder), device="cpu"))
    assert text in str(caught.value) and "from_pretrained" not in str(caught.value)


@pytest.mark.parametrize("kind", LOADING)
def test_what_only_the_loading_shows(kind, folder):
    change, text = LOADING[kind]
    change(folder)
    model = find_model(str(folder))
    with pytest.raises(InputError) as caught:
        load_pipeline(model, "cpu", None)
    assert text in str(caught.value)


def test_the_components_of_another_pipeline(folder):
    index(_class_name="WanPipeline")(folder)
    with pytest.raises(InputError) as caught:
        load_stock_pipeline(find_model(str(folder)), "cpu", None)
    message = str(caught.value)
    assert "its text_encoder is CLIPTextModel, where WanPipeline takes UMT5EncoderModel" in message
    assert "WanPipeline takes no unet" in message
    assert "Correct _class_name in its model_index.json, or give the folder of that" in message


@pytest.mark.parametrize("form", ["safetensors", "pickles"])
def test_random_weights_of_a_text_encoder_are_warned_of(form, folder):
    lacking(TEXT, "layers.0.")(folder)
    if form == "pickles":
        in_pickles(folder)
    with pytest.warns(IncompleteModelWarning, match=r"text_encoder/ lack 16 of its 36 weights"):
        loaded(folder)


@pytest.fixture
def no_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    # It is not among the package's requirements.
    monkeypatch.setattr(diffusers.utils.import_utils, "_accelerate_available", False)


@pytest.mark.parametrize("form", ["safetensors", "pickles"])
def test_without_accelerate_weights_of_a_denoiser_are_warned_of(form, folder, no_accelerate):
    lacking(UNET, "attn2.to_k")(folder)
    if form == "pickles":
        in_pickles(folder)
    with pytest.warns(IncompleteModelWarning, match=r"files of unet/ lack 10 of its 440 weights"):
        loaded(folder)


def loaded(folder: Path) -> Any:
    return load_checkpoint(
        AutoRDAAMPipelineForText2Image, str(folder), start="No", dtype=torch.float32, local=True
    )


def in_pickles(folder: Path) -> None:
    for name in (UNET, TEXT):
        weights = load_file(folder / name)
        (folder / name).unlink()
        new = "pytorch_model.bin" if name == TEXT else "diffusion_pytorch_model.bin"
        torch.save(weights, folder / name.split("/")[0] / new)


def both(folder: Path) -> None:
    """A file of another variant stands next to the plain one, damaged: nobody reads it."""
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"")
    (folder / "unet" / "notes.json").write_text("[]")
    (folder / ".cache").mkdir()


def old_keys(folder: Path) -> None:
    """Files of older versions also hold what is a buffer, and the parts of a larger model."""
    weights = load_file(folder / TEXT) | {
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "logit_scale": torch.zeros(()),
    }
    save_file(weights, folder / TEXT, metadata={"format": "pt"})


def in_a_larger_model(folder: Path) -> None:
    """The text encoder's weights under the name of a part, with more layers of another part."""
    weights = load_file(folder / TEXT)
    whole = {
        key if key.startswith("text_model.") else f"text_model.{key}": weights[key]
        for key in weights
    }
    other = {
        key.replace("text_model.", "vision_model.").replace("layers.1.", "layers.7."): one.clone()
        for key, one in whole.items()
    }
    save_file(whole | other, folder / TEXT, metadata={"format": "pt"})


def old_names(folder: Path) -> None:
    """The layers of attention as files of old versions name them."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(folder / VAE)
    for key in [key for key in weights if "attentions" in key]:
        new = key
        for name, before in old.items():
            new = new.replace(f".{name}.", f".{before}.")
        weights[new] = weights.pop(key)
    assert any(".proj_attn." in key for key in weights)
    save_file(weights, folder / VAE, metadata={"format": "pt"})


def tokenizer_file_alone(folder: Path) -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    shutil.rmtree(folder / "tokenizer")
    tokenizer.save_pretrained(folder / "tokenizer")
    for name in ("vocab.json", "merges.txt"):
        (folder / "tokenizer" / name).unlink(missing_ok=True)


def in_float8(folder: Path) -> None:
    weights = {k: v.to(torch.float8_e4m3fn) for k, v in load_file(folder / UNET).items()}
    save_file(weights, folder / UNET, metadata={"format": "pt"})


WHOLE = {
    "as it was saved": lambda folder: None,
    "links, as in the hub's cache": linked(),
    "float8": in_float8,
    "shards": lambda folder: sharded(folder, present=2),
    "a variant alone": as_variant,
    "a variant of one model": lambda folder: as_variant(folder, UNET),
    "old names": old_names,
    "a text encoder in the files of a larger model": in_a_larger_model,
    "no limit of the text's length": settings(TOKENIZER, model_max_length=10**30),
    "settings without a class of tokenizer": any_class_may_have_written("CLIPTokenizer"),
    "a Fast class": index(tokenizer=["transformers", "CLIPTokenizerFast"]),
    "pickles": in_pickles,
    "another variant": both,
    "old keys": old_keys,
    "tokenizer.json": tokenizer_file_alone,
    "null": index(safety_checker=[None, None], image_encoder=[None, None], requires=[1, 2]),
}


@pytest.mark.values
@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("accelerate", [True, False])
def test_no_whole_folder_is_refused(kind, accelerate, folder, request, caplog):
    if not accelerate:
        request.getfixturevalue("no_accelerate")
    WHOLE[kind](folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error", IncompleteModelWarning)
        assert loaded(folder).unet.config.cross_attention_dim
    # diffusers logs an error for files that it then finds in another form.
    assert "An error occurred" not in caplog.text


TOKENIZERS = {
    "T5TokenizerFast": ["spiece.model"],
    "Qwen2Tokenizer": ["vocab.json", "merges.txt"],
    "ByT5Tokenizer": [],
    "LlamaTokenizerFast": ["tokenizer.model"],
    "ChatGLMTokenizer": ["tokenizer.model", "vocab.txt"],
    "GemmaTokenizer": ["tokenizer.json"],
    "BertTokenizer": ["vocab.txt"],
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_vocabularies_of_all_kinds(kind, folder):
    shutil.rmtree(folder / "tokenizer")
    (folder / "tokenizer").mkdir()
    for name in ["tokenizer_config.json", *TOKENIZERS[kind]]:
        (folder / "tokenizer" / name).write_text("{}")
    index(tokenizer=["transformers", kind])(folder)
    check_folder(folder, "No")


METHODS = {
    "bitsandbytes": {"load_in_4bit": True},
    "torchao": {"quant_type": "int8wo"},
    "quanto": {"weights": "int8"},
    "gptq": {"bits": 4},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_quantised_weights_name_the_library_that_is_missing(part, method, folder, monkeypatch):
    # Whatever this machine has.
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    options = METHODS[method]
    settings(f"{part}/config.json", quantization_config={"quant_method": method, **options})(folder)
    with pytest.raises(InputError) as caught:
        find_model(str(folder))
    assert f"{part}/config.json says that its weights are quantised with {method}, and" in str(
        caught.value
    )
    assert "Install it (pip install " in str(caught.value)
    assert "download the folder again" not in str(caught.value)


def test_parts_of_quantised_weights_are_not_the_weights_of_another_model(tmp_path):
    small = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 9}
    T5EncoderModel(T5Config(**small)).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("wo.weight"))
    weights[f"{name}._data"] = weights.pop(name)
    save_file(weights, file, metadata={"format": "pt"})
    model = T5EncoderModel.from_pretrained(tmp_path)
    assert random_weights(model) == [name]
    # Read as quantised, it is made of its parts.
    model.hf_quantizer = object()
    assert random_weights(model) == []


def test_tied_weights_and_those_of_another_head_are_not_random(tmp_path):
    small = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 9}
    T5EncoderModel(T5Config(**small)).save_pretrained(tmp_path / "t5")
    assert random_weights(T5EncoderModel.from_pretrained(tmp_path / "t5")) == []
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 9}
    config = CLIPTextConfig(**sizes, num_attention_heads=2, projection_dim=4)
    Projecting(config).save_pretrained(tmp_path / "clip")
    assert random_weights(Projecting.from_pretrained(tmp_path / "clip")) == []
    weights = load_file(tmp_path / "clip" / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, tmp_path / "clip" / "model.safetensors", metadata={"format": "pt"})
    assert random_weights(Projecting.from_pretrained(tmp_path / "clip")) == [
        "text_projection.weight"
    ]

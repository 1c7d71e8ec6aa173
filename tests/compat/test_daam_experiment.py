"""Experiments as folders: what is written, read back, and refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.compat.daam import GenerationExperiment, load_mask
from diffusers_rdaam.compat.daam.masks import file_word
from diffusers_rdaam.errors import AttributionFileError, InputError, WordError

PROMPT = "a red/blue Heart. a Heart"
MAPS = "generation.safetensors"


@pytest.fixture
def make(make_prompt: Any, tmp_path: Path) -> Any:
    def build(**options: Any) -> GenerationExperiment:
        tokens: Prompt = make_prompt(PROMPT)
        generator = torch.Generator().manual_seed(0)
        maps = torch.rand(len(tokens.tokens), 4, 6, generator=generator)
        levels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
        given = {"seed": 7, "id": "one", "path": str(tmp_path), "tokens": tokens} | options
        return GenerationExperiment(Image.fromarray(levels), maps, PROMPT, **given)

    return build


def test_a_folder_with_everything(make: Any, tmp_path: Path) -> None:
    truth = torch.zeros(32, 48)
    truth[4:8, :10] = 1
    experiment = make(truth_masks={"Heart": truth}, subtype="sub").annotate("good", True)
    experiment.save(heat_maps=False)
    experiment.save_prediction_mask(1 - truth, "Heart", "daam")
    folder = tmp_path / "one"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*")) == [
        "annotations.json",
        "heart.gt.png",
        "prompt.txt",
        "seed.txt",
        "sub/generation.safetensors",
        "sub/heart.daam.pred.png",
        "sub/output.png",
    ]
    loaded = GenerationExperiment.load(folder, subtype="sub")
    assert (loaded.prompt, loaded.seed, loaded.id, loaded.subtype) == (PROMPT, 7, "one", "sub")
    assert loaded.path == folder and loaded.annotations == {"good": True}
    assert torch.equal(loaded.global_heat_map, experiment.global_heat_map)
    np.testing.assert_array_equal(loaded.image, experiment.image)
    assert torch.equal(loaded.truth_masks["heart"], truth)
    assert torch.equal(loaded.prediction_masks["heart"], 1 - truth)
    assert loaded.tokens == experiment.tokens
    assert GenerationExperiment.read_seed(tmp_path, "one") == 7
    assert GenerationExperiment.read_prompt(folder) == PROMPT
    assert GenerationExperiment.contains_truth_mask(tmp_path, "one")
    assert GenerationExperiment.has_annotations(folder)
    assert GenerationExperiment.has_experiment(tmp_path, "one/sub")
    assert [e.subtype for e in GenerationExperiment.load(folder, all_subtypes=True)] == ["sub"]
    loaded.clear_prediction_masks("daam")
    loaded.clear_checkpoint()
    assert [path.name for path in (folder / "sub").iterdir()] == ["output.png"]
    assert not GenerationExperiment.has_experiment(tmp_path, "one/sub")


def test_names_of_words_are_safe_and_no_two_the_same() -> None:
    words = ["a/b", "A:B", "a_b", "Cat", "cat", "É", "e\u0301", "con", "-x", "\u202ey", "红" * 90]
    found = [file_word(word, words, suffix=".heat_map.png") for word in words]
    assert found[0] == "a_b.heat_map.png" and found[3] == found[4] == "cat.heat_map.png"
    assert found[5] == found[6] == "é.heat_map.png" and found[7] == "con_.heat_map.png"
    assert found[8] == "_x.heat_map.png" and found[9] == "y.heat_map.png"
    # Words that are one but for letter case and form share a name, and no others do.
    assert len(set(found)) == len(words) - 2
    assert len(found[10].encode()) <= 120


def test_masks_of_words_that_look_alike_are_all_kept(make: Any, tmp_path: Path) -> None:
    experiment = make()
    experiment.truth_masks = {"a/b": torch.zeros(4, 4), "a:b": torch.ones(4, 4)}
    experiment.save(heat_maps=False)
    assert len(list((tmp_path / "one").glob("a_b*.gt.png"))) == 2


def test_pictures_of_words_are_named_after_them(make: Any, tmp_path: Path) -> None:
    experiment = make()
    paths = experiment.save_all_heat_maps()
    assert {word: path.name for word, path in paths.items()} == {
        "a": "a.heat_map.png",
        "red/blue": "red_blue.heat_map.png",
        "Heart.": "heart..heat_map.png",
        "Heart": "heart.heat_map.png",
    }
    path = experiment.save_heat_map("Heart", crop=2, output_prefix="l0-", absolute=True)
    assert path == tmp_path / "one" / "l0-heart.heat_map.png" and path.exists()
    # Values as they are, low here, have other colours than those stretched to 0 to 1.
    experiment.global_heat_map *= 0.1
    experiment.image = Image.new("RGB", (48, 32))
    shown = []
    for name, absolute in (("a-", True), ("b-", False), ("c-", True)):
        with Image.open(experiment.save_heat_map("Heart", None, None, name, absolute)) as image:
            shown.append(np.asarray(image.convert("RGB")).astype(int))
    np.testing.assert_array_equal(shown[0], shown[2])
    reddish = [
        bool((picture[..., 0] - picture[..., 1:].max(axis=-1) > 8).any()) for picture in shown
    ]
    assert reddish == [False, True, False]
    with pytest.raises(WordError, match="'dog' is not a word"):
        experiment.save_heat_map("dog")


def test_without_a_seed_there_is_no_seed_file(make: Any, tmp_path: Path) -> None:
    """DAAM writes ``None``, which its own reader does not read."""
    make(seed=None).save(heat_maps=False)
    assert not (tmp_path / "one" / "seed.txt").exists()
    assert GenerationExperiment.load(tmp_path / "one").seed is None
    with pytest.raises(AttributionFileError, match=r"seed\.txt cannot be read"):
        GenerationExperiment.read_seed(tmp_path / "one")
    (tmp_path / "one" / "seed.txt").write_text("None")
    with pytest.raises(AttributionFileError, match="holds no seed but 'None'"):
        GenerationExperiment.read_seed(tmp_path / "one")


def test_a_path_of_its_own_or_another(make: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no path"):
        make(path=None).save()
    make(path=None).save(tmp_path / "other", heat_maps=False)
    assert (tmp_path / "other" / "one" / MAPS).exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        make(path=tmp_path / "file").save()


def test_black_images_are_told(make: Any) -> None:
    experiment = make()
    assert not experiment.nsfw()
    experiment.image = Image.new("RGB", (4, 4))
    assert experiment.nsfw()


def test_a_composite_mask_is_an_image_of_numbers(make: Any, tmp_path: Path) -> None:
    make().save(heat_maps=False)
    numbers = np.array([[0, 1], [1, 1]], dtype=np.uint8)
    Image.fromarray(numbers).save(tmp_path / "one" / "composite.mine.pred.png")
    options = {"pred_prefix": "mine", "composite": True}
    loaded = GenerationExperiment.load(tmp_path / "one", vocab=["none", "Cat"], **options)
    assert loaded.prediction_masks["cat"].tolist() == [[0, 1], [1, 1]]
    assert set(loaded.prediction_masks) == {"none", "cat"}
    with pytest.raises(InputError, match="numbers up to 1, and vocab= has 1 words"):
        GenerationExperiment.load(tmp_path / "one", vocab=["none"], **options)
    assert GenerationExperiment.load(tmp_path / "one", composite=True).prediction_masks == {}
    options |= {"vocab": ["none", "Cat"], "simplify80": True}
    groups = GenerationExperiment.load(tmp_path / "one", **options)
    assert set(groups.prediction_masks) == {"none", "animal"}


def test_a_mask_is_what_is_not_transparent(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "no.png")
    with pytest.raises(InputError, match="has no alpha channel"):
        load_mask(tmp_path / "no.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot be read as an image"):
        load_mask(tmp_path / "bad.png")


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "generation.pt").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(AttributionFileError, match="a pickle of castorini/daam"):
        GenerationExperiment.load(tmp_path)
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(AttributionFileError, match="no experiment at"):
        GenerationExperiment.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, h: h.clear(), "but not an experiment of diffusers_rdaam"),
        (
            lambda t, h: h.update(version="2"),
            "has format version '2'; this release reads version 1",
        ),
        (lambda t, h: h.update(experiment="["), "its header is not JSON"),
        (lambda t, h: h.update(experiment="[]"), "its header is not an object"),
        (lambda t, h: edit(h, prompt=3), "its prompt is not a text"),
        (lambda t, h: edit(h, seed="7"), "its seed is 7"),
        (lambda t, h: edit(h, seed=True), "its seed is True"),
        (lambda t, h: edit(h, tokens=[["a", "text", 0]]), "is not a token"),
        (lambda t, h: edit(h, tokens=[["a", "text", 0, 10**6]]), "lies outside the prompt"),
        (lambda t, h: edit(h, tokens=[["a", "text", True, 1]]), "is not a token"),
        (lambda t, h: edit(h, tokens=[["a", [], None, None]]), "is not a token"),
        (lambda t, h: edit(h, tokens=5), "it has no tokens"),
        (lambda t, h: t.update(global_heat_map=torch.zeros(3, 4)), r"shape \[3, 4\]"),
        (
            lambda t, h: t.update(global_heat_map=torch.zeros(2, 2, 2).half()),
            "its maps have type F16",
        ),
        (lambda t, h: t["global_heat_map"].fill_(torch.nan), "values that are not finite"),
        (lambda t, h: t.update(other=t.pop("global_heat_map")), "has no global_heat_map"),
    ],
)
def test_a_file_from_a_stranger(make: Any, tmp_path: Path, change: Any, message: str) -> None:
    make().save(heat_maps=False)
    path = tmp_path / "one" / MAPS
    tensors = load_file(path)
    header = {
        "format": "diffusers_rdaam.daam_experiment",
        "version": "1",
        "experiment": json.dumps({"prompt": "a", "seed": 1, "id": ".", "tokens": None}),
    }
    change(tensors, header)
    save_file(tensors, path, header or None)
    with pytest.raises(AttributionFileError, match=message):
        GenerationExperiment.load(tmp_path / "one")


def edit(header: dict[str, str], **fields: Any) -> None:
    header["experiment"] = json.dumps(json.loads(header["experiment"]) | fields)


def test_files_that_are_cut_off(make: Any, tmp_path: Path) -> None:
    make().annotate("a", 1).save(heat_maps=False)
    folder = tmp_path / "one"
    for name, message in (
        ("annotations.json", "holds no JSON object"),
        ("output.png", "cannot be read as a PNG"),
        (MAPS, "not a whole safetensors"),
    ):
        path = folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * 2 // 3])
        with pytest.raises(AttributionFileError, match=message):
            GenerationExperiment.load(folder)
        path.write_bytes(whole)

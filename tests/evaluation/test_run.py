"""Runs on the embedded model's world: every protocol, resuming, bad images, tables, the gallery."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from diffusers_rdaam import (
    CRFExtraError,
    DataSet,
    DenseCRF,
    Evaluation,
    EvaluationTable,
    InputError,
    Maps,
    NoAttributionError,
    Sample,
    Target,
    drawn_scenes,
    evaluate,
    generated_scenes,
    load_demo_pipeline,
    open_dataset,
    protocols,
    tune_threshold,
    write_dataset,
)
from diffusers_rdaam.demo.loader import FLUX_DEFAULTS
from diffusers_rdaam.evaluation.datasets.formats import FORMATS
from diffusers_rdaam.evaluation.maps import processor_for, texts_of
from diffusers_rdaam.evaluation.metrics.ranking import average_precision
from diffusers_rdaam.evaluation.protocols.protocol import resized
from diffusers_rdaam.evaluation.rows import ROWS, SETTINGS, RowFile
from diffusers_rdaam.evaluation.run import seed_of

FEW = {"draws": 1, "noise": 0.3}


@pytest.fixture(scope="module")
def pipe():
    return load_demo_pipeline()


@pytest.fixture(scope="module")
def scenes():
    return drawn_scenes(2)


def numbers_of(evaluation: Evaluation) -> dict:
    return evaluation.to_dict()["numbers"]


def plain_rows(evaluation: Evaluation) -> list[dict]:
    return [{key: one for key, one in row.items() if key != "seconds"} for row in evaluation.rows]


def test_a_run_from_drawn_scenes_to_the_report(pipe, scenes, tmp_path):
    before = dict(vars(pipe))
    processors = pipe.attn_processors
    found = evaluate(pipe, scenes, "daam", maps=["mean", "rms"], out=tmp_path / "out", **FEW)
    assert found["miou_per_image"].value > 0.55 and found["ap"].value > 0.8
    assert found["miou_per_image"].low <= found["miou_per_image"].value
    assert {k: v for k, v in vars(pipe).items() if k.startswith("_rdaam_temp")} == {
        k: v for k, v in before.items() if k.startswith("_rdaam_temp")
    }
    assert pipe.attn_processors.keys() == processors.keys()
    assert all(pipe.attn_processors[name] is one for name, one in processors.items())
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["numbers"]["rms"]["ap"]["images"] == 2 and report["facts"]["torch"]
    assert report["differences"]["rms"]["than"] == "mean"
    rows = list(csv.DictReader((tmp_path / "out/table.csv").read_text().splitlines()))
    assert {row["maps"] for row in rows} == {"mean", "rms"}
    words = list(csv.DictReader((tmp_path / "out/images.csv").read_text().splitlines()))
    assert len(words) == 2 * 2 * 2
    assert "| maps | mIoU per image and word |" in (tmp_path / "out/table.md").read_text()


def test_a_run_that_was_cut_off_goes_on_and_has_the_same_numbers(pipe, scenes, tmp_path):
    whole = evaluate(pipe, scenes, "pointing", out=tmp_path / "whole", **FEW)
    evaluate(pipe, scenes, "pointing", out=tmp_path / "cut", **FEW)
    path = tmp_path / "cut" / ROWS
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    path.write_bytes(content[: first + 40])
    asked: list[int] = []
    again = evaluate(
        pipe,
        scenes,
        "pointing",
        out=tmp_path / "cut",
        progress=lambda done, total, row: asked.append(done),
        **FEW,
    )
    assert asked == [2], "only the row that was cut off is done again"
    assert numbers_of(again) == numbers_of(whole) and plain_rows(again) == plain_rows(whole)
    assert path.read_bytes().count(b"\n") == 2


def test_other_settings_and_foreign_folders_are_refused(tmp_path):
    RowFile(tmp_path / "run", {"seed": 1, "maps": ["mean"]})
    RowFile(tmp_path / "run", {"seed": 1, "maps": ["mean"]})
    with pytest.raises(InputError, match=r"other settings: maps, seed; maps was .*rms"):
        RowFile(tmp_path / "run", {"seed": 2, "maps": ["rms"]})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("…")
    with pytest.raises(InputError, match="is not the folder of an evaluation"):
        RowFile(tmp_path / "mine", {})
    assert list((tmp_path / "mine").iterdir()) == [tmp_path / "mine/thesis.tex"]
    (tmp_path / "run" / SETTINGS).write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        RowFile(tmp_path / "run", {})


def test_two_processes_do_not_write_one_folder(tmp_path):
    file = RowFile(tmp_path / "run", {})
    with file.locked(), pytest.raises(InputError, match="Another process is writing"):  # noqa: SIM117
        with RowFile(tmp_path / "run", {}).locked():
            pass
    with file.locked():
        file.add({"id": "one", "status": "ok"})
    assert RowFile(tmp_path / "run", {}).rows == {"one": {"id": "one", "status": "ok"}}


@pytest.mark.slow
def test_a_full_disk_loses_no_row_and_leaves_no_half_of_one(tmp_path):
    """In a process of its own, whose files may have a few hundred bytes."""
    code = f"""
import resource, signal
from pathlib import Path
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.evaluation.run import seed_of
from diffusers_rdaam.evaluation.rows import RowFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = RowFile(Path({str(tmp_path / "run")!r}), {{}})
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
for number in range(9):
    try:
        file.add({{"id": str(number), "status": "ok", "text": "x" * 80}})
    except InputError as error:
        print(number, error)
        break
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("2 The row of 2 cannot be written")
    assert list(RowFile(tmp_path / "run", {}).rows) == ["0", "1"]
    assert (tmp_path / "run" / ROWS).read_bytes().endswith(b"}\n")


def with_bad(data: DataSet, tmp_path: Path) -> DataSet:
    """The data set with an image that is broken, one without targets, and one that is there."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n")
    first = data[data.ids[0]]

    def read(name: str) -> Sample:
        if name == "broken":
            Image.open(broken).load()
        if name == "empty":
            return Sample(name, first.image, "a red circle")
        return data.read(name)

    return replace(data, ids=("broken", "empty", data.ids[0]), read=read)


def test_a_bad_image_is_a_row_and_not_the_end(pipe, scenes, tmp_path):
    data = with_bad(scenes, tmp_path)
    found = evaluate(pipe, data, "pointing", out=tmp_path / "out", **FEW)
    assert [row["status"] for row in found.rows] == ["error", "skipped", "ok"]
    assert "cannot identify image file" in found.errors[0]["error"]
    assert "1 skipped (1 as it has no target), 1 failed, the first broken" in found.summary()
    assert "broken,error" in (tmp_path / "out/images.csv").read_text()
    # An error is tried again: the file may have been mended.
    mended = replace(data, read=lambda name: scenes.read(scenes.ids[1]))
    again = evaluate(pipe, mended, "pointing", out=tmp_path / "out", **FEW)
    assert [row["status"] for row in again.rows] == ["ok", "skipped", "ok"]


def test_maps_that_cannot_be_kept_end_the_run(pipe, scenes):
    with pytest.raises(NoAttributionError, match="The aggregation 'ovam' needs"):
        evaluate(pipe, scenes, "daam", maps="ovam", **FEW)


def test_no_image_at_all_is_a_table_of_dashes(pipe, scenes, tmp_path):
    data = replace(with_bad(scenes, tmp_path), ids=("broken",))
    found = evaluate(pipe, data, "daam", **FEW)
    assert math.isnan(found["miou_per_image"].value) and " - " in found.table().markdown()
    assert found.to_dict()["errors"][0]["id"] == "broken"


def test_tables_are_of_one_kind(pipe, scenes):
    strict = evaluate(pipe, scenes.first(1), "pointing", **FEW)
    published = evaluate(pipe, scenes.first(1), "pointing", strict=False, **FEW)
    made = replace(strict, generated=True)
    for pair, text in (((strict, published), "honest form"), ((strict, made), "generated images")):
        with pytest.raises(InputError, match=f"does not mix .*{text}"):
            EvaluationTable(pair)
    table = EvaluationTable([strict, replace(strict, label="again (strict)")])
    assert table.title == "strict, real images" and "again (strict)" in str(table)
    assert "15 pixels of tolerance" in published.table().markdown()


def test_texts_of_a_data_set_are_not_formulas_and_not_cells(pipe, scenes):
    data = scenes.first(1)
    named = replace(data, name="=1+1|x")
    table = evaluate(pipe, named, "pointing", **FEW).table()
    assert "'=1+1|x" in table.csv() and "=1+1\\|x" in table.markdown()


def test_a_threshold_is_chosen_on_another_split(pipe):
    best, curve = tune_threshold(
        pipe, drawn_scenes(2, seen=True), "daam", thresholds=(0.2, 0.5, 0.8), **FEW
    )
    assert best == max(curve, key=curve.__getitem__) and len(set(curve.values())) == 3
    found = evaluate(pipe, drawn_scenes(1, seen=True), "daam", threshold=best, **FEW)
    assert found.settings["threshold"] == best
    with pytest.raises(InputError, match="has no threshold"):
        tune_threshold(pipe, drawn_scenes(1), "pointing")


def test_generated_images_are_judged_and_their_truth_is_theirs(pipe):
    data = generated_scenes(2)
    found = evaluate(pipe, data, "daam", maps="mean", call={"num_inference_steps": 8})
    assert data.generated and found.generated
    assert len(found.scored) + len(found.errors) == 2
    for row in found.errors:
        assert "does not show the objects of its prompt" in row["error"]
    again = evaluate(pipe, data, "daam", maps="mean", call={"num_inference_steps": 8})
    assert plain_rows(again) == plain_rows(found)


def test_an_image_that_comes_out_otherwise_is_refused(pipe, scenes):
    sample = replace(scenes[scenes.ids[0]], seed=1)
    data = DataSet("made", ("one",), lambda name: sample, generated=True)
    call = {"num_inference_steps": 2}
    found = evaluate(pipe, data, "daam", source="generate", call=call)
    assert "makes another image of its prompt and seed" in found.errors[0]["error"]
    small = replace(
        sample,
        image=sample.image.resize((64, 64)),
        targets=(Target("red circle", np.ones((64, 64), bool)),),
    )
    data = replace(data, read=lambda name: small)
    found = evaluate(pipe, data, "daam", source="generate", call=call)
    assert "This model makes it 128 x 128" in found.errors[0]["error"]


def test_maps_are_named_by_the_line_that_makes_them():
    for text in (
        "mean",
        "rms, refine=product, sharpen=true, crf=hard, concepts=true",
        "mean, resolutions=8|16",
        "mean, layers=up_blocks, steps=5:",
        "expert_layer, layer=up_blocks.1.attentions.1",
    ):
        assert Maps.parse(text).name == text and Maps.parse(Maps.parse(text).name) == Maps.parse(
            text
        )
    options = processor_for([Maps.parse("mean, layers=up_blocks"), Maps("rms", refine="ovam")])
    assert set(options.options.keep) == {"layers", "squares"}
    assert options.options.self_attention


def test_a_dense_crf_is_a_kind_of_maps(make_attribution):
    """Each word against its background, from the map bent so that its threshold is one half."""
    size = (32, 64)
    pixels = np.full((*size, 3), 255, np.uint8)
    pixels[8:24, 16:40] = (200, 30, 30)
    plain = make_attribution("a cat", size=size, grids=((16, 32),))
    (cat,) = plain.prompt.find("cat").columns
    maps = torch.full_like(plain.grids[0].maps, 0.1)
    # A blur of the object: its threshold alone cuts off the corners.
    rows, columns = torch.arange(16)[:, None] - 7.5, torch.arange(32)[None] - 13.5
    maps[cat] = torch.exp(-((rows / 5.0) ** 2 + (columns / 7.0) ** 2))
    grid = replace(plain.grids[0], maps=maps / maps.sum(dim=0))
    attribution = replace(plain, grids=(grid,), image=Image.fromarray(pixels))
    match = attribution.prompt.find("cat")
    raw, soft, hard = (
        Maps.parse(f"mean{more}").read(attribution, match)
        for more in ("", ", crf=soft", ", crf=hard")
    )
    truth = torch.zeros(size, dtype=torch.bool)
    truth[8:24, 16:40] = True

    def overlap(heat_map):
        mask = heat_map.mask()
        return float((mask & truth).sum() / (mask | truth).sum())

    assert overlap(soft) > 0.97 > 0.9 > overlap(raw)
    assert soft.threshold == 0.5 and soft.size == size and float(soft.values.min()) >= 0.0
    # By definition: DenseCRF on background and word, with deviations in shares of the image.
    word = raw.normalized
    half = raw.threshold
    bent = torch.where(word < half, word / half / 2, 0.5 + (word - half) / (1 - half) / 2)
    for unary, found in (("soft", soft), ("hard", hard)):
        crf = DenseCRF(bilateral_xy=10.0, smoothness_xy=0.375, unary=unary)
        wanted = crf(attribution.image, torch.stack([1.0 - bent, bent]))[1]
        assert torch.allclose(found.values, wanted, atol=1e-5)
    assert Maps("mean", crf=True) == Maps.parse("mean, crf=true") == Maps("mean", crf="soft")
    assert Maps("mean", crf=False) == Maps()


def test_a_crf_that_is_not_installed_is_said_before_any_image(monkeypatch, scenes):
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(CRFExtraError, match=r"diffusers_rdaam\[crf\]"):
        evaluate(None, scenes, "daam", maps=["mean", "mean, crf=soft"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("meen", "Did you mean 'mean'"),
        ("mean, refine", "each part is name=value"),
        ("mean, refine=best", "is not a refinement"),
        ("mean, sharpen=maybe", "is true or false"),
        ("mean, crf=strong", "is not a unary term. Unary terms: 'soft', 'hard'"),
        ("mean, resolutions=a", "are numbers"),
        ("mean, resolutions=²", "are numbers"),
        ("mean, steps=3", "are first:last"),
        ("mean, colour=red", "has no argument 'colour'"),
    ],
)
def test_a_line_of_maps_that_is_wrong(text, message):
    with pytest.raises(InputError, match=message):
        Maps.parse(text)


@pytest.mark.parametrize("model", ["stable-diffusion", "flux"])
def test_concepts_are_texts_of_their_own(model):
    """The maps are those of the vocabulary of a run of the same image and noise."""
    pipe = load_demo_pipeline(model)
    side = 128 if model == "stable-diffusion" else int(FLUX_DEFAULTS["height"])
    data = drawn_scenes(1, size=side)
    maps = ["mean", "mean, concepts=true", "mean, sharpen=true, concepts=true"]
    found = evaluate(pipe, data, "pointing", maps=maps, **FEW)
    (sample,) = data
    texts = [one.text for one in sample.targets]
    again = pipe.attribute_image(
        sample.image,
        sample.prompt,
        noise=0.3,
        draws=1,
        generator=torch.Generator("cpu").manual_seed(seed_of(0, sample.id)),
        attribution_vocabulary=texts,
    )
    for number, name in enumerate(maps):
        for word, target in zip(found.scores(name)[0]["words"], sample.targets, strict=True):
            heat_map = again.word(target.text)
            if number:
                heat_map = again.vocabulary[target.text].word(target.text)
            if number == 2:
                heat_map = replace(heat_map, image=again.image).sharpened()
            values = resized(heat_map.values.double().numpy(), target.mask.shape)
            assert word["ap"] == pytest.approx(average_precision(values, target.mask))
    boxes = evaluate(pipe, data, "rdaam", maps=maps[1], **FEW)
    assert boxes["coverage"].value == 1.0, "a box's tokens are the texts"


def test_concepts_of_stock_pipelines_are_refused_and_one_text_gets_another(pipe, scenes):
    stock = StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    with pytest.raises(NoAttributionError, match=r"concepts=true .*does not take. Give a record"):
        evaluate(stock, scenes, "pointing", maps="mean, concepts=true", **FEW)
    concepts = (Maps("mean", concepts=True),)
    assert texts_of(["cat"], [], concepts) == ["cat", "background"]
    assert texts_of(["cat", "dog"], ["sky", "cat"], concepts) == ["cat", "dog", "sky"]
    assert texts_of(["cat"], ["sky"], (Maps("mean"),)) == []


def test_the_same_maps_twice_are_refused(pipe, scenes):
    with pytest.raises(InputError, match="are different ones"):
        evaluate(pipe, scenes, maps=["mean", "mean"])


def test_the_gallery_needs_no_other_file(pipe, scenes, tmp_path):
    from diffusers_rdaam.evaluation.gallery import write_gallery

    found = evaluate(pipe, scenes, "daam", **FEW)
    page = write_gallery(pipe, scenes, "daam", found, tmp_path / "g.html", count=3, **FEW)
    text = page.read_text(encoding="utf-8")
    # What is within a frame is escaped, and not counted.
    assert text.count("<article>") == 2
    assert text.count('<img src="data:image/png;base64,') == text.count("<img ") == 6
    assert "The best" in text and "The worst" in text and "<script" not in text
    assert all(name in text for name in scenes.ids)


SLOW = [
    pytest.param(name, strict, marks=pytest.mark.slow)
    for name in protocols()
    for strict in (True, False)
]


@pytest.mark.parametrize(("name", "strict"), SLOW)
@pytest.mark.parametrize("model", ["stable-diffusion", "flux"])
def test_every_protocol_runs_on_both_worlds_of_both_models(name, strict, model):
    torch.set_num_threads(1)
    pipe = load_demo_pipeline(model)
    size = 128 if model == "stable-diffusion" else 256
    options = {"parts": 3} if name == "deletion" else {}
    drawn = evaluate(pipe, drawn_scenes(2, size=size), name, strict=strict, **FEW, **options)
    assert len(drawn.scored) == 2 and not math.isnan(drawn[drawn.headline].value)
    made = evaluate(pipe, generated_scenes(2), name, strict=strict, **FEW, **options)
    assert len(made.scored) + len(made.errors) == 2
    assert all("does not show" in row["error"] for row in made.errors)


@pytest.mark.slow
def test_a_run_that_is_killed_anywhere_has_the_same_numbers(tmp_path):
    """SIGKILL after each row in turn, in a process of its own; then to the end."""
    code = """
import os, signal, sys, torch
torch.set_num_threads(1)
from diffusers_rdaam import drawn_scenes, evaluate, load_demo_pipeline
left = [int(sys.argv[2])]
def progress(done, total, row):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
evaluate(load_demo_pipeline(), drawn_scenes(4), "daam", maps=["mean", "rms"], out=sys.argv[1],
         draws=1, noise=0.3, progress=progress)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name, limits in (("whole", [-1]), ("killed", [1, 2, 1, -1])):
        for limit in limits:
            call = [sys.executable, "-c", code, str(tmp_path / name), str(limit)]
            done = subprocess.run(call, env=environment, check=False)
            assert done.returncode == (0 if limit < 0 else -9)
    reports = [
        json.loads((tmp_path / name / "report.json").read_text()) for name in ("whole", "killed")
    ]
    assert reports[0]["numbers"] == reports[1]["numbers"]


@pytest.mark.slow
def test_aggregations_of_every_kind_run_under_one_protocol(pipe, scenes):
    maps = [
        "mean",
        "refined",
        "rms",
        "auto",
        "late_half",
        "information",
        "daam",
        "rdaam",
        "hrv",
        "gramcol",
        "expert_layer, layer=up_blocks.1.attentions.1",
        "goca, reference=up_blocks.1.attentions.1",
        "mean, refine=guided",
        "mean, sharpen=true",
        "mean, crf=soft",
        "mean, resolutions=16",
        "mean, steps=:2",
    ]
    found = evaluate(pipe, scenes.first(1), "daam", maps=maps, noise=(0.26, 0.37), draws=2)
    assert not found.errors, found.summary()
    assert set(found.numbers) == set(maps)


@pytest.mark.slow
@pytest.mark.parametrize("name", [one for one in FORMATS if one == "folder"])
def test_a_written_data_set_has_the_numbers_of_the_one_it_was_made_of(pipe, scenes, tmp_path, name):
    data = open_dataset(write_dataset(scenes, tmp_path / "data"), name)
    one, other = (evaluate(pipe, d, "daam", **FEW) for d in (scenes, data))
    assert numbers_of(one) == numbers_of(other)

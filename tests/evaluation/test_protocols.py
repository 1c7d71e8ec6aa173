"""Each protocol on hand-made maps: against an independent slow loop, and what its flaws change."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.evaluation.measures import MEASURES
from diffusers_rdaam.evaluation.protocols.deletion import blurred, edits
from diffusers_rdaam.evaluation.protocols.protocol import (
    Answers,
    Skipped,
    WordMap,
    box_weights,
    nearest,
    resized,
)
from diffusers_rdaam.evaluation.protocols.table import protocol_of, protocols
from diffusers_rdaam.evaluation.run import RunSettings, evaluate, tune_threshold
from diffusers_rdaam.evaluation.sample import ClassName, DataSet, Sample, Target, word_in

SIZE = (12, 16)
CLASSES = (ClassName("dog"), ClassName("cat"), ClassName("tree"))


def box(top, bottom, left, right):
    mask = np.zeros(SIZE, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


DOG, CAT = box(1, 7, 2, 8), box(6, 11, 9, 15)


def sample_of(*targets, prompt="a dog and a cat", ignore=None, name="one"):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8))
    found = targets or (Target("dog", DOG, "dog"), Target("cat", CAT, "cat"))
    return Sample(name, image, prompt, found, ignore)


def data_of(*samples, classes=CLASSES):
    by_name = {one.id: one for one in samples}
    return DataSet("toy", tuple(by_name), by_name.__getitem__, classes)


def blob(mask, seed, size=SIZE):
    """A soft map that is high about in a mask, on a grid of its own."""
    rng = np.random.default_rng(seed)
    soft = resized(mask.astype(float), (6, 8), "bilinear") + 0.3 * rng.random((6, 8))
    return resized(soft, size) * 0.02 + 0.001


MAPS = {"dog": blob(DOG, 1), "cat": blob(CAT, 2)}


def scores(name, sample=None, maps=MAPS, *, strict=True, classes=CLASSES, **options):
    sample = sample or sample_of()
    protocol, data = protocol_of(name, strict=strict, **options), data_of(sample, classes=classes)
    question = protocol.question(sample, data)
    assert not isinstance(question, Skipped), question
    return protocol.score(question, Answers(maps), sample, data)


def value(name, rows):
    rows = rows if isinstance(rows, list) else [rows]
    return float(MEASURES[name].of(rows)(np.ones((1, len(rows))))[0])


def torch_resize(values, size, mode, antialias=False):
    tensor = torch.from_numpy(np.asarray(values, dtype=np.float64))[None, None]
    return torch.nn.functional.interpolate(
        tensor, size, mode=mode, align_corners=False, antialias=antialias
    )[0, 0].numpy()


def slow_iou(guess, truth, scored=None):
    inter = union = 0
    for y in range(truth.shape[0]):
        for x in range(truth.shape[1]):
            if scored is None or scored[y, x]:
                inter += bool(guess[y, x] and truth[y, x])
                union += bool(guess[y, x] or truth[y, x])
    return inter / union


def minmax(values):
    return (values - values.min()) / (values.max() - values.min())


def test_daam_as_published_by_a_slow_loop():
    ious = []
    for text, truth in (("dog", DOG), ("cat", CAT)):
        square = minmax(torch_resize(MAPS[text].astype(np.float32), (512, 512), "bicubic"))
        shrunk = torch.nn.functional.interpolate(
            torch.from_numpy((square > 0.4).astype(np.float32))[None, None], SIZE, mode="bicubic"
        )[0, 0].numpy()
        ious.append(slow_iou(shrunk >= 1, truth))
    assert value("miou_per_image", scores("daam", strict=False)) == pytest.approx(
        np.mean(ious), abs=0.03
    )


def test_daams_mask_of_another_size_is_eroded():
    from diffusers_rdaam.evaluation.protocols.daam import published_mask

    resize = torch.nn.functional.interpolate
    values = torch.from_numpy(MAPS["dog"]).float()[None, None]
    square = (minmax(resize(values, (512, 512), mode="bicubic")) > 0.4).float()
    enlarged = resize(square, (700, 900), mode="bicubic")[0, 0].numpy()
    found = published_mask(MAPS["dog"], (700, 900), 0.4)
    np.testing.assert_array_equal(found, enlarged >= 1.0)
    assert found.sum() < 0.995 * (enlarged >= 0.5).sum()


def test_daam_strict_by_a_slow_loop_and_without_ignored_pixels():
    ignore = box(0, 12, 6, 10)
    row = scores("daam", sample_of(ignore=ignore), threshold=0.4)
    wanted = [
        slow_iou(minmax(MAPS[text]) > 0.4, truth, ~ignore)
        for text, truth in (("dog", DOG), ("cat", CAT))
    ]
    assert [word["iou"] for word in row["words"]] == pytest.approx(wanted)
    assert value("miou", row) == pytest.approx(np.mean(wanted))


def test_a_missing_word_is_left_out_as_published_and_0_in_the_honest_form():
    maps = {"dog": MAPS["dog"]}
    published, strict = (scores("daam", maps=maps, strict=form) for form in (False, True))
    assert len(published["words"]) == 1 and published["missing"] == 1
    assert [word["iou"] for word in strict["words"]][1] == 0.0
    assert value("coverage", published) == value("coverage", strict) == 0.5
    assert value("miou_per_image", strict) < value("miou_per_image", published)


def test_daam_without_labels_takes_the_best_word_and_matches_words_to_classes():
    swapped = {"dog": MAPS["cat"], "cat": MAPS["dog"]}
    row = scores("daam", maps=swapped, threshold=0.5)
    assert value("miou_per_image", row) < 0.2
    assert value("best_iou", row) == value("hungarian", row) > 0.5
    only = scores("daam", labels=("cat",))
    assert [word["text"] for word in only["words"]] == ["cat"]


def test_ovam_accumulates_over_the_images_of_a_class():
    first, second = sample_of(name="one"), sample_of(Target("dog", CAT, "dog"), name="two")
    rows = [scores("ovam", one, strict=False) for one in (first, second)]
    inter = union = 0
    for sample in (first, second):
        values = MAPS["dog"] / MAPS["dog"].max()
        for one in sample.targets:
            if one.class_name == "dog":
                inter += int(((values > 0.4) & one.mask).sum())
                union += int(((values > 0.4) | one.mask).sum())
    cat = slow_iou(MAPS["cat"] / MAPS["cat"].max() > 0.4, CAT)
    assert value("miou", rows) == pytest.approx((inter / union + cat) / 2)


def test_ovam_divides_by_the_maximum_so_that_a_flat_map_is_all_object():
    flat = {"dog": np.full(SIZE, 0.01), "cat": np.full(SIZE, 0.01)}
    assert scores("ovam", maps=flat, strict=False)["words"][0]["iou"] == pytest.approx(DOG.mean())
    assert scores("ovam", maps=flat)["words"][0]["iou"] == 0.0


def test_the_question_of_ovam_is_its_sentence_where_there_is_no_prompt():
    sample = sample_of(Target("dog", DOG, "dog"), prompt=None)
    question = protocol_of("ovam").question(sample, data_of(sample))
    assert question.prompt == "a photograph of a dog"


def test_conceptattention_as_published_by_a_slow_loop():
    sample = sample_of(Target("dog", DOG, "dog"), prompt=None)
    row = scores("conceptattention", sample, strict=False)
    cells = torch_resize(MAPS["dog"], (64, 64), "bilinear", antialias=True)
    mask = cells > cells.mean()
    right = total = 0
    for y in range(224):
        for x in range(224):
            guess = mask[y * 64 // 224, x * 64 // 224]
            truth = DOG[y * 12 // 224, x * 16 // 224]
            right, total = right + (guess == truth), total + 1
    accuracy = right / total
    assert value("acc", row) == pytest.approx(accuracy)
    assert value("acc_over_2_minus_acc", row) == pytest.approx(accuracy / (2 - accuracy))
    assert value("miou", row) <= value("acc_over_2_minus_acc", row)
    assert value("ap_stacked", row) > value("ap", row), "two channels flatter a map"


def test_conceptattention_asks_for_the_word_and_then_its_backgrounds():
    sample = sample_of(Target("dog", DOG, "dog"), prompt=None)
    question = protocol_of("conceptattention").question(sample, data_of(sample))
    assert question.prompt == "a dog, a background, a floor, a tree, a person, a grass, a face"
    tree = sample_of(Target("tree", DOG, "tree"), prompt=None)
    assert "tree" not in protocol_of("conceptattention").question(tree, data_of(tree)).background


def test_resizing_the_label_decides_which_images_have_one_class():
    """A cat of one pixel in 300 columns is lost in 224."""
    wide = np.zeros((12, 300), dtype=bool)
    dog, cat = wide.copy(), wide.copy()
    dog[2:8, 20:200] = True
    lost = next(x for x in range(299, 200, -1) if x not in {i * 300 // 224 for i in range(224)})
    cat[5, lost] = True
    image = Image.new("RGB", (300, 12))
    sample = Sample("one", image, None, (Target("dog", dog, "dog"), Target("cat", cat, "cat")))
    published = protocol_of("conceptattention", strict=False, variant="voc_single")
    strict = protocol_of("conceptattention", variant="voc_single")
    assert not isinstance(published.question(sample, data_of(sample)), Skipped)
    assert strict.question(sample, data_of(sample)) == Skipped(
        "it has 2 classes, and the variant takes one"
    )


def test_voc_by_argmax_against_background_words_and_the_border_as_errors():
    border = box(0, 1, 0, 16)
    sample = sample_of(Target("dog", DOG, "dog"), prompt=None, ignore=border)
    maps = {"dog": MAPS["dog"], "sky": blob(~DOG, 4)}
    row = scores("conceptattention", sample, maps, variant="voc_single")
    linear = [(one - one.min()) / (one - one.min()).sum() for one in (maps["sky"], maps["dog"])]
    guess = linear[1] > linear[0]
    right = int(((guess == DOG) & ~border).sum())
    assert row["pixels"] == [right, int((~border).sum())]
    published = scores("conceptattention", sample, maps, strict=False, variant="voc_single")
    whole = 224 * 224
    assert published["pixels"][1] == whole
    assert published["pixels"][0] <= whole - int(nearest(border, (224, 224)).sum())


def test_the_classes_that_are_there_are_given_only_as_published():
    sample = sample_of(Target("dog", DOG, "dog"), prompt="a dog, a cat, a tree")
    loud = {**MAPS, "tree": MAPS["dog"] * 2}
    for name, options in (("seg4diff", {}), ("conceptattention", {"variant": "voc_multi"})):
        published = scores(name, sample, loud, strict=False, **options)
        strict = scores(name, sample, loud, **options)
        assert value("miou", strict) < value("miou", published), name
    given = scores("seg4diff", sample, loud, oracle=True)
    assert value("miou", given) > value("miou", scores("seg4diff", sample, loud))


def test_seg4diff_as_published_by_a_slow_loop_and_detectron2s_rule():
    row = scores("seg4diff", strict=False)
    names = ("dog", "cat")
    counts = np.zeros((2, 2), dtype=int)
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            truth = 1 if CAT[y, x] else 0 if DOG[y, x] else None
            if truth is not None:
                guess = int(MAPS["cat"][y, x] > MAPS["dog"][y, x])
                counts[guess, truth] += 1
    ious = []
    for number in range(2):
        true = counts[:, number].sum()
        if true:
            ious.append(
                counts[number, number] / (true + counts[number].sum() - counts[number, number])
            )
    assert value("miou", row) == pytest.approx(np.mean(ious))
    assert set(row["counts"]) == set(names)
    question = protocol_of("seg4diff", strict=False).question(sample_of(), data_of(sample_of()))
    assert question.prompt == "dog cat"


def test_seg4diff_strict_has_a_background_and_the_images_own_prompt():
    question = protocol_of("seg4diff").question(sample_of(), data_of(sample_of()))
    assert question.prompt == "a dog and a cat" and len(question.asked) == 3
    row = scores("seg4diff", threshold=0.4)
    highest = max(one.max() for one in MAPS.values())
    right = 0
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            pair = (MAPS["dog"][y, x], MAPS["cat"][y, x])
            guess = 0 if max(pair) <= 0.4 * highest else 1 + int(pair[1] > pair[0])
            right += guess == (2 if CAT[y, x] else 1 if DOG[y, x] else 0)
    assert row["pixels"] == [right, SIZE[0] * SIZE[1]] and "background" in row["counts"]


def test_goca_as_published_by_a_slow_loop_over_its_sweep():
    border = box(0, 2, 0, 16)
    sample = sample_of(ignore=border)
    row = scores("goca", sample, strict=False)
    stack = [minmax(MAPS["dog"]), minmax(MAPS["cat"])]
    best = 0.0
    for level in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        counts = np.zeros((4, 3), dtype=int)  # background, dog, cat, tree
        for y in range(SIZE[0]):
            for x in range(SIZE[1]):
                values = [level, stack[0][y, x], stack[1][y, x], 0.0]
                guess, truth = int(np.argmax(values)), 2 if CAT[y, x] else 1 if DOG[y, x] else 0
                for number in range(4):
                    counts[number] += (
                        guess == truth == number,
                        number in (guess, truth),
                        truth == number,
                    )
        best = max(best, float((counts[:, 0] / (counts[:, 1] + 1e-8)).mean()))
    assert value("best_on_test", row) == pytest.approx(best)
    assert value("miou_all_classes", row) <= value("best_on_test", row)
    assert value("miou", row) > value("miou_all_classes", row), "the tree counts 0 there"


def test_goca_adds_true_classes_to_the_prompt_only_as_published():
    sample = sample_of(prompt="a dog in the rain")
    prompts = [
        protocol_of("goca", strict=form).question(sample, data_of(sample)).prompt
        for form in (False, True)
    ]
    assert prompts == ["a dog in the rain, a cat", "a dog in the rain"]


def test_goca_with_background_words():
    maps = {**MAPS, "wall": blob(~(DOG | CAT), 5)}
    row = scores("goca", maps=maps, backgrounds=("wall",))
    stack = [minmax(maps["wall"]), minmax(MAPS["dog"]), minmax(MAPS["cat"])]
    truth = np.where(CAT, 2, np.where(DOG, 1, 0))
    assert row["pixels"][0] == int((np.argmax(stack, axis=0) == truth).sum())


@pytest.mark.parametrize(
    ("protocol", "name"),
    [("goca", "backgrounds"), ("daam", "labels"), ("conceptattention", "concepts")],
)
def test_options_of_several_words_are_no_text(protocol, name):
    """Letters of a text, or parts of it, would be taken for words."""
    with pytest.raises(InputError, match=f"{name}= is several words; got the text 'wall'"):
        protocol_of(protocol, **{name: "wall"})
    for wrong in (3, ["wall", 3], [" "], {"wall": 1}):
        with pytest.raises(InputError, match=f"{name}= is several words; got"):
            protocol_of(protocol, **{name: wrong})
    assert getattr(protocol_of(protocol, **{name: ["wall"]}), name) == ("wall",)


@pytest.mark.parametrize(
    ("protocol", "options", "text"),
    [
        ("seg4diff", {"oracle": "no"}, "oracle= is True or False; got 'no'"),
        ("deletion", {"insertion": 0}, "insertion= is True or False; got 0"),
        ("pointing", {"tolerance": "far"}, "tolerance= is a number of pixels from 0; got 'far'"),
        ("pointing", {"tolerance": True}, "tolerance= is a number of pixels from 0"),
        ("pointing", {"tolerance": float("nan")}, "tolerance= is a number of pixels from 0"),
    ],
)
def test_options_of_another_type_are_refused(protocol, options, text):
    with pytest.raises(InputError, match=text):
        protocol_of(protocol, **options)


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), torch.tensor(0.5)])
def test_numbers_of_numpy_and_torch_are_settings_that_json_takes(number):
    assert type(protocol_of("daam", threshold=number).threshold) is float
    assert type(protocol_of("pointing", tolerance=number).tolerance) is float
    assert type(protocol_of("deletion", parts=np.int64(4)).parts) is int
    settings = RunSettings(noise=number, draws=np.int64(1), seed=np.int32(3))
    assert json.loads(json.dumps([settings.seed, settings.draws, settings.noise])) == [3, 1, [0.5]]


def test_data_is_a_data_set_and_not_its_path(tmp_path):
    for given in (str(tmp_path), tmp_path, None):
        with pytest.raises(InputError, match=r"data= is a DataSet; got a .*open_dataset\("):
            evaluate(None, given)
        with pytest.raises(InputError, match="data= is a DataSet"):
            tune_threshold(None, given, "daam")


def test_rdaam_as_published_is_the_raw_score_over_the_highest():
    loud = {"a": np.full(SIZE, 0.9), **MAPS}
    row = scores("rdaam", maps=loud, strict=False)
    inside = [loud["dog"][1:7, 2:8].mean(), loud["cat"][6:11, 9:15].mean()]
    assert [word["box_score"] for word in row["words"]] == pytest.approx(
        [one / 0.9 for one in inside]
    )
    strict = scores("rdaam", maps=loud)
    assert value("hit_at_1", strict) == 1.0 and value("rank", strict) == 1.0
    assert value("box_score", strict) < 0.1, "a word that is high everywhere wins by its score"


def test_rdaam_takes_a_word_by_its_parts_as_published_and_by_its_place_in_the_honest_form():
    sample = sample_of(Target("big dog", DOG, "dog", span=(2, 9)), prompt="a big dog")
    maps = {"big": MAPS["cat"], "doghouse": MAPS["dog"]}
    assert scores("rdaam", sample, maps, strict=False)["words"][0]["box_score"] < 1.0
    missing = scores("rdaam", sample, {"a": MAPS["dog"]})
    assert missing["missing"] == 1 and missing["words"][0]["hit_at_1"] == 0.0


def test_box_weights_are_the_shares_of_cells():
    weights = box_weights((1.0, 3.0, 5.0, 6.0), SIZE, (6, 4))
    slow = np.zeros(SIZE)
    slow[3:6, 1:5] = 1.0
    np.testing.assert_allclose(weights, slow.reshape(6, 2, 4, 4).mean(axis=(1, 3)))


def test_pointing_tolerance_border_and_classes_without_a_sample():
    near = np.zeros(SIZE)
    near[0, 3] = 1.0
    maps = {"dog": near, "cat": MAPS["cat"]}
    strict, published = (scores("pointing", maps=maps, strict=form) for form in (True, False))
    assert [word["hit"] for word in strict["words"]] == [0.0, 1.0]
    assert [word["hit"] for word in published["words"]] == [1.0, 1.0]
    assert value("pointing", strict) == 0.5
    assert value("pointing_all_classes", published) == pytest.approx(2 / 3)
    border = scores(
        "pointing", sample_of(ignore=box(0, 1, 0, 16)), {**maps, "dog": near + MAPS["dog"]}
    )
    assert [word["hit"] for word in border["words"]] == [1.0, 1.0]
    assert strict["words"][1]["area"] == pytest.approx(CAT.mean())
    assert strict["words"][1]["inside"] == pytest.approx(MAPS["cat"][CAT].sum() / MAPS["cat"].sum())


class Judged(Answers):
    """A judge to whom a word is as much there as its object's pixels are those of the image."""

    def __init__(self, image):
        super().__init__(MAPS)
        self.image = image

    def losses(self, images, text):
        truth = {"dog": DOG, "cat": CAT}[text]
        return [float((one == self.image).all(axis=-1)[truth].mean()) for one in images]


def test_deletion_by_a_slow_loop_and_its_controls():
    sample = sample_of()
    image = np.asarray(sample.image, dtype=np.float64) / 255.0
    protocol, data = protocol_of("deletion", parts=4), data_of(sample)
    question = protocol.question(sample, data)
    row = protocol.score(question, Judged(image), sample, data)
    order = sorted(range(DOG.size), key=lambda i: -MAPS["dog"].ravel()[i])
    curve = [1.0]
    for part in range(1, 5):
        gone = set(order[: DOG.size * part // 4])
        curve.append(sum(i not in gone for i in np.flatnonzero(DOG)) / DOG.sum())
    assert row["words"][0]["deletion"] == pytest.approx(np.trapezoid(curve) / 4)
    for word in row["words"]:
        assert word["deletion"] < word["deletion_random"] < word["deletion_inverted"]
        assert word["insertion"] > 0.6


def test_deletion_edits_the_highest_pixels_first_and_blurs_in_the_honest_form():
    image = np.random.default_rng(0).random((*SIZE, 3))
    first, second, third = edits(image, np.zeros_like(image), MAPS["dog"], 4)
    changed = (first != image).any(axis=-1)
    assert changed.sum() == DOG.size // 4
    assert MAPS["dog"][changed].min() >= MAPS["dog"][~changed].max()
    assert ((second == image) | (third != image)).all() or (third == image).mean() < 0.3
    soft = blurred(image)
    assert soft.std() < 0.3 * image.std() and soft.mean() == pytest.approx(image.mean(), abs=0.05)
    constant = np.full((*SIZE, 3), 0.25)
    np.testing.assert_allclose(blurred(constant), constant)


def test_deletion_needs_a_model():
    with pytest.raises(InputError, match="maps alone do not answer"):
        scores("deletion")


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("name", [one for one in protocols() if one != "deletion"])
def test_flat_and_zero_maps_empty_masks_and_all_ignored_images(name, strict):
    flat = {"dog": np.full(SIZE, 0.01), "cat": np.zeros(SIZE)}
    sample = sample_of(Target("dog", DOG, "dog"), Target("cat", np.zeros(SIZE, bool), "cat"))
    for maps in (flat, {"dog": np.zeros(SIZE)}, {}):
        row = scores(name, sample, maps, strict=strict)
        for measure in protocol_of(name, strict=strict).reported:
            number = value(measure, row)
            assert np.isnan(number) or 0.0 <= number <= (9.0 if measure == "rank" else 1.0)
    ignored = sample_of(ignore=np.ones(SIZE, bool))
    row = scores(name, ignored, strict=True)
    assert np.isnan(value(protocol_of(name).reported[0], row)) or name == "rdaam"


def test_a_map_with_nan_is_refused_by_name():
    values = MAPS["dog"].copy()
    values[0, 0] = np.nan
    with pytest.raises(InputError, match="with NaN or infinity"):
        Answers({"dog": values})
    with pytest.raises(InputError, match="is \\(height, width\\)"):
        WordMap(np.zeros((2, 3, 4)))


def test_a_sample_without_targets_is_skipped_with_its_reason():
    image = Image.new("RGB", SIZE[::-1])
    sample = Sample("one", image, "a sunset")
    for name in ("daam", "ovam", "conceptattention", "pointing", "deletion", "rdaam"):
        assert isinstance(protocol_of(name).question(sample, data_of(sample)), Skipped)
    assert isinstance(
        protocol_of("seg4diff", strict=False).question(sample, data_of(sample)), Skipped
    )


def test_the_table_names_every_flaw_and_both_forms_have_measures():
    table = protocols()
    assert list(table) == [
        "daam",
        "ovam",
        "conceptattention",
        "seg4diff",
        "goca",
        "rdaam",
        "pointing",
        "deletion",
    ]
    text = repr(table)
    for name, one in table.items():
        assert one.flaws and all(flaw in text for flaw in one.flaws)
        for strict in (True, False):
            assert set(protocol_of(name, strict=strict).reported) <= MEASURES.keys()
    assert "Acc/(2 - Acc)" in text and protocol_of("daam").label == "daam (strict)"


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("dam", {}, "Did you mean 'daam'"),
        ("daam", {"tresh": 1}, "has no argument 'tresh'"),
        ("daam", {"threshold": 1.5}, r"A threshold lies in \[0, 1\)"),
        ("daam", {"threshold": "best"}, "is 'mean' or 'otsu'; got 'best'"),
        ("daam", {"strict": 1}, "strict= is True or False"),
        ("conceptattention", {"variant": "coco"}, "is not a variant"),
        ("pointing", {"tolerance": -1}, "a number of pixels from 0"),
        ("deletion", {"parts": 1}, "a whole number from 2"),
    ],
)
def test_wrong_names_and_options(name, options, text):
    with pytest.raises(InputError, match=text):
        protocol_of(name, **options)


def test_thresholds_by_name():
    mean = scores("daam", threshold="mean")
    otsu = scores("daam", threshold="otsu")
    low = minmax(MAPS["dog"])
    assert mean["words"][0]["iou"] == pytest.approx(slow_iou(low > low.mean(), DOG))
    assert otsu["words"][0]["iou"] > 0.4


def test_words_are_whole_in_a_prompt():
    assert word_in("A photo of a Dining Table, and a cat.", ["table", "dining table"]) == "table"
    assert word_in("a cathedral", ["cat"]) is None
    assert word_in("two dining  tables", ["dining table"]) is None

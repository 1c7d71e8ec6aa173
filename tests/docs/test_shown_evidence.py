"""Numbers on pages are those of the evidence: the stored results of ``benchmarks truth``."""

from __future__ import annotations

import json
import re
from decimal import ROUND_HALF_UP, Decimal

import pytest
from page_blocks import ROOT

from benchmarks.truth.evidence import Evidence, as_markdown, from_json

MODELS = ("stable-diffusion", "flux")
STORED = {
    name: json.loads((ROOT / f"benchmarks/truth/results/{name}.json").read_text())
    for name in MODELS
}
SD, FLUX = (
    {(one.section, one.way, one.what): one for one in from_json(STORED[name])} for name in MODELS
)
Found = dict[tuple[str, str, str], Evidence]
DEFAULT, TUNED, BOX = "IoU, default threshold", "IoU, tuned threshold", "box IoU"
OTHER_STEPS, WORDS, DRAWN = "Other steps and guidance", "Words of regions", "Drawn images"
SIZES = ("tight box", "half box", "double box")
# A line of the page of aggregations is one way here, but for a remark after a comma.
AGGREGATIONS = (
    *("mean", "rms", "auto", "late_half", "information", "daam", "ovam", "expert_layer"),
    *("goca", "hrv", "gramcol"),
)


def page(name: str) -> str:
    """A page's text, in which a line break is a space."""
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


def kinds(found: Found, way: str, what: str, section: str = "Maps") -> str:
    """``".674 / .714 / .586"``: phrases, colours and shapes."""
    values = (found[section, way, f"{kind} {what}"].value for kind in ("phrase", "colour", "shape"))
    return " / ".join(f"{value:.3f}".removeprefix("0") for value in values)


def number(found: Found, section: str, way: str, what: str) -> str:
    """``".879"``."""
    return f"{found[section, way, what].value:.3f}".removeprefix("0")


def share(found: Found, way: str, what: str, section: str = WORDS) -> str:
    """``"99.4 %"``; halves are rounded up, 96.25 to 96.3, as on the pages."""
    percent = Decimal(found[section, way, what].value * 100).quantize(Decimal("1e-6"))
    return f"{percent.quantize(Decimal('0.1'), ROUND_HALF_UP)} %"


def shares(found: Found, way: str, what: str, section: str = WORDS) -> list[str]:
    """Those of tight boxes, of half boxes and of double ones."""
    return [share(found, way, f"{what}, {size}", section) for size in SIZES]


def cell(found: Found, way: str) -> str:
    """IoU of phrases at the chosen threshold, with its interval."""
    one = found["Maps", way, f"phrase {TUNED}"]
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f}) | {one.scenes}"


def _sanity(found: Found) -> list[str]:
    ways = ("the model and the prompt", "random queries and keys", "random text encoder")
    ways = (*ways, "another prompt", "a map without information")
    return [number(found, "Sanity", way, "phrase AP") for way in ways]


def _cells(percents: list[str]) -> str:
    return " / ".join(percents).replace(" %", "%")


def _sentences() -> list[tuple[str, str]]:
    """A page, and what stands on it."""
    peak = "AUC of present over absent by peak"
    nothing = "no word made the region: background"
    object_ = "no word made the region: objects"
    first, both = shares(SD, "lift", "first word"), shares(SD, "lift", "top two")
    ap, no_queries, no_encoder, other, no_map = _sanity(SD)
    score_first, score_both = shares(SD, "score", "first word"), shares(SD, "score", "top two")
    flux_first, flux_both = shares(FLUX, "lift", "first word"), shares(FLUX, "lift", "top two")
    flux_ap, flux_queries, flux_encoder, flux_other, flux_map = _sanity(FLUX)
    raw, refined = (kinds(SD, way, DEFAULT) for way in ("mean", "mean, refined"))
    flux_drawn = shares(FLUX, "lift", "top two", DRAWN)
    drawn = shares(SD, "lift", "top two", DRAWN)
    settings = [
        kinds(SD, f"{way}: mean, refined", DEFAULT, OTHER_STEPS)
        for way in ("7 steps", "no guidance", "guidance 8")
    ]
    flux_settings = [
        kinds(FLUX, f"{way}: mean", DEFAULT, OTHER_STEPS)
        for way in ("7 steps", "no guidance", "guidance 8")
    ]
    flux_first_so, flux_both_so = (
        [
            share(FLUX, f"{way}: lift", f"{what}, {size}", OTHER_STEPS)
            for way in ("7 steps", "no guidance", "guidance 8")
        ]
        for what, size in (("first word", "tight box"), ("top two", "double box"))
    )
    iou = [f"0{kinds(SD, way, DEFAULT).split(' / ')[0]}" for way in ("mean", "mean, refined")]
    evidence, readme = "docs/evidence.md", "README.md"
    return [
        (readme, f"the first word is one of the object's in {first[0]} of the tight boxes"),
        (readme, f"both are in {both[0]}; the mask of a phrase overlaps its object with an IoU of"),
        (readme, f"an IoU of {iou[0]}, refined by self-attention {iou[1]} ("),
        ("docs/attention.md", f"the first word is the object's in {first[0]} of the boxes"),
        ("docs/attention.md", f"falls from {ap} to {no_queries} with random weights for queries"),
        ("docs/attention.md", f"to {no_encoder} with a random text encoder, and to {other} with"),
        ("docs/attention.md", f"a map without information has {no_map}"),
        ("docs/reading.md", f"for {share(SD, 'lift', nothing)} of the background)"),
        ("docs/reading.md", f"for {share(FLUX, 'lift', nothing)} of boxes of background and"),
        ("docs/reading.md", f"and {share(FLUX, 'lift', object_)} of those around an object"),
        ("docs/masks.md", f"raw maps at 0.54 have {kinds(FLUX, 'mean', DEFAULT)}, refined"),
        ("docs/masks.md", f"at 0.40 {kinds(FLUX, 'mean, refined', DEFAULT)}, and"),
        ("docs/masks.md", f"`.box()` {kinds(FLUX, 'mean', BOX)} raw"),
        ("docs/lift.md", f"| **lift** (the default) | {_cells(first)} | {_cells(both)} |"),
        ("docs/lift.md", f"| score | {_cells(score_first)} | {_cells(score_both)} |"),
        ("docs/lift.md", f"self-attention**: `word(w).refined()` | {cell(SD, 'mean, refined')} |"),
        ("docs/lift.md", f"| ours: `word(w)` | {cell(SD, 'mean')} |"),
        ("docs/lift.md", f"| rdaam's: over the maximum | {cell(SD, 'rdaam')} |"),
        ("docs/lift.md", f"| DAAM's: without the middle block | {cell(SD, 'daam')} |"),
        ("docs/lift.md", f"| OVAM's: the phrase alone as the text | {cell(SD, 'ovam')} |"),
        (evidence, f"IoU of {refined} at the default threshold, the map as recorded {raw}; the AP"),
        (evidence, f"goes from {ap} to {number(SD, 'Maps', 'mean, refined', 'phrase AP')}."),
        (evidence, f"together give {kinds(SD, 'mean, refined by all sites', DEFAULT)}."),
        (evidence, f"phrases and shapes: {kinds(SD, 'rms, refined', DEFAULT)}. Raw, it"),
        (evidence, f"({kinds(SD, 'rms', DEFAULT)} at its own default threshold)"),
        (evidence, f"box with an IoU of {kinds(SD, 'mean', BOX)} raw and"),
        (evidence, f"raw and {kinds(SD, 'mean, refined', BOX)} refined."),
        (evidence, f"one of the object's in {', '.join(first)} of the boxes of tight"),
        (evidence, f"both of them in {', '.join(both)}. By the raw score the first word is right"),
        (evidence, f"right in {', '.join(score_first)}, and the first two in"),
        (evidence, f"the first two in {', '.join(score_both)}: function words"),
        (evidence, " and ".join(shares(SD, "lift, refined", "top two")[::2]) + ": for the words"),
        (
            evidence,
            f"is said of {share(SD, 'lift', nothing)} of the boxes of background, and of no",
        ),
        (evidence, f"of phrases, {ap}, falls to {no_queries} with random queries and keys,"),
        (evidence, f"{no_encoder} with a random text encoder and {other} with the names"),
        (evidence, f"a map without information has {no_map}."),
        (evidence, f"at 7 steps, 59 scenes, {flux_settings[0]}; without guidance, 41 scenes,"),
        (evidence, f"{flux_settings[1]}; with guidance 8, all 60, {flux_settings[2]}. By lift"),
        (evidence, "first word is right in {}, {} and {} of the tight".format(*flux_first_so)),
        (evidence, "double box are both right in {}, {} and {}.".format(*flux_both_so)),
        (evidence, f"refined maps at 7 steps {settings[0]}, without guidance {settings[1]}, with"),
        (evidence, f"with guidance 8 {settings[2]}. Without guidance"),
        (evidence, share(SD, "no guidance: lift", "top two, double box", OTHER_STEPS) + ". * **D"),
        (evidence, f": {kinds(SD, 'mean', DEFAULT, DRAWN)} raw, "),
        (evidence, f" raw, {kinds(SD, 'mean, refined', DEFAULT, DRAWN)} refined. The first"),
        (
            evidence,
            f"right in {shares(SD, 'lift', 'first word', DRAWN)[0]} of the tight boxes, the",
        ),
        (evidence, f"the first two in {drawn[0]}; at half and double size"),
        (evidence, f"both right in {drawn[1]} and {drawn[2]} alone"),
        (evidence, f"with an AUC of {number(SD, 'Sanity', 'another prompt', peak)}, and on drawn"),
        (
            "docs/real_images.md",
            f"AUC of {number(SD, DRAWN, 'another object in the caption', peak)} and "
            f"{number(FLUX, DRAWN, 'another object in the caption', peak)} (",
        ),
        (evidence, f"{number(SD, DRAWN, 'another object in the caption', peak)}. These are two"),
        (evidence, f"not shapes ({kinds(SD, 'expert_layer', TUNED)} at chosen thresholds)"),
        (evidence, f"{kinds(FLUX, 'mean', DEFAULT)} at the default threshold, 0.54; at the chosen"),
        (evidence, f"at the chosen ones {kinds(FLUX, 'mean', TUNED)}, the goal"),
        (evidence, f"shapes alone, {kinds(FLUX, 'mean, refined', TUNED)}, and with `rms` most, "),
        (evidence, f"`rms` most, {kinds(FLUX, 'rms, refined', TUNED)}. `auto` has "),
        (evidence, f"`auto` has {kinds(FLUX, 'auto', TUNED)} and the late half"),
        (evidence, f"of the steps {kinds(FLUX, 'late_half', TUNED)} (80 scenes)"),
        (evidence, f"of the object's in {', '.join(flux_first)} of the boxes of tight"),
        (evidence, f"The first two are both right in {', '.join(flux_both)}; by the raw score"),
        (evidence, f"score in {', '.join(shares(FLUX, 'score', 'top two'))}, and by the refined"),
        (evidence, f"score in {', '.join(shares(FLUX, 'score, refined', 'top two'))}. * **No"),
        (evidence, f"{share(FLUX, 'lift', nothing)} of the boxes of background and"),
        (evidence, f"and {share(FLUX, 'lift', object_)} of the tight boxes of objects."),
        (evidence, f"AP of phrases {flux_ap}; random queries and keys {flux_queries}, random text"),
        (evidence, f"encoders {flux_encoder}, another prompt {flux_other}, no information"),
        (evidence, f"no information {flux_map}. The peak"),
        (evidence, f"an AUC of {number(FLUX, 'Sanity', 'another prompt', peak)}. * **Drawn"),
        (evidence, f": {kinds(FLUX, 'mean', DEFAULT, DRAWN)} raw, "),
        (evidence, f" raw, {kinds(FLUX, 'mean, refined', DEFAULT, DRAWN)} refined. The first"),
        (evidence, f"the first two in {flux_drawn[0]}, {flux_drawn[1]} and {flux_drawn[2]}. The"),
        (evidence, f"{number(FLUX, DRAWN, 'another object in the caption', peak)}. * **Other"),
    ]


@pytest.mark.parametrize("model", MODELS)
def test_the_tables_of_the_evidence_are_the_stored_results(model: str) -> None:
    stored, text = STORED[model], (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    begin, end = (f"<!-- truth {model}: {word} -->" for word in ("begin", "end"))
    tables = as_markdown(stored["header"], stored["settings"], from_json(stored))
    assert text.split(begin)[1].split(end)[0].strip() == tables


@pytest.mark.parametrize(("name", "sentence"), _sentences())
def test_a_sentence_has_the_numbers_of_the_evidence(name: str, sentence: str) -> None:
    assert sentence in page(name)


@pytest.mark.parametrize("way", AGGREGATIONS)
def test_the_table_of_aggregations_is_the_evidence(way: str) -> None:
    text = (ROOT / "docs" / "aggregations_measured.md").read_text(encoding="utf-8")
    lines = re.findall(rf"^\| `{way}`[^|]*\|(.*)\|(.*)\|(.*)\|(.*)\|(.*)\|$", text, re.M)
    assert len(lines) == 1
    *cells, scenes = (one.strip() for one in lines[0])
    key = f"phrase {TUNED}"
    wanted, counts = [], []
    for found in (SD, FLUX):
        for name in (way, f"{way}, refined"):
            there = ("Maps", name, key) in found
            wanted.append(kinds(found, name, TUNED) if there else "")
        if ("Maps", way, key) in found:
            counts.append(str(found["Maps", way, key].scenes))
    assert cells == wanted
    assert scenes == ", ".join(counts)

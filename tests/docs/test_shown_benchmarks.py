"""Numbers on pages are what benchmarks printed: the stored outputs of ``benchmarks/results``."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from page_blocks import ROOT

STORED = ROOT / "benchmarks" / "results"
CARD = "diffusers_rdaam/demo/README.md"


def page(name: str) -> str:
    """A page's text, in which a line break is a space."""
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


def measured(name: str) -> dict[str, str]:
    """What a stored output says was measured, by what it was of."""
    text = (STORED / f"{name}.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    found = {
        line[1]: line[2] for line in lines if len(line) > 2 and line[0] not in ("benchmark", "---")
    }
    assert found
    return found


def power(text: str) -> str:
    """``"2.4e-8"`` of ``"2.4e-08"``."""
    return re.sub(r"e-0?(\d)", r"e-\1", text)


def numbers(text: str) -> list[str]:
    """The numbers with an exponent, as pages have them."""
    return [power(one) for one in re.findall(r"\d\.\de-\d+", text)]


def _backends() -> list[str]:
    lines = []
    for what, value in measured("backends").items():
        found = numbers(value)
        if kind := re.search(r"fused output to stock, (\w+)", what):
            ours, other = ", ".join(found[::2]), ", ".join(found[1::2])
            lines.append(f"| {kind[1]} | {ours} | {other} |")
        elif "backend='fused'" in what:
            name = "final latents of a small pipeline, 4 steps, at most"
            lines.append(f"| {name} | {found[0]} | {found[1]} |")
    assert len(lines) == 3
    return lines


def _parity() -> str:
    """The largest difference from each predecessor's own maps."""
    largest: dict[str, float] = {}
    for what, value in measured("parity").items():
        system = re.split("[, ]", what)[0]
        largest[system] = max(largest.get(system, 0.0), float(value.split()[0]))
    order = ("rdaam", "DAAM", "DAAM-I2I", "OVAM")
    return ", ".join(f"{power(f'{largest[one]:.1e}')} ({one})" for one in order)


def _segmentation() -> list[str]:
    """A line for each refinement, and the sentence about Attn2Mask's background."""
    found = measured("segmentation")
    masks = {what.split(";")[0]: value for what, value in found.items() if "refinement " in what}
    names = list(dict.fromkeys(re.findall(r"refinement ([\w+]+)", " ".join(masks))))
    lines = []
    for name in names:
        cells = [value for what, value in masks.items() if f"refinement {name}, " in what]
        assert len(cells) == 3
        lines.append(f"| {' | '.join([name, *cells])} |")
    levels = [
        f"{value.split()[0]} at {what.split(' at ')[1].split(';')[0]}"
        for what, value in found.items()
        if "Attn2Mask" in what
    ]
    return [*lines, f"instead, without refinement: {', '.join(levels)}."]


def _tokens() -> list[str]:
    """A line for each refinement: the word, the phrase, and the token at its best threshold."""
    lines = []
    for what, value in measured("tokens").items():
        name = what.split(",")[1].split()[-1]
        word, phrase, _, token = (
            f"{one.removeprefix('0')} ± {half.removeprefix('0')}"
            for one, half in re.findall(r"(\d\.\d{3})±(\d\.\d{3})", value)
        )
        lines.append(f"| {name} | {word} | {phrase} | {token} |")
    assert len(lines) == 4
    return lines


def _masks() -> Iterator[tuple[str, str]]:
    """Lines of docs/masks.md, and the sentences of it and of docs/reading.md."""
    found = {what.split(";")[0]: value for what, value in measured("masks").items()}
    words = ("phrase", "colour", "shape")
    for kind in ("raw", "refined"):
        masks = [found[f"IoU of {kind} {word} masks"] for word in words]
        boxes = [found[f"IoU of .box() of {kind} {word} maps"] for word in words]
        level = {"raw": "0.60", "refined": "0.48"}[kind]
        cells = [re.findall(r"(?:default|Otsu) ([\d.]+)", one) for one in masks]
        for name, column in ((f"at {level}", 0), ("Otsu", 1)):
            values = " | ".join(one[column] for one in cells)
            yield "docs/masks.md", f"| mask, {kind}, {name} | {values} |"
        values = " | ".join("{} ({})".format(*re.findall(r"\d\.\d+", one)) for one in boxes)
        yield "docs/masks.md", f"| `.box()`, {kind} (around all parts) | {values} |"
    best = {
        kind: re.findall(r"[\d.]+", found[f"IoU of {kind} phrase masks"])[-1]
        for kind in ("raw", "raw, sharpened", "refined", "refined, sharpened")
    }
    gains = "phrases {} to {}, refined {} to {},".format(*best.values())
    yield "docs/masks.md", gains
    shares = found["boxes for which no word is said to have made them"]
    background, _, _, double = re.findall(r"[\d.]+", shares)
    assert "object 0.0%, half 0.0%" in shares
    yield "docs/reading.md", f"for {background} % of boxes that touch no object, for none of those"
    yield "docs/reading.md", f"and for {double} % of those of double the size"


def _refinement() -> Iterator[tuple[str, str]]:
    """Lines of docs/self_attention.md: by method, and of segments."""
    found = {what.split(";")[0]: value for what, value in measured("refinement").items()}
    overlaps = {
        re.findall(r"'(\w+)'", what)[0]: value
        for what, value in found.items()
        if what.startswith("phrase IoU")
    }
    ranked = {
        re.findall(r"'(\w+)'", what)[0]: value.split()[-1]
        for what, value in found.items()
        if what.startswith("box to word")
    }
    assert len(overlaps) == len(ranked) == 5
    for method, value in overlaps.items():
        iou, at_level, *gain = re.findall(r"[+-]?\d\.\d{3}", value)
        gained = " ± ".join(gain)
        iou = f"**{iou}**" if method == "product" else iou
        end = f"| {iou} | {gained} | {at_level} | {ranked[method]} |".replace("|  |", "| |")
        yield "docs/self_attention.md", end
    best = found["IoU of each object with the segment that fits best, no words"].split(",")[0]
    yield "docs/self_attention.md", f"overlaps it with an IoU of {best} "


def _concepts() -> Iterator[tuple[str, str]]:
    """The table of docs/concepts.md."""
    found = {what.split(", threshold")[0]: value for what, value in measured("concepts").items()}
    names = {"double-stream": "double-stream (ConceptAttention's)"}
    for kind in ("softmax", "scores"):
        for blocks in ("all", "double-stream", "single-stream"):
            iou, half, count = re.findall(
                r"[\d.]+", found[f"phrase IoU of {kind}, {blocks} blocks"]
            )
            assert count == "39"
            auc = found[f"present against absent by the peak of {kind}, {blocks} blocks: AUC"]
            name = names.get(blocks, blocks) if kind == "softmax" else blocks
            yield "docs/concepts.md", f"| {kind} | {name} | {iou} ± {half} | {auc} |"
    yield "docs/concepts.md", "FLUX, 39 images of held-out prompts"


def _blocks() -> Iterator[tuple[str, str]]:
    """What ``auto`` and the best single layer of each kind of word have, and the card's table."""
    found = {
        what.split(";")[0].removeprefix("tuned IoU, "): re.findall(r"0(\.\d+)", value)
        for what, value in measured("blocks").items()
        if "held-out" in what
    }
    # Both models have an ``auto``; FLUX's comes last, and is what was found.
    of_unet = (STORED / "blocks.md").read_text(encoding="utf-8").split("| blocks flux |", 1)[0]
    auto = re.findall(r"0(\.\d+)", of_unet.split("tuned IoU, auto;")[1].split("|")[1])
    unet = [value for name, value in found.items() if name.endswith("attn2")]
    flux = [value for name, value in found.items() if name.endswith(".attn")]
    assert len(unet) == 4 and len(flux) == 6
    best = [[max(column) for column in zip(*each, strict=True)] for each in (unet, flux)]
    ours = [" / ".join(one) for one in (auto, found["auto"])]
    alone = [" / ".join(one) for one in best]
    sentence = f"{ours[0]} where they have {alone[0]} (`python -m benchmarks blocks`)."
    yield "docs/aggregations.md", sentence
    sentence = f"On FLUX it has {ours[1]} where the best block of each kind has {alone[1]}."
    yield "docs/aggregations.md", sentence
    for name, value in found.items():
        if name.endswith(".attn"):
            yield CARD, f"| `{name}` | {' | '.join(value)} |"
        elif name.startswith("mean"):
            yield CARD, f"| {name} | {' | '.join(value)} |"
    kinds = "{} for phrases, {} for colours and {} for shapes".format(*best[1])
    yield "docs/aggregations_measured.md", f"best single blocks alone have {kinds}"


RANKINGS = {
    "**lift** (the default)": "lift (the default)",
    "score, share (the same order)": "score (raw)",
    "score × log lift": "score x log lift",
    "mean of the map stretched to 0 to 1": "min-max map",
    "mean of the map over its maximum": "map / maximum",
}
ON_CARDS = {
    "both colours present": "both colours",
    "both objects right": "both objects",
    "no stray colour": "no stray",
    "exactly two blobs": "two blobs",
    "all of it together": "perfect",
}


def _embedded() -> Iterator[tuple[str, str]]:
    """The rankings' table of docs/lift.md, and what the cards of both models say."""
    stored = (STORED / "embedded.md").read_text(encoding="utf-8")
    kinds = ("colour", "shape", "phrase", "any word")
    lift = "box to word by lift (the default)"
    for model, sites in (("stable-diffusion", "sites"), ("flux", "blocks")):
        lines = re.findall(rf"\| embedded {model} \| (.*?) \| (.*?) \| (.*?) \|", stored)
        found = {what.split(";")[0]: value for what, value, _ in lines}
        bars = {what.split(";")[0]: bar.removeprefix("at least ") for what, _, bar in lines}
        shown = {name: label for label, name in ON_CARDS.items()}
        shown |= {f"{lift}: {kind}": f"box to word by lift: {kind}" for kind in kinds}
        for what in found:
            if threshold := re.search(r"all sites, threshold ([\d.]+)(.*)", what):
                chosen = ", chosen on 50 prompts over seen pairs" if threshold[2] else ""
                shown[what] = f"phrase IoU, all {sites}, threshold {threshold[1]}{chosen}"
                bars[what] = f"{float(bars[what]):.2f}"
        assert len(shown) == 11
        for name, label in shown.items():
            yield CARD, f"| {label} | {bars[name]} | {found[name]} |"
        if model == "flux":
            continue
        for label, name in RANKINGS.items():
            cells = [found[f"box to word by {name}: {kind}"] for kind in kinds]
            line = " | ".join(cell.replace(" and ", " / ") for cell in cells)
            yield "docs/lift.md", f"| {label} | {line} |"
        tuned = next(value for what, value in found.items() if what.endswith("on other prompts"))
        yield "docs/lift.md", f"overlap their objects with an IoU of {tuned} at a threshold chosen"


def _levels() -> Iterator[tuple[str, str]]:
    """The table of docs/real_images.md, and its sentences."""
    stored = (STORED / "levels.md").read_text(encoding="utf-8")
    levels = ("0.1", "0.26", "0.37", "0.46", "0.56", "0.7", "0.88", "default")
    lifts = []
    for model, name in (("stable-diffusion", "Stable Diffusion"), ("flux", "FLUX")):
        found = dict(re.findall(rf"\| levels {model} \| (.*?); .*? \| (.*?) \|", stored))
        maps = [found[f"phrase IoU, noise {one}"] for one in levels]
        words = [found[f"words of a tight box by lift, noise {one}"] for one in levels]
        cells = " | ".join(re.findall(r"default threshold 0(\.\d+)", " ".join(maps)))
        yield "docs/real_images.md", f"| {name}, phrase IoU | {cells} |"
        cells = " | ".join(re.findall(r"first two ([\d.]+%)", " ".join(words)))
        yield "docs/real_images.md", f"| {name}, first two words | {cells} |"
        lifts.append(
            found["lift of a phrase that names nothing, on the object without a name"].split()[0]
        )
    sentence = f"a lift of {lifts[0]} (Stable Diffusion) and {lifts[1]} (FLUX) on the object"
    yield "docs/real_images.md", sentence


def _gradients() -> Iterator[tuple[str, str]]:
    """The table of docs/explanations.md, in generations, and what integrated gradients miss."""
    found = {what.split(": ")[-1]: value for what, value in measured("gradients").items()}
    alone = float(found["generation alone"].split()[0])
    for name, label in (
        ("activations computed again, one call", "computed again, one call"),
        ("activations computed again, a call each", "computed again, a call each"),
        ("activations kept, one call", "kept, one call"),
    ):
        time = float(found[name].split()[0]) / alone
        megabytes = int(re.findall(r"([\d,]+) bytes", found[name])[0].replace(",", "")) / 1e6
        yield "docs/explanations.md", f"| {label} | {time:.1f} | {megabytes:.0f} MB |"
    (missed,) = (value for what, value in found.items() if "integrated gradients" in what)
    median, least, _ = re.findall(r"(\d+)%", missed)
    assert int(median) > 100
    yield "docs/explanations.md", f"missed at least {least} % of it for each of five prompts"


def _memory() -> Iterator[tuple[str, str]]:
    """The memory that is kept, of docs/memory_and_speed.md: ours, options, predecessors'."""
    found = {what.split(" (")[0].split("; ")[0]: value for what, value in measured("bench").items()}
    ours = found["tensors kept for one 512x512 image, 77 tokens, all 16 sites"]
    ours = f"{float(ours.split()[0]):.2f} MB"
    yield "docs/memory_and_speed.md", f"| memory kept | {ours} an image after 1, 10 and 50 steps"
    options = [
        int(
            found[f"bytes of one 512x512 image, 50 steps, keep='{one}'"]
            .split(";")[0]
            .replace(",", "")
        )
        for one in ("steps", "layers", "heads")
    ]
    line = "; ".join(f"{one / 1e6:.1f} MB" for one in options)
    yield (
        "docs/memory_and_speed.md",
        f'| `keep="steps"`, 50 steps; `"layers"`; `"heads"` | {line} |',
    )
    stored = (STORED / "cost.md").read_text(encoding="utf-8")
    for name in (
        "ours, portable",
        "DAAM 0.2.0",
        "rdaam 0.1.0",
        "OVAM 0.0.1",
        "attention-map-diffusers 1.0.0, maps of all steps",
    ):
        (row,) = (line for line in stored.splitlines() if line.startswith(f"| {name} |"))
        kept = ", ".join(_kept(cell, ours) for cell in row.split(" | ")[6:9])
        yield "docs/memory_and_speed.md", f" | {kept} | "


def _kept(cell: str, ours: str) -> str:
    """``"66 MB"``, ``"1.3 GB"``; what was not measured to its end grows."""
    if not cell.endswith(" MB"):
        return "grows"
    megabytes = float(cell.removesuffix(" MB").replace(",", ""))
    if f"{megabytes:.2f} MB" == ours:
        return ours
    return f"{megabytes:.0f} MB" if megabytes < 500 else f"{megabytes / 1000:.1f} GB"


LINES = [
    *_memory(),
    *_gradients(),
    *_levels(),
    *_embedded(),
    *_blocks(),
    *_concepts(),
    *_refinement(),
    *_masks(),
    *(("docs/segmentation.md", line) for line in _tokens()),
    *(("docs/segmentation.md", line) for line in _segmentation()),
    *(("docs/kernels.md", line) for line in _backends()),
    ("docs/memory_and_speed.md", f"of the maximum, at most {_parity()}, on the same tiny model"),
]


@pytest.mark.parametrize(("name", "line"), LINES)
def test_a_line_has_the_numbers_that_were_printed(name: str, line: str) -> None:
    assert line in page(name)

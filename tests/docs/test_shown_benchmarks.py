"""Numbers on pages are what benchmarks printed: the stored outputs of ``benchmarks/results``."""

from __future__ import annotations

import re

import pytest
from page_blocks import ROOT

STORED = ROOT / "benchmarks" / "results"


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


LINES = [
    *(("docs/segmentation.md", line) for line in _tokens()),
    *(("docs/segmentation.md", line) for line in _segmentation()),
    *(("docs/kernels.md", line) for line in _backends()),
    ("docs/memory_and_speed.md", f"of the maximum, at most {_parity()}, on the same tiny model"),
]


@pytest.mark.parametrize(("name", "line"), LINES)
def test_a_line_has_the_numbers_that_were_printed(name: str, line: str) -> None:
    assert line in page(name)

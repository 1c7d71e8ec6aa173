"""The page of faithfulness has FLUX's numbers as the stored output of the command has them."""

from __future__ import annotations

import pytest
from page_blocks import ROOT

from benchmarks.faithfulness import REFERENCES, RIGHT

PAGE = (ROOT / "docs" / "faithfulness.md").read_text(encoding="utf-8")
STORED = (ROOT / "benchmarks" / "results" / "faithfulness.md").read_text(encoding="utf-8")
TABLE = [line for line in STORED.splitlines() if line.startswith("| ")]
# By explanation, the cells of its line.
CELLS = {cells[0]: cells[1:] for cells in (line.strip("| ").split(" | ") for line in TABLE[2:])}


def means(explanation: str) -> list[str]:
    """Those of the references, ``"0.52"``."""
    return [cell.split()[0] for cell in CELLS[explanation][: len(REFERENCES)]]


def test_the_stored_output_is_of_the_command_on_the_page() -> None:
    assert TABLE[0] == f"| {' | '.join(['explanation', *REFERENCES, RIGHT])} |"
    scenes = STORED.split("**flux, ")[1].split(" scenes**")[0]
    assert f"FLUX, {scenes} scenes (`--model flux --scenes {scenes}`)" in PAGE


@pytest.mark.parametrize("line", [TABLE[0], *TABLE[2:]])
def test_a_line_is_the_stored_one(line: str) -> None:
    part = PAGE.split("The embedded FLUX, ")[1].split("<!-- faithfulness measured: end -->")[0]
    assert part.count(line) == 1


def test_the_sentence_has_the_means() -> None:
    lift, gradient = means("attention, lift"), means("gradient, grad_x_input")
    pairs = zip(lift, gradient, strict=True)
    words, content, outside = (f"({one} and {other})" for one, other in pairs)
    sentence = (
        "* On FLUX lift agrees better than `grad_x_input` where the rest of the image is "
        f"subtracted {outside}; "
        f"over all words {words} and over content words {content} the intervals overlap."
    )
    assert sentence in " ".join(PAGE.split())

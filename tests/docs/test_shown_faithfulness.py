"""The page of faithfulness has its numbers as the stored output of the command has them."""

from __future__ import annotations

import pytest
from page_blocks import ROOT

from benchmarks.faithfulness import REFERENCES, RIGHT

PAGE = (ROOT / "docs" / "faithfulness.md").read_text(encoding="utf-8")
RESULTS = ROOT / "benchmarks" / "results"
STORED = (RESULTS / "faithfulness.md").read_text(encoding="utf-8")
# By model: how its part of the page begins and ends, and how the sentence says what was given.
PARTS = {
    "stable-diffusion": ("embedded Stable Diffusion, ", "The embedded FLUX, "),
    "flux": ("The embedded FLUX, ", "<!-- faithfulness measured: end -->"),
}


def table(model: str) -> list[str]:
    """The lines of a model's table."""
    part = STORED.split(f"**{model}, ")[1].split("**")[1]
    lines = part.split("processor ")[0].splitlines()
    return [line for line in lines if line.startswith("| ") and "---" not in line]


def means(model: str, explanation: str) -> list[str]:
    """Those of the references, ``"0.52"``."""
    (line,) = (line for line in table(model) if line.startswith(f"| {explanation} |"))
    return [cell.split()[0] for cell in line.split(" | ")[1 : 1 + len(REFERENCES)]]


def scenes(model: str) -> str:
    """Of how many."""
    return STORED.split(f"**{model}, ")[1].split(" scenes**")[0]


@pytest.mark.parametrize("model", PARTS)
def test_the_stored_output_is_of_the_command_on_the_page(model: str) -> None:
    assert table(model)[0] == f"| {' | '.join(['explanation', *REFERENCES, RIGHT])} |"
    given = f" (`--model flux --scenes {scenes(model)}`)" if model == "flux" else ":"
    assert f"{PARTS[model][0]}{scenes(model)} scenes{given}" in " ".join(PAGE.split())


@pytest.mark.parametrize(
    ("model", "line"), [(model, line) for model in PARTS for line in table(model)]
)
def test_a_line_is_the_stored_one(model: str, line: str) -> None:
    begin, end = PARTS[model]
    assert " ".join(PAGE.split()).count(begin) == 1
    part = " ".join(PAGE.split()).split(begin)[1].split(end)[0]
    assert part.count(line) == 1


def test_the_sentences_have_the_means() -> None:
    page = " ".join(PAGE.split())
    words, content, outside = (
        f"({one} and {other})"
        for one, other in zip(
            means("flux", "attention, lift"), means("flux", "gradient, grad_x_input"), strict=True
        )
    )
    assert (
        "* On FLUX lift agrees better than `grad_x_input` where the rest of the image is "
        f"subtracted {outside}; "
        f"over all words {words} and over content words {content} the intervals overlap."
    ) in page
    lift = means("stable-diffusion", "attention, lift")
    gradient = means("stable-diffusion", "gradient, grad_x_input")
    assert f"without each word ({gradient[0]} of `grad_x_input`, {lift[0]} of lift)" in page
    assert f"over the words that name objects ({lift[1]} and {gradient[1]})" in page
    assert f"rest of the image is subtracted ({lift[2]} and {gradient[2]})." in page


def test_the_deletion_table_is_the_stored_one() -> None:
    stored = (RESULTS / "deletion.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in stored.splitlines() if line[:2] == "| "]
    (names, *rows) = (row for row in rows if row[0] != "---")
    assert names[-2:] == [RIGHT, "deletion area"]
    # Refined attention has its rows in the table of the references.
    lines = [f"| {row[0]} | {row[-1]} | {row[-2]} |" for row in rows if "refined" not in row[0]]
    header = "| explanation | deletion area | best word is the object's |\n|---|---|---|\n"
    assert "\n".join([*lines, "\nWhat it says:"]) in PAGE.split(header)[1]
    given = "On 13 scenes of Stable Diffusion (`--model stable-diffusion --scenes 13 --full`)"
    assert given in PAGE and "**stable-diffusion, 13 scenes**" in stored

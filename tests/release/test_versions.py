"""The lowest versions, and the canary's table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomllib

from release.canary import (
    ALL_FAMILIES,
    NOT_COLLECTED,
    TESTS,
    family_of_test,
    moved,
    read_results,
    report,
    versions_text,
)
from release.environments import CONSTRAINTS, ROOT, normalized, pins
from release.lowest import EXTRAS, LOWEST, SUBSET, deviations

FOLDERS = {
    "SanaPipeline": "sana",
    "SanaSprintPipeline": "sana",
    "FluxPipeline": "flux",
    "FluxFillPipeline": "flux",
    "StableDiffusionXLPipeline": "stable_diffusion_xl",
}
FIXTURE = Path(__file__).parent / "data" / "canary.xml"
# Whose lowest version is not run, as constraints-lowest.txt says.
NOT_RUN = {"torch", "triton", "spacy", "zensical", "mkdocstrings-python"}


def declared() -> dict[str, str]:
    """The lowest version of each library that the package or an extra for users declares."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    listed = [
        *project["dependencies"],
        *(one for name in extras if name != "dev" for one in extras[name]),
    ]
    found = {}
    for requirement in listed:
        name, version = re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", requirement).groups()
        found[normalized(name)] = version
    return found


def parts(version: str) -> tuple[int, ...]:
    numbers = [int(one) for one in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def test_the_lowest_versions_are_those_declared():
    lowest = pins(LOWEST)
    wanted = declared()
    assert len(wanted) > 12
    for name in wanted.keys() - NOT_RUN:
        assert parts(lowest[name]) == parts(wanted[name]), name
    # Of these a newer one is run, and the file says so.
    text = LOWEST.read_text("utf-8")
    assert all(name in text.lower() for name in NOT_RUN)


def test_the_set_of_the_tests_is_not_below_the_lowest():
    tested = pins(CONSTRAINTS)
    for name, version in declared().items():
        if name in tested:
            assert parts(tested[name]) >= parts(version), name


def test_the_extras_and_tests_are_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(EXTRAS) == project["optional-dependencies"].keys() - {"dev", "docs", "nlp", "triton"}
    assert [one for one in (*SUBSET, *TESTS) if not (ROOT / one).exists()] == []


def test_another_version_than_the_lowest_is_named():
    wanted = {"torch": "2.13.0", "numpy": "1.26.0", "spacy": "3.8.0"}
    assert deviations(wanted, {"torch": "2.13.0+cpu", "numpy": "1.26.0"}) == []
    assert deviations(wanted, {"torch": "2.13.0+cpu", "numpy": "2.0.0"}) == [
        "numpy is 2.0.0 and not 1.26.0"
    ]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("test_a[SanaPipeline]", "sana"),
        ("test_a[SanaPipeline without guidance]", "sana"),
        ("test_a[5.0-StableDiffusionXL]", "stable_diffusion_xl"),
        ("test_a[FluxFillPipeline-FluxPipeline]", "flux"),
        ("test_a[UnheardOfPipeline]", ALL_FAMILIES),
        ("test_a[2-3]", ALL_FAMILIES),
        ("test_of_FluxPipeline", ALL_FAMILIES),
    ],
)
def test_the_family_of_a_test(name, family):
    assert family_of_test(name, FOLDERS) == family


def test_the_table_of_a_run():
    outcomes = read_results(FIXTURE.read_text("utf-8"), FOLDERS)
    assert len(outcomes) == 8, "a skipped test is not an outcome"
    assert moved(outcomes) == [ALL_FAMILIES, NOT_COLLECTED, "sana"]
    lines = report(outcomes, gone=["OldPipeline"], new=["BrandNewPipeline"]).splitlines()
    assert lines[:7] == [
        "| family | passed | failed | first error |",
        "|---|---:|---:|---|",
        "| (all families) | 1 | 1 | ImportError: cannot import name 'gone' |",
        "| (not collected) | 0 | 1 | tests.transformers.test_concepts: ImportError: cannot import "
        "name 'Krea2Pipeline' from 'diffusers' |",
        "| flux | 1 | 0 |  |",
        "| sana | 1 | 2 | AssertionError: maps differ by 0.1 \\| 0.2 |",
        "| stable_diffusion_xl | 1 | 0 |  |",
    ]
    assert lines[8:] == [
        "Moved: (all families), (not collected), sana.",
        "Recorded classes that are gone: OldPipeline.",
        "New classes with a prompt, neither recorded nor refused: BrandNewPipeline.",
    ]


def test_a_run_without_a_failure_and_one_without_a_test():
    outcomes = [one for one in read_results(FIXTURE.read_text("utf-8"), FOLDERS) if not one.error]
    assert report(outcomes).endswith("\n\nNo family moved.")
    assert "No test ran." in report([])


def test_a_long_error_is_cut():
    xml = f'<s><testcase name="t[SanaPipeline]"><error message="{"x" * 500}"/></testcase></s>'
    (outcome,) = read_results(xml, FOLDERS)
    assert len(outcome.error) == 160 and outcome.error.endswith("…")


def test_whether_anything_is_newer():
    tested = {"diffusers": "0.42.1", "transformers": "5.23.0", "tokenizers": "0.23.3"}
    assert "There is nothing newer" in versions_text(tested, tested)
    text = versions_text(tested, tested | {"transformers": "5.24.0"})
    assert "There is nothing newer" not in text
    assert "transformers     5.24.0 (constraints.txt has 5.23.0)" in text
    assert "diffusers        0.42.1 (as in constraints.txt)" in text

"""``make canary``: the families' tests on the newest diffusers, and which families moved."""

from __future__ import annotations

import argparse
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from release.environments import CONSTRAINTS, ROOT, Environment, pinned, pins
from release.lowest import run_tests
from release.steps import CommandError, command

FOLDER = ROOT / "out" / "canary"
# The libraries whose newest version is asked for, and what moves with them.
NEWEST = ("diffusers", "transformers")
FOLLOWING = ("tokenizers", "huggingface-hub", "hf-xet", "safetensors")
TOOLS = ("pytest", "pytest-xdist", "hypothesis", "beartype", "psutil", "accelerate")
# Every recorded class against dense float64 attention, and the tables against the classes.
TESTS = (
    "tests/families",
    "tests/pipelines/test_unet_pipelines.py",
    "tests/pipelines/test_more_pipelines.py",
    "tests/pipelines/test_refused.py",
    "tests/transformers/test_dense_oracle_joint.py",
    "tests/transformers/test_dense_oracle_single.py",
)
# Tests of no single family, and modules that could not be imported.
ALL_FAMILIES, NOT_COLLECTED = "(all families)", "(not collected)"
_LONGEST_LINE = 160
# Asked of the environment: the folders of diffusers by class, and how its classes differ from the
# package's tables.
_CLASSES = """
import inspect, json, warnings
warnings.simplefilter("ignore")
import diffusers, diffusers.pipelines
from diffusers_rdaam.families.refused import REFUSED
from diffusers_rdaam.families.registry import RECORDED

structure = diffusers.pipelines._import_structure
folders = {name: folder for folder, names in structure.items() for name in names}

def has_prompt(name):
    try:
        return "prompt" in inspect.signature(getattr(diffusers, name).__call__).parameters
    except Exception:
        return False

there = [name for name in dir(diffusers) if name.endswith("Pipeline")]
unknown = [name for name in there if name not in RECORDED and name not in REFUSED]
print(json.dumps({
    "folders": folders,
    "gone": [name for name in RECORDED if not hasattr(diffusers, name)],
    "new": [name for name in unknown if has_prompt(name)],
}))
"""


@dataclass(frozen=True)
class Outcome:
    """One test that ran.

    Args:
        family: the folder of diffusers that its pipeline class is in.
        error: the first line of what failed; empty where it passed.
    """

    family: str
    error: str = ""


def main(arguments: list[str]) -> int:
    """Exit status: 1 where a family moved, no test ran, or the environment could not be made."""
    parser = argparse.ArgumentParser(prog="python -m release canary", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the environment")
    parser.add_argument("--python", default=sys.executable, help="its interpreter (this one)")
    parser.add_argument("--reuse", action="store_true", help="keep an environment that is there")
    parser.add_argument("--processes", default="auto", help="that run tests (one a core)")
    parser.add_argument("tests", nargs="*", help="which (those of the families)")
    given = parser.parse_args(arguments)
    folder = given.folder.resolve()
    environment = Environment(folder / "venv", given.python)
    try:
        if not (given.reuse and environment.python.exists()):
            _install(environment, folder)
        versions = environment.versions()
        printed = command(environment.python, "-c", _CLASSES, folder=ROOT)
    except CommandError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    classes = json.loads(printed.splitlines()[-1])
    print(versions_text(pins(CONSTRAINTS), versions), flush=True)
    results = folder / "tests.xml"
    results.unlink(missing_ok=True)
    parallel = () if given.processes == "1" else ("--numprocesses", given.processes)
    shown = ("--tb=line", "-q", f"--junitxml={results}")
    run_tests(environment, given.tests or list(TESTS), *shown, *parallel)
    if not results.is_file():
        print("Error: the tests did not begin; see above.", file=sys.stderr)
        return 1
    outcomes = read_results(results.read_text("utf-8"), classes["folders"])
    print(f"\n{report(outcomes, gone=classes['gone'], new=classes['new'])}")
    return 1 if moved(outcomes) or classes["gone"] or not outcomes else 0


def _install(environment: Environment, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    others = folder / "constraints.txt"
    free = {*NEWEST, *FOLLOWING}
    kept = {name: version for name, version in pins(CONSTRAINTS).items() if name not in free}
    others.write_text("".join(f"{name}=={version}\n" for name, version in kept.items()), "utf-8")
    environment.make()
    environment.install(*pinned(["torch"]))
    tools = pinned(TOOLS)
    environment.install(
        "--upgrade", "--constraint", others, *NEWEST, *tools, "--editable", str(ROOT)
    )


def versions_text(tested: Mapping[str, str], installed: Mapping[str, str]) -> str:
    """Which versions are newer than those that the tests run with."""
    lines = []
    for name in (*NEWEST, *FOLLOWING):
        now, before = installed.get(name, "not installed"), tested.get(name, "any")
        note = "as in constraints.txt" if now == before else f"constraints.txt has {before}"
        lines.append(f"{name:<16} {now} ({note})")
    if all(installed.get(name) == tested.get(name) for name in NEWEST):
        lines.append("There is nothing newer; the tests run all the same.")
    return "\n".join(lines)


def read_results(xml: str, folders: Mapping[str, str]) -> list[Outcome]:
    """The outcomes in pytest's report; tests that were skipped are left out.

    Args:
        xml: the text that ``--junitxml`` wrote.
        folders: of diffusers, by pipeline class.
    """
    outcomes = []
    for case in ElementTree.fromstring(xml).iter("testcase"):
        if case.find("skipped") is not None:
            continue
        bad = [one for one in case if one.tag in ("failure", "error")]
        error = _first_line(bad[0]) if bad else ""
        if bad and "collection failure" in (bad[0].get("message") or ""):
            outcomes.append(Outcome(NOT_COLLECTED, f"{case.get('name')}: {error}"))
        else:
            outcomes.append(Outcome(family_of_test(case.get("name") or "", folders), error))
    return outcomes


def family_of_test(name: str, folders: Mapping[str, str]) -> str:
    """The folder of the pipeline class that a test's parameters name."""
    _, _, parameters = name.partition("[")
    for word in re.findall(r"\w+", parameters):
        for candidate in (word, f"{word}Pipeline"):
            if candidate in folders:
                return folders[candidate]
    return ALL_FAMILIES


def _first_line(element: ElementTree.Element) -> str:
    """The message's first line, or for a collection the last one of the traceback."""
    message = element.get("message") or ""
    text = element.text or ""
    if not message.strip() or "collection failure" in message:
        raised = [line[1:].strip() for line in text.splitlines() if line.startswith("E ")]
        lines = text.strip().splitlines()
        message = raised[-1] if raised else lines[-1] if lines else message
    line = next((one.strip() for one in message.splitlines() if one.strip()), "no message")
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 1]}…"


def moved(outcomes: Sequence[Outcome]) -> list[str]:
    """The families of which a test failed."""
    return sorted({one.family for one in outcomes if one.error})


def report(
    outcomes: Sequence[Outcome], *, gone: Sequence[str] = (), new: Sequence[str] = ()
) -> str:
    """The table of families, as Markdown, and the verdict.

    Args:
        outcomes: of the tests.
        gone: recorded classes that diffusers no longer has.
        new: classes with a prompt that the package neither records nor refuses.
    """
    lines = ["| family | passed | failed | first error |", "|---|---:|---:|---|"]
    for family in sorted({one.family for one in outcomes}):
        errors = [one.error for one in outcomes if one.family == family]
        failed = [error for error in errors if error]
        first = failed[0].replace("|", "\\|") if failed else ""
        lines.append(f"| {family} | {len(errors) - len(failed)} | {len(failed)} | {first} |")
    lines.append("")
    if not outcomes:
        lines.append("No test ran.")
    names = moved(outcomes)
    lines.append(f"Moved: {', '.join(names)}." if names else "No family moved.")
    if gone:
        lines.append(f"Recorded classes that are gone: {', '.join(gone)}.")
    if new:
        lines.append(f"New classes with a prompt, neither recorded nor refused: {', '.join(new)}.")
    return "\n".join(lines)

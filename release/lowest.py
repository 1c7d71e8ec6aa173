"""``make test-lowest``: the tests of the lowest versions that pyproject.toml declares."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from release.environments import CONSTRAINTS, ROOT, Environment, pinned, pins
from release.steps import CommandError

LOWEST = ROOT / "constraints-lowest.txt"
FOLDER = ROOT / "out" / "lowest"
EXTRAS = ("app", "batch", "crf", "datasets", "notebook", "pandas", "plot")
# What runs the tests has the version that it has elsewhere.
TOOLS = ("pytest", "hypothesis", "beartype", "psutil", "accelerate", "pycocotools")
# The quick tests of what uses each library.
SUBSET = (
    "tests/test_package.py",
    "tests/families",
    "tests/geometry",
    "tests/notebook",
    "tests/tokens/test_alignment.py",
    "tests/attribution/test_files.py",
    "tests/attribution/test_heat_map.py",
    "tests/drawing/test_figure.py",
    "tests/evaluation/test_datasets.py",
    "tests/batch/test_prompt_row.py",
    "tests/batch/test_batch.py",
    "tests/app/test_events.py",
    "tests/segmentation/test_data_sets.py",
    "tests/pipelines/test_oracle.py",
    "tests/cli/test_doctor.py",
)


def main(arguments: list[str]) -> int:
    """Exit status of the tests; 1 where the versions are not those that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m release lowest", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the environment")
    parser.add_argument("--python", default=sys.executable, help="its interpreter (this one)")
    parser.add_argument("--reuse", action="store_true", help="keep an environment that is there")
    parser.add_argument("tests", nargs="*", help="which (a quick part of every library's tests)")
    given = parser.parse_args(arguments)
    environment = Environment(given.folder.resolve() / "venv", given.python)
    try:
        if not (given.reuse and environment.python.exists()):
            _install(environment)
        installed = environment.versions()
    except CommandError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(table(pins(LOWEST), installed), flush=True)
    wrong = deviations(pins(LOWEST), installed)
    if wrong:
        print(f"Not the lowest: {', '.join(wrong)}.", file=sys.stderr)
        return 1
    # Libraries of different ages warn each other of what will go; here that is no fault.
    return run_tests(environment, given.tests or list(SUBSET), "-W", "default::DeprecationWarning")


def _install(environment: Environment) -> None:
    environment.make()
    environment.install(*pinned(["torch"], LOWEST))
    extras = f"{ROOT}[{','.join(EXTRAS)}]"
    tools = pinned(TOOLS, CONSTRAINTS)
    environment.install("--constraint", LOWEST, *tools, "--editable", extras)


def table(wanted: dict[str, str], installed: dict[str, str]) -> str:
    """Which version of each library is there, a line each."""
    lines = [f"{name:<20} {installed.get(name, 'not installed')}" for name in sorted(wanted)]
    return "\n".join(lines)


def deviations(wanted: dict[str, str], installed: dict[str, str]) -> list[str]:
    """Libraries that have another version than was asked for, local labels aside."""
    return [
        f"{name} is {installed[name]} and not {version}"
        for name, version in sorted(wanted.items())
        if name in installed and installed[name].partition("+")[0] != version
    ]


def run_tests(environment: Environment, tests: list[str], *options: str) -> int:
    """Run tests of this repository in an environment and return their exit status.

    Args:
        environment: with the package and what runs the tests.
        tests: paths below the repository.
        options: of pytest.
    """
    words = ["-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow and not browser", *options]
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    # The repository itself holds modules that tests import, such as the benchmarks.
    surroundings = os.environ | threads | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([str(environment.python), *words, *tests], cwd=ROOT, env=surroundings)
    return done.returncode

"""A type checker and an editor see the public names, and what calls give back."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="mypy is not installed")

SCRIPT = Path(__file__).with_name("user_script.py")
ROOT = Path(__file__).parents[2]
SHOWN = [
    "diffusers_rdaam.attribution.attribution.Attribution",
    "diffusers_rdaam.attribution.region_words.RegionWords",
    "diffusers_rdaam.attribution.attribution.Attribution",
]


def check(script: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(folder), str(script)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_mypy_finds_no_error_and_no_any(tmp_path: Path) -> None:
    done = check(SCRIPT, tmp_path / "cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r'Revealed type is "(.*)"', done.stdout) == SHOWN
    # The same check sees a name that is not there.
    wrong = tmp_path / "wrong.py"
    wrong.write_text(SCRIPT.read_text() + "output.attribution.regoin((0, 0, 1, 1))\n")
    done = check(wrong, tmp_path / "cache")
    assert '"Attribution" has no attribute "regoin"' in done.stdout

"""A type checker and an editor see the public names, and what calls give back."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("user_script.py")
ROOT = Path(__file__).parents[2]
WRONG = "output.attribution.regoin((0, 0, 1, 1))\n"


def mypy(script: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--cache-dir",
        str(folder.parent / "cache"),
        str(script),
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def pyright(script: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run pyright as editors do, with the node of its wheel and without looking for updates."""
    folder.mkdir(exist_ok=True)
    (folder / script.name).write_text(script.read_text(encoding="utf-8"), encoding="utf-8")
    config = {"typeCheckingMode": "basic", "extraPaths": [str(ROOT)], "include": [script.name]}
    (folder / "pyrightconfig.json").write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "--project", str(folder)]
    command += ["--pythonpath", sys.executable]
    settings = {"PYRIGHT_PYTHON_GLOBAL_NODE": "0", "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    environment = os.environ | settings
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


CHECKERS = {
    "mypy": (mypy, r'Revealed type is "(.*)"'),
    "pyright": (pyright, r'Type of "\w+" is "(.*)"'),
}


def variables() -> list[str]:
    """The names that the script assigns, but for constants and the stock pipeline's."""
    found: list[str] = []
    for node in ast.parse(SCRIPT.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            found += [target.id for target in node.targets if isinstance(target, ast.Name)]
        if isinstance(node, ast.With):
            found += [ast.unparse(item.optional_vars) for item in node.items if item.optional_vars]
    return [name for name in found if name not in ("BOX", "stock")]


def test_the_script_reveals_every_variable() -> None:
    shown = re.findall(r"^reveal_type\((\w+)\)$", SCRIPT.read_text(encoding="utf-8"), re.M)
    assert sorted(shown) == sorted(variables())


# mypy reads torch and diffusers anew.
@pytest.mark.parametrize("checker", [pytest.param("mypy", marks=pytest.mark.slow), "pyright"])
def test_no_error_and_no_any(checker: str, tmp_path: Path) -> None:
    pytest.importorskip(checker, reason=f"{checker} is not installed")
    check, pattern = CHECKERS[checker]
    done = check(SCRIPT, tmp_path / "right")
    assert done.returncode == 0, done.stdout + done.stderr
    types = re.findall(pattern, done.stdout)
    assert len(types) == len(variables())
    assert not [shown for shown in types if re.search(r"\bAny\b|Unknown", shown)], types
    # The same check sees a name that is not there.
    wrong = tmp_path / "wrong.py"
    wrong.write_text(SCRIPT.read_text(encoding="utf-8") + WRONG, encoding="utf-8")
    done = check(wrong, tmp_path / "wrong")
    assert done.returncode != 0
    assert re.search(r'attribute "regoin"|"regoin" for class', done.stdout), done.stdout

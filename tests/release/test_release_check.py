"""The steps of a check, what a clean environment may import, and the commands themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import release.check as release_check
from release.__main__ import COMMANDS, main
from release.check import machine_paths, tracked_files
from release.environments import CONSTRAINTS, ROOT, Environment, pinned, pins
from release.installed import OPTIONAL, import_faults, missing
from release.resolution import lowest_python, resolution_faults
from release.steps import CommandError, Steps, command

RIGHT = {"first": [], "loaded": [], "installed": [], "place": "/venv/lib/p/__init__.py"}


def test_steps_go_on_and_are_counted(capsys):
    steps = Steps()
    assert steps.run("one", lambda: []) and not steps.run("two", lambda: ["a fault", "another"])
    assert not steps.run("three", lambda: command(sys.executable, "-c", "raise SystemExit(3)"))
    assert not steps.passed and [bool(one.faults) for one in steps.done] == [False, True, True]
    printed = capsys.readouterr().out
    assert "ok    one (0.0 s)" in printed and "FAIL  two" in printed and "      another" in printed
    assert "ended with 3" in printed
    assert "2 of 3 steps failed, in " in steps.summary()


def test_steps_that_are_right():
    steps = Steps()
    steps.run("one", lambda: ())
    assert steps.passed and "All is right, in 0 s." in steps.summary()


def test_a_command_has_its_last_lines_in_the_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    code = "import os; print(os.getcwd(), os.environ.get('PYTHONPATH'))"
    assert command(sys.executable, "-c", code, folder=tmp_path).split() == [str(tmp_path), "None"]
    with pytest.raises(CommandError, match=r"(?s)ended with 1:.*ZeroDivisionError"):
        command(sys.executable, "-c", "1 / 0")
    with pytest.raises(CommandError, match="nowhere cannot be run"):
        command(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"first": ["torch"]}, "import diffusers_rdaam loads torch"),
        ({"loaded": ["pandas", "ray"]}, "the public names load pandas, ray"),
        ({"installed": ["scipy"]}, "scipy: installed without an extra"),
        ({"place": "/home/me/p/__init__.py"}, "was imported, which is not the installed package"),
    ],
)
def test_imports_of_a_clean_environment(change, message):
    faults = import_faults(RIGHT | change, Path("/venv"))
    assert faults == [] if message is None else [message in one for one in faults] == [True]


def test_every_extra_for_users_is_among_the_optional_libraries():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    # Installed under another name, by torch itself, or by those who work on the package.
    named = {"pydensecrf2": "pydensecrf", "triton": None}
    of_developers = ("dev", "docs")
    for extra, requirements in project["optional-dependencies"].items():
        for requirement in requirements if extra not in of_developers else ():
            name = requirement.partition(">")[0].partition("[")[0]
            assert named.get(name, name) in (*OPTIONAL, None), f"{name} of the extra {extra}"


def test_files_that_were_not_written(tmp_path):
    (tmp_path / "a.png").touch()
    assert missing(tmp_path, ["a.png", "b/c.png"]) == ["b/c.png was not written"]


def test_files_that_git_knows(tmp_path):
    assert tracked_files(tmp_path) is None
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "a ä.txt").touch()
    (tmp_path / "b.txt").touch()
    subprocess.run(["git", "-C", str(tmp_path), "add", "a ä.txt"], check=True)
    assert tracked_files(tmp_path) == {"a ä.txt"}


def test_paths_of_this_machine():
    paths = machine_paths()
    assert f"{ROOT}/" in paths and all(one.endswith("/") and len(one) > 5 for one in paths)


def test_an_earlier_step_that_fails_ends_the_check(tmp_path, monkeypatch, capsys):
    def fail(*arguments: object, **more: object) -> str:
        raise CommandError("no network")

    monkeypatch.setattr("release.environments.command", fail)
    assert release_check.main(["--folder", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "FAIL  install build, twine and uv" in printed and "no network" in printed
    assert "1 of 1 steps failed" in printed


def test_versions_come_from_the_constraints():
    torch = pins(CONSTRAINTS)["torch"]
    assert pinned(["torch", "huggingface_hub"])[0] == f"torch=={torch}"
    assert all(one in pins(CONSTRAINTS) for one in ("build", "twine", "uv", "hatchling"))


class _PipAlone(Environment):
    """The environment of the tests, which has pip and no uv."""

    python = Path(sys.executable)


def test_a_conflict_of_versions_is_a_fault_of_the_check(tmp_path):
    (fault,) = resolution_faults(_PipAlone(tmp_path))
    assert "--universal --python-version 3.11" in fault and "ended with 1" in fault
    assert str(CONSTRAINTS) in fault and lowest_python() == "3.11"


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, {}),
        (
            {"PIP_INDEX_URL": "http://localhost:9/pip"},
            {"UV_DEFAULT_INDEX": "http://localhost:9/pip"},
        ),
        (
            {
                "PIP_INDEX_URL": "http://localhost:9/pip",
                "UV_DEFAULT_INDEX": "http://localhost:9/uv",
            },
            {},
        ),
    ],
)
def test_the_versions_are_looked_up_where_pip_installs_from(
    settings, wanted, tmp_path, monkeypatch
):
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    seen: list[dict[str, str]] = []

    def run(*words: object, extra: dict[str, str] | None = None) -> str:
        if "uv" in words:
            seen.append(dict(extra or {}))
            return ""
        return command(*words, extra=extra)

    monkeypatch.setattr("release.resolution.command", run)
    assert resolution_faults(_PipAlone(tmp_path)) == [] and seen == [wanted]


def test_commands_are_listed(capsys):
    assert main([]) == main(["publish"]) == 2
    printed = capsys.readouterr().err
    assert all(name in printed for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"python -m release {name}" in capsys.readouterr().out

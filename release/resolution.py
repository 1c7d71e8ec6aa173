"""Whether the versions of the tests go together, everywhere that the package can be installed."""

from __future__ import annotations

import os

import tomllib

from release.environments import CONSTRAINTS, ROOT, Environment
from release.steps import CommandError, command


def resolution_faults(tools: Environment) -> list[str]:
    """Why the versions of ``constraints.txt`` conflict, with all extras; nothing where they do not.

    One resolution for every system and every Python from the lowest declared one on, against the
    index alone: a build of torch that lies on this machine may require less than the index's.

    Args:
        tools: an environment with uv.
    """
    lowest = ("--universal", "--python-version", lowest_python())
    wanted = (ROOT / "pyproject.toml", "--all-extras", "--constraint", CONSTRAINTS)
    words = ("-m", "uv", "pip", "compile", "--quiet", *lowest, *wanted)
    try:
        command(tools.python, *words, extra=_index_of_pip(tools))
    except CommandError as error:
        return [str(error)]
    return []


def lowest_python() -> str:
    """The lowest Python that ``pyproject.toml`` declares, such as "3.11"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return str(project["requires-python"]).removeprefix(">=")


def _index_of_pip(tools: Environment) -> dict[str, str]:
    """The index that pip was set to, as uv wants it: uv does not read pip's settings."""
    if "UV_DEFAULT_INDEX" in os.environ:
        return {}
    lines = command(tools.python, "-m", "pip", "config", "list").splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line)
    for key in (":env:.index-url", "install.index-url", "global.index-url"):
        if key in settings:
            return {"UV_DEFAULT_INDEX": settings[key].strip("'\"")}
    return {}

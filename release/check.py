"""``make release-check``: build, look into the archives, install without extras, and use it."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from release.archives import PACKAGE, contents, difference, sdist_faults, wheel_faults
from release.environments import CONSTRAINTS, ROOT, Environment, pinned
from release.installed import use
from release.resolution import resolution_faults
from release.steps import CommandError, Steps, command

FOLDER = ROOT / "out" / "release"
# Shorter paths than this would be found by chance.
_SHORTEST_TRACE = 5


def main(arguments: list[str]) -> int:
    """Exit status: 1 where a step found a fault."""
    parser = argparse.ArgumentParser(prog="python -m release check", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="of archives and environments (out/release)"
    )
    parser.add_argument(
        "--python", default=sys.executable, help="the interpreter to install for (this one)"
    )
    parser.add_argument(
        "--reuse",
        action="store_true",
        help="keep the libraries of an earlier check's environments, and replace the package only",
    )
    given = parser.parse_args(arguments)
    steps = Steps()
    _check(steps, given.folder.resolve(), given.python, given.reuse)
    print(f"\n{steps.summary()}")
    return 0 if steps.passed else 1


def _check(steps: Steps, folder: Path, python: str, reuse: bool) -> None:
    tools = Environment(folder / "tools")
    if not steps.run("install build, twine and uv", lambda: _install_tools(tools, reuse)):
        return
    name = "the versions of constraints.txt go together, on every system"
    steps.run(name, lambda: resolution_faults(tools))
    dist = folder / "dist"
    if not steps.run("build the sdist, and the wheel of it", lambda: _build(tools, dist)):
        return
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    steps.run("the working tree builds the same wheel", lambda: _same(tools, folder, wheel))
    steps.run("twine check --strict", lambda: _twine(tools, [wheel, sdist]))
    tracked, traces = tracked_files(ROOT), machine_paths()
    inside = None if tracked is None else {one for one in tracked if one.startswith(f"{PACKAGE}/")}
    size = f"{wheel.stat().st_size / 1e6:.2f} MB, {len(contents(wheel))} files"
    steps.run(
        f"what is in the wheel ({size})",
        lambda: wheel_faults(wheel, tracked=inside, traces=traces),
    )
    steps.run("what is in the sdist", lambda: sdist_faults(sdist, tracked=tracked, traces=traces))
    clean = Environment(folder / "venv", python)
    name = "install the wheel into a clean environment, without extras"
    if not steps.run(name, lambda: _install(clean, wheel, reuse)):
        return
    with tempfile.TemporaryDirectory(prefix="rdaam-release-") as elsewhere:
        use(steps, clean, Path(elsewhere).resolve())


def _install_tools(tools: Environment, reuse: bool) -> list[str]:
    if not (reuse and tools.python.exists()):
        tools.make()
    tools.install("--constraint", CONSTRAINTS, "build", "twine", "uv")
    return []


def _build(tools: Environment, dist: Path) -> list[str]:
    shutil.rmtree(dist, ignore_errors=True)
    command(tools.python, "-m", "build", "--outdir", dist, ROOT)
    return []


def _same(tools: Environment, folder: Path, wheel: Path) -> list[str]:
    other = folder / "wheel-of-the-tree"
    shutil.rmtree(other, ignore_errors=True)
    command(tools.python, "-m", "build", "--wheel", "--outdir", other, ROOT)
    return difference(contents(other / wheel.name), contents(wheel))


def _twine(tools: Environment, archives: list[Path]) -> list[str]:
    command(tools.python, "-m", "twine", "check", "--strict", *archives)
    return []


def _install(clean: Environment, wheel: Path, reuse: bool) -> list[str]:
    if not (reuse and clean.python.exists()):
        clean.make()
        # First and pinned, as the Makefile does: a range may bring gigabytes of GPU libraries.
        clean.install(*pinned(["torch"]))
    clean.install("--constraint", CONSTRAINTS, "--force-reinstall", "--no-deps", wheel)
    clean.install("--constraint", CONSTRAINTS, wheel)
    command(clean.python, "-m", "pip", "check")
    return []


def tracked_files(root: Path) -> set[str] | None:
    """The files of a repository that git knows; None where it is not one."""
    try:
        listed = command("git", "-C", root, "ls-files", "-z")
    except CommandError:
        return None
    return set(filter(None, listed.split("\0")))


def machine_paths() -> list[str]:
    """Paths of this machine that no archive may name: of the tree, the user and the interpreter."""
    places = {ROOT, Path.home(), Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    return sorted(f"{one}/" for one in places if len(str(one)) >= _SHORTEST_TRACE)

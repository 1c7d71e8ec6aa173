"""A wheel in a clean environment without extras, used as a stranger would, from another folder."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from release.archives import PACKAGE
from release.environments import Environment
from release.steps import CommandError, Steps, command

# Modules of the extras that nothing else brings; CUDA builds of torch bring Triton.
OPTIONAL = (
    *("matplotlib", "pandas", "anywidget", "gradio", "h5py", "scipy", "pyarrow", "ray"),
    *("pydensecrf", "spacy"),
)
# What an import of the package may not load, so that it takes milliseconds.
HEAVY = ("torch", "diffusers", "transformers", "numpy")
# A verb that needs an extra, with arguments that are right, and what its error has to name.
NEED_AN_EXTRA = {"app": ("app",), "batch": ("batch", "prompts.jsonl", "--out", "rows")}
# Of the viewer's page: with its script and one attribution it is far larger.
_SMALLEST_PAGE = 100_000
_IMPORTS = f"""
import importlib.util, json, sys
import {PACKAGE}
first = [name for name in {HEAVY!r} if name in sys.modules]
exec("from {PACKAGE} import *")
print(json.dumps({{
    "first": first,
    "loaded": [name for name in {OPTIONAL!r} if name in sys.modules],
    "installed": [name for name in {OPTIONAL!r} if importlib.util.find_spec(name)],
    "place": {PACKAGE}.__file__,
}}))
"""


def use(steps: Steps, environment: Environment, folder: Path) -> None:
    """Run the package's own commands in an environment.

    Args:
        steps: where each is noted.
        environment: with the package and without its extras.
        folder: an empty one, outside the repository, for what the commands write.
    """
    rdaam = environment.folder / "bin" / "rdaam"
    steps.run("its imports load no optional library", lambda: _imports(environment, folder))
    steps.run("rdaam generate", lambda: _generate(rdaam, folder))
    steps.run("rdaam view writes the viewer's page", lambda: _view(rdaam, folder))
    steps.run("rdaam doctor: the self-test", lambda: _doctor(rdaam, folder))
    steps.run("a missing extra is named", lambda: _extras(rdaam, folder))


def _imports(environment: Environment, folder: Path) -> list[str]:
    found = json.loads(command(environment.python, "-c", _IMPORTS, folder=folder).splitlines()[-1])
    return import_faults(found, environment.folder)


def import_faults(found: dict[str, object], environment: Path) -> list[str]:
    """What is wrong with the imports of a clean environment.

    Args:
        found: ``first``, the heavy modules that the package's import loads; ``loaded`` and
            ``installed``, the optional ones after the import of every public name; ``place``.
        environment: the folder in which the package has to be.
    """
    faults = []
    if found["first"]:
        faults.append(f"import {PACKAGE} loads {_listed(found['first'])}")
    if found["loaded"]:
        faults.append(f"the public names load {_listed(found['loaded'])}")
    if found["installed"]:
        faults.append(f"{_listed(found['installed'])}: installed without an extra")
    if environment not in Path(str(found["place"])).parents:
        faults.append(f"{found['place']} was imported, which is not the installed package")
    return faults


def _listed(names: object) -> str:
    assert isinstance(names, Sequence)
    return ", ".join(map(str, names))


def _generate(rdaam: Path, folder: Path) -> list[str]:
    words = ("generate", "a red circle and a blue square", "--seed", "3")
    box = ("--box", "9,65,58,115")
    command(rdaam, *words, *box, "--out", folder / "stable-diffusion", folder=folder)
    flux = ("generate", "a green heart", "--model", "demo-flux")
    command(rdaam, *flux, "--out", folder / "flux", folder=folder)
    wanted = ("image.png", "attribution.safetensors")
    return missing(folder, [f"{model}/{name}" for model in _MODELS for name in wanted])


_MODELS = ("stable-diffusion", "flux")


def missing(folder: Path, names: Collection[str]) -> list[str]:
    """Which files a command has not written."""
    return [f"{name} was not written" for name in names if not (folder / name).is_file()]


def _view(rdaam: Path, folder: Path) -> list[str]:
    saved = [folder / model / "attribution.safetensors" for model in _MODELS]
    page = folder / "page.html"
    command(rdaam, "view", *saved, "-o", page, folder=folder)
    size = page.stat().st_size if page.is_file() else 0
    if size < _SMALLEST_PAGE:
        return [f"the page has {size} bytes; a viewer has at least {_SMALLEST_PAGE}"]
    return []


def _doctor(rdaam: Path, folder: Path) -> list[str]:
    found = json.loads(command(rdaam, "doctor", "--format", "json", folder=folder))
    return [] if found["passed"] else ["the self-test did not pass"]


def _extras(rdaam: Path, folder: Path) -> list[str]:
    (folder / "prompts.jsonl").write_text('{"prompt": "a red circle"}\n', encoding="utf-8")
    faults = []
    for extra, words in NEED_AN_EXTRA.items():
        try:
            command(rdaam, *words, folder=folder)
        except CommandError as error:
            if f"{PACKAGE}[{extra}]" not in str(error):
                faults.append(f"rdaam {words[0]} does not name the extra {extra!r}: {error}")
        else:
            faults.append(f"rdaam {words[0]} ran without the extra {extra!r}")
    return faults

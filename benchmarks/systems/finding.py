"""Imports a system by name, or from the folder that the user gives."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.systems.system import UnavailableError

ENVIRONMENT = "RDAAM_BENCHMARK_SYSTEMS"
# Imported at the top of some systems, needed by none of what is measured.
UNNEEDED = ("spacy.tokens", "matplotlib.pyplot", "matplotlib.patches", "scipy.optimize")


def find(name: str, unneeded: tuple[str, ...] = UNNEEDED) -> ModuleType:
    """The package ``name``, installed or from the user's folder.

    Args:
        name: of the package.
        unneeded: dotted modules; where their package is missing, stand-ins take their place during
            the import, and leave ``sys.modules`` after it.

    Raises:
        UnavailableError: it is not there, or fails on being imported.
    """
    if name in sys.modules:
        return sys.modules[name]
    before = set(sys.modules)
    with _stand_ins(unneeded), _search_path(name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except Exception as error:
            # Half of a package would be taken for a whole one the next time.
            for loaded in set(sys.modules) - before:
                if loaded == name or loaded.startswith(f"{name}."):
                    del sys.modules[loaded]
            if isinstance(error, ModuleNotFoundError) and error.name == name:
                raise UnavailableError(f"not installed, and {_no_folder(name)}") from error
            raise UnavailableError(f"its import fails: {short(error)}") from error


def short(error: BaseException, limit: int = 160) -> str:
    """An exception's type and the start of its text, on one line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _no_folder(name: str) -> str:
    given = os.environ.get(ENVIRONMENT)
    return f"{ENVIRONMENT} {f'has no {name} in it' if given else 'names no folder'}"


@contextmanager
def _search_path(name: str) -> Iterator[None]:
    """Last on the path: the user's folder, or the one in it that holds the package."""
    before = list(sys.path)
    given = os.environ.get(ENVIRONMENT)
    if given:
        root = Path(given).expanduser().resolve()
        within = (root / name / name / "__init__.py").is_file()
        sys.path.append(str(root / name if within else root))
        importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


class _StandIn(ModuleType):
    """A module that has every class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@contextmanager
def _stand_ins(dotted: tuple[str, ...]) -> Iterator[None]:
    placed = []
    for module in dotted:
        package, _, child = module.partition(".")
        if package not in sys.modules and importlib.util.find_spec(package) is None:
            sys.modules[package] = _StandIn(package)
            placed.append(package)
        if package in placed:
            sys.modules[module] = _StandIn(module)
            setattr(sys.modules[package], child, sys.modules[module])
            placed.append(module)
    try:
        yield
    finally:
        for module in placed:
            sys.modules.pop(module, None)

"""The package drawn from its imports: circles of files, upward imports, and lengths."""

from __future__ import annotations

import ast
import importlib
import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.report import Row, judged
from benchmarks.table import Table

ROOT = Path(__file__).parents[1]
PACKAGE = "diffusers_rdaam"
# STYLE: a function that is longer is asked whether it is two.
LONG = 40
Imports = Mapping[str, frozenset[str]]
_Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Function:
    """One function or method.

    Args:
        name: its module and its name.
        lines: from ``def`` to its last line.
        arguments: of every kind, ``self`` included.
        kernel: compiled by Triton, which takes no structures: its arguments cannot be bundled.
    """

    name: str
    lines: int
    arguments: int
    kernel: bool


def modules(root: Path = ROOT) -> dict[str, Path]:
    """The files of the package by the names under which they are imported."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports_of(files: Mapping[str, Path]) -> Imports:
    """The modules that each module imports, whether at the top, in a function or for types only.

    The package's face, ``diffusers_rdaam`` itself, imports nothing until a name is asked of it.
    """
    found = {}
    for name, path in files.items():
        targets = {target for node in ast.walk(_tree(path)) for target in _targets(node)}
        # Of ``from a.b import c``, c is a module or a name in a.b.
        known = {one if one in files else one.rpartition(".")[0] for one in targets}
        found[name] = frozenset(known & files.keys() - {name})
    return found


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _targets(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def circles(imports: Imports) -> list[list[str]]:
    """Sets of files each of which imports every other, directly or by way of others."""
    reach = {name: _reachable(name, imports) for name in imports}
    found = {
        frozenset(other for other in reach[name] if name in reach[other])
        for name in imports
        if name in reach[name]
    }
    return sorted(map(sorted, found))


def _reachable(start: str, imports: Imports) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        new = imports[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen


@dataclass(frozen=True)
class Layers:
    """A contract of import-linter: modules from top to bottom, and those side by side.

    Args:
        levels: full names of modules; who is in one level may not import another of it.
    """

    levels: tuple[tuple[str, ...], ...]

    def of(self, module: str) -> tuple[int, str] | None:
        """The level of a module and what stands there; None where the contract does not name it."""
        for number, level in enumerate(self.levels):
            for name in level:
                if module == name or module.startswith(f"{name}."):
                    return number, name
        return None

    def upward(self, imports: Imports) -> list[tuple[str, str]]:
        """The imports that run up or sideways: who imports, and what."""
        found = []
        for module, targets in imports.items():
            for target in sorted(targets):
                here, there = self.of(module), self.of(target)
                if here and there and here[1] != there[1] and there[0] <= here[0]:
                    found.append((module, target))
        return found


def contracts(root: Path = ROOT) -> list[Layers]:
    """The layers in pyproject.toml: of the whole package, then those inside of folders."""
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    settings = toml.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return [
        Layers(tuple(_level(text, container) for text in one["layers"]))
        for one in settings["tool"]["importlinter"]["contracts"]
        if one["type"] == "layers"
        for container in one.get("containers", [""])
    ]


def _level(text: str, container: str) -> tuple[str, ...]:
    names = (name.strip(" ()") for name in text.replace(":", "|").split("|"))
    return tuple(f"{container}.{name}" if container else name for name in names)


def functions(files: Mapping[str, Path]) -> list[Function]:
    """Every function and method of the package."""
    return [
        _function(name, node)
        for name, path in files.items()
        for node in ast.walk(_tree(path))
        if isinstance(node, _Definition)
    ]


def _function(module: str, node: Any) -> Function:
    names = node.args
    every = [*names.posonlyargs, *names.args, *names.kwonlyargs, names.vararg, names.kwarg]
    return Function(
        f"{module.removeprefix(PACKAGE).lstrip('.')}.{node.name}",
        node.end_lineno - node.lineno + 1,
        len([one for one in every if one is not None]),
        any(ast.unparse(one).startswith("triton.jit") for one in node.decorator_list),
    )


_tables: list[Table] = []


def run() -> list[Row]:
    """Circles, upward imports and lengths; and a table of the layers from top to bottom."""
    files = modules()
    imports, layers = imports_of(files), contracts()
    _tables[:] = [_drawing(files, imports, layers[0])]
    found = circles(imports)
    upward = sorted({pair for contract in layers for pair in contract.upward(imports)})
    lost = _without_layer(files, layers[0])
    return [
        _none("circles of files", [" and ".join(map(_short, circle)) for circle in found]),
        _none("upward imports", [f"{_short(one)} of {_short(other)}" for one, other in upward]),
        _none("modules in no layer", [_short(name) for name in lost]),
        *_lengths(files),
    ]


def tables() -> list[Table]:
    """The layers of the last run."""
    return list(_tables)


def _none(what: str, found: list[str]) -> Row:
    text = "0" if not found else f"{len(found)}: {'; '.join(found)}"
    return judged("layout", what, text, "none", not found, deterministic=True)


def _without_layer(files: Mapping[str, Path], layers: Layers) -> list[str]:
    return [name for name in files if _is_layered(name) and layers.of(name) is None]


def _is_layered(name: str) -> bool:
    return name not in (PACKAGE, f"{PACKAGE}.__main__")


def _lengths(files: Mapping[str, Path]) -> list[Row]:
    lengths = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in files.values())
    every = functions(files)
    plain = [one for one in every if not one.kernel]
    longest = max(plain, key=lambda one: one.lines)
    widest = max(plain, key=lambda one: one.arguments)
    kernel = max(every, key=lambda one: one.arguments)
    long = sum(one.lines > LONG for one in every)
    shown = {
        "modules": f"{len(files)}, {sum(lengths)} lines",
        "module length": f"median {statistics.median(lengths):g}, longest {lengths[-1]} lines",
        "longest function": f"{longest.lines} lines, {longest.name}",
        "longest argument list": f"{widest.arguments}, {widest.name}",
        "longest argument list, Triton's kernels too": f"{kernel.arguments}, {kernel.name}",
        f"functions of over {LONG} lines": f"{long} of {len(every)}, {long / len(every):.1%}",
    }
    return [Row("layout", what, text, deterministic=True) for what, text in shown.items()]


def _drawing(files: Mapping[str, Path], imports: Imports, layers: Layers) -> Table:
    """Each layer with its size and the layers that it imports."""
    place = {name: layers.of(name) for name in files}
    named = sorted((where, name) for name, where in place.items() if where is not None)
    lines = []
    for (_, layer), members in groupby(named, key=lambda pair: pair[0]):
        names = [name for _, name in members]
        below = {place[target] for name in names for target in imports[name]} - {None}
        length = sum(len(files[name].read_text(encoding="utf-8").splitlines()) for name in names)
        others = [_short(other) for _, other in sorted(filter(None, below)) if other != layer]
        lines.append([_short(layer), str(len(names)), str(length), ", ".join(others) or "nothing"])
    return Table("Layers, top to bottom", ["layer", "files", "lines", "imports"], lines)


def _short(name: str) -> str:
    return name.removeprefix(f"{PACKAGE}.")

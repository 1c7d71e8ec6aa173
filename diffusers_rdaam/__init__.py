"""Which words made this region of a generated image, and which regions this word made.

Names are loaded on first use, so that ``import diffusers_rdaam`` takes milliseconds and no torch.
Which there are, and where, is read from the stub next to this file, ``__init__.pyi``.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"


# Names of earlier commits, and what they are called now.
_RENAMED = {"query": "attribute_text", "query_maps": "text_maps"}
# The module of each public name, once the stub has been read.
_modules: dict[str, str] = {}


def _exports() -> dict[str, str]:
    """The module of each public name."""
    if not _modules:
        import ast
        from pathlib import Path

        def lines(*parts: str) -> list[ast.stmt]:
            path = Path(__file__).parent.joinpath(*parts).with_suffix(".pyi")
            return ast.parse(path.read_text(encoding="utf-8")).body

        found = {}
        for line in lines("__init__"):
            if not isinstance(line, ast.ImportFrom) or line.module is None:
                continue
            names = [alias.name for alias in line.names]
            if names == ["*"]:
                stub = lines(*line.module.split(".")[1:])
                names = [one.name for one in stub if isinstance(one, ast.ClassDef)]
            found.update((name, line.module) for name in names)
        # At once: another thread may be reading it.
        _modules.update(found)
    return _modules


def __getattr__(name: str) -> object:
    if name == "__all__":
        return sorted({*_exports(), "__version__"})
    if name in _RENAMED:
        raise AttributeError(
            f"diffusers_rdaam.{name} is called {_RENAMED[name]} now; pipelines of this package "
            f"have it as pipe.{name}."
        )
    if name.startswith("_") or name not in _exports():
        raise AttributeError(f"module 'diffusers_rdaam' has no attribute {name!r}")
    value = getattr(importlib.import_module(_exports()[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_exports()})

"""``python -m benchmarks.write_stub``: writes what editors see of the pipeline classes."""

from __future__ import annotations

import argparse
from pathlib import Path

from diffusers_rdaam.pipelines.classes import STOCK_NAMES

STUB = Path(__file__).parents[1] / "diffusers_rdaam" / "pipelines" / "classes.pyi"
HEAD = """# Written from the table of layouts by: python -m benchmarks.write_stub
from typing import Any

import diffusers

from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin

def class_name(stock: str) -> str: ...
def recording_class(stock: str) -> Any: ...
"""
WIDTH = 100


def text() -> str:
    """The stub: a line for each class, in the order of their names."""
    names = sorted(STOCK_NAMES)
    public = "".join(f'    "{name}",\n' for name in names)
    return f"{HEAD}\n__all__ = [\n{public}]\n\n" + "".join(
        _line(name, STOCK_NAMES[name]) for name in names
    )


def _line(name: str, stock: str) -> str:
    parents = f"RDAAMPipelineMixin, diffusers.{stock}"
    line = f"class {name}({parents}): ...\n"
    return line if len(line) <= WIDTH + 1 else f"class {name}(\n    {parents}\n): ...\n"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    STUB.write_text(text(), encoding="utf-8")

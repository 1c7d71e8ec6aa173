"""What is true of one architecture only is known to the families, and to nobody else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import diffusers_rdaam

PACKAGE = Path(diffusers_rdaam.__file__).parent
# Other folders that are about one model: the predecessors' code, the embedded model, its command.
# Kernels count tiles of threads, and know no image. Sources know what a pipeline asks its encoders.
ABOUT_A_MODEL = ("families", "compat", "demo", "cli", "kernels", "tokens/sources")
NAMES = ("latent_size", "vae_scale_factor", "unet", "UNetFamily")
# The header of saved attention keeps its key, so that files of version 1 load.
ALLOWED = {("editing/saved_attention.py", "latent_size")}


def facts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Names, numbers and texts that say something of UNets; docstrings and comments may."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        for field in ("id", "attr", "arg", "name", "value"):
            value = getattr(node, field, None)
            if isinstance(value, str) and value in NAMES:
                yield line, value
        if isinstance(node, ast.Constant) and node.value == 77:
            yield line, "77"
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.FloorDiv)):
            sides = (node.left, node.right)
            if any(isinstance(side, ast.Constant) and side.value == 8 for side in sides):
                yield line, "8"


@pytest.mark.parametrize("module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_nobody_else_knows_a_unet(module: Path) -> None:
    place = module.relative_to(PACKAGE).as_posix()
    if place.startswith(tuple(f"{folder}/" for folder in ABOUT_A_MODEL)):
        return
    tree = ast.parse(module.read_text(encoding="utf-8"))
    found = [(line, fact) for line, fact in facts(tree) if (place, fact) not in ALLOWED]
    assert not found, f"{place} knows {found}: ask the family"


@pytest.mark.parametrize(
    ("code", "fact"),
    [
        ("pipe.unet(x)", "unet"),
        ("getattr(pipe, 'unet')", "unet"),
        ("side * 8", "8"),
        ("height // 8", "8"),
        ("def f(columns=77): ...", "77"),
        ("pipe.vae_scale_factor", "vae_scale_factor"),
        ("def f(latent_size): ...", "latent_size"),
        ("from x import UNetFamily", "UNetFamily"),
        ("'the unet of 77 columns'", None),
    ],
)
def test_the_check_sees_what_it_should(code: str, fact: str | None) -> None:
    assert [found for _, found in facts(ast.parse(code))] == ([] if fact is None else [fact])

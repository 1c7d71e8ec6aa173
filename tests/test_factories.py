"""No tensor is made on the default device or, of floats, in the default type."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import diffusers_rdaam

ROOT = Path(diffusers_rdaam.__file__).parent
# What torch makes on the default device, as torch.utils._device lists it.
FACTORIES = {
    "arange", "as_tensor", "asarray", "empty", "empty_permuted", "empty_strided", "eye", "full",
    "hamming_window", "hann_window", "linspace", "logspace", "ones", "rand", "randint", "randn",
    "randperm", "scalar_tensor", "tensor", "tril_indices", "triu_indices", "zeros",
}  # fmt: skip
# Of these the type is that of the numbers they are given, or whole numbers.
TYPED = {"arange", "as_tensor", "asarray", "randint", "randperm", "tensor", "tril_indices",
         "triu_indices"}  # fmt: skip
# Run by hand to make the embedded model.
LEFT_OUT = ("demo/train",)


def untold(source: str) -> list[str]:
    """Calls of torch's factories that leave the device, or the type of floats, to torch."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, owner = node.func.attr, node.func.value
        if not (isinstance(owner, ast.Name) and owner.id == "torch" and name in FACTORIES):
            continue
        given = {keyword.arg for keyword in node.keywords}
        # A generator's device is the tensor's, and such noise is the pipeline's own.
        typed = "dtype" in given or name in TYPED
        if None not in given and not ("device" in given and typed):
            found.append(f"line {node.lineno}: {ast.unparse(node)[:80]}")
    return found


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(ROOT.rglob("*.py")) if "torch" in path.read_text(encoding="utf-8")],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_factories_say_where_and_of_which_type(path):
    if path.relative_to(ROOT).as_posix().startswith(LEFT_OUT):
        return
    assert untold(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("torch.zeros(3)", True),
        ("torch.zeros(3, dtype=torch.float32)", True),
        ("torch.zeros(3, device='cpu')", True),
        ("torch.zeros(3, dtype=torch.float32, device='cpu')", False),
        ("torch.arange(3)", True),
        ("torch.arange(3, device='cpu')", False),
        ("torch.zeros(3, **options)", False),
        ("maps.new_zeros(3)", False),
    ],
)
def test_what_is_seen(source, seen):
    assert bool(untold(source)) is seen

"""The package's imports: no circle of files, none that runs up; and that the command sees both."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import layout

FILES = layout.modules()


@pytest.fixture(scope="module")
def imports() -> layout.Imports:
    """Of the package, made once: it takes seconds."""
    return layout.imports_of(FILES)


@pytest.fixture(scope="module")
def circles(imports: layout.Imports) -> list[list[str]]:
    return layout.circles(imports)


def top(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("room", sorted({top(module) for module in FILES if "." in module}))
def test_no_circle_of_files(room: str, circles: list[list[str]]) -> None:
    assert [circle for circle in circles if room in map(top, circle)] == []


def test_no_import_runs_up(imports: layout.Imports) -> None:
    for contract in layout.contracts():
        assert contract.upward(imports) == []


def test_every_module_has_its_layer() -> None:
    whole = layout.contracts()[0]
    faces = ("diffusers_rdaam", "diffusers_rdaam.__main__")
    assert [name for name in FILES if whole.of(name) is None and name not in faces] == []


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Two floors and a shed: a circle by a function's import and one for types; an import up."""
    texts = {
        "__init__": "",
        "upstairs.one": "from diffusers_rdaam.upstairs import two\n",
        "upstairs.two": "def f():\n    import diffusers_rdaam.upstairs.three\n",
        "upstairs.three": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from diffusers_rdaam.upstairs.two import f\n",
        "downstairs": "from diffusers_rdaam.upstairs.one import nothing\n",
        "cellar": "import diffusers_rdaam.shed\n",
        "shed": "import os\n",
    }
    for name, text in texts.items():
        path = tmp_path / "diffusers_rdaam" / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "pyproject.toml").write_text(
        '[[tool.importlinter.contracts]]\ntype = "layers"\n'
        'layers = ["diffusers_rdaam.upstairs", "diffusers_rdaam.downstairs", '
        '"diffusers_rdaam.cellar | diffusers_rdaam.shed"]\n'
        '[[tool.importlinter.contracts]]\ntype = "layers"\ncontainers = '
        '["diffusers_rdaam.upstairs"]\nlayers = ["two", "one : three"]\n'
        '[[tool.importlinter.contracts]]\ntype = "forbidden"\n'
    )
    return tmp_path


def test_circles_and_upward_imports_are_seen(house: Path) -> None:
    name = "diffusers_rdaam.{}".format
    imports = layout.imports_of(layout.modules(house))
    assert layout.circles(imports) == [[name("upstairs.three"), name("upstairs.two")]]
    whole, inside = layout.contracts(house)
    assert whole.upward(imports) == [
        (name("cellar"), name("shed")),
        (name("downstairs"), name("upstairs.one")),
    ]
    assert inside.upward(imports) == [
        (name("upstairs.one"), name("upstairs.two")),
        (name("upstairs.three"), name("upstairs.two")),
    ]


def test_functions_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text(
        "class A:\n    def f(self, a, /, b, *c, d, **e):\n"
        "        return (\n            a\n        )\n"
        "@triton.jit(do_not_specialize=['x'])\ndef g(x):\n    pass\n"
    )
    plain, kernel = sorted(layout.functions({"diffusers_rdaam.m": path}), key=lambda f: f.name)
    assert plain == layout.Function("m.f", 4, 6, kernel=False)
    assert kernel == layout.Function("m.g", 2, 1, kernel=True)


def test_the_command_draws_every_layer() -> None:
    rows = {row.what: row for row in layout.run()}
    assert rows["upward imports"].status == "PASS"
    (table,) = layout.tables()
    assert [line[0] for line in table.rows][-1] == "errors"
    assert {line[0] for line in table.rows} >= {"cli", "pipelines", "recording", "shapes"}

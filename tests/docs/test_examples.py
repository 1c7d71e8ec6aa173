"""Every block of Python on every page runs, in the page's order, on the embedded models."""

from __future__ import annotations

import ast
import importlib
import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_blocks import pages, python_blocks
from page_settings import SETTINGS
from small_runs import MODELS, Names, Setting, few_steps, translated

PAGES = {name: page for name, page in pages().items() if python_blocks(page)}
# Counted, so that no block vanishes unseen.
BLOCKS = 80
# Triton's kernels are interpreted where there is no GPU.
SLOW = ("backends",)
CASES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in PAGES]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Names:
    return Names(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("name", CASES)
def test_the_blocks_of_a_page_run(
    name: str, given: Names, tmp_path: Path, monkeypatch: Any, types_unchecked: None, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    setting = SETTINGS.get(name, Setting())
    ran = 0
    # Warnings are shown to people who try a page; that they come is tested elsewhere.
    with few_steps(monkeypatch, setting.steps), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = given.of(setting)
        for block in python_blocks(PAGES[name]):
            code = "\n" * (block.line - 1) + translated(block.text, given.folder, setting.steps)
            exec(compile(code, str(PAGES[name]), "exec"), names)
            ran += 1
    assert ran == len(python_blocks(PAGES[name])) > 0
    assert set(setting.files) <= {path.name for path in tmp_path.iterdir()}
    assert setting.printed in capsys.readouterr().out


def test_the_number_of_blocks() -> None:
    assert sum(len(python_blocks(page)) for page in PAGES.values()) == BLOCKS
    assert set(SETTINGS) <= set(PAGES), "a page of the settings is gone"


def _imported(tree: ast.AST) -> Iterator[tuple[str, Any]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            module = importlib.import_module(node.module)
            for alias in node.names:
                if hasattr(module, "__path__") and not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
                yield alias.asname or alias.name, getattr(module, alias.name)


def _misfits(code: str) -> list[str]:
    """Arguments of calls that the called function does not take; imports raise by themselves."""
    tree = ast.parse(code)
    known = dict(_imported(tree))
    found = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        function = known.get(node.func.id)
        if function is None or any(keyword.arg is None for keyword in node.keywords):
            continue
        given = {str(keyword.arg): None for keyword in node.keywords}
        try:
            inspect.signature(function).bind_partial(*[None] * len(node.args), **given)
        except TypeError as error:
            found.append(f"{node.func.id}: {error}")
    return found


@pytest.mark.parametrize("name", PAGES)
def test_names_and_arguments_of_a_page_exist(name: str) -> None:
    """The quick sibling of the pages that are slow, and a line that says what is wrong."""
    blocks = "\n".join(block.text for block in python_blocks(PAGES[name]))
    assert not _misfits(blocks)


def test_a_name_or_argument_that_is_gone_is_seen() -> None:
    with pytest.raises(ModuleNotFoundError, match="explain_all"):
        _misfits("from diffusers_rdaam import explain_all")
    code = "from diffusers_rdaam import segment\nsegment(one, two, refined=True)"
    assert _misfits(code) == ["segment: got an unexpected keyword argument 'refined'"]


def test_the_map_replaces_what_is_not_here(tmp_path: Path) -> None:
    hub = next(iter(MODELS))
    code = f'X.from_pretrained("{hub}", dtype=torch.float16).to("cuda")(num_inference_steps=50)'
    wanted = f"X.from_pretrained('{tmp_path}', dtype=torch.float32).to(\"cpu\")"
    assert translated(code, lambda name: tmp_path) == f"{wanted}(num_inference_steps=2)"

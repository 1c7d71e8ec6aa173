"""The forms and pages of the repository ask for what exists, and say what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomllib
import yaml
from typer.main import get_command

from diffusers_rdaam.cli import app

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
FORMS = sorted(
    path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"
)
PAGES = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")]
KINDS = {"markdown", "textarea", "input", "checkboxes", "dropdown"}


def test_which_forms_there_are():
    assert [path.stem for path in FORMS] == ["bug", "pipeline", "wrong_map"]
    assert (GITHUB / "PULL_REQUEST_TEMPLATE.md").is_file()


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_is_one_and_asks_for_the_report(path):
    form = yaml.safe_load(path.read_text("utf-8"))
    assert form["name"] and form["description"] and form["body"]
    fields = [one for one in form["body"] if one["type"] != "markdown"]
    assert {one["type"] for one in form["body"]} <= KINDS
    names = [one["id"] for one in fields]
    assert len(set(names)) == len(names) and all(one["attributes"]["label"] for one in fields)
    (doctor,) = (one for one in fields if one["id"] == "doctor")
    assert "rdaam doctor" in doctor["attributes"]["description"]
    assert doctor["validations"] == {"required": True}


@pytest.mark.parametrize("path", [*FORMS, *PAGES], ids=lambda path: path.stem)
def test_commands_that_are_named_exist(path):
    group = get_command(app)
    for verb, options in re.findall(r"`rdaam ([a-z-]+)([^`]*)`", path.read_text("utf-8")):
        command = group.get_command(None, verb)
        assert command is not None, verb
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", options)) <= known, verb


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_files_and_targets_that_are_named_exist(path):
    text = path.read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    for line in re.findall(r"\bmake ((?:[a-z-]+ ?)+)", text):
        words = line.split()
        if words[0] in ("test", "check", "release", "canary") or "-" in words[0]:
            assert words[0] in targets, line
    for name in re.findall(r"`((?:tests|benchmarks|diffusers_rdaam|families)/[\w/.*]+)`", text):
        root = ROOT / "diffusers_rdaam" if name.startswith("families/") else ROOT
        assert list(root.glob(name.rstrip("/"))), name
    for name in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (ROOT / name).exists(), name


def test_the_layers_are_those_of_the_contract():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rows = re.findall(r"^\| [a-z', ]+ \| (`[^|]+) \|", text, re.M)
    table = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    order = [one.strip().rpartition(".")[2] for layer in layers for one in layer.split("|")]
    folders = [name for name in order if (ROOT / "diffusers_rdaam" / name).is_dir()]
    # Files of one module, and what every layer uses, are not in the table.
    assert sorted(table) == sorted(set(folders) - {"notebook", "files"})
    places = [order.index(name) for name in table if name in order]
    levels = {
        name: number
        for number, layer in enumerate(layers)
        for name in re.findall(r"(\w+)\s*(?:\||$)", layer.replace("diffusers_rdaam.", ""))
    }
    assert [levels[order[place]] for place in places] == sorted(levels[order[p]] for p in places)

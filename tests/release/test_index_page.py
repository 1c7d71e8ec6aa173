"""The page that an index shows: absolute links, and the same address in every file."""

from __future__ import annotations

import re
import subprocess
import sys
from email import message_from_string
from pathlib import Path

import pytest
import tomllib
import yaml

from release.archives import contents, wheel_faults
from release.index_page import absolute_links, relative_links, urls
from release.prepare import ADDRESS_FILES, VERSION_FILE, address_of

ROOT = Path(__file__).parents[2]
HOST = "https://host.example/o/p"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[a](docs/a.md)", f"[a]({HOST}/blob/v1/docs/a.md)"),
        ("[a](./docs/a.md#b)", f"[a]({HOST}/blob/v1/docs/a.md#b)"),
        ("![a](docs/a.png)", f"![a]({HOST}/raw/v1/docs/a.png)"),
        ('![a](docs/a.svg "A title")', f'![a]({HOST}/raw/v1/docs/a.svg "A title")'),
        (
            "[![a](a.jpeg)](docs/a.md)",
            f"[![a]({HOST}/raw/v1/a.jpeg)]({HOST}/blob/v1/docs/a.md)",
        ),
        ("[a]: docs/a.md", f"[a]: {HOST}/blob/v1/docs/a.md"),
        ('<img src="a.png" width="3">', f'<img src="{HOST}/raw/v1/a.png" width="3">'),
        ('<source srcset="dark.webp">', f'<source srcset="{HOST}/raw/v1/dark.webp">'),
        ('<a href="docs/a.md">a</a>', f'<a href="{HOST}/blob/v1/docs/a.md">a</a>'),
        (
            "| ![a](a.png) | ![b](b.png) |",
            f"| ![a]({HOST}/raw/v1/a.png) | ![b]({HOST}/raw/v1/b.png) |",
        ),
        ("[a](https://elsewhere.example/x)", None),
        ("[a](mailto:a@b.example)", None),
        ("[a](//cdn.example/a.png)", None),
        ("[a](#here)", None),
        ("`[a](docs/a.md)`", None),
        ("```python\nx[a](b)\n```", None),
        ("~~~\n![a](b.png)\n~~~", None),
        ("a list[int](3 ) is not a link", None),
    ],
)
def test_links(text, wanted):
    assert absolute_links(text, HOST, "v1") == (text if wanted is None else wanted)
    assert bool(relative_links(text)) is (wanted is not None)


def test_text_around_code_is_kept():
    text = "a `b` [c](d.md)\n```py\n[e](f)\n```\n[g](h.png)\n"
    turned = absolute_links(text, HOST, "v1")
    assert turned == (
        f"a `b` [c]({HOST}/blob/v1/d.md)\n```py\n[e](f)\n```\n[g]({HOST}/raw/v1/h.png)\n"
    )
    assert relative_links(turned) == []


def test_the_readme_links_to_files_that_are_there():
    text = (ROOT / "README.md").read_text("utf-8")
    names = [link.partition("#")[0] for link in relative_links(text)]
    assert len(names) > 5
    assert [name for name in names if not (ROOT / name).exists()] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_built_wheel_has_an_absolute_page_and_addresses(wheel):
    files = contents(wheel)
    (name,) = (one for one in files if one.endswith(".dist-info/METADATA"))
    facts = message_from_string(files[name].decode())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    address = project["tool"]["hatch"]["metadata"]["hooks"]["custom"]["repository"]
    assert facts.get_all("Project-URL") == [f"{one}, {to}" for one, to in urls(address).items()]
    assert facts["Description-Content-Type"].startswith("text/markdown")
    page = str(facts.get_payload())
    assert relative_links(page) == []
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page)
    prefix = f"{address}/raw/v{facts['Version']}/"
    assert pictures and all(one.startswith(prefix) for one in pictures)
    assert all((ROOT / one.removeprefix(prefix)).is_file() for one in pictures)


def test_the_built_wheel_holds_the_package_and_nothing_else(wheel):
    assert wheel_faults(wheel, traces=[f"{ROOT}/"]) == []


def test_every_file_names_the_same_address():
    texts = {name: (ROOT / name).read_text("utf-8") for name in ADDRESS_FILES}
    address = address_of(texts["pyproject.toml"])
    for name, text in texts.items():
        found = set(re.findall(r"https://[^\s\"]+/diffusers_rdaam\b", text))
        assert found == {address}, name


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["cff-version"] == "1.2.0" and cited["title"] == "diffusers_rdaam"
    line = re.search(r'^__version__ = "(.+)"$', (ROOT / VERSION_FILE).read_text("utf-8"), re.M)
    assert line is not None and cited["version"] == line[1]
    assert {"message", "authors", "license", "repository-code"} <= cited.keys()

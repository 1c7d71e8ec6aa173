"""The API pages of the documentation site: every public name, from its docstring.

``python -m benchmarks.write_api`` prints which name is on which page. A public name that no page
has, or that has no docstring, ends it with an error: ``make docs`` writes the pages anew each time.
"""

from __future__ import annotations

import argparse
import inspect
from dataclasses import dataclass

import diffusers_rdaam

_CLASSES = "pipelines.classes"


@dataclass(frozen=True)
class ApiPage:
    """A page: its title, what one can do with its names, and the modules that they live in."""

    title: str
    purpose: str
    modules: tuple[str, ...]


PAGES = {
    "pipelines": ApiPage(
        "Pipelines",
        "Generate an image and get its attribution with it.",
        ("pipelines.mixin", "pipelines.output", "pipelines.auto", "pipelines.callbacks"),
    ),
    "pipeline_classes": ApiPage(
        "Pipeline classes",
        "Look up the class that records a pipeline of diffusers. Each is the stock class with "
        "`RDAAMPipelineMixin`: it takes the stock class's arguments, and has the mixin's methods.",
        (_CLASSES,),
    ),
    "recording": ApiPage(
        "Recording",
        "Choose what a run keeps, and record pipelines and loops of any class.",
        ("pipelines.record_attention", "pipelines.record_denoiser", "attention"),
    ),
    "attribution": ApiPage(
        "Attribution",
        "Ask an attribution about words, regions, steps and layers, and save it.",
        tuple(
            f"attribution.{name}"
            for name in (
                "attribution",
                "aggregated",
                "steps",
                "prompt",
                "text_vocabulary",
                "grid",
                "kept_maps",
                "queries",
            )
        ),
    ),
    "heat_maps": ApiPage(
        "Heat maps",
        "Show a word over the image or over the steps, and make masks and boxes of it.",
        ("attribution.heat_map", "attribution.timeline"),
    ),
    "regions": ApiPage(
        "Regions and their words",
        "Give a region, and read the words that made it.",
        ("geometry", "attribution.region_words"),
    ),
    "aggregations": ApiPage(
        "Aggregations",
        "Choose how sites, heads and calls become a word's map.",
        ("attribution.aggregations",),
    ),
    "self_attention": ApiPage(
        "Self-attention",
        "Ask which parts of the image attend to each other.",
        ("attribution.self_attention", "attribution.self_grid"),
    ),
    "comparison": ApiPage(
        "Comparison", "Compare prompts and seeds with intervals.", ("attribution.comparison",)
    ),
    "video": ApiPage(
        "Videos",
        "Ask about the frames of a video.",
        tuple(
            f"attribution.{name}"
            for name in ("video", "video_heat_map", "frame_timeline", "frame_mapping")
        ),
    ),
    "open_vocabulary": ApiPage(
        "Any text", "Ask for words that are not in the prompt.", ("open_vocabulary",)
    ),
    "images": ApiPage(
        "Images that exist",
        "Attribute a photo or a drawing to a text.",
        ("pipelines.attribute_image",),
    ),
    "editing": ApiPage(
        "Editing", "Keep a run's attention, and let another run attend with it.", ("editing",)
    ),
    "explain": ApiPage(
        "Gradients and ablation", "Ask the model again, and compare the answers.", ("explain",)
    ),
    "evaluation": ApiPage(
        "Evaluation", "Measure maps on data sets by published protocols.", ("evaluation",)
    ),
    "segmentation": ApiPage(
        "Segmentation", "Make label maps and data sets of masks.", ("segmentation",)
    ),
    "batch": ApiPage("Batch", "Run many prompts, and read what they made.", ("batch",)),
    "viewer": ApiPage(
        "Viewer and notebook",
        "Point at the image in a page or in a notebook.",
        ("viewer", "notebook"),
    ),
    "demo": ApiPage("Embedded models", "Try everything without a download.", ("demo",)),
    "errors": ApiPage(
        "Errors and warnings", "Find out what a message means, and catch it by class.", ("errors",)
    ),
}


def names_of(page: str) -> list[str]:
    """The public names of a page, in the order of the stub.

    Raises:
        KeyError: there is no such page.
    """
    modules = PAGES[page].modules
    return [name for name, module in _modules().items() if _is_in(module, modules)]


_NO_BASES = "    options:\n      show_bases: false\n"


def page_text(page: str) -> str:
    """A page in Markdown, in which the site puts the docstrings.

    Raises:
        ValueError: a name has no docstring, or a public name is on no page or on several.
    """
    check()
    entry = PAGES[page]
    lines = [f"# {entry.title}", "", entry.purpose, ""]
    if entry.modules == (_CLASSES,):
        lines += ["| class | of diffusers |", "|---|---|"]
        lines += [f"| `{name}` | `{name.replace('RDAAM', '')}` |" for name in names_of(page)]
        return "\n".join(lines) + "\n"
    lines += [_entry(name) for name in names_of(page)]
    return "\n".join(lines)


def _entry(name: str) -> str:
    """What the site replaces with a docstring; bases are private where one of them is."""
    bases = getattr(_value(name), "__bases__", ())
    hidden = any(base.__name__.startswith("_") for base in bases)
    return f"::: diffusers_rdaam.{name}\n{_NO_BASES if hidden else ''}"


def check() -> None:
    """Every public name is on one page and has a docstring, as all of its public methods have.

    Raises:
        ValueError: with the names that are not.
    """
    places = [name for page in PAGES for name in names_of(page)]
    twice = sorted({name for name in places if places.count(name) > 1})
    nowhere = sorted(set(_modules()) - set(places))
    # Those of the table are diffusers' own classes and the mixin; to import all takes long.
    written = [name for name, module in _modules().items() if not _is_in(module, (_CLASSES,))]
    silent = [name for name in written if not inspect.getdoc(_value(name))]
    silent += [
        f"{name}.{member}" for name in written for member in undocumented_members(_value(name))
    ]
    for what, found in (
        ("are on several API pages", twice),
        ("are on no API page: name their module in PAGES", nowhere),
        ("have no docstring", silent),
    ):
        if found:
            raise ValueError(f"Public names that {what}: {', '.join(found)}.")


def undocumented_members(value: object) -> list[str]:
    """The public methods and properties of a class of this package that have no docstring."""
    if not isinstance(value, type):
        return []
    found = []
    for base in value.__mro__:
        if not base.__module__.startswith("diffusers_rdaam"):
            continue
        for name, member in vars(base).items():
            function = getattr(member, "__func__", getattr(member, "fget", member))
            plain = inspect.isfunction(function) or isinstance(member, property)
            if plain and not name.startswith("_") and not inspect.getdoc(getattr(value, name)):
                found.append(name)
    return found


def _modules() -> dict[str, str]:
    return {
        name: module.removeprefix("diffusers_rdaam.")
        for name, module in diffusers_rdaam._exports().items()
    }


def _is_in(module: str, modules: tuple[str, ...]) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in modules)


def _value(name: str) -> type:
    value: type = getattr(diffusers_rdaam, name)
    return value


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    check()
    for page in PAGES:
        print(f"{page}: {', '.join(names_of(page))}")

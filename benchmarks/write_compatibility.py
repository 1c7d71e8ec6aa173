"""Write the tables of the pages on compatibility that are the package's own.

``python -m benchmarks.write_compatibility``: the transformers' pipelines, and those that are
refused. Each lies between two comments of its page.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from diffusers_rdaam.families.added_keys import ADDED_KEYS_PIPELINES
from diffusers_rdaam.families.refused import REFUSED
from diffusers_rdaam.families.rows import Branch, SeparateCallsLayout
from diffusers_rdaam.families.transformers.pipelines import TRANSFORMER_PIPELINES

DOCS = Path(__file__).parents[1] / "docs"


def rows_in_words(layout: Any) -> str:
    """Which rows of which calls are whose, the recorded ones in bold."""
    if isinstance(layout, SeparateCallsLayout):
        return "a call each: **conditional**, unconditional"
    parts = getattr(layout, "parts", ())
    if callable(parts):
        return "**conditional**, unconditional, with pictures also image only"
    return ", ".join(f"**{part}**" if part == Branch.CONDITIONAL else str(part) for part in parts)


def transformer_table() -> str:
    """The pipelines whose denoiser is a transformer, or a UNet with keys added for the text."""
    lines = ["| stock class | class of this package | rows under guidance |", "|---|---|---|"]
    for name, entry in {**TRANSFORMER_PIPELINES, **ADDED_KEYS_PIPELINES}.items():
        ours = f"{name.removesuffix('Pipeline')}RDAAMPipeline"
        lines.append(f"| `{name}` | `{ours}` | {rows_in_words(entry.layout)} |")
    return "\n".join(lines)


def refused_table() -> str:
    """The refused pipelines, those with one reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in REFUSED.items():
        by_reason.setdefault(reason, []).append(f"`{name}`")
    lines = ["| pipelines | why |", "|---|---|"]
    lines += [f"| {', '.join(names)} | {reason} |" for reason, names in by_reason.items()]
    return "\n".join(lines)


TABLES = {"transformers": transformer_table, "refused": refused_table}


def page_of(name: str) -> Path:
    """The page of a table."""
    return DOCS / f"compatibility_{name}.md"


def written(name: str) -> str:
    """A table's page with the table made anew."""
    page = page_of(name).read_text(encoding="utf-8")
    begin, end = f"<!-- table: {name} -->", "<!-- end of the table -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    table = f"{begin}\n{TABLES[name]()}\n{end}"
    page, count = pattern.subn(lambda _: table, page)
    if count != 1:
        raise SystemExit(
            f"{page_of(name).name} has {count} places for the table {name!r}; wanted one."
        )
    return page


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for each in TABLES:
        page_of(each).write_text(written(each), encoding="utf-8")

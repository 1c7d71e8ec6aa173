"""Sphinx's roles in docstrings as the site writes code: an extension of griffe.

Docstrings say ``:class:`HeatMap``` where a name of the package is meant, which editors and Sphinx
read; Markdown shows the role as words.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc|obj):(`+)~?([^`]+)\1")


def without_roles(text: str) -> str:
    """A docstring whose roles are code: ``:func:`~a.b.c``` as ```a.b.c```."""
    return _ROLE.sub(r"`\2`", text)


class DocstringRoles(griffe.Extension):
    """Rewrites the docstring of every object that is read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called once an object is read, without its members."""
        if obj.docstring is not None:
            obj.docstring.value = without_roles(obj.docstring.value)

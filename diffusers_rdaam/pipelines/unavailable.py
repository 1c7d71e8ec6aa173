"""What stands for a pipeline class whose parent the installed libraries do not have.

diffusers imports some pipelines from parts of transformers that older releases lack. Such a class
has its name all the same, so that ``from diffusers_rdaam import *`` works, and says what is missing
when it is used.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, NoReturn

from diffusers_rdaam.errors import UnsupportedPipelineError


class Unavailable(type):
    """Of classes that cannot be used: calling one, or asking it for a method, is an error."""

    _why: str
    _cause: BaseException

    def __call__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """No instance.

        Raises:
            UnsupportedPipelineError: always, with what could not be imported.
        """
        raise UnsupportedPipelineError(cls._why) from cls._cause

    def __getattr__(cls, name: str) -> NoReturn:
        """No method, ``from_pretrained`` for example."""
        if name.startswith("_") or name == "mro":
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        raise UnsupportedPipelineError(cls._why) from cls._cause


def unavailable(name: str, stock: str, module: str, cause: BaseException) -> Any:
    """The class that stands for one whose parent cannot be imported.

    Args:
        name: of the class.
        stock: of its parent in diffusers.
        module: in which the class is.
        cause: what the import of the parent ended with.
    """
    reason = str(cause).strip().splitlines()[-1].split(" (/")[0]
    why = (
        f"{name} cannot be used here: diffusers {version('diffusers')} cannot import {stock} with "
        f"transformers {version('transformers')} ({reason}). Install a newer "
        "transformers, or what the reason names."
    )
    body = {"__module__": module, "__qualname__": name, "__doc__": why, "_why": why}
    return Unavailable(name, (), {**body, "_cause": cause})

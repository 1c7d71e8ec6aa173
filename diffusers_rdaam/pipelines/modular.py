"""What diffusers' modular pipelines say of a run: their guider, and what their blocks keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.families.guiders import guider_layout


def is_modular(subject: Any) -> bool:
    """True for a pipeline that diffusers assembles of blocks."""
    # By name: the import takes its time, and who has such a pipeline has paid for it.
    classes = type(subject).__mro__
    return any(cls.__module__.startswith("diffusers.modular_pipelines.") for cls in classes)


def modular_layout(pipe: Any) -> Any:
    """The layout of a modular pipeline's rows: its guider's; without one there is no guidance.

    Raises:
        UnsupportedPipelineError: the order of this guider's calls is not known.
    """
    if getattr(pipe, "guider", None) is None:
        return "conditional"
    return guider_layout(lambda: pipe.guider)


class ModularParts:
    """A modular pipeline as the rules of :data:`~diffusers_rdaam.tokens.sources.SOURCES` read one.

    What a stock pipeline has as attributes, a template for example, is an attribute of the block
    that uses it here.

    Args:
        pipe: the modular pipeline.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def __getattr__(self, name: str) -> Any:
        """A component, or what the blocks have under this name.

        Raises:
            InputError: no block has it, or several have different ones.
        """
        pipe = self._pipe
        if hasattr(pipe, name):
            return getattr(pipe, name)
        found = [vars(block)[name] for block in _blocks_of(pipe) if name in vars(block)]
        if found and all(one == found[0] for one in found):
            return found[0]
        raise _NotSaid(
            f"{'several blocks' if found else 'no block'} of the {type(pipe).__name__} "
            f"{'have another' if found else 'has a'} {name!r}, which the text is read with."
        )


class _NotSaid(InputError, AttributeError):
    """An attribute that is asked for with a default may be missing."""


def _blocks_of(pipe: Any) -> Iterator[Any]:
    """All blocks, those inside of others too."""
    waiting = [pipe._blocks]
    while waiting:
        block = waiting.pop()
        yield block
        waiting += getattr(block, "sub_blocks", {}).values()

"""A recording pipeline that records with other options for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers_rdaam.attention.processor import RDAAMProcessor

_STATE = ("_rdaam_template", "_rdaam_installed", "_rdaam_replacements")


@contextmanager
def recorded_with(pipe: Any, processor: RDAAMProcessor) -> Iterator[None]:
    """Within the block the pipeline has the options of ``processor``; then it is as it was.

    Args:
        pipe: a pipeline of this package.
        processor: a template.
    """
    processors = pipe.attn_processors
    state = {name: vars(pipe)[name] for name in _STATE if name in vars(pipe)}
    pipe.set_attn_processor(processor)
    try:
        yield
    finally:
        pipe.set_attn_processor(processors)
        for name in _STATE:
            vars(pipe).pop(name, None)
        vars(pipe).update(state)

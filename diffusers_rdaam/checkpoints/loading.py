"""A pipeline from a folder or the hub; whatever is wrong with its files is one clear error."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from diffusers_rdaam.checkpoints.folder import (
    CURE,
    INDEX,
    check_folder,
    components,
    read_index,
    weights_variant,
)
from diffusers_rdaam.errors import IncompleteModelWarning, InputError, RDAAMError

if TYPE_CHECKING:
    import torch

_PASSED = re.compile(
    r"Pipeline <class '[\w.]*?(\w+)'> expected \[(.*)\], but only \{?(.*?)\}? were"
)
_QUOTED = re.compile(r"'(\w+)'")


def load_checkpoint(loader: Any, name: str, *, start: str, dtype: torch.dtype, local: bool) -> Any:
    """A pipeline, whole, on the CPU.

    Args:
        loader: a class with ``from_pretrained``.
        name: a folder or hub id.
        start: how an error begins: that nothing could be loaded, and from where.
        dtype: of its weights.
        local: True to leave the hub out.

    Raises:
        InputError: it cannot be loaded, or its files are not whole.
        UnsupportedPipelineError: the loader does not take its class.

    Warns:
        IncompleteModelWarning: a model runs with weights that its files do not have.
    """
    folder, options = Path(name), {}
    if folder.is_dir():
        check_folder(folder, start)
        index = read_index(folder, start)
        _check_class(index["_class_name"], start)
        _check_texts(index["_class_name"], {one.name for one in components(folder, index)}, start)
        if variant := weights_variant(folder, index):
            options["variant"] = variant
    try:
        with _quiet():
            pipe = loader.from_pretrained(name, dtype=dtype, local_files_only=local, **options)
    except RDAAMError:
        raise
    except Exception as error:
        # Whatever is wrong with a model's files, each library has an exception of its own for it.
        raise InputError(f"{start}: {_reason(error)}") from error
    _check_weights(pipe, start)
    return pipe


def _check_class(name: str, start: str) -> None:
    """Refuse an index whose class is one of diffusers' and not a pipeline.

    Raises:
        InputError: as it says.
    """
    import diffusers

    found, base = getattr(diffusers, name, None), diffusers.DiffusionPipeline
    # A placeholder for a library that is not installed names it in its own error.
    if not isinstance(found, type) or "_backends" in vars(found):
        return
    if not issubclass(found, base) or found is base:
        raise InputError(
            f"{start}: its {INDEX} names {name} as _class_name, which is a class of diffusers, "
            f"and not of a pipeline. {CURE}"
        )


def _check_texts(name: str, named: set[str], start: str) -> None:
    """Refuse an index without what its class encodes a prompt with, which diffusers lets pass.

    Raises:
        InputError: as it says.
    """
    import diffusers

    found = getattr(diffusers, name, None)
    if not isinstance(found, type) or "_backends" in vars(found):
        return
    texts = [
        part
        for part in getattr(found, "_optional_components", ())
        if re.fullmatch(r"(tokenizer|text_encoder)(_\d+)?", part)
    ]
    first = {"tokenizer", "text_encoder"}
    if "XL" in name and not named & first:
        # The refiner of SDXL has the second encoder only.
        texts = [part for part in texts if part not in first]
    if lacking := [part for part in texts if part not in named]:
        raise InputError(
            f"{start}: its {INDEX} names no {' and no '.join(lacking)}, without which {name} "
            f"cannot encode a prompt. {CURE}"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the libraries log of files: it is said here, in an error or a warning."""
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _check_weights(pipe: Any, start: str) -> None:
    """Refuse a pipeline with weights that have no values, and warn of random ones.

    Raises:
        InputError: as it says.
    """
    from diffusers_rdaam.checkpoints.weights import empty_weights, listed, models, random_weights

    for name, model in models(pipe).items():
        total = len(list(model.parameters()))
        if empty := empty_weights(model):
            raise InputError(f"{start}: the files of {name}/ lack {listed(empty, total)}. {CURE}")
        if drawn := random_weights(model):
            warnings.warn(
                f"The files of {name}/ lack {listed(drawn, total)}: random numbers stand in "
                f"their place, and images are not the model's. {CURE}",
                IncompleteModelWarning,
                stacklevel=3,
            )


def _reason(error: Exception) -> str:
    """An error of a library in a line, with the component that was loaded."""
    line = (str(error).strip() or type(error).__name__).split("\n")[0]
    if found := _PASSED.search(line):
        return _lacking(*found.groups())
    # It goes on with arguments of from_pretrained that a command does not have.
    line = line.split(" If you want to instead")[0].replace("Cannot load  because", "its weight")
    line = line[:500]
    component = _component_of(error.__traceback__)
    return f"{component}/: {line}" if component else line


def _lacking(pipeline: str, expected: str, passed: str) -> str:
    """Which components an index does not name, where diffusers lists what it expects and has."""
    import diffusers

    pipeline = pipeline.replace("RDAAM", "")
    optional = getattr(getattr(diffusers, pipeline, None), "_optional_components", ())
    given = _QUOTED.findall(passed)
    lacking = [one for one in _QUOTED.findall(expected) if one not in (*given, *optional)]
    return f"its {INDEX} names no {' and no '.join(lacking)}, which {pipeline} needs. {CURE}"


def _component_of(traceback: TracebackType | None) -> str:
    """The component that diffusers was loading; empty where its frames do not show it."""
    while traceback is not None:
        if traceback.tb_frame.f_code.co_name == "load_sub_model":
            return str(traceback.tb_frame.f_locals.get("name", ""))
        traceback = traceback.tb_next
    return ""

"""A pipeline from a folder or the hub; whatever is wrong with its files is one clear error."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusers_rdaam.checkpoints.classes import check_class, check_texts
from diffusers_rdaam.checkpoints.folder import (
    CURE,
    check_folder,
    components,
    read_index,
    weights_variant,
)
from diffusers_rdaam.errors import IncompleteModelWarning, InputError, RDAAMError

if TYPE_CHECKING:
    import torch


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
    index: dict[str, Any] | None = None
    if folder.is_dir():
        check_folder(folder, start)
        index = read_index(folder, start)
        check_class(index, start)
        check_texts(index["_class_name"], {one.name for one in components(folder, index)}, start)
        if variant := weights_variant(folder, index):
            options["variant"] = variant
    try:
        with _quiet():
            pipe = loader.from_pretrained(name, dtype=dtype, local_files_only=local, **options)
    except RDAAMError:
        raise
    except Exception as error:
        # Whatever is wrong with a model's files, each library has an exception of its own for it.
        from diffusers_rdaam.checkpoints.failures import loading_reason

        raise InputError(f"{start}: {loading_reason(error, name, index)}.") from error
    _check_weights(pipe, start)
    return pipe


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
        total, drawn = len(list(model.parameters())), random_weights(model)
        # Without any of them it is not this model, and there is nothing to go on with.
        if lacking := empty_weights(model) or (drawn if len(drawn) == total else []):
            other = f", so they are of another model than {type(model).__name__}"
            other = other if len(lacking) == total else ""
            raise InputError(
                f"{start}: the files of {name}/ lack {listed(lacking, total)}{other}. {CURE}"
            )
        if drawn:
            warnings.warn(
                f"The files of {name}/ lack {listed(drawn, total)}: random numbers stand in "
                f"their place, and images that depend on them are not the model's. {CURE}",
                IncompleteModelWarning,
                stacklevel=3,
            )

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
from diffusers_rdaam.checkpoints.tokenizers import tokenizer_fault
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
    _check_weights(pipe, start, options.get("variant"))
    _check_tokenizers(pipe, start)
    return pipe


def _check_tokenizers(pipe: Any, start: str) -> None:
    """Refuse a pipeline with a tokenizer that cannot read a prompt.

    Raises:
        InputError: as it says.
    """
    for name, part in pipe.components.items():
        if "tokenizer" in name and (fault := tokenizer_fault(name, part, pipe.components)):
            raise InputError(f"{start}: {fault}.")


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


def _check_weights(pipe: Any, start: str, variant: str | None) -> None:
    """Refuse a pipeline whose weights are not those of its files, and warn where it may run.

    Raises:
        InputError: weights have no values, or layers of a denoiser are left out.
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
        _check_unread(name, model, start, variant)


def _check_unread(name: str, model: Any, start: str, variant: str | None) -> None:
    """Refuse a denoiser with fewer layers than its files have, and warn of others.

    Raises:
        InputError: as it says.
    """
    from diffusers import ModelMixin

    from diffusers_rdaam.checkpoints.unread import unread_layers, unread_weights

    unread, is_of_diffusers = unread_weights(model, variant), isinstance(model, ModelMixin)
    settings, said = f"{name}/config.json", ""
    if layers := unread_layers(model, unread):
        said = (
            f"{settings} declares {layers.declared} {layers.name}, and its files have "
            f"{layers.present}"
        )
        if is_of_diffusers:
            raise InputError(
                f"{start}: {said}, so that {len(unread)} of their weights would be left out, and "
                f"images would not be the model's. Correct the number in {settings}; for a model "
                "of fewer layers, write the folder anew with pipe.save_pretrained."
            )
        # Some leave out the last ones on purpose.
        said = f"{said}: the last are left out, as CLIP skip does"
    elif unread and is_of_diffusers:
        # Files of text encoders often hold other parts of a larger model.
        said = (
            f"The files of {name}/ have more weights than {settings} has a place for: "
            f"{len(unread)}, such as {unread[0]}. They are left out"
        )
    if said:
        warnings.warn(
            f"{said}, and images are not those of the whole model. If this is not meant, compare "
            f"{settings} with the original's.",
            IncompleteModelWarning,
            stacklevel=4,
        )

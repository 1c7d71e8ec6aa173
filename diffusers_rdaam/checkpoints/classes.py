"""The pipeline class that an index names, looked up in the installed diffusers."""

from __future__ import annotations

import difflib
import re
from typing import Any

from diffusers_rdaam.checkpoints.folder import CURE, INDEX
from diffusers_rdaam.errors import InputError

# diffusers had pipelines of JAX, and has none any more.
_OF_JAX = "Flax"


def check_class(index: dict[str, Any], start: str) -> None:
    """Refuse an index whose class is not a pipeline of the installed diffusers.

    Args:
        index: the entries of ``model_index.json``.
        start: how an error begins.

    Raises:
        InputError: as it says.
    """
    import diffusers

    name, base = index["_class_name"], diffusers.DiffusionPipeline
    found = getattr(diffusers, name, None)
    if found is None:
        raise InputError(f"{start}: {_unknown(index)}")
    if is_placeholder(found):
        return
    if not isinstance(found, type) or not issubclass(found, base) or found is base:
        raise InputError(
            f"{start}: its {INDEX} names {name} as _class_name, which diffusers has, but not as "
            f"the class of a pipeline. {CURE}"
        )


def check_texts(name: str, named: set[str], start: str) -> None:
    """Refuse an index without what its class encodes a prompt with, which diffusers lets pass.

    Args:
        name: of the pipeline's class.
        named: the components of the index.
        start: how an error begins.

    Raises:
        InputError: as it says.
    """
    import diffusers

    found = getattr(diffusers, name, None)
    if is_placeholder(found):
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


def is_placeholder(found: Any) -> bool:
    """Whether a class stands for one of a library that is not installed; it says so itself."""
    return isinstance(found, type) and "_backends" in vars(found)


def library_version(library: str) -> str:
    """A library's name and installed version, such as ``"diffusers 0.42.1"``."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return library


def _is_newer(written: Any) -> bool:
    """Whether a folder was written by a newer diffusers than the installed one."""
    import diffusers
    from packaging.version import InvalidVersion, Version

    try:
        return Version(written) > Version(diffusers.__version__)
    except (InvalidVersion, TypeError):
        return False


def _unknown(index: dict[str, Any]) -> str:
    import diffusers

    name, written = index["_class_name"], index.get("_diffusers_version")
    text = f"its {INDEX} names {name} as _class_name, which {library_version('diffusers')} lacks"
    if name.startswith(_OF_JAX):
        return (
            f"{text}: it is for JAX. Take the model's folder for PyTorch, whose class is "
            f"{name.removeprefix(_OF_JAX)}."
        )
    by = f" (diffusers {written} wrote the folder)" if _is_newer(written) else ""
    known = [one for one in dir(diffusers) if one.endswith("Pipeline")]
    nearest = difflib.get_close_matches(name[:200], known, n=2, cutoff=0.8)
    typo = f", or the name is misspelt: {' or '.join(nearest)}" if nearest else ""
    return (
        f"{text}{by}. A newer version may have it (pip install --upgrade diffusers){typo}. A class "
        "of your own is loaded in Python and recorded with record_attention(pipe)."
    )

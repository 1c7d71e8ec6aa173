"""Libraries of the extra ``datasets``, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

from diffusers_rdaam.errors import DataSetsExtraError


def needed(module: str, what: str) -> Any:
    """A module of the extra.

    Args:
        module: its name, such as ``"h5py"``.
        what: what it is needed for, for the error.

    Raises:
        DataSetsExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataSetsExtraError(
            f"{what} needs {module.partition('.')[0]}. Install it with: "
            'pip install "diffusers_rdaam[datasets]"'
        ) from error

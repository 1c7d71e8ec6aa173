"""BatchSettings: all that decides the bytes of a batch, and nothing else."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import diffusers_rdaam
from diffusers_rdaam.argument_checks import check_choice, check_count, real_number
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.images.attribute import ImageRequest
from diffusers_rdaam.suggestions import check_keywords

# What writes the bytes: another version may write others.
_LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "pillow", "pyarrow")
_MAX_GUIDANCE = 1000.0
DType = Literal["float32", "float16", "bfloat16"]
# Settings that are whole numbers, and the least that each may be.
_COUNTS = {
    **{"steps": 1, "height": 8, "width": 8, "rows_per_file": 1},
    **{"threads": 1, "seed": 0},
}
# Of attribute_image: what a row does not say itself.
_OF_IMAGES = ("method", "noise", "draws", "steps", "solver", "until")
# Rows of a file: few files where there are many rows, and work for several workers where few.
_FILES = 32
_LEAST_ROWS, _MOST_ROWS = 4, 256


@dataclass(frozen=True)
class BatchSettings:
    """What decides the bytes of a batch.

    Workers, their machines and the number of tries are not among it: the same settings give the
    same bytes with all of them, on processors of one kind.

    Args:
        model: a diffusers folder or hub id; None for the embedded Stable Diffusion, ``"demo-flux"``
            for the embedded FLUX.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"``; by device if None.
        device: such as ``"cuda"``; of a worker.
        steps, guidance_scale, height, width: of the call; the model's own if None. A row's
            ``size`` comes before ``height`` and ``width``.
        seed: of the first row; every row without a seed has this plus its index.
        image_options: ``method``, ``noise``, ``draws``, ``steps``, ``solver`` and ``until`` of
            :func:`attribute_image`, for rows with an image.
        rows_per_file: of the Parquet files; by the number of rows if None.
        folder: whether images and attributions are written as files as well.
        threads: of each worker, on a processor.

    Raises:
        InputError: one of them is wrong.
    """

    model: str | None = None
    dtype: str | None = None
    device: str = "cpu"
    steps: int | None = None
    guidance_scale: float | None = None
    height: int | None = None
    width: int | None = None
    seed: int = 0
    image_options: Mapping[str, Any] = field(default_factory=dict)
    rows_per_file: int | None = None
    folder: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        for name, least in _COUNTS.items():
            value = getattr(self, name)
            if value is not None or name in ("threads", "seed"):
                # As Python's own numbers, whatever they came as: settings are written as JSON.
                object.__setattr__(self, name, check_count(value, f"{name}=", least=least))
        for name in ("height", "width"):
            value = getattr(self, name)
            if value is not None and value % 8:
                raise InputError(f"{name}= is a multiple of 8 pixels; got {value}.")
        if (self.height is None) != (self.width is None):
            raise InputError("height= and width= are given together, or neither of them.")
        if self.guidance_scale is not None:
            object.__setattr__(self, "guidance_scale", _guidance(self.guidance_scale))
        if self.dtype is not None:
            check_choice(self.dtype, DType, "a dtype")
        for name, kind, words in (
            ("model", (str, type(None)), "a folder, a hub id or None"),
            ("device", str, "such as 'cuda'"),
            ("folder", bool, "True or False"),
        ):
            if not isinstance(getattr(self, name), kind):
                raise InputError(f"{name}= is {words}; got {getattr(self, name)!r:.80}.")
        object.__setattr__(self, "image_options", _image_options(self.image_options))

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of rows that have no size; None for the model's own."""
        if self.height is None or self.width is None:
            return None
        return self.height, self.width

    def rows_of_files(self, rows: int) -> int:
        """How many rows a file has, of a batch of so many."""
        if self.rows_per_file is not None:
            return self.rows_per_file
        return min(max(math.ceil(rows / _FILES), _LEAST_ROWS), _MOST_ROWS)

    def identity(self) -> dict[str, Any]:
        """The settings as plain values, with the model's files and the libraries' versions."""
        plain = asdict(self)
        plain["image_options"] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in sorted(self.image_options.items())
        }
        return {**plain, "model_files": model_files(self.model), "versions": versions()}


def _guidance(value: Any) -> float:
    scale = real_number(value)
    if scale is None or not 0.0 <= scale <= _MAX_GUIDANCE:
        raise InputError(
            f"guidance_scale= is a number from 0 to {_MAX_GUIDANCE:g}; got {value!r:.80}."
        )
    return scale


def _image_options(given: Any) -> dict[str, Any]:
    """The options of rows with an image, checked here: each of these rows would fail by one."""
    if not isinstance(given, Mapping):
        raise InputError(
            f"image_options= are names and values, such as {{'noise': 0.3}}; got {given!r:.80}."
        )
    check_keywords(given, _OF_IMAGES, "image_options")
    request = ImageRequest(**given)
    return {name: getattr(request, name) for name in given}


def versions() -> dict[str, str]:
    """The versions of what writes the bytes."""
    found = {"diffusers_rdaam": diffusers_rdaam.__version__}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def model_files(model: str | None) -> str | None:
    """A digest of a model's folder: the names and sizes of its files, and its settings.

    None where the model is not a folder. Weights are not read: they may have hundreds of gigabytes.
    """
    if model is None or not Path(model).is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(Path(model).rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.parts[-2:]):
            name = path.relative_to(model).as_posix()
            digest.update(f"{name} {path.stat().st_size}\n".encode())
            if path.suffix == ".json":
                digest.update(path.read_bytes())
    return digest.hexdigest()


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What two identities differ in, each as ``"steps (20 there, 30 now)"``."""
    lines = []
    for name in sorted({*wanted, *found}):
        now, there = wanted.get(name), found.get(name)
        if name == "versions" and isinstance(now, dict) and isinstance(there, dict):
            lines += differences(now, there)
        elif now != there:
            lines.append(f"{name} ({str(there)[:60]} there, {str(now)[:60]} now)")
    return lines

"""Safetensors: written from tensors, and read with every number of the table checked before.

Not read by the library of that name: it does not say what a tensor costs before it makes room for
it, takes a field that occurs twice, and waits for ever for a pipe.
"""

from __future__ import annotations

import functools
import io
import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from diffusers_rdaam.errors import AttributionFileError
from diffusers_rdaam.files.fields import Check, is_count, is_text, shown
from diffusers_rdaam.files.json_text import parse_json
from diffusers_rdaam.files.opening import opened
from diffusers_rdaam.files.writing import check_suffix, replacing

MAX_TABLE = 64_000_000  # bytes; our own headers have fewer characters
MAX_AXES = 16
# Bytes of an element, by the name that safetensors has for its type.
_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
# Widest first: a reader that maps the file may want each aligned.
TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.uint8: "U8",
}
_DTYPES = {name: dtype for dtype, name in TYPES.items()}
# As numpy reads them; it has no bfloat16.
_STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<i2", "U8": "u1"}

# Of each format of this package, for readers of the others.
_WHAT_READS = {
    "diffusers_rdaam.attribution": " It is an attribution: Attribution.load reads it.",
    "diffusers_rdaam.video": " It is a video attribution: VideoAttribution.load reads it.",
    "diffusers_rdaam.queries": " It is a file of queries: Queries.load reads it.",
    "diffusers_rdaam.saved_attention": " It is saved attention: SavedAttention.load reads it.",
    "diffusers_rdaam.token": " It is an optimised token: OptimizedToken.load reads it.",
    "diffusers_rdaam.daam_experiment": (
        " It is an experiment: GenerationExperiment.load of diffusers_rdaam.compat.daam reads its "
        "folder."
    ),
}


@dataclass(frozen=True)
class FileKind:
    """A format of ours: safetensors whose metadata have a JSON header.

    Args:
        format, version: as the metadata name them.
        field: of the metadata that is the header.
        noun: what such a file holds, for errors.
        otherwise: what is said of a file of another format.
        earlier: versions that are read as well.
    """

    format: str
    version: str
    field: str
    noun: str
    otherwise: str
    earlier: tuple[str, ...] = ()

    def header(self, file: TensorFile) -> Any:
        """The value of the JSON header.

        Raises:
            AttributionFileError: it is a file of something else, or of another version.
        """
        metadata = file.metadata
        if metadata.get("format") != self.format:
            raise AttributionFileError(
                f"{file.path} is a safetensors file, but {self.otherwise}"
                f"{_WHAT_READS.get(metadata.get('format', ''), '')}"
            )
        version = metadata.get("version", "")
        if version not in (self.version, *self.earlier):
            several = "s" if self.earlier else ""
            known = " and ".join((*self.earlier, self.version))
            raise AttributionFileError(
                f"{file.path} has format version {version[:20]!r}; this release reads "
                f"version{several} {known}. Load it with the release that wrote it, or generate "
                "again."
            )
        return Check(file.path, self.noun).json(metadata.get(self.field, ""))

    def metadata(self, header: str) -> dict[str, str]:
        """The metadata of a file with this header."""
        return {"format": self.format, "version": self.version, self.field: header}


@dataclass(frozen=True)
class TensorSpec:
    """The entry of a tensor in a file's table, before the tensor is read.

    Args:
        dtype: by safetensors' name, such as ``"F32"``.
        shape: sides.
        start: first byte, from the end of the table.
    """

    dtype: str
    shape: list[int]
    start: int = 0

    @classmethod
    def of(cls, tensor: Tensor) -> TensorSpec:
        """The entry of this tensor in a file's table."""
        name = TYPES.get(tensor.dtype, str(tensor.dtype).removeprefix("torch."))
        return cls(name, list(tensor.shape))

    @property
    def cells(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class TensorFile:
    """An open safetensors file, its table checked; tensors are read one by one.

    Args:
        path: of the file.
        file: open for reading.
        data: where the table ends.
        metadata: texts by name.
        specs: of every tensor, by its name.
    """

    path: Path
    file: BinaryIO
    data: int
    metadata: dict[str, str]
    specs: dict[str, TensorSpec]

    def read(self, name: str) -> Tensor:
        """A tensor, in memory of its own: it does not change when the file does.

        Raises:
            AttributionFileError: the file was cut off meanwhile.
        """
        spec = self.specs[name]
        array = np.empty(spec.shape, dtype=_STORED[spec.dtype])
        if array.size:
            view = array.reshape(-1).view(np.uint8).data
            try:
                self.file.seek(self.data + spec.start)
                while view and (count := self.file.readinto(view)):  # type: ignore[attr-defined]  # a raw file has it
                    view = view[count:]
            except OSError as error:
                raise AttributionFileError(_not_whole(self.path, str(error))) from error
            if view:
                raise AttributionFileError(
                    _not_whole(self.path, "it was cut off while it was read")
                )
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        tensor = torch.from_numpy(native)
        return (
            tensor.view(torch.bfloat16) if spec.dtype == "BF16" else tensor.to(_DTYPES[spec.dtype])
        )

    def finite(self, name: str, check: Check) -> Tensor:
        """:meth:`read`, and a check that no value is NaN or infinite."""
        tensor = self.read(name)
        check_finite(name, tensor, check)
        return tensor


def check_finite(name: str, tensor: Tensor, check: Check) -> None:
    """A check that no value of a tensor is NaN or infinite."""
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        problem = f"{name.replace('.', ' ')} has values that are not finite"
        if check.writing:
            check.fail(
                f"{problem}, most often because half precision overflowed in the model",
                cure="Nothing was written. Run the model in float32 or bfloat16.",
            )
        check.fail(problem)


@contextmanager
def open_tensors(path: Path, noun: str, content: bytes | None = None) -> Iterator[TensorFile]:
    """A safetensors file with a valid table: no holes, no overlaps, nothing beyond the end.

    Args:
        path: of the file.
        noun: what it should hold, for errors.
        content: its bytes, where they are in memory; ``path`` is their name in errors then.

    Raises:
        AttributionFileError: there is no such regular file, or it is not whole.
    """
    name = noun if "file" in noun else f"{noun} file"
    with opened(path, name) if content is None else io.BytesIO(content) as file:
        try:
            metadata, specs, data = _table(file)
        except (ValueError, OSError) as error:
            raise AttributionFileError(_not_whole(path, str(error)[:300])) from error
        yield TensorFile(path, file, data, metadata, specs)


def _not_whole(path: Path, why: str) -> str:
    return f"{path} is not a whole safetensors file ({why}). It may be cut off; save it again."


def _table(file: BinaryIO) -> tuple[dict[str, str], dict[str, TensorSpec], int]:
    """Metadata, what is said of each tensor, and where the table ends. Raises ValueError."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    first = file.read(8)
    if len(first) < 8:
        raise ValueError("it has no table")
    length = struct.unpack("<Q", first)[0]
    if length > min(size - 8, MAX_TABLE):
        raise ValueError(f"its table would have {length} bytes")
    raw = b""
    while len(raw) < length and (part := file.read(length - len(raw))):
        raw += part
    table = parse_json(raw.decode(), limit=MAX_TABLE) if len(raw) == length else None
    if not isinstance(table, dict):
        raise ValueError("its table is not an object")
    metadata = table.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(x, str) for x in metadata.values()):
        raise ValueError("its metadata are not texts")
    specs = {name: _spec(name, entry) for name, entry in table.items()}
    end = 0
    for name, spec in sorted(specs.items(), key=lambda item: (item[1].start, item[1].cells)):
        if spec.start != end:
            raise ValueError(f"the tensor {shown(name)!r} begins at byte {spec.start}, not {end}")
        end += spec.cells * _BYTES[spec.dtype]
    if end != size - 8 - length:
        raise ValueError(f"its tensors have {end} bytes, and {size - 8 - length} are there")
    return metadata, specs, 8 + length


def _spec(name: str, entry: Any) -> TensorSpec:
    if not is_text(name) or not isinstance(entry, dict):
        raise ValueError(f"{shown(ascii(name))} is not a tensor")
    dtype: Any = entry.get("dtype")
    shape: Any = entry.get("shape")
    offsets: Any = entry.get("data_offsets")
    right = isinstance(dtype, str) and dtype in _BYTES
    right = right and isinstance(shape, list) and len(shape) <= MAX_AXES
    right = right and all(map(is_count, shape))
    right = (
        right and isinstance(offsets, list) and len(offsets) == 2 and all(map(is_count, offsets))
    )
    if not right or offsets[1] - offsets[0] != math.prod(shape) * _BYTES[dtype]:
        raise ValueError(f"the tensor {shown(name)!r} is said to be {shown(entry)}")
    return TensorSpec(dtype, shape, offsets[0])


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    noun: str,
) -> Path:
    """Write a safetensors file, whole or not at all, one tensor at a time; returns its path.

    Not by the library's ``save``, which needs twice the file in memory, nor its ``save_file``,
    which makes files that only their owner may read; both refuse tensors that share memory.

    Args:
        path: of the file; its name may not end as files of another format do.
        tensors: of any device and layout.
        metadata: texts by name.
        noun: what is written, for errors.

    Raises:
        InputError: the folder does not exist or may not be written; a name or type is not possible.
    """
    check_suffix(path, noun)
    parts = list(tensor_parts(path, tensors, metadata, noun=noun))
    with replacing(path, noun) as file:
        for part in parts:
            file.write(part())
    return path


def tensor_parts(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    noun: str,
) -> Iterator[Callable[[], bytes | memoryview]]:
    """The parts of a safetensors file in order, each made when it is called.

    Args, Raises: as :func:`write_tensors`; nothing is written to ``path``.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in TYPES or not is_text(name) or name == "__metadata__":
            Check(path, noun, writing=True).fail(
                f"the tensor {ascii(name)[:80]} of type {tensor.dtype} has no place in a file"
            )
    order = list(TYPES)
    names = sorted(tensors, key=lambda name: order.index(tensors[name].dtype))
    table: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        spec = TensorSpec.of(tensors[name])
        start, end = end, end + spec.cells * _BYTES[spec.dtype]
        table[name] = {"dtype": spec.dtype, "shape": spec.shape, "data_offsets": [start, end]}
    head = json.dumps(table, ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    if len(head) > MAX_TABLE:
        Check(path, noun, writing=True).fail(f"its table would have {len(head)} bytes")
    yield lambda: struct.pack("<Q", len(head)) + head
    for name in names:
        yield functools.partial(_stored, tensors[name])


def _stored(tensor: Tensor) -> memoryview:
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.contiguous().view(torch.int16)
    array = tensor.numpy()
    # No copy where the machine's own order of bytes is the file's.
    ordered = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return ordered.reshape(-1).view(np.uint8).data

"""Compiles what the launchers launch, for GPUs that are not there.

Tensors on the ``meta`` device go through the launchers; in place of a launch the kernel is compiled
with the argument types, alignments and options of that launch, as Triton's own launcher would.
``python -m tests.kernels.compilation 80 90`` prints one line of JSON for each kernel: registers,
stack (spilled registers) and shared memory in bytes, how many instructions of the matrix units
there are, how many that load or store two bytes, which arguments are compiled in because they are
1, and whether it counts. With ``--one-row`` it is the calls that are used most alone: a guided one
of one image, whose second row is recorded.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from diffusers_rdaam.kernels import fused, fused_long, fused_text

_TYPES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.int32: "i32",
    torch.bool: "i1",
}
_TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
KERNELS = {
    "attend_to_text": fused_text,
    "fold_shares": fused_text,
    "attend_and_sum": fused_long,
    "add_columns": fused_long,
}


class Compiles:
    """Stands where a kernel stands; a launch compiles it."""

    def __init__(self, kernel: Any, capability: int, facts: dict[str, Any]) -> None:
        self._kernel, self._capability, self._facts = kernel, capability, facts

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*arguments: Any, **named: Any) -> None:
            warps, stages = named.pop("num_warps", 4), named.pop("num_stages", 3)
            self._compile(arguments, named, {"num_warps": warps, "num_stages": stages})

        return launch

    def _compile(
        self, arguments: tuple[Any, ...], named: dict[str, Any], options: dict[str, int]
    ) -> None:
        signature: dict[str, str] = {}
        constants: dict[tuple[int], Any] = {}
        attributes: dict[tuple[int], list[list[Any]]] = {}
        ones = []
        for index, name in enumerate(self._kernel.arg_names):
            value = named[name] if name in named else arguments[index]
            if name in named or (isinstance(value, int) and value == 1):
                signature[name], constants[(index,)] = "constexpr", value
                ones += [] if name in named else [name]
                continue
            if isinstance(value, torch.Tensor):
                signature[name] = f"*{_TYPES[value.dtype]}"
            else:
                signature[name] = "fp32" if isinstance(value, float) else "i32"
            if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
                attributes[(index,)] = [["tt.divisibility", 16]]
        compiled = triton.compile(
            ASTSource(self._kernel, signature, constants, attributes),
            target=GPUTarget("cuda", self._capability, 32),
            options=options,
        )
        code = compiled.asm["ptx"]
        found = {
            "kernel": self._kernel.fn.__name__,
            "capability": self._capability,
            "shared": compiled.metadata.shared,
            **_usage(compiled.asm["cubin"]),
            "wgmma": code.count("wgmma.mma_async"),
            "tcgen05": code.count("tcgen05.mma"),
            "mma": code.count("mma.sync"),
            "narrow": len(re.findall(r"[ls][dt]\.global(?:\.\w+)*\.[bu]16\b", code)),
            "block": named["BLOCK"],
            "ones": ones,
            "counts": named.get("COUNTS", False),
        }
        print(json.dumps(self._facts | found), flush=True)


def _usage(binary: bytes) -> dict[str, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        done = subprocess.run(
            [str(_TOOL), "-res-usage", file.name], capture_output=True, text=True, check=True
        )
    return {
        name: int(re.findall(rf"{word}:(\d+)", done.stdout)[-1])
        for name, word in (("registers", "REG"), ("stack", "STACK"))
    }


# Rows, heads, positions, columns, channels, type: SD1.5's levels, SDXL's, long prompts, float32, a
# head that is no multiple of 8, more columns than a tile, joint attention of 24 heads of 128.
CASES = [
    (2, 8, 4096, 77, 40, "float16"),
    (2, 8, 1024, 77, 80, "float16"),
    (2, 8, 256, 77, 160, "float16"),
    (2, 10, 4096, 77, 64, "float16"),
    (2, 20, 1024, 77, 64, "bfloat16"),
    (2, 8, 4096, 154, 40, "float16"),
    (2, 8, 4096, 77, 40, "float32"),
    (2, 8, 4096, 512, 40, "float16"),
    (2, 4, 35, 7, 5, "float16"),
    (1, 24, 4096, 4608, 128, "bfloat16"),
]

# Joint attention of FLUX's and Stable Diffusion 3's size: the columns of a prompt, with the
# log-sum-exp over all keys.
JOINT = [(1, 24, 4096, 32, 128, "bfloat16"), (1, 24, 4096, 64, 64, "float16")]


def _vectors(rows: int, heads: int, count: int, channels: int, dtype: str) -> torch.Tensor:
    shape = (rows, count, heads, channels)
    return torch.empty(shape, dtype=getattr(torch, dtype), device="meta").transpose(1, 2)


def _planes(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    high = torch.empty(shape, dtype=torch.float16, device="meta")
    return high, torch.empty_like(high)


WAYS = ("attend", "maps_only", "per_head", "masked", "chosen")
ONE_ROW = ("attend one row", "maps_only one row", "uncounted")
UNCOUNTED = (CASES[0], "uncounted")


def compile_case(case: tuple[Any, ...], way: str) -> None:
    """Launch one case in one way, one of :data:`WAYS` or :data:`ONE_ROW`."""
    rows, heads, positions, columns, channels, dtype = case
    query = _vectors(rows, heads, positions, channels, dtype)
    key = _vectors(rows, heads, columns, channels, dtype)
    count = torch.empty(1, dtype=torch.int32, device="meta")
    high, low = _planes(rows, columns, positions)
    if way in ONE_ROW:
        planes = _planes(1, columns, positions)
        if way == "maps_only one row":
            fused.accumulate(query, key, *planes, first=1, scale=0.1, count=count)
        else:
            counted = None if way == "uncounted" else count
            fused.attend(query, key, key, *planes, first=1, scale=0.1, count=counted)
    elif way == "attend":
        fused.attend(query, key, key, high, low, first=0, scale=0.1, count=count)
    elif way == "maps_only":
        fused.accumulate(query, key, high, low, scale=0.1, count=count)
    elif way == "columns":
        lse = torch.empty(rows, heads, positions, dtype=torch.float32, device="meta")
        fused.accumulate(query, key, high, low, scale=0.1, lse=lse, count=count)
    elif way == "per_head":
        planes = _planes(rows, heads, columns, positions)
        fused.accumulate(query, key, *planes, scale=0.1, count=count)
    else:
        kind = torch.bool if way == "chosen" else query.dtype
        mask = torch.empty(rows, 1, 1, columns, dtype=kind, device="meta")
        fused.attend(query, key, key, high, None, first=0, mask=mask, scale=0.1)


def main(arguments: list[str]) -> None:
    """Compile every case for the compute capabilities, written ``80`` for 8.0."""
    kernels = {name: getattr(module, name) for name, module in KERNELS.items()}
    if "--one-row" in arguments:
        # The largest sites of SD1.5 and SDXL.
        chosen = [(case, way) for case in (CASES[0], CASES[3]) for way in ONE_ROW[:2]]
        chosen.append(UNCOUNTED)
    else:
        # The first cases in every way, the others as they are used most.
        chosen = [
            (case, way) for case in CASES for way in (WAYS if case in CASES[:2] else WAYS[:2])
        ]
        chosen += [(case, "columns") for case in JOINT]
    capabilities = [int(number) for number in arguments if number != "--one-row"]
    for capability, (case, way) in itertools.product(capabilities or [80, 90], chosen):
        # What it shows is the same everywhere, and each takes seconds.
        if (case, way) == UNCOUNTED and capability != 90:
            continue
        for name, module in KERNELS.items():
            facts = {"case": case, "way": way}
            setattr(module, name, Compiles(kernels[name], capability, facts))
        compile_case(case, way)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Products as a device makes them that rounds float32 as its settings say, emulated on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_BITS = {"tf32": 11, "bf16": 8}
_NAMES = ("mm", "bmm", "mv", "dot", "addmm", "baddbmm")


def rounded(tensor, bits):
    """Float32 with so many significant bits, to the nearest."""
    lost = 2 ** (24 - bits)
    whole = tensor.contiguous().view(torch.int32)
    return ((whole + lost // 2) & -lost).view(torch.float32)


class RoundingProducts(TorchDispatchMode):
    """Rounds what float32 products multiply where the setting of ``kind``'s devices says so.

    Products of halves into float32, which a CPU has not, are those of the same float32 numbers;
    with ``allow_fp16_accumulation`` those of float16 are refused, as by CUDA builds.

    Args:
        kind: ``"cuda"`` or ``"cpu"``.

    Attributes:
        seen: the number of products whose numbers were rounded.
    """

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        packet = function.overloadpacket.__name__
        if packet not in _NAMES:
            return function(*args, **(kwargs or {}))
        if function is torch.ops.aten.bmm.dtype:
            return self._of_halves(*args)
        added, factors = args[:-2], args[-2:]
        if factors[0].dtype == torch.float32:
            matmul = torch.backends.cuda.matmul
            if self.kind == "cpu":
                matmul = torch.backends.mkldnn.matmul
            bits = _BITS.get(matmul.fp32_precision)
            if bits is not None:
                self.seen += 1
                factors = [rounded(factor, bits) for factor in factors]
        return function(*added, *factors, **(kwargs or {}))

    def _of_halves(self, left, right, dtype):
        assert left.dtype == right.dtype in (torch.float16, torch.bfloat16)
        if left.dtype == torch.float16 and torch.backends.cuda.matmul.allow_fp16_accumulation:
            raise RuntimeError("not supported with allowFP16AccumulationCuBLAS")
        assert dtype == torch.float32
        return torch.bmm(left.double(), right.double()).float()


@contextmanager
def settings_kept() -> Iterator[None]:
    """Set torch's settings of products in the block as you like."""
    try:
        yield
    finally:
        # Both: each API of torch's leaves something of the other's behind.
        torch.backends.cuda.matmul.fp32_precision = "none"
        torch.backends.mkldnn.matmul.fp32_precision = "none"
        torch.backends.fp32_precision = "none"
        torch.set_float32_matmul_precision("highest")
        torch.backends.cuda.matmul.fp32_precision = "none"
        torch.backends.mkldnn.matmul.fp32_precision = "none"
        torch.backends.cuda.matmul.allow_fp16_accumulation = False

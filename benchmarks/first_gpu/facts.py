"""The machine, as a process of its own sees it: ``python -m benchmarks.first_gpu.facts FILE``.

The command that runs the steps holds no device and loads no torch: a driver that hangs would take
it along.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from benchmarks.header import header


def facts() -> dict[str, str]:
    """The header of every benchmark, the device and its compute capability, written ``90``."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = header(device)
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        found |= {"name": torch.cuda.get_device_name(), "capability": f"{major}{minor}"}
        found["devices"] = str(torch.cuda.device_count())
    return found


def main(arguments: list[str]) -> None:
    """Write the facts and print them."""
    text = json.dumps(facts(), indent=2)
    Path(arguments[0]).write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])

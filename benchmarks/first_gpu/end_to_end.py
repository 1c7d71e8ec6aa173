"""The embedded pipeline from end to end, as ``python -m …end_to_end [check …]`` runs it.

On a processor too, where what only a device has is skipped with its reason.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import torch

from benchmarks.first_gpu import pipeline_checks, queue_checks
from benchmarks.first_gpu.host import embedded_host
from benchmarks.first_gpu.pipeline_checks import NAME, Check
from benchmarks.first_gpu.scripts import keep_to_one_thread, run_checks
from diffusers_rdaam.demo.loader import STEPS

CHECKS: dict[str, Check] = {
    "backends": pipeline_checks.check_backends,
    "processors": pipeline_checks.check_processors,
    "offload": pipeline_checks.check_offload,
    "inference_mode": pipeline_checks.check_inference_mode,
    "bfloat16": pipeline_checks.check_bfloat16,
    "four_images": pipeline_checks.check_four_images,
    "synchronisation": queue_checks.check_synchronisation,
    "second_device": pipeline_checks.check_second_device,
    "graph_capture": queue_checks.check_graph_capture,
    "compiled": pipeline_checks.check_compiled,
    "reduce_overhead": pipeline_checks.check_reduce_overhead,
}


def main(arguments: list[str]) -> int:
    """Run the named checks, or all; exit status 1 where one fails."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_gpu.end_to_end", description=__doc__
    )
    parser.add_argument("checks", nargs="*", metavar="check", help=f"of {', '.join(CHECKS)}")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--inference-steps", type=int, default=STEPS, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.checks if name not in CHECKS]
    if unknown:
        parser.error(f"{unknown[0]!r} is not a check. Checks: {', '.join(CHECKS)}.")
    if given.inference_steps < 2:
        parser.error(
            f"--inference-steps {given.inference_steps}: what happens between two steps is "
            "looked at. Give 2 or more."
        )
    keep_to_one_thread(given.device)
    host = embedded_host(given.device, given.inference_steps)
    chosen = {name: partial(CHECKS[name], host) for name in given.checks or CHECKS}
    return run_checks(NAME, chosen, given.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

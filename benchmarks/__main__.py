"""``python -m benchmarks [name …]``: runs benchmarks, prints their tables, says what is met."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.guards import Guards


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: a module of this package, whose docstring describes it.

    It has ``run(*, full) -> list[Row]``, which may take ``device``, ``files`` and ``seed``. It may
    have ``tables() -> list[Table]``, called after ``run``, and ``GUARDS``, the tests without which
    its times are worth nothing, with ``GUARDS_ON``, more of them by device.

    Args:
        module: in this package or a folder of it; imported only when it is run.
        quick: runs when no name is given.
        command: has options of its own, read by its ``main(arguments)`` where its name comes first.
    """

    module: str
    quick: bool = True
    command: bool = False


BENCHMARKS = {
    "identity": Benchmark("identity"),
    "backends": Benchmark("backends", quick=False),
    "accuracy": Benchmark("accuracy"),
    "parity": Benchmark("parity"),
    "memory": Benchmark("memory"),
    "recording_cost": Benchmark("recording_cost"),
    "overhead": Benchmark("overhead"),
    "growth": Benchmark("growth"),
    "roofline": Benchmark("roofline"),
    "sweep": Benchmark("sweep", quick=False, command=True),
    "gpu": Benchmark("gpu"),
    "cost": Benchmark("cost", quick=False),
    "sdxl": Benchmark("sdxl"),
    "records": Benchmark("records"),
    "queries": Benchmark("queries"),
    "joint": Benchmark("joint_cost", quick=False),
    "self_attention": Benchmark("self_attention", quick=False),
    "compile": Benchmark("compiled"),
    "latency": Benchmark("latency"),
    "import_time": Benchmark("import_time"),
    "layout": Benchmark("layout"),
    "viewer": Benchmark("viewer", quick=False),
    "embedded": Benchmark("embedded_model", quick=False),
    "faithfulness": Benchmark("faithfulness", quick=False, command=True),
    "gradients": Benchmark("gradients", quick=False),
    "refinement": Benchmark("refinement", quick=False),
    "blocks": Benchmark("blocks", quick=False),
    "recipes": Benchmark("recipes", quick=False),
    "truth": Benchmark("truth.command", quick=False, command=True),
    "levels": Benchmark("levels", quick=False),
    "concepts": Benchmark("concepts", quick=False),
    "masks": Benchmark("masks", quick=False),
    "aggregations": Benchmark("aggregations", quick=False),
    "segmentation": Benchmark("segmentation", quick=False),
    "tokens": Benchmark("demo_tokens", quick=False),
    "interrupts": Benchmark("interrupts", quick=False, command=True),
    "fuzz": Benchmark("fuzz", quick=False),
    "leaks": Benchmark("leaks", quick=False, command=True),
    "batch": Benchmark("batch", quick=False, command=True),
    "first_gpu": Benchmark("first_gpu.command", quick=False, command=True),
}


def main(arguments: list[str] | None = None, *, guards: Guards | None = None) -> int:
    """Exit status: 1 if a deterministic goal is missed (with ``--strict`` any goal), else 0.

    Args:
        arguments: of the command line, if not the process's own.
        guards: what runs the tests that guard times, if not in this repository.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    first = BENCHMARKS.get(arguments[0]) if arguments else None
    if first is not None and first.command:
        return importlib.import_module(f"{__package__}.{first.module}").main(arguments[1:])
    parser = _parser()
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"{unknown[0]!r} is no benchmark. Benchmarks: {', '.join(BENCHMARKS)}.")
    if given.list:
        for name, benchmark in BENCHMARKS.items():
            print(f"{name:<16} {_description(benchmark)}")
        return 0
    import torch

    from benchmarks.harness import Options, measure
    from benchmarks.header import header
    from benchmarks.report import as_json, as_markdown, failures, summary

    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device. Give --device cpu, or neither.")
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    # Timing sees one thread only.
    torch.set_num_threads(1)
    names = given.names or [name for name, entry in BENCHMARKS.items() if entry.quick]
    modules = {name: f"{__package__}.{BENCHMARKS[name].module}" for name in names}
    facts = header(device)
    options = Options(given.full, device, not given.no_guards, given.files, given.seed)
    results = measure(modules, options, guards)
    text = as_markdown(facts, results)
    print(f"{text}\n\n{summary(results)}")
    _write(given.json, json.dumps(as_json(facts, results), indent=2))
    _write(given.markdown, text)
    return 1 if failures(results, strict=given.strict) else 0


def _write(path: Path | None, content: str) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="name",
        help=f"which ones (default: all that take seconds): {', '.join(BENCHMARKS)}",
    )
    parser.add_argument("--list", action="store_true", help="say what each measures, and stop")
    parser.add_argument("--full", action="store_true", help="also the parts that take minutes")
    parser.add_argument(
        "--files", type=int, metavar="N", help="how many files fuzz mutates (default: 500)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of fuzz's mutations (default: 0)")
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        help="where those run that can choose (default: cuda where there is one)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write what is printed there")
    parser.add_argument(
        "--strict", action="store_true", help="fail on missed times too, not on exact goals alone"
    )
    parser.add_argument(
        "--no-guards",
        action="store_true",
        help="show times without running the tests of what is timed",
    )
    return parser


def _description(benchmark: Benchmark) -> str:
    import ast

    path = Path(__file__).parent.joinpath(*benchmark.module.split(".")).with_suffix(".py")
    source = path.read_text()
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())

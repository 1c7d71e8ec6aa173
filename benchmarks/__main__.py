"""``python -m benchmarks [name …]``: runs benchmarks, prints one table, says what is met."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: a module with ``run(*, full) -> list[Row]``; its docstring describes it.

    Args:
        module: in this package; imported only when it is run.
        quick: runs when no name is given.
    """

    module: str
    quick: bool = True


BENCHMARKS = {
    "identity": Benchmark("identity"),
    "accuracy": Benchmark("accuracy"),
    "parity": Benchmark("parity"),
    "memory": Benchmark("memory"),
    "recording_cost": Benchmark("recording_cost"),
    "cost": Benchmark("cost", quick=False),
    "sdxl": Benchmark("sdxl"),
    "records": Benchmark("records"),
    "queries": Benchmark("queries"),
    "self_attention": Benchmark("self_attention", quick=False),
    "compile": Benchmark("compiled"),
    "latency": Benchmark("latency"),
    "import_time": Benchmark("import_time"),
    "embedded": Benchmark("embedded_model", quick=False),
    "faithfulness": Benchmark("faithfulness", quick=False),
    "refinement": Benchmark("refinement", quick=False),
    "recipes": Benchmark("recipes", quick=False),
}


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 1 if a deterministic goal is missed (with ``--strict`` any goal), else 0."""
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"{unknown[0]!r} is no benchmark. Benchmarks: {', '.join(BENCHMARKS)}.")
    if options.list:
        for name, benchmark in BENCHMARKS.items():
            print(f"{name:<16} {_description(benchmark)}")
        return 0
    import torch

    from benchmarks.report import Row, as_json, header, markdown, markdown_header

    # Timing sees one thread only.
    torch.set_num_threads(1)
    rows: list[Row] = []
    for name in options.names or [name for name, entry in BENCHMARKS.items() if entry.quick]:
        start = time.perf_counter()
        module = importlib.import_module(f"benchmarks.{BENCHMARKS[name].module}")
        rows += module.run(full=options.full)
        print(f"{name}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    facts = header()
    print(f"{markdown_header(facts)}\n\n{markdown(rows)}")
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(facts, rows), indent=2) + "\n")
    missed = [row for row in rows if row.status == "FAIL"]
    failed = [row for row in missed if row.deterministic or options.strict]
    print(f"\ngoals missed: {len(missed)}" if missed else "\nall goals met")
    return 1 if failed else 0


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
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    parser.add_argument(
        "--strict", action="store_true", help="fail on missed times too, not on exact goals alone"
    )
    return parser


def _description(benchmark: Benchmark) -> str:
    import ast

    source = (Path(__file__).parent / f"{benchmark.module}.py").read_text()
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())

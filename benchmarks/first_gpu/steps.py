"""The ten steps of the first run on a GPU: what each runs, what it needs, and what must be seen.

In this order: what tells most about a device comes first, and what rests on it later. A command's
seconds are its part of the whole; it gets as much of what is left as its part of what is to come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# ``{python}``, ``{out}``, ``{capability}`` and ``{minutes}`` are filled in when a command starts.
PYTHON = "{python}"
INTERPRETER = "TRITON_INTERPRET"
PROFILE_MODELS = ("SD1.5", "SDXL")


@dataclass(frozen=True)
class Command:
    """One process of a step.

    Args:
        name: within its step; its files are called so.
        arguments: the program and what it is given, with the placeholders above.
        seconds: its part of the time; twice as many get twice the time.
        reads: what its output is: ``"text"``; ``"tests"``, whose last line counts them; or
            ``"rows"``, a file of JSON as the benchmarks write it, at ``{out}/NAME.json``.
        needs: see :func:`benchmarks.first_gpu.needs.missing`.
        environment: variables that differ from those of every command; None takes one away.
        none_skipped: whether a test that is skipped fails it.
        wanted: patterns that the output must show, each with what it says.
        unwanted: patterns that it must not show, likewise.
        after: a line; patterns that are unwanted are looked for behind its last occurrence.
        guards: of a benchmark, commands that run the tests which guard its times. Where all of them
            have passed it is told not to run these.
    """

    name: str
    arguments: tuple[str, ...]
    seconds: float
    reads: Literal["text", "tests", "rows"] = "text"
    needs: tuple[str, ...] = ("cuda",)
    environment: Mapping[str, str | None] = field(default_factory=dict)
    none_skipped: bool = False
    wanted: Mapping[str, str] = field(default_factory=dict)
    unwanted: Mapping[str, str] = field(default_factory=dict)
    after: str = ""
    guards: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A number, what it shows, and its commands."""

    number: int
    title: str
    commands: tuple[Command, ...]


# Every command's. Warnings that only CUDA builds emit are not the failure of a test.
ENVIRONMENT = {
    INTERPRETER: "0",
    "TRITON_CACHE_DIR": "{out}/triton_cache",
    "PYTEST_ADDOPTS": "-W default",
    "PYTHONUNBUFFERED": "1",
    "PYTHONFAULTHANDLER": "1",
    "HF_HUB_OFFLINE": "1",
    # Deterministic mode, in which some kernels' tests run, wants it of cuBLAS.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
SECOND_RUN = "--- second run ---"
TESTS = ("cuda", "pytest", "hypothesis", "triton", "diffusers")
PIPELINE = ("diffusers",)
DEVICE = ("--device", "{device}")


def tests(*chosen: str, before: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A command that runs tests in one process of pytest."""
    options = ("-p", "no:xdist", "-p", "no:cacheprovider", "-rs")
    return (*before, PYTHON, "-m", "pytest", *options, *chosen)


def sanitized(tool: str, chosen: str) -> tuple[str, ...]:
    """The kernels' tests of that name under one of compute-sanitizer's tools."""
    before = ("{sanitizer}", "--tool", tool, "--target-processes", "all")
    # Of each type and size one test says as much, and a kernel is slowed 10 to 50 times.
    return tests("-x", "tests/kernels/test_fused.py", "-k", chosen, before=before)


def timed(name: str, seconds: float, *benchmarks: str) -> Command:
    """Benchmarks on the device. Tests that guard them are not run again where they have passed."""
    files = ("--json", f"{{out}}/{name}.json", "--markdown", f"{{out}}/{name}.md")
    return Command(
        name,
        (PYTHON, "-m", "benchmarks", *benchmarks, "--device", "cuda", *files),
        seconds,
        "rows",
        ("cuda", "diffusers"),
        guards=("kernels_on_device", "kernels", "others"),
    )


def script(module: str, name: str, *options: str) -> tuple[str, ...]:
    """One of this folder's own scripts, on the device that there is."""
    file = f"{{out}}/{name}.json"
    return (PYTHON, "-m", f"benchmarks.first_gpu.{module}", *DEVICE, "--json", file, *options)


def end_to_end(
    name: str, seconds: float, *checks: str, compiled: bool = False, on_device: bool = False
) -> Command:
    """Checks of the embedded pipeline, in a process of their own."""
    logs: dict[str, str | None] = {"TORCH_LOGS": "cudagraphs,recompiles"} if compiled else {}
    bad = {
        r"(?i)skipping cudagraphs": "CUDA graphs were skipped",
        r"(?i)recompiling function": "the second run recompiled",
    }
    return Command(
        name,
        script("end_to_end", name, "--inference-steps", "{inference_steps}", *checks),
        seconds,
        "rows",
        ("cuda", *PIPELINE) if on_device else PIPELINE,
        environment=logs,
        unwanted=bad if compiled else {},
        after=SECOND_RUN if compiled else "",
    )


STEPS = (
    Step(
        1,
        "versions, and what auto takes",
        (
            Command(
                "env",
                (PYTHON, "-m", "diffusers_rdaam", "env"),
                25,
                needs=PIPELINE,
            ),
        ),
    ),
    Step(
        2,
        "the kernels compiled for this device",
        (
            Command(
                "compilation",
                (PYTHON, "-m", "tests.kernels.compilation", "{capability}"),
                75,
                needs=("cuda", "triton"),
                wanted={r'"(wgmma|mma|tcgen05)": [1-9]': "products of the matrix units"},
            ),
        ),
    ),
    Step(
        3,
        "what only a device shows of the kernels, and their proof",
        (
            Command(
                "kernels_on_device",
                tests("tests/kernels/test_fused_gpu.py", "tests/kernels/test_fused_proof.py"),
                130,
                "tests",
                TESTS,
                none_skipped=True,
            ),
        ),
    ),
    Step(
        4,
        "the kernels against the definition",
        (
            Command(
                "kernels",
                tests("--durations=10", "tests/kernels/test_fused.py"),
                320,
                "tests",
                TESTS,
            ),
            Command(
                "others",
                tests(
                    *("tests/kernels/test_sdpa.py", "tests/kernels/test_portable.py"),
                    *("tests/kernels/test_planes.py", "tests/attention/test_processor.py"),
                    "tests/recording/test_accumulator.py",
                ),
                *(70, "tests", TESTS),
            ),
        ),
    ),
    Step(
        5,
        "addresses and races, by compute-sanitizer",
        tuple(
            Command(
                tool,
                sanitized(tool, chosen),
                seconds,
                "tests",
                (*TESTS, "compute-sanitizer"),
                # PyTorch's caching would hide what lies beside a tensor.
                environment={"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
                wanted={r"(ERROR|RACECHECK) SUMMARY: 0 ": "that nothing was found"},
                unwanted={r"(ERROR|RACECHECK) SUMMARY: [1-9]": "errors were found"},
            )
            for tool, chosen, seconds in (
                ("memcheck", "output_and_maps or odd_addresses or masks", 120),
                ("racecheck", "heads_shared or additions", 75),
            )
        ),
    ),
    Step(
        6,
        "the embedded pipeline from end to end",
        (
            end_to_end("backends", 45, "backends", "processors"),
            end_to_end(
                *("conditions", 70, "offload", "inference_mode", "bfloat16", "four_images"),
                on_device=True,
            ),
            end_to_end(
                *("devices", 30, "synchronisation", "second_device", "graph_capture"),
                on_device=True,
            ),
            end_to_end("compiled", 100, "compiled", compiled=True, on_device=True),
            end_to_end("reduce_overhead", 110, "reduce_overhead", compiled=True, on_device=True),
        ),
    ),
    Step(
        7,
        "tests that need a GPU, and the portable kernel with TF32 allowed",
        (
            Command(
                "gpu_tests",
                tests(
                    *("-m", "gpu", "tests/kernels", "tests/recording"),
                    "tests/benchmarks/test_timing.py",
                ),
                240,
                "tests",
                TESTS,
                # As a developer calls them: what must not be interpreted starts its own process.
                environment={INTERPRETER: None},
            ),
            Command(
                "gpu_pipelines",
                tests("-m", "gpu", "tests/gpu"),
                130,
                "tests",
                (*TESTS, "accelerate"),
            ),
            Command("portable", script("portable_checks", "portable"), 20, "rows", PIPELINE),
        ),
    ),
    Step(
        8,
        "the kernels against the device's ceilings",
        (
            timed("roofline", 75, "roofline"),
            Command(
                "sweep",
                (
                    *(PYTHON, "-m", "benchmarks", "sweep", "--device", "cuda"),
                    *("--budget", "{minutes}", "--out", "{out}/sweep"),
                ),
                75,
                needs=("cuda", "triton", "diffusers", "benchmark sweep"),
            ),
        ),
    ),
    Step(
        9,
        "whole UNets, recorded against stock",
        (timed("gpu", 260, "gpu"),),
    ),
    Step(
        10,
        "what recording costs the host, and one profiled call",
        (
            timed("overhead", 40, "overhead", "growth"),
            timed("cost", 60, "cost"),
            Command(
                "profile",
                script("profiled_call", "profile", *PROFILE_MODELS),
                30,
                "rows",
                ("cuda", "diffusers"),
            ),
        ),
    ),
)

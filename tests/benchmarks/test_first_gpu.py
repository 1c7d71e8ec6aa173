"""The command of the first run on a GPU: it goes on after every failure, and keeps what it has."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.first_gpu import needs, process, runner
from benchmarks.first_gpu.command import MINUTES, _numbers
from benchmarks.first_gpu.end_to_end import CHECKS
from benchmarks.first_gpu.outcome import StepOutcome, exit_status
from benchmarks.first_gpu.runner import Runner
from benchmarks.first_gpu.steps import PYTHON, STEPS, Command, Step
from benchmarks.guards import ROOT

ON_CPU = {"device": "cpu", "commit": "0123456"}
ON_GPU = {"device": "cuda", "name": "NVIDIA H100 80GB HBM3", "capability": "90"}


def python(name: str, code: str, **options: Any) -> Command:
    return Command(name, (PYTHON, "-c", code), 1.0, needs=options.pop("needs", ()), **options)


def step(number: int, *commands: Command) -> Step:
    return Step(number, f"step {number}", commands)


def rows_of(*rows: tuple[str, str, bool]) -> str:
    """Code that writes rows of a measured text, a status and whether that is deterministic."""
    found = [
        {"benchmark": "toy", "what": "cats", "measured": measured, "goal": "", "status": status}
        | {"deterministic": deterministic}
        for measured, status, deterministic in rows
    ]
    text = json.dumps({"rows": found})
    return f"import pathlib; pathlib.Path('{{out}}/rows.json').write_text({text!r})"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds in place of minutes."""
    monkeypatch.setattr(runner, "LEAST", 0.05)
    monkeypatch.setattr(process, "GRACE", 1.0)


def ran(
    folder: Path,
    *steps: Step,
    facts: dict[str, str] | None = None,
    budget: float = 60.0,
    **more: Any,
) -> list[StepOutcome]:
    facts = ON_CPU if facts is None else facts
    return Runner(steps, folder, budget=budget, facts=facts, **more).run()


HANGS = "import time; print('begun', flush=True); time.sleep(60)"
BAD: dict[str, tuple[Command, str, str, str]] = {
    "status": (python("a", "print('broken'); exit(3)"), "FAILED", "exit status 3", "broken"),
    "exception": (python("a", "{}['cat']"), "FAILED", "exit status 1", "KeyError: 'cat'"),
    "crash": (
        python("a", "import ctypes; print('near', flush=True); ctypes.string_at(0)"),
        *("FAILED", "ended by SIGSEGV", "Segmentation fault"),
    ),
    "killed": (
        python("a", "import os; print('near', flush=True); os.kill(os.getpid(), 9)"),
        *("FAILED", "ended by SIGKILL", "near"),
    ),
    "hangs": (python("a", HANGS), "timed out", r"over its limit, ended after \d s", "begun"),
    "no such program": (
        Command("a", ("/no/such/program",), 1.0, needs=()),
        *("FAILED", "did not start: .*No such file.*", ""),
    ),
    "not shown": (
        python("a", "print('ERROR SUMMARY: 2 errors')", wanted={"0 errors": "no errors"}),
        *("FAILED", "does not show: no errors", "2 errors"),
    ),
    "shown": (
        python("a", "print('skipping')", unwanted={"skipping": "graphs skipped"}),
        *("FAILED", "graphs skipped", "skipping"),
    ),
    "shown later": (
        python("a", "print('--2--\\nagain')", unwanted={"again": "compiled again"}, after="--2--"),
        *("FAILED", "compiled again", "again"),
    ),
    "no rows": (python("a", "pass", reads="rows"), "FAILED", "wrote no rows", ""),
}


@pytest.mark.every(3)
@pytest.mark.parametrize("kind", BAD)
def test_after_whatever_happens_the_next_step_runs(quick: None, tmp_path: Path, kind: str):
    command, result, reason, shown = BAD[kind]
    budget = 4.0 if kind == "hangs" else 60.0
    steps = ran(tmp_path, step(1, command), step(2, python("b", "print('well')")), budget=budget)
    assert [found.result for found in steps] == [result, "passed"]
    assert re.fullmatch(reason, steps[0].reason), steps[0].reason
    assert shown in steps[0].commands[0].tail
    assert exit_status(steps) == 1
    assert shown in (tmp_path / "01_a.txt").read_text()
    assert (tmp_path / "02_b.txt").read_text() == "well\n"
    text = (tmp_path / "first_gpu.md").read_text()
    assert f"Steps: 1 {result}, 1 passed." in text and shown in text
    stored = json.loads((tmp_path / "first_gpu.json").read_text())
    assert [found["result"] for found in stored["steps"]] == [result, "passed"]


def test_a_process_that_hangs_says_where(quick: None, tmp_path: Path):
    (found,) = ran(tmp_path, step(1, python("a", HANGS)), budget=2.0)
    assert found.result == "timed out"
    assert 'File "<string>", line 1 in <module>' in found.commands[0].tail


def test_what_was_not_to_be_seen_before_a_line_is_not_looked_for(tmp_path: Path):
    code = "print('again\\n--2--\\nnothing')"
    command = python("a", code, unwanted={"again": "compiled again"}, after="--2--")
    assert ran(tmp_path, step(1, command))[0].result == "passed"


def test_the_processes_of_a_command_end_with_it(quick: None, tmp_path: Path):
    child = "import time; time.sleep(60)"
    start = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}]); "
    start += "print(p.pid, flush=True); "
    leaves, hangs = (python(name, start + end) for name, end in (("a", ""), ("b", "p.wait()")))
    steps = ran(tmp_path, step(1, leaves), step(2, hangs), budget=4.0)
    assert [found.result for found in steps] == ["passed", "timed out"]
    for name in ("01_a.txt", "02_b.txt"):
        number = int((tmp_path / name).read_text().split()[0])
        assert gone(number)


def gone(number: int) -> bool:
    """Whether a process ends within seconds; one that nobody has waited for yet has ended."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_steps_are_skipped_with_their_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(needs, "sanitizer", lambda: None)
    monkeypatch.setattr(needs, "find_spec", lambda name: None)
    wanted = {
        ("cuda",): "torch sees no CUDA device",
        ("pytest", "triton"): "pytest is not installed",
        ("compute-sanitizer",): "compute-sanitizer is not on the path, nor in CUDA_HOME",
        ("benchmark cats",): "there is no benchmark cats in this checkout",
    }
    steps = [step(n, python("a", "exit(1)", needs=need)) for n, need in enumerate(wanted, start=1)]
    found = ran(tmp_path, *steps, step(9, python("a", "exit(1)")), chosen=[1, 2, 3, 4])
    assert [(one.result, one.reason) for one in found] == [
        *(("skipped", reason) for reason in wanted.values()),
        ("skipped", "not asked for"),
    ]
    assert exit_status(found) == 0
    assert not list(tmp_path.glob("0*.txt"))
    with pytest.raises(ValueError, match="'cats' is not known"):
        needs.missing(("cats",), ON_CPU)


def test_where_nothing_is_known_of_the_machine_everything_is_tried():
    assert needs.missing(("cuda",), {"machine": "unknown"}) == ""


def test_a_step_of_several_commands_is_as_bad_as_the_worst(tmp_path: Path):
    good, bad = python("good", "pass"), python("bad", "exit(1)")
    unserved = python("unserved", "pass", needs=("cuda",))
    steps = ran(tmp_path, step(1, good, bad), step(2, good, unserved), step(3, unserved))
    assert [found.result for found in steps] == ["FAILED", "passed", "skipped"]
    assert steps[0].reason == "bad FAILED: exit status 1"
    assert steps[1].reason == "unserved skipped: torch sees no CUDA device"
    assert steps[2].reason == "torch sees no CUDA device"


class Clock:
    """Seconds that pass only when a command is begun."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *taken: float) -> None:
        self.now, self.taken, self.limits = 0.0, list(taken), list[float]()
        monkeypatch.setattr(runner, "run", self.run)

    def __call__(self) -> float:
        return self.now

    def run(self, arguments: Any, *, limit: float, log: Path, **others: Any) -> process.Ended:
        self.limits.append(limit)
        seconds = self.taken.pop(0)
        self.now += seconds
        log.write_text("done\n")
        return process.Ended(seconds, 0)


def test_what_a_step_leaves_goes_to_those_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch, 10.0, 50.0, 100.0)
    steps = [step(n, python("a", "pass")) for n in (1, 2)]
    steps += [step(3, python("a", "pass", needs=("cuda",))), step(4, python("a", "pass"))]
    found = ran(tmp_path, *steps, budget=300.0, clock=clock)
    assert clock.limits == [100.0, 145.0, 240.0]
    assert [one.result for one in found] == ["passed", "passed", "skipped", "passed"]


def test_a_step_without_time_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch, 25.0, 40.0)
    steps = [step(n, python("a", "pass")) for n in (1, 2, 3)]
    found = ran(tmp_path, *steps, budget=75.0, clock=clock)
    # Never less than is worth a start.
    assert clock.limits == [25.0, 25.0]
    assert [one.reason for one in found] == ["", "", "no time left"]
    assert found[2].result == "skipped"


def test_a_command_gets_ten_minutes_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch, 1.0)
    ran(tmp_path, step(1, python("a", "pass")), budget=6000.0, clock=clock)
    assert clock.limits == [600.0]


def test_every_command_has_the_same_environment_but_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    changed = {"TRITON_INTERPRET": None, "TORCH_LOGS": "recompiles"}
    steps = [step(1, python("a", code)), step(2, python("b", code, environment=changed))]
    ran(tmp_path, *steps)
    one, other = (json.loads((tmp_path / name).read_text()) for name in ("01_a.txt", "02_b.txt"))
    assert one["TRITON_INTERPRET"] == "0" and "TRITON_INTERPRET" not in other
    assert one["PYTEST_ADDOPTS"] == "-W default" and "TORCH_LOGS" not in one
    assert one["TRITON_CACHE_DIR"] == str(tmp_path / "triton_cache")
    assert one["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
    assert other["TORCH_LOGS"] == "recompiles"


AT_WORK = """
import sys
from pathlib import Path
from benchmarks.first_gpu.command import main
from benchmarks.first_gpu.steps import Command, Step
hangs = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
commands = [("a", "print('well')"), ("b", hangs), ("c", "pass")]
steps = [
    Step(number, name, (Command(name, ("{python}", "-c", code), 1.0, needs=()),))
    for number, (name, code) in enumerate(commands, start=1)
]
main(["--out", sys.argv[1]], steps=steps, facts={"device": "cpu"})
"""


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_ended_leaves_its_report(tmp_path: Path, number: signal.Signals):
    command = subprocess.Popen(
        [sys.executable, "-c", AT_WORK, str(tmp_path)],
        cwd=ROOT,
        # A shell that runs the tests in the background has it ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    log = tmp_path / "02_b.txt"
    try:
        while not (log.is_file() and log.read_text().endswith("\n")):
            assert command.poll() is None
            time.sleep(0.05)
    finally:
        command.send_signal(number)
        assert command.wait(20) != 0
    child = int(log.read_text())
    if number == signal.SIGKILL:
        # Nobody was left to end it.
        os.kill(child, signal.SIGKILL)
    assert gone(child)
    stored = json.loads((tmp_path / "first_gpu.json").read_text())
    assert [one["result"] for one in stored["steps"]] == ["passed", "running", "not reached"]
    assert "Steps: 1 passed, 1 running, 1 not reached." in (tmp_path / "first_gpu.md").read_text()


ROWS: dict[str, tuple[list[tuple[str, str, bool]], int, str, str]] = {
    "good": ([("3 ms", "-", False), ("equal", "PASS", True)], 0, "passed", ""),
    "a missed time": ([("9 ms", "FAIL", False)], 0, "passed", ""),
    "a missed goal": (
        [("different", "FAIL", True)],
        *(1, "FAILED", "exit status 1; cats: different"),
    ),
    "skipped": ([("no device", "SKIP", False)] * 2, 0, "skipped", "no device"),
    "some skipped": ([("no device", "SKIP", False), ("3 ms", "-", False)], 0, "passed", ""),
}


@pytest.mark.parametrize("kind", ROWS)
def test_rows_are_read(tmp_path: Path, kind: str):
    rows, status, result, reason = ROWS[kind]
    code = f"{rows_of(*rows)}; exit({status})".replace("{out}", str(tmp_path))
    (found,) = ran(tmp_path, step(1, python("rows", code, reads="rows")))
    assert (found.result, found.reason) == (result, reason)
    assert [row["measured"] for row in found.commands[0].rows] == [row[0] for row in rows]
    assert rows[0][0] in (tmp_path / "first_gpu.md").read_text()


def test_rows_of_a_command_that_is_ended_are_kept(quick: None, tmp_path: Path):
    code = f"{rows_of(('3 ms', '-', False))}; {HANGS}".replace("{out}", str(tmp_path))
    (found,) = ran(tmp_path, step(1, python("rows", code, reads="rows")), budget=3.0)
    assert found.result == "timed out"
    assert found.commands[0].rows[0]["measured"] == "3 ms"


def test_rows_of_an_earlier_run_are_not_taken_for_these(tmp_path: Path):
    (tmp_path / "rows.json").write_text('{"rows": []}')
    (found,) = ran(tmp_path, step(1, python("rows", "pass", reads="rows")))
    assert found.reason == "wrote no rows"


TESTS: dict[str, tuple[str, bool, str, str]] = {
    "green": ("def test_a(): pass\ndef test_b(): pass", True, "passed", "2 passed"),
    "red": (
        *("def test_a(): pass\ndef test_b(): assert 1 == 2", False, "FAILED"),
        "1 failed, 1 passed; exit status 1",
    ),
    "skipped": (
        "import pytest\n@pytest.mark.skip(reason='no device')\ndef test_a(): pass",
        *(False, "skipped", "1 skipped; no device"),
    ),
    "one skipped": (
        "import pytest\n@pytest.mark.skip(reason='x')\ndef test_a(): pass\ndef test_b(): pass",
        *(False, "passed", "1 passed, 1 skipped"),
    ),
    "one skipped, where none may be": (
        "import pytest\n@pytest.mark.skip(reason='x')\ndef test_a(): pass\ndef test_b(): pass",
        *(True, "FAILED", "1 passed, 1 skipped; 1 skipped, where none may be"),
    ),
    "none": ("", False, "skipped", "no test ran"),
    "cannot be collected": ("def test_a(:", False, "FAILED", "1 error; exit status 2"),
    "crashes": ("import os\ndef test_a(): os._exit(3)", False, "FAILED", "exit status 3"),
    "a warning": ("import warnings\ndef test_a(): warnings.warn('x')", False, "passed", "1 passed"),
}


# Each starts a pytest of its own.
@pytest.mark.parametrize(
    "kind",
    [*(pytest.param(kind, marks=pytest.mark.slow) for kind in TESTS if kind != "none"), "none"],
)
def test_tests_are_counted(tmp_path: Path, kind: str):
    text, none_skipped, result, reason = TESTS[kind]
    # As the repository's own settings: a warning is an error, but not in these commands.
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\naddopts = "-q"\nfilterwarnings = ["error"]\n'
    )
    (tmp_path / "test_toy.py").write_text(text)
    options = ("-p", "no:xdist", "-p", "no:cacheprovider", "-rs", "--rootdir", str(tmp_path))
    arguments = (PYTHON, "-m", "pytest", *options, "-c", str(tmp_path / "pyproject.toml"))
    command = Command(
        "a",
        (*arguments, str(tmp_path / "test_toy.py")),
        1.0,
        "tests",
        (),
        none_skipped=none_skipped,
    )
    (found,) = ran(tmp_path, step(1, command))
    assert (found.result, found.reason) == (result, reason)


@pytest.mark.parametrize("green", [True, False])
def test_guards_that_have_passed_are_not_run_again(tmp_path: Path, green: bool):
    tests = python("kernels", "pass" if green else "exit(1)")
    code = "import sys; print(sys.argv[1:])"
    timed = python("a", code, guards=("kernels",))
    assert ran(tmp_path, step(1, tests), step(2, timed))[1].result == "passed"
    wanted = "['--no-guards']\n" if green else "[]\n"
    assert (tmp_path / "02_a.txt").read_text() == wanted
    # A command on its own is guarded by itself.
    ran(tmp_path, step(1, tests), step(2, timed), chosen=[2])
    assert (tmp_path / "02_a.txt").read_text() == "[]\n"


def test_what_guards_times_is_a_command_before_them():
    names = list(COMMANDS)
    for name, command in COMMANDS.items():
        assert all(names.index(guard) < names.index(name) for guard in command.guards)


def test_numbers_of_steps():
    known = [1, 2, 3, 4]
    assert _numbers("1-3", known) == [1, 2, 3]
    assert _numbers("4, 1", known) == [4, 1]
    for text in ("", "5", "0-2", "3-1", "a", "1-", "1,,2"):
        assert _numbers(text, known) is None


def test_options_that_are_wrong(capsys: pytest.CaptureFixture[str]):
    for options, text in ((["--budget", "0"], "give minutes"), (["--steps", "11"], "from 1 to 10")):
        with pytest.raises(SystemExit):
            main(["first_gpu", *options])
        assert text in capsys.readouterr().err


COMMANDS = {command.name: command for one in STEPS for command in one.commands}


def test_ten_steps_whose_commands_have_names_of_their_own():
    assert [one.number for one in STEPS] == list(range(1, 11))
    assert len(COMMANDS) == sum(len(one.commands) for one in STEPS)
    # So that a command's seconds are what it gets of the budget that is usual.
    assert sum(command.seconds for command in COMMANDS.values()) == 60 * MINUTES


def test_what_the_steps_name_is_there():
    names = " ".join(word for command in COMMANDS.values() for word in command.arguments).split()
    files = [name for name in names if name.startswith("tests/")]
    assert len(files) >= 7 and all((ROOT / name).exists() for name in files)
    modules = [name for name in names if name.startswith(("benchmarks.", "tests."))]
    assert modules and all((ROOT / f"{name.replace('.', '/')}.py").is_file() for name in modules)
    for command in COMMANDS.values():
        if command.arguments[2:3] == ("benchmarks",):
            assert command.arguments[3] in BENCHMARKS or "benchmark sweep" in command.needs
        if command.reads == "rows":
            assert f"{{out}}/{command.name}.json" in command.arguments


def test_the_tests_that_are_chosen_by_name_are_there():
    source = (ROOT / "tests/kernels/test_fused.py").read_text()
    names = re.findall(r"^def (test_\w+)", source, re.MULTILINE)
    for tool in ("memcheck", "racecheck"):
        chosen = COMMANDS[tool].arguments[-1].split(" or ")
        assert all(any(word in name for name in names) for word in chosen)


def test_every_check_of_the_pipeline_is_in_a_step():
    named = [word for one in STEPS[5].commands for word in one.arguments if word in CHECKS]
    assert sorted(named) == sorted(CHECKS)


@pytest.mark.slow
def test_on_a_processor_what_can_run_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The real command with the real steps; the pipeline makes its images in two steps."""
    start = time.monotonic()
    options = ["--budget", "15", "--inference-steps", "2", "--out", str(tmp_path)]
    status = main(["first_gpu", *options])
    stored = json.loads((tmp_path / "first_gpu.json").read_text())
    found = {command["name"]: command for one in stored["steps"] for command in one["commands"]}
    if stored["header"]["device"] != "cpu":
        pytest.skip("there is a GPU, and this takes minutes")
    failures = {name: one["tail"] for name, one in found.items() if one["result"] == "FAILED"}
    assert (status, failures) == (0, {})
    run = [name for name, one in found.items() if one["result"] == "passed"]
    assert run == ["env", "backends", "portable"]
    for name, one in found.items():
        if name not in run:
            assert (one["result"], one["reason"]) == ("skipped", "torch sees no CUDA device")
    rows = found["backends"]["rows"]
    assert ("image, auto", "equal") in [(row["what"], row["measured"]) for row in rows]
    assert stored["header"]["commit"] and stored["header"]["torch"]
    text = (tmp_path / "first_gpu.md").read_text()
    assert "there is no CUDA device here" in text and "maps, auto against reference" in text
    assert re.search("^kernel +portable", (tmp_path / "01_env.txt").read_text(), re.MULTILINE)
    assert " 9 gpu " in capsys.readouterr().out
    # Of four processes that load torch and diffusers; a machine at other work takes longer.
    assert time.monotonic() - start < 240

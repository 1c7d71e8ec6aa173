"""Whatever is typed: one line that says what is wrong, before a model is loaded; no traceback."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import diffusers_rdaam
import diffusers_rdaam.cli.daam
import diffusers_rdaam.cli.generate
from diffusers_rdaam.cli import app
from diffusers_rdaam.cli.report import Report, reporting
from diffusers_rdaam.errors import NoAttributionError, PromptTruncatedWarning

PROMPT = "a red circle and a blue square"


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch) -> None:
    def refuse(*given: object) -> None:
        raise AssertionError("A model was loaded.")

    monkeypatch.setattr(diffusers_rdaam.cli.generate, "load_pipeline", refuse)
    monkeypatch.setattr(diffusers_rdaam.cli.daam, "load_pipeline", refuse)


def rdaam(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


GENERATE = [
    ("--seed", "99999999999999999999999"), ("--seed", "-1"), ("--seed", "18446744073709551616"),
    ("--seed", "nan"), ("--seed", "1.5"), ("--seed", "1" * 5000), ("--seed", ""),
    ("--steps", "0"), ("--steps", "1e3"), ("--steps", "1001"), ("--steps", "9" * 30),
    ("--guidance-scale", "nan"), ("--guidance-scale", "inf"), ("--guidance-scale", "1e999"),
    ("--guidance-scale", "-1"), ("--guidance-scale", "x"),
    ("--height", "0"), ("--height", "100"), ("--width", "-8"), ("--width", "800000000000"),
    ("--box", ""), ("--box", "1,2,3"), ("--box", "a,b,c,d"), ("--box", "nan,0,1,2"),
    ("--box", "1,2,3,1" + "0" * 400), ("--box", "9,9,3,3"), ("--box", "0.1,0.1,0.5,0.5"),
    ("--box", "128,0,200,20"), ("--box", "-9,-9,0,0"), ("--box", "\udcff,1,2,3"),
    ("--word", ""), ("--word", " "), ("--word", "dog"), ("--word", "\udcff"),
    ("--word", "a" * 100_000), ("--timeline", "dog"), ("--negative-prompt", "\udcff"),
    ("--ranking", "best"), ("--dtype", "int8"), ("--dtype", ""), ("--device", "nowhere"),
    ("--device", ""), ("--device", "meta"), ("--device", "cuda:99"),
    ("--model", ""), ("--model", "no-such-folder"), ("--model", "owner/name"),
    ("--model", "a/b/c"), ("--model", "\udcff"), ("--model", "a" * 5000), ("--model", "/dev/null"),
    ("--model", "http://x.y/z"), ("--model", "."),
    ("--out", "/dev/null"), ("--out", "/dev/null/x"), ("--out", "a" * 5000), ("--nope", "x"),
]  # fmt: skip


@pytest.mark.parametrize("option", GENERATE, ids=lambda option: f"{option[0]} {option[1][:20]!a}")
def test_a_wrong_option_is_one_line_and_one_object(option, tmp_path) -> None:
    arguments = ["generate", PROMPT, "--out", tmp_path / "out", *option]
    result = rdaam(*arguments)
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert len(result.stderr) < 3000
    result = rdaam(*arguments, "--format", "json")
    told = json.loads(result.stdout)
    assert result.exit_code == 2
    assert set(told) == {"error", "error_class", "warnings"} and told["warnings"] == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"], [""], ["--nope"], ["généré"], ["generate"], ["generate", PROMPT, "more"],
        ["generate", "\udcff"], ["generate", PROMPT, "-o"],
        ["generate", PROMPT, "--negative-prompt", "x", "--guidance-scale", "1"],
        ["generate", PROMPT, "--height", "65536", "--width", "65536"],
        ["region"], ["region", ""], ["region", "/dev/null"], ["region", "a" * 5000],
        ["region", "\udcff"], ["region", "/dev/null", "--box", "x"],
        ["word"], ["word", "missing"], ["word", "missing", "x"], ["word", "missing", "\udcff"],
        ["word", "missing", "x", "--threshold", "nan"],
        ["word", "missing", "x", "--threshold", "1"],
        ["word", "missing", "x", "--occurrence", "-1"], ["word", "missing", "x", "-o", "/"],
        ["word", "missing", "x", "-o", "x.txt"], ["word", "missing", "x", "-o", "/nowhere/x.png"],
        ["daam"], ["daam", PROMPT, "-n", "0"], ["daam", PROMPT, "-n", "1001"],
        ["daam", PROMPT, "-s", "-1"], ["daam", PROMPT, "-o", "/dev/null"],
        ["daam", PROMPT, "--word", "dog"], ["daam", "\udcff"], ["daam", "-"],
        ["daam", PROMPT, "--model", "owner/name"], ["daam", PROMPT, "--device", "nowhere"],
        ["env", "x"], ["env", "--format", "xml"],
    ],
    ids=lambda arguments: ascii(" ".join(arguments))[:60],
)  # fmt: skip
def test_a_wrong_command_is_one_line(arguments, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = rdaam(*arguments)
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_version_help_and_completion() -> None:
    assert rdaam("--version").stdout == f"rdaam {diffusers_rdaam.__version__}\n"
    for verb in ([], ["generate"], ["image"], ["region"], ["word"], ["batch"], ["daam"], ["env"]):
        assert rdaam(*verb, "-h").stdout == rdaam(*verb, "--help").stdout != ""
    for verb in ("generate", "image", "word", "daam"):
        assert "--out" in rdaam(verb, "-h").stdout and "-o" in rdaam(verb, "-h").stdout
    assert "--show-completion" in rdaam("-h").stdout
    assert rdaam().exit_code == 2


def test_a_hub_id_without_network_names_the_folder_form(tmp_path) -> None:
    result = rdaam("generate", PROMPT, "--model", "owner/some-model", "--out", tmp_path / "out")
    assert "as a hub id it cannot be fetched: HF_HUB_OFFLINE is set." in result.stderr
    assert (
        "Give a folder that holds model_index.json, such as --model ./some-model" in result.stderr
    )


def test_a_hub_that_is_not_reached_is_said_in_seconds(monkeypatch) -> None:
    from huggingface_hub import constants

    from diffusers_rdaam.cli.models import _why_unreachable

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "*")
    assert "http://127.0.0.1:9 cannot be reached" in (_why_unreachable() or "")


def run(form: str, action) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    status = 0
    try:
        with reporting(form) as report:
            action(report)
    except Exception as error:
        status = error.exit_code  # type: ignore[attr-defined]
    finally:
        sys.stdout, sys.stderr = before
    return status, out.getvalue(), err.getvalue()


def warn_twice(report: Report) -> None:
    import warnings

    for _ in range(2):
        warnings.warn("The end was cut.", PromptTruncatedWarning, stacklevel=1)
    warnings.warn("of another library", UserWarning, stacklevel=1)
    report.add(done=True)


def test_a_warning_of_the_package_is_a_field_and_a_line() -> None:
    entry = {"class": "PromptTruncatedWarning", "text": "The end was cut."}
    assert run("text", warn_twice) == (0, "", "warning: The end was cut.\n")
    status, out, err = run("json", warn_twice)
    assert (status, err) == (0, "") and json.loads(out) == {"done": True, "warnings": [entry]}


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (NoAttributionError("There is none."), 1, "There is none."),
        (RuntimeError("out of\nmemory"), 1, "RuntimeError: out of (This is not an error of"),
        (MemoryError(), 1, "MemoryError: no reason is given"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_failure_is_a_line_an_object_and_a_status(error, status, text) -> None:
    def fail(report: Report) -> None:
        raise error

    found, out, err = run("json", fail)
    assert found == status and err.startswith(f"error: {text}") and err.count("\n") == 1
    told = json.loads(out)
    assert told["error"].startswith(text) and told["error_class"] == type(error).__name__


def test_a_pipe_that_is_closed_ends_the_printing_not_the_work(tmp_path) -> None:
    code = (
        "from diffusers_rdaam.cli.report import reporting\n"
        "from pathlib import Path\n"
        "import sys, typer\n"
        "sys.stdin.read()\n"
        "try:\n"
        "    with reporting('text') as report:\n"
        "        for _ in range(99): report.say('x' * 9999)\n"
        f"        Path({str(tmp_path / 'done')!r}).touch()\n"
        "except typer.Exit as end: sys.exit(end.exit_code)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    assert process.stdin and process.stdout and process.stderr
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1 and (tmp_path / "done").exists()


def test_a_terminal_without_the_characters_loses_no_answer() -> None:
    command = [sys.executable, "-m", "diffusers_rdaam", "红", "--format", "json"]
    result = subprocess.run(
        command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "latin-1"}
    )
    assert result.returncode == 2 and b"\\u7ea2" in result.stderr
    assert "红" in json.loads(result.stdout.decode("latin-1"))["error"]

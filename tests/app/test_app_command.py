"""``rdaam app`` before it serves: everything that can be checked is checked."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from diffusers_rdaam.cli import app


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["app", *arguments])


def test_a_model_that_does_not_exist_says_so(tmp_path: Path) -> None:
    found = _run("--model", str(tmp_path / "nothing"), "--port", "0")
    assert found.exit_code == 2
    assert "error: No pipeline could be loaded from --model" in found.stderr
    (tmp_path / "empty").mkdir()
    found = _run("--model", str(tmp_path / "empty"), "--port", "0")
    assert found.exit_code == 2 and "the folder has no model_index.json" in found.stderr


def test_a_folder_that_does_not_exist_says_so(tmp_path: Path) -> None:
    found = _run("--files", str(tmp_path / "nothing"))
    assert found.exit_code == 2 and "there is no such folder" in found.stderr


def test_a_port_in_use_says_so(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = _run("--files", str(tmp_path), "--port", str(taken.getsockname()[1]))
    assert found.exit_code == 2
    assert "cannot listen on 127.0.0.1:" in found.stderr and "another --port" in found.stderr


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    found = _run()
    assert found.exit_code == 1 and 'pip install "diffusers_rdaam[app]"' in found.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_another_host_than_loopback_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    from diffusers_rdaam.cli import serve as command

    # Started and ended at once.
    monkeypatch.setattr(command, "run_server", lambda server, ready: server.close())
    found = _run("--files", str(tmp_path), "--port", "0", "--host", host)
    assert found.exit_code == 0, found.output
    assert ("everybody who can reach it" in found.stderr) == (host == "0.0.0.0")


# Runs the verb for each list of arguments, and prints what came and which slow libraries it took.
_SCRIPT = """
import json, sys
from typer.testing import CliRunner
from diffusers_rdaam.cli import app
for arguments in json.loads(sys.argv[1]):
    found = CliRunner().invoke(app, ["app", *arguments])
    slow = {"torch", "gradio", "diffusers", "transformers"} & set(sys.modules)
    print(json.dumps([found.exit_code, found.stdout, found.stderr, sorted(slow)]))
"""


def test_what_is_wrong_is_told_in_a_line_before_anything_slow_is_imported(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, text in (("broken", "{"), ("list", "[]"), ("nameless", '{"unet": ["a", "b"]}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text(text)
    (tmp_path / "weights.safetensors").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        cases = {
            ("--port", port): f"cannot listen on 127.0.0.1:{port}",
            ("--model", str(tmp_path / "no" / "such")): "there is no such folder",
            ("--model", str(tmp_path / "empty")): "the folder has no model_index.json",
            ("--model", str(tmp_path / "broken")): "its model_index.json cannot be read",
            ("--model", str(tmp_path / "list")): "names no pipeline class",
            ("--model", str(tmp_path / "nameless")): "names no pipeline class",
            ("--model", str(tmp_path / "weights.safetensors")): "it is a file",
            ("--model", ""): "it is not a hub id",
            ("--model", "owner/some-model"): "HF_HUB_OFFLINE is set",
            ("--files", str(tmp_path / "nothing")): "there is no such folder",
            ("--host", "no such host"): "is not an address of this machine",
            ("--dtype", "int3"): "--dtype 'int3' is not known",
        }
        found = subprocess.run(
            [sys.executable, "-c", _SCRIPT, json.dumps(list(cases))],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    for (arguments, text), (status, output, error, slow) in zip(cases.items(), lines, strict=True):
        assert status == 2 and output == "" and slow == [], (arguments, error, slow)
        assert error.startswith("error: ") and error.count("\n") == 1 and text in error

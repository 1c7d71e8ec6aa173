"""``rdaam app`` before it serves: everything that can be checked is checked."""

from __future__ import annotations

import socket
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
    assert found.exit_code == 1 and "pip install 'diffusers_rdaam[app]'" in found.stderr


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

"""Following a run: one for a visitor, whatever comes between two clicks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from diffusers_rdaam import InputError
from diffusers_rdaam.app.panels.context import PageContext
from diffusers_rdaam.app.panels.run_status import RunStatus
from diffusers_rdaam.app.runs import Denoiser, Run
from diffusers_rdaam.app.session import Session, Sessions


@pytest.fixture
def denoiser() -> Iterator[Denoiser]:
    """A queue whose model is a word."""
    made = Denoiser("tiny", lambda: "a model")
    yield made
    made.close()


@pytest.fixture
def status(denoiser: Denoiser, tmp_path: Path) -> RunStatus:
    """The status line of a page."""

    async def made() -> RunStatus:
        with gr.Blocks():
            return RunStatus(PageContext({"tiny": denoiser}, Sessions(tmp_path)))

    # Gradio opens an event loop of its own, and leaves it open, where none is running.
    return asyncio.run(made())


async def _lines(status: RunStatus, session: Session, work: Callable[[], Any]) -> list[str]:
    followed = status.follow(session, work, lambda run: {status.status: f"done: {run.result}"})
    lines = [shown[status.status] async for shown in followed]
    assert lines[-1] == gr.skip(), "the last one is repeated, and changes nothing"
    return lines[:-1]


def test_of_two_clicks_at_once_one_is_a_run(
    denoiser: Denoiser, status: RunStatus, tmp_path: Path
) -> None:
    session, is_read, made = Session(tmp_path / "one"), threading.Event(), []

    def work() -> Any:
        # The form of the first click is still read when the second one comes.
        is_read.wait(10)
        return denoiser, lambda model, run: made.append(model) or model

    async def both() -> list[list[str]]:
        first = asyncio.create_task(_lines(status, session, work))
        await asyncio.sleep(0.05)
        second = await _lines(status, session, work)
        is_read.set()
        return [await first, second]

    first, second = asyncio.run(both())
    assert first[-1] == "done: a model" and made == ["a model"]
    assert len(second) == 1 and "A run of yours is waiting or running" in second[0]
    assert not session.is_busy
    assert asyncio.run(_lines(status, session, work))[-1] == "done: a model", "then it is free"


def test_a_run_that_is_cancelled_before_it_is_queued_does_nothing(
    denoiser: Denoiser, status: RunStatus, tmp_path: Path
) -> None:
    session, is_read, made = Session(tmp_path / "one"), threading.Event(), []

    def work() -> Any:
        is_read.wait(10)

        def task(model: str, run: Run) -> None:
            run.check()
            made.append(model)

        return denoiser, task

    async def cancelled() -> list[str]:
        lines = asyncio.create_task(_lines(status, session, work))
        await asyncio.sleep(0.05)
        assert session.cancel()
        is_read.set()
        return await lines

    assert "Cancelled" in asyncio.run(cancelled())[-1]
    assert not made and not session.cancel()


def test_a_form_that_cannot_be_read_frees_the_session(status: RunStatus, tmp_path: Path) -> None:
    session = Session(tmp_path / "one")

    def work() -> Any:
        raise InputError("No prompt was given.")

    for _ in range(2):
        assert "No prompt was given" in asyncio.run(_lines(status, session, work))[-1]
    assert not session.is_busy

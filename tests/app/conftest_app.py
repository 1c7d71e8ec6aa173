"""A tiny Stable Diffusion as the app's model, and servers of it on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from diffusers_rdaam import StableDiffusionRDAAMPipeline
from diffusers_rdaam.app.requests import Pipelines
from diffusers_rdaam.app.runs import Denoiser
from diffusers_rdaam.app.server import Server

TINY = Path(__file__).parents[1] / "data" / "tiny_sd"


def load_tiny() -> Any:
    """The tiny pipeline, on one thread as every test's."""
    torch.set_num_threads(1)
    pipe = StableDiffusionRDAAMPipeline.from_pretrained(TINY, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tiny_denoiser(name: str = "tiny") -> Denoiser:
    """The queue of a tiny pipeline of its own."""
    return Denoiser(name, load_tiny, wrap=Pipelines)


@pytest.fixture(scope="module")
def pipelines() -> Pipelines:
    """The tiny model as a run is given it."""
    return Pipelines(load_tiny())


@pytest.fixture
def picture() -> Image.Image:
    """A picture of two colours, not square."""
    image = Image.new("RGB", (96, 64), "white")
    image.paste((200, 30, 30), (10, 10, 50, 50))
    return image


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers on free ports, and ends them after the test."""
    with ExitStack() as undo:

        def start(denoisers: list[Denoiser], folder: Path | None = None, **more: Any) -> Server:
            server = Server(denoisers, folder, **{"port": 0, **more})
            undo.callback(server.close)
            server.start()
            return server

        yield start

"""rdaam's ``ui.app``: generate, paint a region, analyse it; and the page, on this machine only.

Nothing is loaded at import. ``demo.launch()`` serves the page of ``rdaam app`` with a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from diffusers_rdaam.compat.rdaam.runs import (
    DEFAULT_MODEL_ID,
    DEFAULT_SEED,
    DEFAULT_STEPS,
    ReverseDAAMAnalyzer,
    load,
)
from diffusers_rdaam.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@lru_cache(maxsize=1)
def get_analyzer(model_id: Any = DEFAULT_MODEL_ID) -> ReverseDAAMAnalyzer:
    """The analyzer behind :func:`generate_image`, loaded when it is first asked for.

    Args:
        model_id: a hub id or folder, or a loaded pipeline.
    """
    return ReverseDAAMAnalyzer(model_id)


def generate_image(
    prompt: str,
    seed: int = DEFAULT_SEED,
    steps: int = DEFAULT_STEPS,
    *,
    analyzer: ReverseDAAMAnalyzer | None = None,
) -> Image.Image | None:
    """The image of a prompt; None for an empty one.

    Args:
        prompt, seed, steps: of the run.
        analyzer: rdaam's own model if not given.
    """
    if not prompt:
        return None
    return (analyzer or get_analyzer()).generate(prompt, seed=int(seed), steps=int(steps))


def analyze_drawing(
    editor_data: Mapping[str, Any] | None, *, analyzer: ReverseDAAMAnalyzer | None = None
) -> Figure | None:
    """The bars of what was painted on the last image, in all layers together.

    Args:
        editor_data: of gradio's ``ImageEditor``: ``layers``, each ``(height, width, 4)`` or
            ``(height, width, 3)``.
        analyzer: that made the image.

    Returns:
        None where there are no layers, or nothing was painted.
    """
    layers = list((editor_data or {}).get("layers") or ())
    if not layers:
        return None
    painted = np.logical_or.reduce([_painted(np.asarray(layer)) for layer in layers])
    return (analyzer or get_analyzer()).analyze_mask(painted)


def _painted(layer: np.ndarray) -> np.ndarray:
    if layer.ndim == 3:
        layer = layer[..., 3] if layer.shape[-1] == 4 else layer.max(axis=-1)
    return np.asarray(layer > 0)


class Demo:
    """rdaam's ``demo``: ``demo.launch()`` serves the page until an interrupt.

    Args:
        model_id: a hub id or folder, or a loaded pipeline.
    """

    def __init__(self, model_id: Any = DEFAULT_MODEL_ID) -> None:
        self.model_id = model_id

    def launch(
        self,
        share: bool = False,
        *,
        server_name: str = "127.0.0.1",
        server_port: int | None = None,
    ) -> None:
        """Serve the page.

        Args:
            share: must be False: the page is never opened to the internet.
            server_name, server_port: the address; the first free port from 7860 if not given.

        Raises:
            InputError: ``share`` is True, or the address cannot be used.
            AppExtraError: gradio is not installed.
        """
        from diffusers_rdaam.app.server import run_server

        if share:
            raise InputError(
                "share=True would open the page to the internet, which is not done here. Leave it "
                "out, and use a tunnel of your choice with a password."
            )
        server = self.server(server_name, server_port)
        run_server(server, lambda url: print(f"page: {url} (Ctrl+C ends it)", flush=True))

    def server(self, host: str = "127.0.0.1", port: int | None = None) -> Any:
        """The page's server, not started yet."""
        from diffusers_rdaam.app.requests import Pipelines
        from diffusers_rdaam.app.runs import Denoiser
        from diffusers_rdaam.app.server import Server

        denoiser = Denoiser(
            str(self.model_id)[:80], partial(_recording, self.model_id), wrap=Pipelines
        )
        return Server([denoiser], host=host, port=port)


def _recording(model_id: Any) -> Any:
    from diffusers_rdaam.pipelines.auto import AutoRDAAMPipelineForText2Image

    return AutoRDAAMPipelineForText2Image.from_pipe(load(model_id, None))


demo = Demo()

"""``rdaam app``: the page on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from diffusers_rdaam.app.server import (
    Server,
    check_folder,
    check_gradio,
    is_loopback,
    open_socket,
    run_server,
)
from diffusers_rdaam.cli.models import (
    EMBEDDED_FLUX,
    Model,
    best_device,
    check_device,
    check_dtype,
    find_model,
    load_pipeline,
)
from diffusers_rdaam.cli.report import Report
from diffusers_rdaam.errors import RDAAMWarning

if TYPE_CHECKING:
    from diffusers_rdaam.app.runs import Denoiser

EMBEDDED = "demo-stable-diffusion"


@dataclass(frozen=True)
class AppRequest:
    """The options of ``rdaam app``."""

    model: str | None
    host: str
    port: int | None
    files: Path | None
    device: str | None
    dtype: str | None


def serve(request: AppRequest, report: Report) -> None:
    """Check everything that can be checked, what is quick first, and serve until an interrupt.

    Raises:
        AppExtraError: gradio is not installed.
        InputError: the model, the folder or the address cannot be used.
    """
    check_gradio()
    check_folder(request.files)
    check_dtype(request.dtype)
    open_socket(request.host, request.port).close()
    denoisers = _denoisers(request, _models(request))
    if not is_loopback(request.host):
        report.warn(
            f"--host {request.host} is not of this machine alone: everybody who can reach it can "
            "use the model and see the files of --files. There is no password.",
            RDAAMWarning,
        )
    server = Server(denoisers, request.files, host=request.host, port=request.port)
    report.add(url=server.url)

    def ready(url: str) -> None:
        names = ", ".join(one.name for one in denoisers) or "none, saved attributions only"
        report.say(f"models:       {names}")
        report.say(f"page:         {url} (Ctrl+C ends it)")

    run_server(server, ready)


def _models(request: AppRequest) -> dict[str, Model]:
    """The models of the server by name: the named one, or the embedded ones; none for files alone.

    Raises:
        InputError: there is no such model.
    """
    if request.model is not None:
        return {request.model: find_model(request.model)}
    if request.files is not None:
        return {}
    return {EMBEDDED: find_model(None), EMBEDDED_FLUX: find_model(EMBEDDED_FLUX)}


def _denoisers(request: AppRequest, models: dict[str, Model]) -> list[Denoiser]:
    """A queue for each model, which loads it before its first run.

    Raises:
        InputError: the device is not here.
    """
    # torch comes with these: what is wrong with the options is reported before.
    from diffusers_rdaam.app.requests import Pipelines
    from diffusers_rdaam.app.runs import Denoiser

    device = best_device() if request.device is None else request.device
    check_device(device)
    return [
        Denoiser(name, partial(load_pipeline, model, device, request.dtype), wrap=Pipelines)
        for name, model in models.items()
    ]

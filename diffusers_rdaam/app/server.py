"""The server: one address, one private folder, and nothing that leaves the machine.

Nothing slow is imported before the checks: a port in use or a missing folder is reported at once.
"""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusers_rdaam.errors import AppExtraError, InputError

if TYPE_CHECKING:
    from diffusers_rdaam.app.runs import Denoiser

HOST = "127.0.0.1"
PORT = 7860
# Ports that are tried where none was asked for.
_PORTS = 100
MOST_UPLOAD = 64 * 2**20
# What a page of this server may load: itself, and what stands in it. The viewer's frame inherits
# the policy.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; media-src 'self' data: blob:; worker-src 'self' blob:; "
    "frame-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


def check_gradio() -> None:
    """See that gradio is there.

    Raises:
        AppExtraError: it is not; the text names the extra.
    """
    # Not imported yet: that takes seconds, and other things are checked first.
    if importlib.util.find_spec("gradio") is None:
        raise AppExtraError(
            'The app needs gradio. Install it with: pip install "diffusers_rdaam[app]"'
        )


def check_folder(folder: Path | None) -> None:
    """See that a folder of files is there.

    Raises:
        InputError: it is not, or may not be read.
    """
    if folder is None:
        return
    try:
        if folder.is_dir():
            os.scandir(folder).close()
            return
        reason = "it is a file" if folder.exists() else "there is no such folder"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise InputError(
        f"--files {folder} cannot be read: {reason}. Give a folder with .safetensors files."
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_socket(host: str, port: int | None) -> socket.socket:
    """A socket bound to the address, so that nobody else can take it before the server starts.

    Args:
        host: a name or number of this machine.
        port: the first free one from 7860 if None; 0 for any.

    Raises:
        InputError: the port is in use, or the host is not one of this machine.
    """
    ports = range(PORT, PORT + _PORTS) if port is None else [port]
    reason: Exception | None = None
    for number in ports:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
        except (OSError, UnicodeError) as error:
            raise InputError(
                f"--host {host} is not an address of this machine: {error}. Give 127.0.0.1."
            ) from error
        found = socket.socket(family, kind, protocol)
        if os.name == "posix":
            # A port of a server that has just ended; never one of a server that listens.
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(address)
            found.listen(128)
            return found
        except OSError as error:
            found.close()
            reason = error
    where = f"{host}:{port}" if port is not None else f"{host}, ports {ports[0]} to {ports[-1]},"
    raise InputError(
        f"The server cannot listen on {where}: {reason}. Give another --port, or end what uses it."
    )


class Guard:
    """Adds the security headers to every answer, and refuses other names of this machine.

    A page elsewhere that has its name lead to this machine would otherwise pass for this server.

    Args:
        app: the application.
        hosts: the names that a browser may call the server; None for all.
    """

    def __init__(self, app: Any, hosts: Sequence[str] | None) -> None:
        self._app = app
        self._hosts = None if hosts is None else frozenset(hosts)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if self._hosts is not None and _host_of(scope) not in self._hosts:
            await send(
                {"type": "http.response.start", "status": 421, "headers": [*_HEADERS]}
                if scope["type"] == "http"
                else {"type": "websocket.close", "code": 1008}
            )
            if scope["type"] == "http":
                await send({"type": "http.response.body", "body": b"unknown host"})
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
            await send(message)

        await self._app(scope, receive, guarded)


def _host_of(scope: Any) -> str:
    """The name by which a browser calls the server, without its port."""
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    if len(values) != 1:
        return ""
    name, _, port = values[0].rpartition(":")
    return (name if port.isdigit() and name else values[0]).strip("[]").lower()


class Server:
    """A running server; :meth:`close` ends it and removes its folder.

    Args:
        denoisers: the models; none to show files only.
        folder: of attribution files that every visitor may open.
        host, port: as in :func:`open_socket`.

    Raises:
        AppExtraError: gradio is not installed.
        InputError: the folder or the address cannot be used.
    """

    def __init__(
        self,
        denoisers: Sequence[Denoiser],
        folder: Path | None = None,
        *,
        host: str = HOST,
        port: int | None = None,
    ) -> None:
        check_gradio()
        check_folder(folder)
        self._denoisers = denoisers
        self._socket = open_socket(host, port)
        from diffusers_rdaam.app.session import Sessions

        self.host, self.port = host, int(self._socket.getsockname()[1])
        self.root = Path(tempfile.mkdtemp(prefix="rdaam-app-"))
        self.sessions = Sessions(self.root / "sessions")
        self._undo = ExitStack()
        self._undo.callback(shutil.rmtree, self.root, ignore_errors=True)
        self._undo.callback(self._socket.close)
        try:
            self._undo.enter_context(_private_uploads(self.root / "uploads"))
            self._server = _uvicorn(_within_a_loop(lambda: self._application(folder)))
        except BaseException:
            self._undo.close()
            raise
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.port}/"

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread = threading.Thread(target=self.serve, daemon=True, name="rdaam-app")
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            self._thread.join(0.05)

    def serve(self) -> None:
        """Serve until the end of the process or :meth:`close`."""
        self._server.run(sockets=[self._socket])

    def close(self) -> None:
        """Cancel every run, end the server, and remove its folder."""
        for denoiser in self._denoisers:
            denoiser.close()
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=20)
        self.sessions.close_all()
        self._undo.close()

    def _application(self, folder: Path | None) -> Any:
        import gradio
        from fastapi import FastAPI

        from diffusers_rdaam.app import fragments
        from diffusers_rdaam.app.page import Page

        self.page = Page(self._denoisers, self.sessions, folder)
        blocks = self.page.build()
        fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica", "sans-serif"]
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        gradio.mount_gradio_app(
            app,
            blocks,
            "/",
            server_name=self.host,
            server_port=self.port,
            # Fonts of the machine: gradio's own are fetched from elsewhere.
            theme=gradio.themes.Base(font=fonts, font_mono=["ui-monospace", "monospace"]),
            css=fragments.asset("app.css"),
            footer_links=[],
            run_history=False,
            max_file_size=MOST_UPLOAD,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            enable_monitoring=False,
            show_error=False,
        )
        # Only then does gradio check that a file which a visitor names is one that it has uploaded.
        blocks.has_launched = True
        loopback = is_loopback(self.host)
        return Guard(app, ["localhost", "127.0.0.1", "::1", self.host] if loopback else None)


@contextmanager
def _private_uploads(folder: Path) -> Iterator[None]:
    """Have gradio put what visitors send into a folder of this server, and ask nobody for news.

    gradio reads both from the environment, while the page is built and at every upload, so that one
    process has one server at a time.
    """
    folder.mkdir(mode=0o700)
    wanted = {"GRADIO_TEMP_DIR": str(folder), "GRADIO_ANALYTICS_ENABLED": "False"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _within_a_loop(build: Callable[[], Any]) -> Any:
    """What a function returns that runs within an event loop.

    Outside of one gradio makes several for its locks, and leaves them open.
    """

    async def built() -> Any:
        return build()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(built())
    # That of a notebook.
    return build()


def _uvicorn(app: Any) -> Any:
    import uvicorn

    settings = uvicorn.Config(
        app, log_level="error", access_log=False, timeout_graceful_shutdown=2, server_header=False
    )
    return uvicorn.Server(settings)


def run_server(server: Server, ready: Callable[[str], None]) -> None:
    """Serve until an interrupt or SIGTERM; whatever ends it, the folder is removed."""
    if threading.current_thread() is threading.main_thread():
        # uvicorn ends in order and then raises the signal again, which by default kills.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        ready(server.url)
        server.serve()
    finally:
        server.close()

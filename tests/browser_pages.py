"""Fixtures of the tests in a real browser: pages of a system chromium, driven by playwright.

A test that takes ``pages`` is marked ``browser`` and run by ``make test-browser``. It fails on any
error in the page's console, any exception of its scripts, and any request that leaves the machine.
Without a browser such a test is skipped with the reason; where ``RDAAM_REQUIRE_BROWSER`` is set, as
``.ci/run`` does, it fails.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

REQUIRED = "RDAAM_REQUIRE_BROWSER"
PROGRAMS = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")
# For people to look at.
PICTURES = Path(__file__).parents[1] / "out" / "browser"
_LOOPBACK = r"(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?(?:/|$)"
OUTSIDE = re.compile(rf"^(?:https?|wss?|ftp)://(?!{_LOOPBACK})")


def browser_program() -> str | None:
    """The path of a browser of this machine."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def without_browser(why: str) -> NoReturn:
    """Skip the test, or fail it where a browser is required."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{why} {REQUIRED} is set, so the tests in a browser have to run.", False)
    pytest.skip(why)


class Pages:
    """Pages of one test, each in a fresh context, and all that went wrong in them.

    Attributes:
        problems: errors of consoles and scripts, and requests that would have left the machine.
    """

    def __init__(self, browser: Browser, folder: Path) -> None:
        self.problems: list[str] = []
        self._browser = browser
        self._folder = folder
        self._contexts: list[BrowserContext] = []

    def open(
        self,
        address: str | Path,
        *,
        width: int = 1280,
        height: int = 900,
        ignored: str | None = None,
        **options: Any,
    ) -> Page:
        """Open a file or an address in a fresh context.

        Args:
            address: a file of this machine, or an address with its scheme.
            width, height: the window, in CSS pixels.
            ignored: a pattern of problems that are not the page's own, such as its server's icon.
            options: of playwright's ``new_context``, such as ``color_scheme="dark"``,
                ``has_touch=True`` or ``java_script_enabled=False``.
        """
        window: Any = {"width": width, "height": height}
        context = self._browser.new_context(viewport=window, **options)
        self._contexts.append(context)

        def note(problem: str) -> None:
            if ignored is None or not re.search(ignored, problem):
                self.problems.append(problem)

        def refuse(route: Any) -> None:
            note(f"a request leaves the machine: {route.request.url}")
            route.abort()

        def refuse_socket(socket: Any) -> None:
            note(f"a request leaves the machine: {socket.url}")
            socket.close()

        context.route(OUTSIDE, refuse)
        context.route_web_socket(OUTSIDE, refuse_socket)
        context.on(
            "console", lambda line: note(f"console: {line.text}") if line.type == "error" else None
        )
        context.on("weberror", lambda error: note(f"script: {error.error}"))
        page = context.new_page()
        page.goto(address.resolve().as_uri() if isinstance(address, Path) else address)
        return page

    def show(self, html: str, name: str = "page.html", **options: Any) -> Page:
        """Write a document to a file and open that; arguments as in :meth:`open`."""
        path = self._folder / name
        path.write_text(html, encoding="utf-8")
        return self.open(path, **options)

    def picture(self, page: Page, name: str, *, full: bool = False) -> Path:
        """Write a screenshot to ``out/browser``, for people to look at."""
        path = PICTURES / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=path, full_page=full)
        return path

    def close(self) -> None:
        """Close all pages."""
        for context in self._contexts:
            context.close()
        self._contexts.clear()


# Of a module, not of the session: while playwright runs, its thread has a running event loop, and
# a test of another module may call asyncio.run.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A system chromium without a window."""
    program = browser_program()
    if program is None:
        without_browser(f"There is no browser: none of {', '.join(PROGRAMS)} is on PATH.")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        without_browser("The tests in a browser need playwright, of the extra 'dev'.")
    with sync_playwright() as playwright:
        # A container has no user namespaces for chromium's sandbox, and small shared memory.
        started = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield started
        started.close()


@pytest.fixture
def pages(browser: Browser, tmp_path: Path) -> Iterator[Pages]:
    """Opens pages, and fails the test when something went wrong in them."""
    opened = Pages(browser, tmp_path)
    yield opened
    opened.close()
    assert not opened.problems, "\n".join(opened.problems)

"""What the tests in a browser stand on: a page with a problem fails its test."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import browser_pages
import pytest

HEAD = "<!doctype html><meta charset=utf-8><title>a page</title>"


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server on loopback."""
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()
    thread.join()


@pytest.mark.browser
def test_a_page_without_problems_is_read(pages) -> None:
    page = pages.show(HEAD + "<p>two words</p><script>console.warn('not an error')</script>")
    assert page.inner_text("p") == "two words"
    assert pages.problems == []


@pytest.mark.browser
@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("<script>console.error('a stain')</script>", "a stain"),
        ("<script>throw new Error('a crash')</script>", "a crash"),
        ("<script>setTimeout(() => Promise.reject(new Error('a late crash')))</script>", "a late"),
        ("<script>fetch('https://example.org/maps').catch(() => 0)</script>", "example.org/maps"),
        ("<img src='http://192.0.2.7/dot.png' alt=''>", "192.0.2.7/dot.png"),
        ("<script src='https://127.0.0.1.example.org/a.js'></script>", "127.0.0.1.example.org"),
        ("<iframe src='https://example.org/frame'></iframe>", "example.org/frame"),
        ("<script>new WebSocket('ws://192.0.2.7/live')</script>", "192.0.2.7/live"),
    ],
)
def test_a_problem_is_seen(pages, body: str, problem: str) -> None:
    page = pages.show(HEAD + body)
    page.wait_for_timeout(200)
    assert any(problem in line for line in pages.problems), pages.problems
    pages.problems.clear()


@pytest.mark.browser
def test_loopback_does_not_leave_the_machine(pages, server: str) -> None:
    page = pages.show(HEAD)
    page.evaluate("address => fetch(address, {mode: 'no-cors'}).then(() => 0)", server)
    assert pages.problems == []


@pytest.mark.browser
def test_ignored_problems_are_only_those_of_the_pattern(pages) -> None:
    page = pages.show(
        HEAD + "<script>console.error('a stain'); console.error('a crack')</script>",
        ignored="stain",
    )
    page.wait_for_timeout(50)
    assert pages.problems == ["console: a crack"]
    pages.problems.clear()


@pytest.mark.browser
def test_contexts_share_nothing(pages) -> None:
    first = pages.show(HEAD)
    first.evaluate("localStorage.setItem('kept', 'yes')")
    assert pages.show(HEAD).evaluate("localStorage.getItem('kept')") is None


def test_without_a_browser_a_test_is_skipped_or_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert browser_pages.browser_program() is None
    monkeypatch.delenv(browser_pages.REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"^There is no browser"):
        browser_pages.without_browser("There is no browser.")
    monkeypatch.setenv(browser_pages.REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception, match=r"browser\. RDAAM_REQUIRE_BROWSER"):
        browser_pages.without_browser("There is no browser.")


def test_a_browser_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    program = tmp_path / "google-chrome"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert browser_pages.browser_program() == str(program)

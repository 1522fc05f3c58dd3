"""A real browser that tells of everything it asks other machines for."""

import contextlib
import shutil
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest

CHROMIUM = shutil.which("chromium")
# What Chromium asks by itself, with an empty page too. No page of ours has a reason to name them.
_OF_THE_BROWSER = (
    *("update.googleapis.com", "accounts.google.com", "clients2.google.com", "www.google.com"),
    *("optimizationguide-pa.googleapis.com", "redirector.gvt1.com"),
)
# It asks about every form, too.
_ARGUMENTS = ["--no-sandbox", "--disable-features=AutofillServerCommunication"]


class Browsing(NamedTuple):
    """A headless Chromium, and the other machines that it, or the pages in it, wanted to ask."""

    browser: object
    """Of Playwright: `browser.new_context(...)`, `browser.new_page(...)`."""
    asked: list[str]
    """First lines of requests that were for other machines; none of them was let through."""


@contextlib.contextmanager
def outside() -> Iterator[tuple[str, list[str]]]:
    """Address of a proxy that refuses everything, and a list of what it was asked for."""
    asked: list[str] = []

    class Refusing(socketserver.StreamRequestHandler):
        def handle(self):
            line = self.rfile.readline(4096).decode("latin-1").strip()
            if not any(host in line.split("?")[0] for host in _OF_THE_BROWSER):
                asked.append(line)
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusing) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


def free_port() -> int:
    """A port for a server of one test, where others run beside it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def chromium() -> Iterator[Browsing]:
    """Start Debian's Chromium. Whatever is not on this machine it asks a proxy for, which refuses and remembers it."""
    if not CHROMIUM:
        pytest.skip("there is no Chromium: `apt-get install chromium`")
    from playwright.sync_api import sync_playwright

    with outside() as (proxy, asked), sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=_ARGUMENTS, proxy={"server": proxy, "bypass": "127.0.0.1"}
        )
        yield Browsing(browser, asked)
        browser.close()

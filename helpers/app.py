"""The page of ``06_demo``: place photos on the map, and play against the model. Nothing leaves this machine.

Gradio serves it, on this machine alone. A photo is sent to it in the body of a request, is in memory while it is
looked at, and is forgotten with the answer: there is no upload that could stay on a disk. :class:`Guard` answers
nothing but what the page needs, so that Gradio's own routes to files, to other machines and to its tools are shut.
"""

import functools
import os
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from importlib import resources
from typing import Any

from helpers import web_maps

# Before it is imported: it reports to its makers otherwise, and keeps files in a folder that it shares with others.
_OWN_FOLDER = tempfile.TemporaryDirectory(prefix="photo-geolocation-", ignore_cleanup_errors=True)
os.environ |= {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_TEMP_DIR": _OWN_FOLDER.name,
    "GRADIO_SHARE": "False",
    "GRADIO_ALLOWED_PATHS": "",
}
try:
    import gradio
    from starlette.middleware import Middleware
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "the apps need Gradio: install it with `poetry install --extras apps`, or `pip install gradio`"
    ) from error

MOST_BYTES = 64 * 2**20
"""Of a request: a photo, a third larger than its file, and little beside."""
TITLE = "Photo geolocation lab"
ADDRESS = "127.0.0.1"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")
_NEEDED = re.compile(
    r"/(config|theme\.css|favicon\.ico|manifest\.json|assets/[\w./-]+|static/[\w./-]+)?"
    r"|/gradio_api/(info|startup-events|component_server|heartbeat/\w+|queue/(join|data|status))/?"
)
_HEADERS = {
    # Whatever a page or a library tries, the browser asks no other machine.
    "content-security-policy": "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; form-action 'self'; "
    "base-uri 'self'; object-src 'none'; frame-ancestors 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-dns-prefetch-control": "off",
    "cache-control": "no-store",
}


# On a phone, the margins that Gradio leaves take a quarter of the width.
_STYLE = """@media (max-width: 760px) {
  .gradio-container .main, .gradio-container .html-container { padding: 4px !important }
}"""


class Guard:
    """What stands before Gradio: it lets through what the page needs, from this machine, of a photo's size at most.

    Parameters
    ----------
    app : ASGI application
    """

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        refusal = _refusal(scope)
        if refusal:
            return await _refuse(send, *refusal)
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MOST_BYTES:  # of a request that did not tell how long it is
                return {"type": "http.disconnect"}
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                kept = [(name, value) for name, value in message["headers"] if name.decode().lower() not in _HEADERS]
                message = {**message, "headers": [*kept, *ours]}
            await send(message)

        await self.app(scope, bounded, with_headers)


def _refusal(scope: Message) -> tuple[int, str] | None:
    """Status and reason of a request that is not let through."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    if scope["type"] != "http":
        return 403, "not here"
    if not _HOST.fullmatch(headers.get("host", "")):
        return 403, "this page is for the machine that it runs on"
    by_another_page = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    if by_another_page and (scope["method"], scope["path"]) != ("GET", "/"):  # a link to the page may stand anywhere
        return 403, "this is for the page itself"
    raw = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
    if ".." in scope["path"] or "%" in raw or not _NEEDED.fullmatch(scope["path"]):
        return 404, "there is no such page"
    if scope["method"] == "POST" and headers.get("content-type", "") != "application/json":
        return 415, "this takes JSON"  # anything else would be put on the disk
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MOST_BYTES:
        return 413, f"more than {MOST_BYTES // 2**20} MB"
    return None


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = reason.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def ask_nobody_else() -> None:
    """Let this process connect to no other machine from now on; it cannot be taken back.

    Whatever would fetch something, such as weights or photos that a list has addresses of, gets a ``PermissionError``.
    """
    sys.addaudithook(_refuse_other_machines)


def _refuse_other_machines(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        host = arguments[1][0] if isinstance(arguments[1], tuple) else ""  # else a socket of this machine's files
    elif event == "socket.getaddrinfo":
        host = arguments[0] or ""
    else:
        return
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name not in ("", "localhost", "::1", "0.0.0.0", "::") and not name.startswith("127."):
        raise PermissionError(f"this page asks no other machine, and {name} is one: get what is missing beforehand")


def part(name: str, *functions: Callable[..., Any]) -> gradio.HTML:
    """A part of the page: what ``web_app/<name>.html``, ``.css`` and ``.js`` make, which calls functions here.

    Parameters
    ----------
    name : str
    *functions : callable
        Each takes one argument, and gives what JSON can tell. The script calls them as ``await server.<name>(...)``.
    """
    folder = resources.files("helpers") / "web_app"
    page, style, script = (
        (folder / f"{name}.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "css", "js")
    )
    return gradio.HTML(
        page, css_template=style, js_on_load=script, server_functions=list(functions), apply_default_css=False
    )


def answering(function: Callable[[Any], Any], refusal: type[Exception]) -> Callable[[Any], Any]:
    """A function of the page that tells why it refuses, as ``{"error": ...}``, where it raises that."""

    @functools.wraps(function)
    def answer(asked: Any) -> Any:
        if not isinstance(asked, dict):
            return {"error": "This is no request of this page: reload it."}
        try:
            return function(asked)
        except refusal as error:
            words = str(error)
            return {"error": words[:1].upper() + words[1:]}

    return answer


def serve(page: gradio.Blocks, port: int = 0, *, wait: bool = True) -> str:
    """Serve a page to this machine.

    Parameters
    ----------
    page : gradio.Blocks
    port : int
        0: the first free one from 7860.
    wait : bool
        Whether to serve until the process is interrupted, or in a thread of its own.

    Returns
    -------
    str
        Address of the page.
    """
    page.queue(max_size=16, api_open=False)
    _, address, _ = page.launch(
        server_name=ADDRESS,
        server_port=port or None,
        app_kwargs={"middleware": [Middleware(Guard)], "docs_url": None, "redoc_url": None, "openapi_url": None},
        head=f"{web_maps.head()}<style>{_STYLE}</style>",
        theme=theme(),
        footer_links=[],
        enable_monitoring=False,
        inbrowser=False,
        inline=False,
        mcp_server=False,
        prevent_thread_lock=True,
        pwa=False,
        quiet=True,
        share=False,
        show_error=False,
        ssr_mode=False,
    )
    print(f"open {address} in a browser; interrupt with Ctrl-C", flush=True)
    if wait:
        page.block_thread()
    return str(address)


def theme() -> gradio.Theme:
    """Looks of the page, with the fonts of the machine: others would be asked of a server."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif"]
    return gradio.themes.Base(primary_hue="blue", font=fonts, font_mono=["ui-monospace", "Consolas", "monospace"])

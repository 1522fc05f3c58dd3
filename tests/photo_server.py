"""A photo server on loopback that misbehaves when asked, in a process of its own that stops by itself.

``with photo_server.running() as server`` starts one. What a path asks for stands in its first folder:

=========================  ============================================================================================
``/photos/NAME``           a JPEG of its own for every path: the bytes that `photo` returns
``/same/NAME``             one and the same JPEG for every path
``/status/404/NAME``       that status, without a photo
``/first/503/2/NAME``      that status for the first two requests of the path, then its photo
``/first/429/1/3/NAME``    the same, with ``Retry-After: 3``; ``3date`` says it as an HTTP date, anything else as it is
``/always/429/3/NAME``     that status with ``Retry-After: 3`` each time
``/slow/50/NAME``          its photo after 50 ms
``/silent/NAME``           never an answer
``/drip/NAME``             its photo, a byte every 50 ms
``/cut/NAME``              half of the bytes that Content-Length promises
``/cut-chunked/NAME``      a chunked body without its last chunk
``/chunked/NAME``          its photo, chunked and without Content-Length
``/half/NAME``             a response that is whole, of a JPEG that ends in the middle
``/huge/NAME``             Content-Length of 100 GB
``/endless/NAME``          a chunked body that ends when the client has enough, or after 1 GiB
``/html/NAME``             200 with a page of HTML that says it is a JPEG
``/text/NAME``             200 with text that says it is a JPEG
``/empty/NAME``            200 with no bytes
``/placeholder/NAME``      a redirect to ``/pictures/photo_unavailable.png``, which is a photo
``/hops/3/NAME``           three redirects, then its photo
``/loop/NAME``             a redirect to itself
``/to/ADDRESS``            a redirect to the address that is percent-encoded there
``/reset/NAME``            a connection reset
=========================  ============================================================================================

Every other path, and every one below a folder that `root` has, is a file of `root`, with Range and HEAD, or a page that
lists a folder.
"""

import asyncio
import email.utils
import functools
import hashlib
import html
import io
import json
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import numpy as np
from PIL import Image

_LOOKS = 8  # different pictures; beyond that, photos differ in a comment
_ENDLESS = 1 << 30
_CHUNK = b"x" * (1 << 16)


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int

    def url(self, path: str = "") -> str:
        """Address of a path on this server."""
        return f"http://127.0.0.1:{self.port}/{path.lstrip('/')}"

    def requests(self) -> Counter[str]:
        """How often each path was asked for."""
        return Counter(path for path, _ in self.log())

    def log(self) -> list[tuple[str, float]]:
        """Path and time of each request, in the order of their coming; seconds of the server's own clock."""
        return [(path, at) for path, at in self._told()["log"]]

    def most_at_once(self) -> int:
        """The most requests that were under way at one time."""
        return self._told()["most_at_once"]

    def headers(self) -> dict[str, str]:
        """Headers of the latest request, with names in lower case."""
        return self._told()["headers"]

    def _told(self) -> dict:
        with urllib.request.urlopen(self.url("told.json"), timeout=10) as response:
            return json.load(response)


@contextmanager
def running(
    root: Path | None = None,
    *,
    size: tuple[int, int] = (96, 64),
    seconds: float = 120,
    dies_after: int = 0,
) -> Iterator[Server]:
    """Serve photos and the files of a folder until the block ends.

    Parameters
    ----------
    root : Path, optional
        Folder whose files are served.
    size : tuple of int
        Width and height of the photos that `photo` makes, in pixels.
    seconds : float
        After this time the server ends whatever happens, as it does when the process that started it is gone.
    dies_after : int
        If not 0, the server ends without a word after so many requests.
    """
    told = json.dumps([str(root or ""), *size, seconds, dies_after])
    process = subprocess.Popen(
        [sys.executable, __file__, told, str(os.getpid())], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()))
    finally:
        process.kill()
        process.communicate()


def photo(path: str, size: tuple[int, int] = (96, 64)) -> bytes:
    """The JPEG that stands at a path: no two paths share their bytes, and hardly any two their pixels.

    Examples
    --------
    >>> image = Image.open(io.BytesIO(photo("/photos/7.jpg", (96, 64))))
    >>> image.size, image.info["comment"]
    ((96, 64), b'/photos/7.jpg')
    """
    comment = path.encode()
    digest = hashlib.blake2b(comment, digest_size=3).digest()
    picture, table = _picture(digest[0] % _LOOKS, size)
    # Other steps of the quantisation make another picture, without the time that encoding takes.
    bits = int.from_bytes(digest[1:], "big")
    steps = bytes(step + (bits >> place & 1) for place, step in enumerate(picture[table : table + 16]))
    head = b"\xff\xd8\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment
    return b"".join((head, picture[2:table], steps, picture[table + 16 :]))


@functools.cache
def _picture(seed: int, size: tuple[int, int]) -> tuple[bytes, int]:
    """A JPEG, and where in it the steps of its quantisation stand."""
    generator = np.random.default_rng(seed)
    image = np.full((size[1], size[0], 3), 128.0)
    for cells, strength in ((5, 90), (40, 25), (160, 10), (400, 17)):  # smooth shades under finer ones, as photos have
        shades = generator.normal(0, 60, (cells, cells, 3)).clip(-120, 120) + 128
        layer = Image.fromarray(shades.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
        image += (np.asarray(layer, dtype=float) - 128) / 60 * strength
    buffer = io.BytesIO()
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue(), buffer.getvalue().index(b"\xff\xdb") + 5


class _Handler:
    def __init__(self, root: str, width: int, height: int, dies_after: int) -> None:
        self.root = Path(root).resolve() if root else None
        self.size = width, height
        self.dies_after = dies_after
        self.log: list[tuple[str, float]] = []
        self.counts: Counter[str] = Counter()
        self.headers: dict[str, str] = {}
        self.at_once = self.most_at_once = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A photo goes out in one call, so that the server takes little from the cores that it shares with a client.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target, _ = head.split(b" ", 2)
                path = unquote(urlsplit(target.decode()).path)
                if path == "/told.json":
                    self._answer(writer, json.dumps(self._told()).encode(), "application/json")
                    continue
                self.headers = dict(_parsed(line) for line in head.decode("latin-1").split("\r\n")[1:] if line)
                self.log.append((path, time.monotonic()))
                self.counts[path] += 1
                if self.dies_after and len(self.log) > self.dies_after:
                    os._exit(1)
                self.at_once += 1
                self.most_at_once = max(self.at_once, self.most_at_once)
                try:
                    await self._served(method.decode(), path, target.decode(), writer)
                    await writer.drain()
                finally:
                    self.at_once -= 1
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, _Hangup):
            pass
        finally:
            writer.close()

    def _told(self) -> dict:
        return {"log": self.log, "most_at_once": self.most_at_once, "headers": self.headers}

    async def _served(self, method: str, path: str, target: str, writer: asyncio.StreamWriter) -> None:
        kind, _, rest = path[1:].partition("/")
        handle = getattr(self, "_" + kind.replace("-", "_") + "_photo", None)
        if handle is not None and rest and not (self.root and (self.root / kind).exists()):
            await handle(path, rest, target, writer)
        else:
            self._file(method, path, writer)

    async def _photos_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        self._answer(writer, photo(path, self.size))

    async def _same_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        self._answer(writer, photo("/same", self.size))

    async def _status_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        self._answer(writer, b"no photo here", "text/plain", status=int(rest.split("/")[0]))

    async def _first_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        status, times, *wait, _ = rest.split("/")
        if self.counts[path] > int(times):
            self._answer(writer, photo(path, self.size))
        else:
            self._answer(writer, b"not now", "text/plain", status=int(status), extra=_retry_after(*wait))

    async def _always_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        status, wait, _ = rest.split("/")
        self._answer(writer, b"not now", "text/plain", status=int(status), extra=_retry_after(wait))

    async def _slow_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(int(rest.split("/")[0]) / 1000)
        self._answer(writer, photo(path, self.size))

    async def _silent_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)

    async def _drip_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        body = photo(path, self.size)
        writer.write(_head(200, "image/jpeg", len(body)))
        for byte in body:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    async def _cut_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        body = photo(path, self.size)
        writer.write(_head(200, "image/jpeg", len(body)) + body[: len(body) // 2])
        await writer.drain()
        raise _Hangup

    async def _cut_chunked_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        writer.write(_head(200, "image/jpeg", None) + _chunk(photo(path, self.size)))
        await writer.drain()
        raise _Hangup

    async def _chunked_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        writer.write(_head(200, "image/jpeg", None) + _chunk(photo(path, self.size)) + b"0\r\n\r\n")

    async def _half_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        body = photo(path, self.size)
        self._answer(writer, body[: len(body) // 2])

    async def _huge_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        writer.write(_head(200, "image/jpeg", 100 * 10**9) + _CHUNK)
        await writer.drain()
        await asyncio.sleep(3600)

    async def _endless_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        writer.write(_head(200, "image/jpeg", None))
        for _ in range(_ENDLESS // len(_CHUNK)):
            writer.write(_chunk(_CHUNK))
            await writer.drain()
        raise _Hangup

    async def _html_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        self._answer(writer, b"\n<!DOCTYPE html>\n<html><body>Please log in</body></html>\n", "image/jpeg")

    async def _text_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        self._answer(writer, b"no photo here")

    async def _empty_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        self._answer(writer, b"")

    async def _placeholder_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        self._redirect(writer, "/pictures/photo_unavailable.png")

    async def _pictures_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        self._answer(writer, photo("/pictures", self.size))

    async def _hops_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        left, name = rest.split("/", 1)
        self._redirect(writer, f"/hops/{int(left) - 1}/{name}" if int(left) > 1 else f"../../photos/{name}")

    async def _loop_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        self._redirect(writer, path)

    async def _to_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        self._redirect(writer, rest)

    async def _reset_photo(self, path: str, rest: str, target: str, writer: asyncio.StreamWriter) -> None:
        linger = struct.pack("ii", 1, 0)  # closing then sends RST
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        raise _Hangup

    def _file(self, method: str, path: str, writer: asyncio.StreamWriter) -> None:
        file = self.root / path.lstrip("/") if self.root else None
        if self.root is None or file is None or not file.resolve().is_relative_to(self.root) or not file.exists():
            self._answer(writer, b"no such file", "text/plain", status=404)
            return
        if file.is_dir():
            if not path.endswith("/"):
                self._redirect(writer, quote(path) + "/")
                return
            self._answer(writer, _listing(file, path).encode(), "text/html; charset=utf-8", whole=method != "HEAD")
            return
        body = file.read_bytes()
        total = len(body)
        unit, _, span = self.headers.get("range", "").partition("=")
        if unit == "bytes":
            first, _, last = span.partition("-")
            if int(first) >= total:
                self._answer(writer, b"", status=416, extra=f"Content-Range: bytes */{total}\r\n")
                return
            body = body[int(first) : int(last) + 1 if last else None]
            extra = f"Content-Range: bytes {first}-{int(first) + len(body) - 1}/{total}\r\n"
            self._answer(writer, body, "application/octet-stream", status=206, extra=extra)
            return
        self._answer(writer, body, "application/octet-stream", whole=method != "HEAD", extra="Accept-Ranges: bytes\r\n")

    def _redirect(self, writer: asyncio.StreamWriter, location: str) -> None:
        self._answer(writer, b"", "text/plain", status=302, extra=f"Location: {location}\r\n")

    @staticmethod
    def _answer(
        writer: asyncio.StreamWriter,
        body: bytes,
        content_type: str = "image/jpeg",
        status: int = 200,
        extra: str = "",
        whole: bool = True,
    ) -> None:
        writer.write(_head(status, content_type, len(body), extra) + (body if whole else b""))


class _Hangup(Exception):
    """Close the connection."""


def _head(status: int, content_type: str, length: int | None, extra: str = "") -> bytes:
    reason = HTTPStatus(status).phrase if status in set(HTTPStatus) else "?"
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\n{size}\r\n{extra}\r\n".encode("latin-1")


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def _retry_after(wait: str = "") -> str:
    if wait.endswith("date"):
        # HTTP dates have no fractions: rounded up, so that the wait is never shorter than asked.
        return f"Retry-After: {email.utils.formatdate(int(time.time()) + 1 + float(wait[:-4]), usegmt=True)}\r\n"
    return f"Retry-After: {wait}\r\n" if wait else ""


def _parsed(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


def _listing(folder: Path, path: str) -> str:
    names = sorted(file.name + "/" * file.is_dir() for file in folder.iterdir())
    links = "".join(f'<li><a href="{quote(name)}">{html.escape(name)}</a></li>\n' for name in names)
    return (
        f"<!DOCTYPE html>\n<html><head><title>Index of {html.escape(path)}</title></head><body>\n"
        f'<h1>Index of {html.escape(path)}</h1>\n<ul>\n<li><a href="../">Parent directory</a></li>\n'
        f'<li><a href="?C=M;O=A">Last modified</a></li>\n{links}</ul>\n</body></html>\n'
    )


async def _serve(root: str, width: int, height: int, seconds: float, dies_after: int, parent: int) -> None:
    handler = _Handler(root, width, height, dies_after)
    server = await asyncio.start_server(handler.connected, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end and os.getppid() == parent:
        await asyncio.sleep(0.5)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(_serve(*json.loads(sys.argv[1]), parent=int(sys.argv[2])))

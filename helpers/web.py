"""Ask web servers politely, and never a private address by mistake.

A :class:`Client` keeps to a few connections per host, rests when a host asks for it, tries again with growing pauses,
and bounds every answer. Redirects and names that lead to this machine or to a private network are refused, unless the
source is there itself: a table or a server from elsewhere must not reach what only this machine can.
"""

import asyncio
import contextvars
import email.utils
import errno
import functools
import ipaddress
import json
import math
import os
import random
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

Result = TypeVar("Result")

PLACEHOLDER = "placeholder"
"""Reason of photos that are a picture which says that there is none."""
CONTACT = "PHOTO_GEOLOCATION_CONTACT"
"""Environment variable with a mail address or URL, which servers are told so that they know whom to write to."""
USER_AGENT = "photo-geolocation-lab/0.1 (research on photo geolocation; fetches each photo once)"

_MAX_ARCHIVE_BYTES = 1 << 37
_CONTENT_RANGE = re.compile(r"bytes (?:(?P<start>\d+)-\d+|\*)/(?P<total>\d+|\*)")
_A_DAY_S = 86_400.0
_MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_GONE = {403, 404, 410, 451}
_BUSY = {408, 425, 429}  # and 5xx: asking again may help
_LONGEST_RETRY_AFTER_S = 120.0
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_TOTAL_TIMEOUTS = 4  # a photo may take so many times `timeout_s` in all, a silence only one
_FEWEST_REFUSALS = 20  # in a row, and
_SECONDS_UNTIL_GIVEN_UP = 60.0  # of nothing else, before a host is given up
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PASSWORD = re.compile(r"^(\s*[a-z]+:/*)[^/?#]*@", re.IGNORECASE)
_UNAVAILABLE = re.compile(r"unavailable|^removed\.png$", re.IGNORECASE)


class Unfetched(Exception):
    """Why an address gave nothing.

    Attributes
    ----------
    reason : str
        In few words, the same for all addresses that it happens to, e.g. ``HTTP 404`` or ``time-out``.
    status : int
        HTTP status, 0 where there was no answer.
    final : bool
        Whether asking again another day is useless.
    again : bool
        Whether asking again soon may help.
    """

    def __init__(self, reason: str, status: int = 0, final: bool = False, again: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.final = final
        self.again = again


class Client:
    """A polite client: few connections to a host, longer and longer pauses, bounded answers, no private addresses.

    Parameters
    ----------
    local : bool
        Whether addresses of this machine and of private networks may be asked.
    connections_per_host : int
        Requests that are under way to one host at a time.
    attempts : int
        How often an address is asked that answers with 408, 425, 429 or 5xx, or not at all.
    timeout_s : float
        Longest silence, in seconds.
    seed : int
        Decides the random part of the pauses.
    total_s : float, optional
        Longest time that a whole answer may take, by default four times `timeout_s`.
    notices : Path, optional
        File through which the processes of one run tell each other which hosts to leave alone.

    Examples
    --------
    >>> async def page(address: str) -> bytes:
    ...     async with Client(local=False) as client:
    ...         return await client.get(address, limit=1 << 20)
    >>> run_async(page("http://127.0.0.1/"))
    Traceback (most recent call last):
    ...
    helpers.web.Unfetched: local or private address
    """

    def __init__(
        self,
        *,
        local: bool,
        connections_per_host: int = 1,
        attempts: int = 5,
        timeout_s: float = 30.0,
        seed: int = 0,
        total_s: float | None = None,
        notices: Path | None = None,
    ) -> None:
        self.local = local
        self.connections_per_host = connections_per_host
        self.attempts = attempts
        self.timeout_s = timeout_s
        self.random = random.Random(seed)
        self.hosts: dict[str, _Host] = {}
        self.total_s = total_s or timeout_s * _TOTAL_TIMEOUTS
        self.notices = _Notices(notices)

    async def __aenter__(self) -> "Client":
        self.session = aiohttp.ClientSession(
            # Hosts are limited one by one below. The resolver is what is connected to, so that a name which resolves
            # to a public address when it is checked cannot resolve to a private one afterwards.
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, resolver=None if self.local else _Public()),
            headers={"User-Agent": user_agent(), "Accept-Encoding": "identity"},
            auto_decompress=False,  # a small answer could unpack to a huge one
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.session.close()

    async def get(self, address: str, limit: int, headers: Mapping[str, str] | None = None) -> bytes:
        """Body of an answer, asking again where that may help.

        Parameters
        ----------
        address : str
            An ``http`` or ``https`` URL.
        limit : int
            Most bytes that the body may have.
        headers : mapping, optional
            Sent too, but not to another host that the address redirects to.

        Raises
        ------
        Unfetched
            If there is none.
        """
        return await self.persistently(address, lambda: self.once(address, limit, headers))

    async def persistently(self, address: str | URL, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """What `attempt` returns, tried again after a pause where the :class:`Unfetched` that it raises says so."""
        host = self.host(parsed(address))
        for number in range(self.attempts):
            await host.ready()
            try:
                return await attempt()
            except Unfetched as failure:
                if not failure.again or number + 1 == self.attempts:
                    raise
            await asyncio.sleep(self.random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**number)))
        raise AssertionError("unreachable")

    async def once(self, address: str, limit: int, headers: Mapping[str, str] | None = None) -> bytes:
        """As :meth:`get`, with a single attempt."""
        async with self.answer(address, headers) as response:
            return await body(response, limit)

    @asynccontextmanager
    async def answer(
        self,
        address: str | URL,
        headers: Mapping[str, str] | None = None,
        accepted: Collection[int] = (200,),
        method: str = "GET",
        total_s: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer at the end of all redirects, with one of the `accepted` statuses, in `total_s` seconds.

        What goes wrong while its body is read is raised as :class:`Unfetched` too.
        """
        timeout = aiohttp.ClientTimeout(
            total=total_s or self.total_s, sock_connect=self.timeout_s, sock_read=self.timeout_s
        )
        url = parsed(address)
        for _ in range(_MAX_REDIRECTS + 1):
            host = self.host(url)
            async with host.connections:
                await host.ready()
                with host.refusals():
                    async with self.session.request(
                        method, url, headers=headers, allow_redirects=False, timeout=timeout
                    ) as response:
                        target = _target(response)
                        if target is None:
                            self._judge(response, host, accepted)
                            yield response
                            return
                        host.refused = 0
            if headers and target.origin() != url.origin():  # a token must not follow, nor go in the clear
                headers = {name: value for name, value in headers.items() if name == "Range"}
            url = target
        raise Unfetched("too many redirects", 302)

    def host(self, url: URL) -> "_Host":
        """State of the host of an address, once it is certain that it may be asked."""
        name = f"{url.raw_host}:{url.port}"
        if name not in self.hosts:
            # Cloud machines hand out their credentials at link-local addresses, where no photos are.
            if (not self.local and is_private(str(url.raw_host))) or is_link_local(str(url.raw_host)):
                raise Unfetched("local or private address")
            refusals = max(_FEWEST_REFUSALS, self.attempts * self.connections_per_host)
            self.hosts[name] = _Host(name, self.connections_per_host, refusals, self.notices)
        return self.hosts[name]

    def _judge(self, response: aiohttp.ClientResponse, host: "_Host", accepted: Collection[int]) -> None:
        status = response.status
        if status in accepted:
            host.refused = 0
            return
        again = status in _BUSY or status >= 500
        if again:
            wait = _retry_after(response.headers.get("Retry-After", ""))
            if wait > _LONGEST_RETRY_AFTER_S:
                reason = f"host asks to wait longer than {_LONGEST_RETRY_AFTER_S:g} s"
                host.give_up(reason)
                raise Unfetched(reason, status)
            if wait:
                host.pause(wait)
        raise Unfetched(f"HTTP {status}", status, final=status in _GONE, again=again)


async def body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Body of an answer; :class:`Unfetched` if it has more than `limit` bytes."""
    too_large = Unfetched(f"larger than {limit / (1 << 20):g} MiB", response.status)
    if (response.content_length or 0) > limit:
        raise too_large
    if response.content_length is not None:
        return await response.read()
    pieces, received = [], 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        received += len(piece)
        if received > limit:
            raise too_large
    return b"".join(pieces)


async def fetch_file(client: Client, address: str, file: Path, limit: int = _MAX_ARCHIVE_BYTES) -> int:
    """Fetch a large file, going on where an earlier attempt, or an earlier process, was cut off.

    Parameters
    ----------
    client : Client
    address : str
        Where the file is. If its host knows ``Range``, nothing is fetched twice.
    file : Path
        Where it goes; what is there already is its beginning.
    limit : int
        Most bytes that it may have.

    Returns
    -------
    int
        Bytes received.

    Raises
    ------
    Unfetched
        If it cannot be fetched. What came stays for the next attempt.
    """
    before = file.stat().st_size if file.exists() else 0
    start = before
    while True:
        try:
            await client.persistently(address, lambda: _fetch_rest(client, address, file, limit))
            return file.stat().st_size - before
        except Unfetched as failure:
            reached = file.stat().st_size if file.exists() else 0
            if not failure.again or reached <= start:
                raise
            start = reached  # as long as it gets on, it is worth while


async def _fetch_rest(client: Client, address: str, file: Path, limit: int) -> None:
    here = file.stat().st_size if file.exists() else 0
    headers = {"Range": f"bytes={here}-"} if here else {}
    async with client.answer(address, headers, accepted=(200, 206, 416), total_s=_A_DAY_S) as response:
        span = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status == 416 and span and span["total"] == str(here):
            return
        if response.status != 200 and not (response.status == 206 and span and span["start"] == str(here)):
            file.unlink(missing_ok=True)  # it is another file than it was
            raise Unfetched("file changed while it was fetched", response.status, again=True)
        total = int(span["total"]) if span and span["total"] != "*" else response.content_length
        with file.open("ab" if response.status == 206 else "wb") as out:
            async for piece in response.content.iter_chunked(1 << 20):
                out.write(piece)
                if out.tell() > limit:
                    raise Unfetched(f"larger than {limit / (1 << 30):g} GiB", response.status)
    if total is not None and file.stat().st_size != total:
        raise Unfetched("truncated", 200, again=True)


class _Notices:
    """Which hosts to leave alone, until when or for good, as all processes of a run know it."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.paused_until: dict[str, float] = {}  # seconds since the epoch, which processes share
        self.given_up: dict[str, str] = {}
        self._read_to = 0
        self._next_look = 0.0

    def note(self, host: str, until: float, reason: str) -> None:
        """Pause a host, or give it up for a reason."""
        self._take(host, until, reason)
        if self.file:
            with self.file.open("ab", buffering=0) as file:
                file.write(json.dumps([host, until, reason]).encode() + b"\n")

    def look(self) -> None:
        """Read what other processes have noted, once a second."""
        if not self.file or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + 1
        if self.file.exists():
            with self.file.open("rb") as file:
                file.seek(self._read_to)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._read_to += len(line)
                    self._take(*json.loads(line))

    def _take(self, host: str, until: float, reason: str) -> None:
        if reason:
            self.given_up.setdefault(host, reason)
        else:
            self.paused_until[host] = max(self.paused_until.get(host, 0.0), until)


class _Host:
    """What is known of a host in this run."""

    def __init__(self, name: str, connections: int, refusals: int, notices: _Notices) -> None:
        self.name = name
        self.connections = asyncio.Semaphore(connections)
        self.notices = notices
        self.most_refusals = refusals
        self.refused = 0  # requests in a row
        self.refused_since = 0.0

    async def ready(self) -> None:
        while True:
            self.notices.look()
            if self.name in self.notices.given_up:
                raise Unfetched(self.notices.given_up[self.name])
            wait = self.notices.paused_until.get(self.name, 0.0) - time.time()
            if wait <= 0:
                return
            await asyncio.sleep(min(wait, 1.0))

    def pause(self, seconds: float) -> None:
        self.notices.note(self.name, time.time() + seconds, "")

    def give_up(self, reason: str) -> None:
        if self.name not in self.notices.given_up:
            self.notices.note(self.name, 0.0, reason)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Turn what aiohttp raises into `Unfetched`, and give a host up that refuses again and again."""
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError) as error:
            failure = _explained(error)
            self._count(failure)
            raise failure from None  # what aiohttp says may hold a password of the address
        except Unfetched as failure:
            self._count(failure)
            raise

    def _count(self, failure: Unfetched) -> None:
        if not failure.again:
            self.refused = 0
            return
        now = time.monotonic()
        self.refused += 1
        if self.refused == 1:
            self.refused_since = now
        # Many requests are under way at once, so that a moment's trouble is many refusals.
        if self.refused >= self.most_refusals and now - self.refused_since >= _SECONDS_UNTIL_GIVEN_UP:
            self.give_up(f"host answers HTTP {failure.status} only" if failure.status else "host does not answer")


class _PrivateAddress(OSError):
    """A name that resolves to private addresses only."""


class _Public(AbstractResolver):
    """Resolves names to addresses of the public internet."""

    def __init__(self) -> None:
        self.resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self.resolver.resolve(host, port, family)
        public = [address for address in found if not is_private(address["host"])]
        if not public:
            raise _PrivateAddress(errno.EACCES, "resolves to a private address")
        return public

    async def close(self) -> None:
        await self.resolver.close()


def is_private(host: str) -> bool:
    """Whether a host is this machine or lies in a private network, as far as its spelling says; nothing is resolved.

    Examples
    --------
    >>> [is_private(host) for host in ("localhost", "127.1", "0x7f000001", "2130706433", "::ffff:10.0.0.1")]
    [True, True, True, True, True]
    >>> is_private("live.staticflickr.com"), is_private("8.8.8.8")
    (False, False)
    """
    name = host.strip("[]").partition("%")[0].rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _ip_address(name)
    if address is None:
        return name.replace(".", "").isdigit()  # no address and no name, but who knows what a resolver makes of it
    embedded = _embedded(address)
    return is_private(str(embedded)) if embedded else not address.is_global or address.is_multicast


def is_link_local(host: str) -> bool:
    """Whether a host is spelled as a link-local address.

    Examples
    --------
    >>> is_link_local("169.254.169.254"), is_link_local("[fe80::1]"), is_link_local("127.0.0.1")
    (True, True, False)
    """
    address = _ip_address(host.strip("[]").partition("%")[0])
    return address is not None and (_embedded(address) or address).is_link_local


def _ip_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name))  # "127.1", "0x7f.1", "017700000001", as connecting does
    except (OSError, UnicodeError):
        return None


def _embedded(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64 or int(address) >> 32 == 0 < int(address):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def contact() -> str:
    """Whom servers can write to, as the environment says."""
    return " ".join(os.environ.get(CONTACT, "").split())[:200]


def user_agent() -> str:
    """How this project introduces itself to a server."""
    return f"{USER_AGENT} {contact()}".strip()


def parsed(address: str | URL) -> URL:
    """An ``http`` or ``https`` address, or :class:`Unfetched`."""
    if isinstance(address, URL):
        return address
    try:
        url = URL(address)
    except ValueError:
        raise Unfetched("unusable URL", final=True) from None
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise Unfetched("unusable URL", final=True)
    return url


def without_password(address: str) -> str:
    """An address without the user and password that it may name.

    Examples
    --------
    >>> without_password("https://me:secret@example.org/a.jpg?b=1")
    'https://example.org/a.jpg?b=1'
    """
    return _PASSWORD.sub(r"\1", address)


def without_passwords(urls: pd.Series) -> pd.Series:
    """As :func:`without_password`, of many."""
    named = urls.str.contains("@", regex=False)
    return urls.mask(named, urls[named].str.replace(_PASSWORD, r"\1", regex=True)) if named.any() else urls


def run_async(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, also within a notebook, where a loop of the kernel's is running already.

    Examples
    --------
    >>> async def five():
    ...     return 5
    >>> async def cell():
    ...     return run_async(five())
    >>> asyncio.run(cell())
    5
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main)
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Task]] = []

    async def noted() -> Result:
        task = asyncio.current_task()
        assert task is not None
        started.append((asyncio.get_running_loop(), task))
        return await main

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(contextvars.copy_context().run, asyncio.run, noted())
        try:
            return ended.result()
        except KeyboardInterrupt:
            for loop, task in started:
                loop.call_soon_threadsafe(task.cancel)
            raise


def _target(response: aiohttp.ClientResponse) -> URL | None:
    """Where an answer redirects to."""
    location = response.headers.get("Location")
    if response.status not in _REDIRECTS or location is None:
        return None
    try:
        target = response.url.join(URL(location))
    except ValueError:
        raise Unfetched("unusable redirect", response.status) from None
    if target.scheme not in ("http", "https") or not target.raw_host:
        raise Unfetched("unusable redirect", response.status)
    if _UNAVAILABLE.search(target.name):
        raise Unfetched(PLACEHOLDER, response.status, final=True)
    return target


def _retry_after(value: str) -> float:
    """Seconds that a ``Retry-After`` header asks to wait: a number, or a date in the sense of HTTP.

    Examples
    --------
    >>> _retry_after("3"), _retry_after("soon"), _retry_after("Mon, 06 Jul 2009 12:00:00 GMT")
    (3.0, 0.0, 0.0)
    """
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return 0.0
    return max(seconds, 0.0) if not math.isnan(seconds) else 0.0


def _explained(error: Exception) -> Unfetched:
    if isinstance(error, TimeoutError):
        return Unfetched("time-out", again=True)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        if isinstance(error.os_error, _PrivateAddress):
            return Unfetched("local or private address")
        return Unfetched("host name does not resolve", again=True)
    if isinstance(error, aiohttp.ClientSSLError):
        return Unfetched("no valid certificate")
    if isinstance(error, aiohttp.ClientConnectorError):
        return Unfetched("cannot connect", again=True)
    if isinstance(error, aiohttp.ClientPayloadError):
        return Unfetched("truncated", again=True)
    if isinstance(error, aiohttp.ClientResponseError):
        return Unfetched("broken HTTP", again=True)
    if isinstance(error, (aiohttp.InvalidURL, ValueError)):
        return Unfetched("unusable URL", final=True)
    return Unfetched("connection lost", again=True)


def hosts(urls: pd.Series) -> list[str]:
    """Hosts of URLs, each once."""
    named = pc.extract_regex(pa.array(urls, pa.string()), r"(?i)^https?://(?:[^/?#@]*@)?(?P<host>\[[^\]]*\]|[^/?#:]*)")
    return pc.unique(pc.struct_field(named, "host")).drop_null().to_pylist()


def all_private(names: Iterable[str]) -> bool:
    """Whether all hosts are this machine or in private networks, or names that resolve to such addresses only."""
    return all(_resolves_privately(host) for host in names)


@functools.lru_cache(maxsize=1024)
def _resolves_privately(host: str) -> bool:
    if is_private(host):
        return True
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host.strip("[]"), None)}
    except (OSError, UnicodeError):
        return False
    return all(is_private(address) and not is_link_local(address) for address in found)

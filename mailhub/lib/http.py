"""What is asked of a server that somebody else chose: through the guarded dialer, no redirects, bounded in size and in time."""

from __future__ import annotations

import asyncio
import http.client
import io
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from mailhub.lib import dialer, dns

# Of an answer's header fields no more is read than this (bytes).
HEAD = 16_384


class HTTPError(Exception):
    """No answer, or none that can be used. The text is for people."""


@dataclass(frozen=True, slots=True)
class Page:
    status: int
    #: media type in lower case without parameters, or ""
    media_type: str
    body: bytes
    #: its header fields
    fields: Message = field(default_factory=Message, compare=False)


#: opens a connection to a host and port; raises OSError or DNSError
Connect = Callable[[str, int], Awaitable[socket.socket]]


async def connect(host: str, port: int) -> socket.socket:
    return await dialer.connect((await dns.addresses(host)).records, port)


@lru_cache(maxsize=1)
def public_trust() -> ssl.SSLContext:
    """TLS 1.2 or newer, certificates checked against the authorities that this machine trusts. Read once: it takes milliseconds."""
    return ssl.create_default_context()


async def get(
    url: str, *, most: int, seconds: float, connect: Connect = connect, trust: Callable[[], ssl.SSLContext] = public_trust
) -> Page:
    """The page at an https URL, whatever its status. Raises HTTPError when there is none within `seconds`, or its body is over `most`
    bytes."""
    parts = urlsplit(url)
    if parts.scheme != "https":
        raise HTTPError(f"{url} is no https URL")
    request = _head("GET", parts, {})
    return await _ask(parts, request, lambda reader: _read(reader, most), seconds=seconds, connect=connect, trust=trust)


async def post(
    url: str,
    body: bytes,
    fields: Mapping[str, str],
    *,
    most: int,
    seconds: float,
    connect: Connect = connect,
    trust: Callable[[], ssl.SSLContext] = public_trust,
) -> Page:
    """The answer to a POST, whatever its status; of a longer body the first `most` bytes. Raises HTTPError when there is none within
    `seconds`, from the first look for an address to the last byte.

    Over https; plain http is spoken within one's own network alone: to addresses that are not public."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http"):
        raise HTTPError(f"{url} is no https URL")
    request = _head("POST", parts, {"Content-Length": str(len(body)), **fields}) + body
    return await _ask(parts, request, lambda reader: _read(reader, most, cut=True), seconds=seconds, connect=connect, trust=trust)


def _head(method: str, parts: SplitResult, fields: Mapping[str, str]) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"{method} {target} HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        "User-Agent: MailHub",
        "Accept: */*",
        "Accept-Encoding: identity",
        "Connection: close",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]
    try:
        octets = [line.encode("ascii") for line in lines]
    except UnicodeEncodeError:
        raise HTTPError(f"{parts.hostname}: the URL is not written in ASCII") from None
    if any(ord(sign) < 32 for line in lines for sign in line):
        raise HTTPError(f"{parts.hostname}: the request would have more lines than ours")
    return b"\r\n".join([*octets, b"", b""])


async def _ask(
    parts: SplitResult,
    request: bytes,
    read: Callable[[asyncio.StreamReader], Awaitable[Page]],
    *,
    seconds: float,
    connect: Connect,
    trust: Callable[[], ssl.SSLContext],
) -> Page:
    host = parts.hostname or ""
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        async with asyncio.timeout(seconds):
            sock = await connect(host, port)
            reader, writer = await _open(sock, host, trust() if parts.scheme == "https" else None)
            try:
                writer.write(request)
                await writer.drain()
                return await read(reader)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise HTTPError(f"{host} did not answer in time") from None
    except asyncio.LimitOverrunError:
        raise HTTPError(f"{host} sent too long a line") from None
    except (OSError, EOFError, ValueError, dns.DNSError, http.client.HTTPException) as error:
        raise HTTPError(f"{host}: {error or type(error).__name__}") from None


async def _open(sock: socket.socket, host: str, context: ssl.SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        if context is None and ip_address(sock.getpeername()[0]).is_global:
            raise HTTPError(f"{host} is no host of our own network: use https")
        return await asyncio.open_connection(sock=sock, ssl=context, server_hostname=host if context else None, limit=HEAD)
    except BaseException:
        sock.close()
        raise


async def _read(reader: asyncio.StreamReader, most: int, *, cut: bool = False) -> Page:
    line, _break, fields = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
    version, status = (line.decode("latin-1").split(None, 2) + ["", ""])[:2]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not (status.isdigit() and len(status) == 3):
        raise HTTPError("that is no HTTP")
    head = http.client.parse_headers(io.BytesIO(fields))
    body = b"" if status == "204" else await _body(reader, head, most, cut)
    return Page(int(status), head.get_content_type() if "Content-Type" in head else "", body, head)


async def _body(reader: asyncio.StreamReader, head: Message, most: int, cut: bool) -> bytes:
    """With `cut`, what is over `most` bytes is left unread."""
    if "Transfer-Encoding" in head:
        if head["Transfer-Encoding"].strip().lower() != "chunked":
            raise HTTPError("that encoding is not known")
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            if cut and size > most - len(body):
                return body + await reader.readexactly(most - len(body))
            body += await _exactly(reader, size, most - len(body))
            await reader.readexactly(2)
        return body
    if "Content-Length" in head:
        size = int(head["Content-Length"])
        return await _exactly(reader, min(size, most) if cut else size, most)
    body = b""
    while more := await reader.read(HEAD):
        body += more
        if len(body) > most:
            if cut:
                return body[:most]
            raise HTTPError("the page is too long")
    return body


async def _exactly(reader: asyncio.StreamReader, size: int, most: int) -> bytes:
    if not 0 <= size <= most:
        raise HTTPError("the page is too long")
    return await reader.readexactly(size)

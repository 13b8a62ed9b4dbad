"""A page fetched from a server that somebody else chose: through the guarded dialer, no redirects, bounded in size and in time."""

from __future__ import annotations

import asyncio
import http.client
import io
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache
from urllib.parse import urlsplit

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
    host, port = parts.hostname or "", parts.port or 443
    if parts.scheme != "https":
        raise HTTPError(f"{url} is no https URL")
    try:
        async with asyncio.timeout(seconds):
            sock = await connect(host, port)
            reader, writer = await _open(sock, host, trust())
            try:
                writer.write(
                    f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: MailHub\r\n"
                    "Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n".encode("ascii")
                )
                await writer.drain()
                return await _read(reader, most)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise HTTPError(f"{host} did not answer in time") from None
    except asyncio.LimitOverrunError:
        raise HTTPError(f"{host} sent too long a line") from None
    except (OSError, EOFError, ValueError, dns.DNSError, http.client.HTTPException) as error:
        raise HTTPError(f"{host}: {error or type(error).__name__}") from None


async def _open(sock: socket.socket, host: str, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_connection(sock=sock, ssl=context, server_hostname=host, limit=HEAD)
    except BaseException:
        sock.close()
        raise


async def _read(reader: asyncio.StreamReader, most: int) -> Page:
    line, _break, fields = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
    version, status = (line.decode("latin-1").split(None, 2) + ["", ""])[:2]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not (status.isdigit() and len(status) == 3):
        raise HTTPError("that is no HTTP")
    head = http.client.parse_headers(io.BytesIO(fields))
    body = b"" if status == "204" else await _body(reader, head, most)
    return Page(int(status), head.get_content_type() if "Content-Type" in head else "", body)


async def _body(reader: asyncio.StreamReader, head: Message, most: int) -> bytes:
    if "Transfer-Encoding" in head:
        if head["Transfer-Encoding"].strip().lower() != "chunked":
            raise HTTPError("that encoding is not known")
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            body += await _exactly(reader, size, most - len(body))
            await reader.readexactly(2)
        return body
    if "Content-Length" in head:
        return await _exactly(reader, int(head["Content-Length"]), most)
    body = b""
    while more := await reader.read(HEAD):
        body += more
        if len(body) > most:
            raise HTTPError("the page is too long")
    return body


async def _exactly(reader: asyncio.StreamReader, size: int, most: int) -> bytes:
    if not 0 <= size <= most:
        raise HTTPError("the page is too long")
    return await reader.readexactly(size)

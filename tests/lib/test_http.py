"""Pages from servers that mean well, and from those that do not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from pytest_django.fixtures import Settings

from mailhub.lib import http
from mailhub.lib.http import HTTPError, Page
from tests.certificates import Authority
from tests.dns_server import DNSServer
from tests.https_server import HTTPSServer, page

AUTHORITY = Authority()
HOST = "www.example.test"


@pytest.fixture
def server() -> Iterator[HTTPSServer]:
    with HTTPSServer(AUTHORITY.issue(HOST)) as server:
        yield server


def get(
    server: HTTPSServer, path: str = "/", *, most: int = 1000, seconds: float = 10, host: str = HOST, trust: object = AUTHORITY.trust
) -> Page:
    return asyncio.run(http.get(f"https://{host}{path}", most=most, seconds=seconds, connect=server.connect, trust=trust))


def test_a_page_is_fetched(server: HTTPSServer) -> None:
    server.say(HOST, "/a/page.txt", page("hello", media_type="Text/Plain; charset=utf-8"))
    assert get(server, "/a/page.txt") == Page(200, "text/plain", b"hello")
    assert server.asked == [(HOST, "/a/page.txt")]


def test_a_server_that_stays_on_the_line_after_its_page_does_not_hold_us(server: HTTPSServer) -> None:
    server.lingering = True
    server.say(HOST, "/", page("hello"))
    assert get(server).body == b"hello"


def test_a_page_without_a_length_ends_with_the_connection(server: HTTPSServer) -> None:
    server.say(HOST, "/", b"HTTP/1.0 200 OK\r\n\r\nhello")
    assert get(server) == Page(200, "", b"hello")


def test_a_page_in_chunks_is_put_together(server: HTTPSServer) -> None:
    server.lingering = True
    server.say(HOST, "/", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n")
    assert get(server).body == b"hello"


def test_a_redirect_is_not_followed(server: HTTPSServer) -> None:
    server.say(HOST, "/", page("", 301, Location="https://www.example.test/other"))
    server.say(HOST, "/other", page("secret"))
    assert get(server).status == 301
    assert server.asked == [(HOST, "/")]


@pytest.mark.parametrize(
    "answer",
    [
        page("x" * 1001),
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n" + b"x" * 501 + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    ],
)
def test_a_page_that_is_too_long_is_given_up(server: HTTPSServer, answer: bytes) -> None:
    server.say(HOST, "/", answer)
    with pytest.raises(HTTPError, match="too long"):
        get(server)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"220 mx.example.test ESMTP\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\n" + b"X-Field: value\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nnever-ending",
    ],
)
def test_what_is_no_page_is_an_error_like_another(server: HTTPSServer, answer: bytes) -> None:
    server.say(HOST, "/", answer)
    with pytest.raises(HTTPError):
        get(server)


def test_silence_ends(server: HTTPSServer) -> None:
    server.lingering = True
    server.say(HOST, "/", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nslow")
    with pytest.raises(HTTPError, match="did not answer in time"):
        get(server, seconds=0.3)


@pytest.mark.parametrize("host", ["other.example.test", "example.test"])
def test_a_certificate_for_another_name_is_not_believed(server: HTTPSServer, host: str) -> None:
    server.say(host, "/", page("hello"))
    with pytest.raises(HTTPError, match="certificate verify failed"):
        get(server, host=host)
    assert server.asked == []


def test_a_certificate_that_has_run_out_is_not_believed() -> None:
    with HTTPSServer(AUTHORITY.issue(HOST, expired=True)) as server, pytest.raises(HTTPError, match="expired"):
        get(server)


def test_an_authority_that_the_machine_does_not_know_is_not_believed(server: HTTPSServer) -> None:
    with pytest.raises(HTTPError, match="certificate verify failed"):
        get(server, trust=http.public_trust)


def test_only_https_is_asked(server: HTTPSServer) -> None:
    with pytest.raises(HTTPError, match="no https URL"):
        asyncio.run(http.get("http://www.example.test/", most=10, seconds=60, connect=server.connect))


def test_a_host_that_leads_into_private_networks_is_not_connected_to(dns_server: DNSServer, settings: Settings) -> None:
    settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES = []
    dns_server.add(HOST, "A", "127.0.0.1")
    with pytest.raises(HTTPError, match=r"127\.0\.0\.1 is not a public address"):
        asyncio.run(http.get(f"https://{HOST}/", most=10, seconds=60))


def test_a_host_that_does_not_exist_is_an_error_like_another(dns_server: DNSServer) -> None:
    with pytest.raises(HTTPError, match="does not exist"):
        asyncio.run(http.get("https://nowhere.test/", most=10, seconds=60))

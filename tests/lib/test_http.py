"""Pages from servers that mean well, and from those that do not."""

from __future__ import annotations

import asyncio
import socket
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


# ----------------------------------------------------------------------------------------------------------------------- posting


def post(server: HTTPSServer, path: str = "/", *, body: bytes = b"{}", most: int = 1000, seconds: float = 10, **fields: str) -> Page:
    url = f"https://{HOST}{path}"
    return asyncio.run(http.post(url, body, fields, most=most, seconds=seconds, connect=server.connect, trust=AUTHORITY.trust))


def test_what_is_posted_arrives_with_its_fields(server: HTTPSServer) -> None:
    server.say(HOST, "/hook?a=1", page("taken", 202, Retry_After="7"))
    answer = post(server, "/hook?a=1", body="件名".encode(), **{"webhook-id": "m1"})
    assert (answer.status, answer.body, answer.fields["Retry-After"]) == (202, b"taken", "7")
    (request,) = server.posted
    assert request.body.decode() == "件名"
    assert (request.fields["webhook-id"], request.fields["Content-Length"]) == ("m1", "6")


@pytest.mark.parametrize(
    "answer",
    [
        page("x" * 2000, 500),
        b"HTTP/1.0 500 Words\r\n\r\n" + b"x" * 2000,
        b"HTTP/1.1 500 Words\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n",
    ],
    ids=["length", "no length", "chunks"],
)
def test_of_a_long_answer_the_beginning_is_read(server: HTTPSServer, answer: bytes) -> None:
    server.say(HOST, "/", answer)
    assert post(server, most=10) == Page(500, "text/plain" if answer.startswith(b"HTTP/1.1 500 Words\r\nContent-Type") else "", b"x" * 10)


def test_silence_after_a_post_ends(server: HTTPSServer) -> None:
    server.lingering = True
    server.say(HOST, "/", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
    with pytest.raises(HTTPError, match="in time"):
        post(server, seconds=0.3)


@pytest.mark.parametrize("fields", [{"webhook-id": "a\r\nHost: other"}, {"webhook-id": "件"}])
def test_a_field_cannot_become_two(server: HTTPSServer, fields: dict[str, str]) -> None:
    with pytest.raises(HTTPError):
        post(server, **fields)
    assert server.asked == []


def test_plain_http_is_for_the_own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    class Public(socket.socket):
        def getpeername(self) -> tuple[str, int]:
            return ("93.184.216.34", 80)

    async def connect(host: str, port: int) -> socket.socket:
        return Public()

    with pytest.raises(HTTPError, match="https"):
        asyncio.run(http.post("http://www.example.test/", b"", {}, most=10, seconds=5, connect=connect))

"""Who may be connected to, and that nobody else is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from mailhub.lib import dialer
from mailhub.lib.dialer import Forbidden

NOT_PUBLIC = [
    "0.0.0.0",  # noqa: S104
    "10.1.2.3",
    "100.64.0.1",  # carriers' own (RFC 6598)
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",  # a cloud's metadata
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.10",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1",
    "2a00:1450::1a",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
]


@pytest.fixture
def nothing_private(settings: Settings) -> None:
    settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES = []


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def connect(addresses: list[str], port: int, **options: object) -> socket.socket:
    return asyncio.run(dialer.connect(addresses, port, **options))


# ---------------------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_what_is_not_public_is_forbidden(nothing_private: None, address: str) -> None:
    with pytest.raises(Forbidden, match="not a public address"):
        dialer.check(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_not(nothing_private: None, address: str) -> None:
    dialer.check(address)


def test_networks_named_in_settings_are_allowed_and_only_those(settings: Settings) -> None:
    settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES = [ip_network("10.0.5.0/24"), ip_network("fd00::/16")]
    for address in ("10.0.5.7", "::ffff:10.0.5.7", "64:ff9b::10.0.5.7", "fd00::7"):
        dialer.check(address)
    for address in ("10.0.6.7", "::ffff:10.0.6.7", "127.0.0.1", "fd01::7"):
        with pytest.raises(Forbidden):
            dialer.check(address)


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f000001", "2130706433", "127.0.0.1.", "0177.0.0.1", " 8.8.8.8"])
def test_what_is_no_address_is_never_taken_for_one(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        dialer.check(text)


@given(st.ip_addresses(v=4))
def test_an_address_carried_in_another_is_judged_alike(address: object) -> None:
    def permitted(text: str) -> bool:
        try:
            dialer.check(text)
        except Forbidden:
            return False
        return True

    assert permitted(str(address)) == permitted(f"::ffff:{address}") == permitted(f"64:ff9b::{address}")


# ---------------------------------------------------------------------------------------------------------------- connections


def test_a_forbidden_address_is_not_connected_to(nothing_private: None, listener: socket.socket) -> None:
    listener.settimeout(0.1)
    with pytest.raises(Forbidden):
        connect(["127.0.0.1"], listener.getsockname()[1])
    with pytest.raises(TimeoutError):
        listener.accept()


def test_a_public_name_that_leads_to_a_private_address_is_not_followed(nothing_private: None) -> None:
    async def by_name() -> None:
        await dialer.connect(await dialer.resolve("localhost"), 25)

    with pytest.raises(Forbidden):
        asyncio.run(by_name())


def test_the_first_address_that_answers_is_taken(settings: Settings, listener: socket.socket) -> None:
    settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES = [ip_network("127.0.0.0/24")]
    port = listener.getsockname()[1]
    with closing(connect(["10.0.0.1", "127.0.0.9", "127.0.0.1"], port)) as sock:
        assert sock.getpeername() == ("127.0.0.1", port)
        assert sock.gettimeout() == 0


def test_the_last_failure_is_told_rather_than_a_refusal_of_ours(settings: Settings, listener: socket.socket) -> None:
    settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES = [ip_network("127.0.0.0/24")]
    port = listener.getsockname()[1]
    listener.close()
    for addresses in (["10.0.0.1", "127.0.0.1"], ["127.0.0.1", "10.0.0.1"]):
        with pytest.raises(ConnectionRefusedError):
            connect(addresses, port)


def test_no_address_is_a_failure_too() -> None:
    with pytest.raises(OSError, match="no address to connect to"):
        connect([], 25)


def test_it_leaves_from_the_address_given(listener: socket.socket) -> None:
    with closing(connect(["127.0.0.1"], listener.getsockname()[1], source="127.0.0.5")) as sock:
        peer, address = listener.accept()
        peer.close()
        assert address == sock.getsockname()
        assert address[0] == "127.0.0.5"


def test_an_address_that_this_machine_does_not_have_is_told(listener: socket.socket) -> None:
    with pytest.raises(OSError, match="assign requested address"):
        connect(["127.0.0.1"], listener.getsockname()[1], source="203.0.113.7")


def test_version_6_is_spoken() -> None:
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as server,
        closing(connect(["::1"], server.getsockname()[1], source="::1")) as sock,
    ):
        assert sock.getpeername()[0] == "::1"


def test_silence_ends() -> None:
    # A full queue of connections that nobody accepts: the next SYN stays unanswered.
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        waiting = []
        for _ in range(3):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(address)
            waiting.append(sock)
        with pytest.raises(TimeoutError, match=r"127\.0\.0\.1 did not answer within"):
            connect(["127.0.0.1"], address[1], timeout=0.2)
        for sock in waiting:
            sock.close()


def test_nothing_stays_open_when_it_is_given_up(listener: socket.socket) -> None:
    """An unclosed socket is a ResourceWarning, which fails the test."""

    async def give_up() -> None:
        task = asyncio.create_task(dialer.connect(["127.0.0.1"], listener.getsockname()[1]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())


# ---------------------------------------------------------------------------------------------------------------- names


def test_names_of_this_machine_are_known() -> None:
    assert "127.0.0.1" in asyncio.run(dialer.resolve("localhost"))
    assert asyncio.run(dialer.resolve("127.0.0.7")) == ["127.0.0.7"]


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "."])
def test_what_cannot_be_a_name_is_a_failure_like_another(host: str) -> None:
    with pytest.raises(OSError):
        asyncio.run(dialer.resolve(host))

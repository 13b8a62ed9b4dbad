"""What a zone says of a host's key, held against certificates of our own making."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from contextlib import suppress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailhub.lib.dns import TLSA
from mailhub.relays import dane
from mailhub.relays.dane import Unproven
from tests.certificates import Authority, Identity

MX = "mx.example.test"
ROOT = Authority("Root")
MIDDLE = Authority("Middle", ROOT)
HOST = MIDDLE.issue(MX)


def record(usage: int, selector: int, matching: int, certificate: x509.Certificate) -> TLSA:
    """What the zone of that certificate's owner would say."""
    data = certificate.public_bytes(Encoding.DER)
    if selector == 1:
        data = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return TLSA(usage, selector, matching, [data, hashlib.sha256(data).digest(), hashlib.sha512(data).digest()][matching])


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize(("usage", "certificate"), [(3, HOST.certificate), (2, MIDDLE.certificate), (2, ROOT.certificate)])
def test_a_key_that_the_zone_names_is_proven(usage: int, selector: int, matching: int, certificate: x509.Certificate) -> None:
    dane.prove([record(usage, selector, matching, certificate)], HOST.shown, [MX])


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize("usage", [2, 3])
def test_another_key_is_not(usage: int, selector: int, matching: int) -> None:
    other = Authority("Root")
    for certificate in (other.certificate, other.issue(MX).certificate):
        with pytest.raises(Unproven):
            dane.prove([record(usage, selector, matching, certificate)], HOST.shown, [MX])


def test_one_record_of_several_is_enough_so_that_keys_can_be_rolled() -> None:
    old, new = Authority("Old").issue(MX), HOST
    dane.prove([record(3, 1, 1, old.certificate), record(3, 1, 1, new.certificate)], HOST.shown, [MX])


def test_for_the_hosts_own_key_neither_name_nor_dates_matter() -> None:
    expired = ROOT.issue("somewhere.else.test", expired=True)
    dane.prove([record(3, 1, 1, expired.certificate)], expired.shown, [MX])


@pytest.mark.parametrize("identity", [MIDDLE.issue(MX, expired=True), MIDDLE.issue("other.example.test")], ids=["expired", "wrong name"])
def test_below_an_authority_they_do(identity: Identity) -> None:
    with pytest.raises(Unproven):
        dane.prove([record(2, 0, 1, ROOT.certificate)], identity.shown, [MX])


def test_the_name_may_be_the_hosts_or_the_domains() -> None:
    identity = MIDDLE.issue("example.test")
    dane.prove([record(2, 0, 1, ROOT.certificate)], identity.shown, [MX, "example.test"])


def test_an_authority_that_stands_in_the_zone_whole_need_not_be_shown() -> None:
    dane.prove([record(2, 0, 0, ROOT.certificate)], HOST.shown[:2], [MX])


def test_an_authority_of_which_the_zone_has_only_a_digest_must_be() -> None:
    with pytest.raises(Unproven, match="no certificate is one that the zone names"):
        dane.prove([record(2, 0, 1, ROOT.certificate)], HOST.shown[:2], [MX])


def test_showing_an_authority_without_being_signed_by_it_proves_nothing() -> None:
    stranger = Authority("Stranger").issue(MX)
    with pytest.raises(Unproven):
        dane.prove([record(2, 0, 1, ROOT.certificate)], [stranger.shown[0], *HOST.shown[1:]], [MX])


@pytest.mark.parametrize("admitted", [True, False])
def test_who_is_no_authority_cannot_sign_for_others(admitted: bool) -> None:
    """A host with a certificate below the named authority makes one for another name."""
    thief = Authority("Thief", ROOT, ca=False) if admitted else Authority.__new__(Authority)
    if not admitted:
        thief.key, thief.certificate, thief.name, thief.parent = HOST.key, HOST.certificate, HOST.certificate.subject, MIDDLE
    forged = thief.issue("other.example.test")
    with pytest.raises(Unproven):
        dane.prove([record(2, 0, 1, ROOT.certificate)], forged.shown, ["other.example.test"])


@pytest.mark.parametrize("shown", [[], [b"nonsense"], [b""]])
def test_nothing_shown_is_nothing_proven(shown: list[bytes]) -> None:
    with pytest.raises(Unproven):
        dane.prove([record(3, 1, 1, HOST.certificate)], shown, [MX])


def test_nonsense_in_the_zone_proves_nothing() -> None:
    with pytest.raises(Unproven):
        dane.prove([TLSA(2, 0, 0, b"nonsense")], HOST.shown, [MX])


def test_only_what_can_be_checked_is_usable() -> None:
    sound = [record(2, 0, 1, HOST.certificate), record(3, 1, 2, HOST.certificate)]
    assert dane.usable(
        [*sound, TLSA(0, 0, 1, b""), TLSA(1, 0, 1, b""), TLSA(3, 2, 1, b""), TLSA(3, 0, 3, b""), TLSA(255, 0, 0, b"")]
    ) == tuple(sound)


def test_the_chain_that_a_server_shows_is_seen_whole_though_nobody_here_trusts_it() -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE

    async def see() -> list[bytes]:
        async def idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                await reader.read()
            writer.close()

        server = await asyncio.start_server(idle, "127.0.0.1", 0, ssl=HOST.context())
        _reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=trusting)
        shown = dane.chain(writer.get_extra_info("ssl_object"))
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return shown

    assert asyncio.run(see()) == HOST.shown

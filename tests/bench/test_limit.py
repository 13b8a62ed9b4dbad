"""The bare loop is a fair yardstick only if it does the work: real mails, really signed, really recorded."""

from __future__ import annotations

import asyncio
from email import message_from_bytes, policy

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mailhub.bench import limit
from tests.delivery.world import postgresql_only
from tests.installation import Installation
from tests.smtp_server import SMTPServer

pytestmark = postgresql_only
MESSAGES = 1_200


def record(key: rsa.RSAPrivateKey) -> bytes:
    """What the DNS would say."""
    octets = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return b"v=DKIM1; k=rsa; p=" + limit.base64.b64encode(octets)


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_everyone_gets_a_mail_of_their_own_and_each_reply_is_recorded(installation: Installation, signed: bool) -> None:
    database = installation.environment["DATABASE_URL"]
    key = rsa.generate_private_key(65537, 2048) if signed else None
    limit.fill(database, MESSAGES)
    with SMTPServer() as server:
        asyncio.run(limit.Loop(database, ("127.0.0.1", server.port), key).run())
    assert installation.rows("SELECT state, tries, reply, count(*) FROM bench_mail GROUP BY 1, 2, 3") == [
        ("sent", 1, "250 2.0.0 Taken", MESSAGES)
    ]
    assert limit.empty(database) == MESSAGES
    assert set(server.by_recipient().values()) == {1}
    assert len(server.connections) == limit.CONNECTIONS
    for mail in server.mails[::200]:
        number = mail.rcpt_to[0].removeprefix("reader").removesuffix("@example.net")
        parsed = message_from_bytes(mail.data, policy=policy.default)
        assert parsed["Subject"] == f"News for Reader {number}"
        assert [part.get_content_type() for part in parsed.iter_parts()] == ["text/plain", "text/html"]
        assert all(f"Dear Reader {number} in Kyoto" in part.get_content() for part in parsed.iter_parts())
        assert ("DKIM-Signature" in parsed) == signed
        if key:
            assert dkim.verify(mail.data, dnsfunc=lambda name, timeout=5: record(key))

"""Two programs of others that verify DKIM: dkimpy, and Debian's Mail::DKIM. Neither asks the network: the records are given."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailhub.senders.models import DKIMKey, Domain, PrivateKey, TextRecord

SCRIPT = Path(__file__).with_name("verify_dkim.pl")


@cache
def mail_dkim_is_missing() -> bool:
    tried = subprocess.run(["perl", "-MMail::DKIM::Verifier", "-e", "1"], capture_output=True)  # noqa: S607
    return tried.returncode != 0 and "CI" not in os.environ


def record_of(private: PrivateKey, domain: str = "example.com", selector: str = "s1") -> TextRecord:
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return DKIMKey(domain=Domain(name=domain), selector=selector, private_key=pem).record()


def mail_dkim(mail: bytes, *records: TextRecord) -> list[str]:
    """A line for each signature: domain, selector, algorithm, result. Of algorithms it knows RSA alone."""
    if mail_dkim_is_missing():
        pytest.skip("Debian's libmail-dkim-perl is not installed")
    zone = json.dumps({record.name: record.strings for record in records})
    return subprocess.run(["perl", SCRIPT, zone], input=mail, capture_output=True, check=True).stdout.decode().splitlines()  # noqa: S603, S607


def by_dkimpy(mail: bytes, *records: TextRecord) -> list[bool]:
    """Whether each signature is good, the topmost first."""
    zone = {f"{record.name}.": record.value for record in records}
    verifier = dkimpy.DKIM(mail)
    count = sum(name.lower() == b"dkim-signature" for name, _value in verifier.headers)
    return [_good(mail, index, zone) for index in range(count)]


def _good(mail: bytes, index: int, zone: dict[str, str]) -> bool:
    try:
        return bool(dkimpy.DKIM(mail).verify(index, dnsfunc=lambda name, timeout=0: zone[name.decode()].encode()))
    except dkimpy.ValidationError:
        # A bh= that does not fit the body.
        return False


def assert_good(mail: bytes, records: Sequence[TextRecord]) -> None:
    """By both verifiers, each signature."""
    assert by_dkimpy(mail, *records) == [True] * len(records)
    results = mail_dkim(mail, *records)
    assert len(results) == len(records)
    for result in results:
        assert result.endswith(" rsa-sha256 pass") or result.endswith("ed25519-sha256 invalid (unsupported algorithm ed25519-sha256)")


def assert_broken(mail: bytes, *records: TextRecord) -> None:
    """By both verifiers, its one signature."""
    assert by_dkimpy(mail, *records) == [False]
    (result,) = mail_dkim(mail, *records)
    assert " rsa-sha256 fail " in result

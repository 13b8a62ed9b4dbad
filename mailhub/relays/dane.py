"""DANE for SMTP (RFC 7672): a host's own zone, signed, says which key it has.

Only records that were authenticated may be passed in here; asking for them is the caller's part.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Collection, Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import verification
from django.utils.translation import gettext as _

from mailhub.lib.dns import TLSA

# RFC 6698 section 7. What relies on public authorities (usages 0 and 1) has no meaning between mail servers (RFC 7672 section 3.1.3).
ANCHOR, KEY = 2, 3
SELECTORS: dict[int, Callable[[x509.Certificate], bytes]] = {
    0: lambda certificate: certificate.public_bytes(Encoding.DER),
    1: lambda certificate: certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
}
MATCHINGS: dict[int, Callable[[bytes], bytes]] = {
    0: lambda data: data,
    1: lambda data: hashlib.sha256(data).digest(),
    2: lambda data: hashlib.sha512(data).digest(),
}


class Unproven(Exception):
    """The host showed no key that its zone names."""


def usable(records: Iterable[TLSA]) -> tuple[TLSA, ...]:
    """Those that we can check. A host that has records of which none is usable still has to be spoken to under TLS (section 2.2)."""
    return tuple(
        record for record in records if record.usage in (ANCHOR, KEY) and record.selector in SELECTORS and record.matching in MATCHINGS
    )


def chain(connection: ssl.SSLObject) -> list[bytes]:
    """The certificates that the other side showed, its own first (DER), whoever signed them."""
    own = getattr(connection, "get_unverified_chain", None)
    if own is not None:  # Python 3.13
        return list(own())
    # Before that the same stands one level down; nothing public gives more than the first certificate.
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in connection._sslobj.get_unverified_chain() or ()]  # type: ignore[attr-defined]


def prove(records: Sequence[TLSA], shown: Sequence[bytes], names: Collection[str]) -> None:
    """One of the usable `records` names a key of the certificates that the host showed; raises Unproven.

    A record of usage 3 names the host's own key: its name and dates do not matter then. One of usage 2 names an authority: a chain must
    lead to it, and the host's certificate must be for one of `names`."""
    try:
        certificates = [x509.load_der_x509_certificate(data) for data in shown]
    except ValueError:
        raise Unproven(_("a certificate cannot be read")) from None
    if not certificates:
        raise Unproven(_("no certificate was shown"))
    host, others = certificates[0], certificates[1:]
    if any(_names(record, host) for record in records if record.usage == KEY):
        return
    anchors = [certificate for certificate in others for record in records if record.usage == ANCHOR and _names(record, certificate)]
    for record in records:
        if (record.usage, record.selector, record.matching) == (ANCHOR, 0, 0):
            # The authority itself stands in the zone, and need not be shown.
            try:
                anchors.append(x509.load_der_x509_certificate(record.data))
            except ValueError:
                continue
    if not anchors:
        raise Unproven(_("no certificate is one that the zone names"))
    _lead_to(anchors, host, others, names)


def _names(record: TLSA, certificate: x509.Certificate) -> bool:
    try:
        return MATCHINGS[record.matching](SELECTORS[record.selector](certificate)) == record.data
    except (ValueError, UnsupportedAlgorithm):  # a kind of key that cannot be written out
        return False


def _lead_to(anchors: list[x509.Certificate], host: x509.Certificate, others: list[x509.Certificate], names: Collection[str]) -> None:
    # Private authorities seldom keep every rule of the public ones; what a chain cannot do without is asked for.
    anything, either = verification.ExtensionPolicy.permit_all(), verification.Criticality.AGNOSTIC
    authority = anything.require_present(x509.BasicConstraints, either, None)
    end = anything.require_present(x509.SubjectAlternativeName, either, None)
    builder = verification.PolicyBuilder().store(verification.Store(anchors)).extension_policies(ca_policy=authority, ee_policy=end)
    failure = ""
    for name in names:
        try:
            builder.build_server_verifier(x509.DNSName(name)).verify(host, others)
        except (verification.VerificationError, ValueError, UnsupportedAlgorithm) as error:
            failure = str(error)
        else:
            return
    raise Unproven(failure)

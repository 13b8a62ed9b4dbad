"""What TLS needs: the certificate that settings name, or on a developer's machine one of our own making."""

from __future__ import annotations

import fcntl
import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from django.conf import settings

VALID = timedelta(days=365)
# Made anew when less is left of it.
LEFT = timedelta(days=30)


class NoCertificate(Exception):
    """TLS cannot be spoken. The text is for people, with the remedy."""


def paths() -> tuple[Path, Path]:
    """Of the certificate (with those between it and its authority) and the key. Raises NoCertificate."""
    if settings.MAILHUB_SMTPD_CERTIFICATE:
        certificate = Path(settings.MAILHUB_SMTPD_CERTIFICATE)
        return certificate, Path(settings.MAILHUB_SMTPD_KEY or certificate)
    if not settings.DEBUG:
        raise NoCertificate("Set MAILHUB_SMTPD_CERTIFICATE and MAILHUB_SMTPD_KEY to the files of a certificate and its key.")
    path = settings.BASE_DIR / "build" / "smtpd" / "certificate.pem"
    keep(path, [settings.MAILHUB_SMTPD_NAME, "localhost", "127.0.0.1", "::1"])
    return path, path


def context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer (RFC 8314 section 4.1). Raises NoCertificate."""
    found = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    found.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        found.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        raise NoCertificate(f"{certificate} with {key} is no certificate with its key that can be read: {error}") from None
    return found


class Contexts:
    """The context for new connections, made anew when the files change: certificates are renewed every few weeks."""

    def __init__(self) -> None:
        """Raises NoCertificate."""
        self.paths = paths()
        self._stamp = self._seen()
        self.current = context(*self.paths)

    def look(self) -> bool:
        """Whether there is a new one. Raises NoCertificate while the files do not fit together; the old context stays in use."""
        if (stamp := self._seen()) == self._stamp:
            return False
        self.current = context(*self.paths)
        self._stamp = stamp
        return True

    def _seen(self) -> list[tuple[int, int]]:
        try:
            return [(found.st_mtime_ns, found.st_ino) for path in self.paths if (found := path.stat())]
        except OSError:
            return []


# ------------------------------------------------------------------------------------------------------------------- our own


def keep(path: Path, names: Sequence[str]) -> None:
    """Have a certificate for these names at `path`, its key beside it in the same file, signed by nobody but itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / "lock").open("w") as lock:
        # Of two processes that start at once, one makes it and the other finds it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _serves(path, names):
            made = path.with_suffix(".new")
            with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(make(names))
            made.rename(path)


def _serves(path: Path, names: Sequence[str]) -> bool:
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
        alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    return list(alternatives) == _alternatives(names) and found.not_valid_after_utc > datetime.now(UTC) + LEFT


def make(names: Sequence[str]) -> bytes:
    """Certificate and key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _alternatives(names: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            found.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found

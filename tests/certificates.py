"""An authority of our own, and certificates of every soundness."""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


class Authority:
    """Signs certificates; `trust` is a context that believes it and nobody else."""

    def __init__(self, name: str = "Test authority", parent: Authority | None = None, *, ca: bool = True) -> None:
        """`ca`: its own certificate says that it is one."""
        self.parent = parent
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name(name)
        constraints = (x509.BasicConstraints(ca=ca, path_length=None), True)
        self.certificate = _certificate(self.name, self.key, parent or self, constraints)

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.certificate.public_bytes(Encoding.PEM).decode())

    def issue(self, *names: str, expired: bool = False) -> Identity:
        """A server's certificate for these host names (the first is its common name)."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = (x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
        return Identity(self, key, _certificate(_name(names[0]), key, self, alternatives, expired=expired))

    def chain(self) -> list[x509.Certificate]:
        return [self.certificate, *(self.parent.chain() if self.parent else [])]


class Identity:
    """A server's key and certificate."""

    def __init__(self, authority: Authority, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self.authority, self.key, self.certificate = authority, key, certificate

    @property
    def shown(self) -> list[bytes]:
        """What the server shows (DER), its own certificate first."""
        return [certificate.public_bytes(Encoding.DER) for certificate in (self.certificate, *self.authority.chain())]

    @property
    def pem(self) -> str:
        """Key and certificates, as servers read them."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return key + "".join(ssl.DER_cert_to_PEM_cert(certificate) for certificate in self.shown)

    def context(self) -> ssl.SSLContext:
        """For the server, with the whole chain."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(self.pem.encode())
            file.flush()
            context.load_cert_chain(file.name)
        return context


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: Authority,
    extension: tuple[x509.ExtensionType, bool],
    *,
    expired: bool = False,
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 3 * DAY)
        .not_valid_after(now - 2 * DAY if expired else now + 3 * DAY)
        .add_extension(*extension)
        .sign(issuer.key, hashes.SHA256())
    )

"""What is counted, and certificates."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import time_machine
from cryptography import x509
from pytest_django.fixtures import Settings

from transactional import credentials
from transactional.smtpd import certificates
from transactional.smtpd import server as smtpd


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        for module in (credentials, smtpd):
            monkeypatch.setattr(module, "time", self)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


# -------------------------------------------------------------------------------------------------------------------- failures


def test_the_first_failures_cost_nothing_and_each_more_doubles_the_wait(clock: Clock) -> None:
    throttle = credentials.Throttle()
    waits = []
    for _ in range(20):
        throttle.failed(["a"])
        waits.append(throttle.wait(["a"]))
        clock.now += waits[-1]
        assert throttle.wait(["a"]) == 0
    assert waits == [0, 0, 0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 512, *[900] * 7]
    assert throttle.wait(["b"]) == 0


def test_the_longest_wait_of_several_counts(clock: Clock) -> None:
    throttle = credentials.Throttle()
    for _ in range(6):
        throttle.failed(["a"])
    for _ in range(5):
        throttle.failed(["b"])
    assert throttle.wait(["a", "b", "c"]) == 4


def test_success_and_time_make_good(clock: Clock) -> None:
    throttle = credentials.Throttle()
    for _ in range(6):
        throttle.failed(["a", "b"])
    throttle.succeeded(["a"])
    assert throttle.wait(["a"]) == 0 and throttle.wait(["b"]) == 4
    clock.now += throttle.FORGET
    throttle.failed(["b"])
    assert throttle.wait(["b"]) == 0


def test_a_flood_of_addresses_fills_no_memory(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials.Throttle, "MOST", 100)
    throttle = credentials.Throttle()
    for number in range(1000):
        throttle.failed([number])
    assert len(throttle._failures) <= 100


def test_a_rate_gives_back_by_and_by(clock: Clock) -> None:
    rates = smtpd.Rates(60)
    assert sum(rates.take(1) for _ in range(100)) == 60
    assert rates.take(2)
    clock.now += 5
    assert sum(rates.take(1) for _ in range(100)) == 5
    clock.now += 3600
    assert sum(rates.take(1) for _ in range(100)) == 60
    assert sum(smtpd.Rates(0).take(1) for _ in range(1000)) == 1000


@pytest.mark.parametrize(
    ("address", "client"),
    [("192.0.2.1", "192.0.2.1"), ("2001:db8::1:2:3:4", "2001:db8::/64"), ("fe80::1%eth0", "fe80::/64")],
)
def test_one_customer_of_ipv6_counts_as_one(address: str, client: str) -> None:
    assert smtpd.client_of(address) == client


# ---------------------------------------------------------------------------------------------------------------- certificates


def test_a_certificate_of_our_own_serves_its_names_and_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "build" / "certificate.pem"
    certificates.keep(path, ["mail.example.com", "127.0.0.1", "mail.example.com"])
    first = path.read_bytes()
    alternatives = x509.load_pem_x509_certificate(first).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(alternatives) == [x509.DNSName("mail.example.com"), x509.IPAddress(ip_address("127.0.0.1"))]
    assert path.stat().st_mode & 0o777 == 0o600
    assert ssl.create_default_context(cafile=path).get_ca_certs() is not None and certificates.context(path, path)
    certificates.keep(path, ["mail.example.com", "127.0.0.1"])
    assert path.read_bytes() == first


@pytest.mark.parametrize("change", ["names", "age", "nonsense"])
def test_it_is_made_anew_when_it_serves_no_more(tmp_path: Path, change: str) -> None:
    path = tmp_path / "certificate.pem"
    certificates.keep(path, ["a.example"])
    first = path.read_bytes()
    if change == "nonsense":
        path.write_bytes(b"nonsense")
    later = datetime.now(UTC) + (certificates.VALID - certificates.LEFT if change == "age" else timedelta())
    with time_machine.travel(later):
        certificates.keep(path, ["b.example"] if change == "names" else ["a.example"])
    assert path.read_bytes() not in (first, b"nonsense")


def test_a_renewed_certificate_is_taken_and_a_broken_one_is_not(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "certificate.pem"
    settings.MAILHUB_SMTPD_CERTIFICATE = str(path)
    certificates.keep(path, ["a.example"])
    contexts = certificates.Contexts()
    first = contexts.current
    assert not contexts.look() and contexts.current is first
    path.write_bytes(b"half a certifi")
    with pytest.raises(certificates.NoCertificate, match=str(path)):
        contexts.look()
    assert contexts.current is first
    certificates.keep(path, ["b.example"])
    assert contexts.look() and contexts.current is not first
    assert not contexts.look()


def test_tls_is_1_2_or_newer(tmp_path: Path) -> None:
    path = tmp_path / "certificate.pem"
    certificates.keep(path, ["a.example"])
    assert certificates.context(path, path).minimum_version == ssl.TLSVersion.TLSv1_2


def test_production_names_what_is_missing_and_a_developers_machine_makes_it(settings: Settings, tmp_path: Path) -> None:
    settings.MAILHUB_SMTPD_CERTIFICATE, settings.BASE_DIR, settings.DEBUG = "", tmp_path, False
    with pytest.raises(certificates.NoCertificate, match="MAILHUB_SMTPD_CERTIFICATE"):
        certificates.paths()
    settings.DEBUG = True
    certificate, key = certificates.paths()
    assert certificate == key == tmp_path / "build" / "smtpd" / "certificate.pem" and certificate.exists()
    settings.MAILHUB_SMTPD_CERTIFICATE, settings.MAILHUB_SMTPD_KEY = "/etc/a.pem", "/etc/b.pem"
    assert certificates.paths() == (Path("/etc/a.pem"), Path("/etc/b.pem"))

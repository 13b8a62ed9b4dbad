from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.utils import translation

from mailhub.relays import probing
from mailhub.relays.models import Relay
from mailhub.relays.probing import Step
from tests.certificates import Authority
from tests.smtp_server import HOST, Drop, Reply, SMTPServer

PASSWORD = "hunter2-geheim"  # noqa: S105


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def server(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SMTPServer]:
    shown = authority.issue("localhost")
    (tmp_path / "authority.pem").write_text(ssl.DER_cert_to_PEM_cert(shown.shown[1]))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with SMTPServer(tls=shown.context(), users={"shop": PASSWORD}) as server:
        yield server


def probe(server: SMTPServer, **options: Any) -> list[Step]:
    given = {"host": "localhost", "port": server.port, "security": "starttls", "username": "shop", "patience": 20, **options}
    relay = Relay(name="relay", kind="smtp", options=given, secrets={"password": given.pop("password", PASSWORD)})
    return async_to_sync(probing.probe)(relay, "shop@tea.example")


def phases(steps: list[Step]) -> list[str]:
    return [step.phase for step in steps]


def failure(steps: list[Step]) -> tuple[str, str]:
    assert all(step.failure is None for step in steps[:-1])
    last = steps[-1]
    assert last.failure is not None
    return last.phase, last.failure.key


def transcript(steps: list[Step]) -> str:
    return "\n".join(line for step in steps for line in step.transcript)


def test_each_step_is_taken_and_timed_and_no_mail_is_sent(server: SMTPServer) -> None:
    steps = probe(server)
    assert phases(steps) == ["resolve", "connect", "greeting", "tls", "login", "sender"]
    assert all(step.failure is None and step.seconds >= 0 for step in steps)
    said = transcript(steps)
    assert "→ EHLO" in said
    assert "· TLSv1.3" in said
    assert "→ MAIL FROM:<shop@tea.example>" in said
    assert server.mails == []


def test_the_transcript_holds_no_password(server: SMTPServer) -> None:
    server.answers("auth", Reply(f"535 5.7.8 Wrong password {PASSWORD}"))
    for method in ("plain", "login"):
        steps = probe(server, auth_method=method)
        assert failure(steps) == ("login", "credentials")
        said = transcript(steps)
        assert PASSWORD not in said
        assert "c2hvcA" not in said
        assert f"AUTH {method.upper()} " in said or "AUTH LOGIN" in said


def test_without_a_user_name_nobody_logs_in(server: SMTPServer) -> None:
    assert "login" not in phases(probe(server, username=""))


def test_a_wrong_password_is_explained(server: SMTPServer) -> None:
    assert failure(probe(server, password="wrong")) == ("login", "credentials")  # noqa: S106


def test_a_port_where_nobody_listens_is_explained() -> None:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        nobody = Relay(name="relay", kind="smtp", options={"host": HOST, "port": sock.getsockname()[1], "security": "none"}, secrets={})
        steps = async_to_sync(probing.probe)(nobody, "shop@tea.example")
    assert failure(steps) == ("connect", "connect_refused")


def test_a_name_that_does_not_exist_is_explained(server: SMTPServer) -> None:
    assert failure(probe(server, host="a..example"))[0] == "resolve"


def test_a_private_address_is_explained(server: SMTPServer, settings: Any) -> None:
    settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES = []
    assert failure(probe(server)) == ("connect", "private_address")


def test_a_certificate_for_another_name_is_explained(server: SMTPServer) -> None:
    assert failure(probe(server, host=HOST)) == ("tls", "certificate_name")


def test_tls_where_the_server_speaks_none_is_explained(server: SMTPServer) -> None:
    assert failure(probe(server, security="tls")) == ("tls", "tls_on_plain_port")


def test_starttls_that_is_not_offered_is_explained() -> None:
    with SMTPServer() as server:
        assert failure(probe(server)) == ("tls", "starttls_missing")


@pytest.mark.parametrize(
    ("phase", "reply", "found"),
    [
        ("connect", "554 5.7.1 Client host blocked using zen.spamhaus.org", ("greeting", "blocklist")),
        ("connect", "421 4.7.0 Too many connections", ("greeting", "too_many_connections")),
        ("auth", "534 5.7.9 Application-specific password required", ("login", "app_password")),
        ("mail", "553 5.7.1 Sender address rejected: not owned by user shop", ("sender", "send_as")),
        ("mail", "550 5.4.5 Daily user sending limit exceeded", ("sender", "quota")),
    ],
)
def test_what_the_server_says_against_it_is_explained(server: SMTPServer, phase: str, reply: str, found: tuple[str, str]) -> None:
    server.answers(phase, Reply(reply))
    steps = probe(server)
    assert failure(steps) == found
    assert reply in transcript(steps)


def test_a_server_that_hangs_up_is_explained(server: SMTPServer) -> None:
    server.answers("ehlo", Drop())
    assert failure(probe(server)) == ("greeting", "connection_broke")


def test_explanations_come_in_the_language_of_the_page_whatever_was_said(server: SMTPServer) -> None:
    with translation.override("ja"):
        steps = probe(server, security="tls")
        assert failure(steps) == ("tls", "tls_on_plain_port")
        assert translation.get_language() == "ja"

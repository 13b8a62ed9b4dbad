"""Programs of others hand mail in: what they say is not what we think they say."""

from __future__ import annotations

import email
import os
import smtplib
import ssl
import subprocess
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP, default
from pathlib import Path
from shutil import which

import pytest

from mailhub.delivery import eight_bit
from mailhub.delivery.models import Content, Message
from tests.transactional.listener import Client, Listener, hand_in
from transactional.models import Credential

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

CLIENTS = Path(__file__).with_name("clients")
# The name in the certificate.
NAME = "localhost"
SUBJECT = "ご注文ありがとうございます"


def run(program: str, *arguments: object, needs: str = "", **environment: str) -> str:
    """What it prints. Skipped where it is not installed, as scripts/install_packages does."""
    if "CI" not in os.environ and (not which(program) or (needs and not Path(needs).exists())):
        pytest.skip(f"{needs or program} is not installed")
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


Way = Callable[[Listener, Credential, str, str], str]


def php(listener: Listener, credential: Credential, certificate: str, security: str) -> str:
    port = listener.tls_port if security == "ssl" else listener.port
    script = CLIENTS / "phpmailer.php"
    needs = "/usr/share/php/libphp-phpmailer/autoload.php"
    return run("php", script, NAME, port, security, credential.prefix, credential.secret, certificate, needs=needs)


def node(listener: Listener, credential: Credential, certificate: str, security: str) -> str:
    port = listener.tls_port if security == "ssl" else listener.port
    script, needs = CLIENTS / "nodemailer.js", "/usr/share/nodejs/nodemailer"
    given = (NAME, port, security, credential.prefix, credential.secret, certificate)
    return run("node", script, *given, needs=needs, NODE_PATH="/usr/share/nodejs")


@pytest.mark.parametrize("security", ["tls", "ssl"])
@pytest.mark.parametrize("client", [php, node], ids=["PHPMailer", "nodemailer"])
def test_mail_libraries_of_other_languages(
    listener: Listener, credential: Credential, certificate: str, client: Way, security: str
) -> None:
    reply = client(listener, credential, certificate, security)
    content = Content.objects.get()
    assert f"250 2.0.0 queued as {content.public_id}" in reply
    raw = bytes(content.raw or b"")
    assert b"secret@example.net" not in raw
    assert {message.address for message in Message.objects.all()} == {"a@example.net", "secret@example.net"}
    for form in (raw, eight_bit.encoded(raw)):
        parsed = email.message_from_bytes(form, policy=default)
        assert parsed["Subject"] == SUBJECT and parsed["To"] == "佐藤 花子 <a@example.net>" and "ESMTPSA" in parsed["Received"]
        words = parsed.get_body().get_content().splitlines()
        assert "ご注文ありがとうございます。" in words[0] and words[1] == "."
        (attachment,) = parsed.iter_attachments()
        assert attachment.get_filename() == "領収書.txt"
    assert content.from_name == "緑茶堂"


@pytest.mark.parametrize("tls", ["--tls", "--tlsc"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks(listener: Listener, credential: Credential, certificate: str, tls: str, mechanism: str) -> None:
    port = listener.tls_port if tls == "--tlsc" else listener.port
    said = run(
        "swaks", tls, "--tls-verify", "--tls-ca-path", certificate, "--server", NAME, "--port", port,
        "--auth", mechanism, "--auth-user", credential.prefix, "--auth-password", credential.secret,
        "--from", "shop@example.com", "--to", "a@example.net,b@example.net", "--body", "one\\n.\\n..two",
    )  # fmt: skip
    assert f"queued as {Content.objects.get().public_id}" in said
    assert Message.objects.count() == 2
    assert b"\r\n\r\none\r\n.\r\n..two\r\n" in bytes(Content.objects.get().raw or b"")


@pytest.mark.parametrize(
    ("arguments", "status", "answer"),
    [
        ([], 28, "535 5.7.8"),
        (["--from", "stranger@example.org"], 23, "550 5.7.1"),
        (["--h-From", "stranger@example.org"], 26, "550 5.7.1"),
        (["--to", "nobody@"], 24, "553 5.1.3"),
    ],
)
def test_swaks_hears_why_it_is_refused(listener: Listener, credential: Credential, arguments: list[str], status: int, answer: str) -> None:
    if "CI" not in os.environ and not which("swaks"):
        pytest.skip("swaks is not installed")
    given = {"--from": "shop@example.com", "--to": "a@example.net"} | dict(zip(arguments[::2], arguments[1::2], strict=True))
    command = ["swaks", "--tls", "--server", NAME, "--port", str(listener.port), "--auth", "PLAIN", "--auth-user", credential.prefix]
    command += ["--auth-password", credential.secret if arguments else "wrong", *(word for pair in given.items() for word in pair)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)  # noqa: S603
    assert done.returncode == status and answer in done.stdout
    assert not Content.objects.exists()


def test_pythons_smtplib_with_an_international_recipient(listener: Listener, credential: Credential, certificate: str) -> None:
    message = EmailMessage(policy=SMTP.clone(utf8=True))
    message["From"], message["To"], message["Subject"] = "緑茶堂 <shop@example.com>", "用户@例え.jp", SUBJECT
    message.set_content("緑茶\n", cte="8bit")
    with smtplib.SMTP(NAME, listener.port) as client:
        client.starttls(context=ssl.create_default_context(cafile=certificate))
        client.login(credential.prefix, credential.secret)
        assert client.send_message(message) == {}
    assert Message.objects.get().address == "用户@xn--r8jz45g.jp"
    assert bytes(Content.objects.get().raw or b"").endswith(message.as_bytes())


@pytest.mark.parametrize("tls", [False, True], ids=["STARTTLS", "TLS"])
def test_what_thunderbird_says(listener: Listener, credential: Credential, tls: bool) -> None:
    """Its words, not itself: it greets with its address, announces size and 8-bit text, and keeps the connection."""
    with Client(listener.tls_port if tls else listener.port, tls=tls) as client:
        client.hear()
        client.say("EHLO [192.168.1.23]")
        if not tls:
            client.start_tls()
            client.say("EHLO [192.168.1.23]")
        assert client.log_in(credential.prefix, credential.secret).startswith("235 2.7.0 ")
        for number in (1, 2):
            head = f"Message-ID: <{number}@example.com>\r\nDate: Wed, 25 Nov 2026 12:00:00 +0900\r\nMIME-Version: 1.0\r\n"
            head += "Content-Type: text/plain; charset=UTF-8; format=flowed\r\nContent-Transfer-Encoding: 8bit\r\n"
            raw = f"{head}From: shop@example.com\r\nTo: a@example.net\r\nSubject: {number}\r\n\r\n緑茶\r\n".encode()
            assert hand_in(client, raw, parameters=f" BODY=8BITMIME SIZE={len(raw)}").startswith("250 2.0.0 ")
        assert client.say("QUIT").startswith("221 ")
    first, second = Content.objects.order_by("pk")
    assert bytes(first.raw or b"").startswith(b"Received: from [192.168.1.23] ([127.0.0.1])")
    assert bytes(second.raw or b"").endswith("\r\n\r\n緑茶\r\n".encode())

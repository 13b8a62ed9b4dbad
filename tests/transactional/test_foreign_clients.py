"""`make clients`: programs of others as they are found in the wild send by what the page "Connect" says.

test_connect_clients.py has those that are quick and are everywhere. Here are those that have to be fetched: WordPress's own wp_mail(),
the newest nodemailer, what is beneath Laravel and Rails, msmtp."""

from __future__ import annotations

import email
import os
from email.policy import default
from pathlib import Path

import pytest

from mailhub.delivery.models import Content, Message
from tests.transactional.test_connect_clients import access as access
from tests.transactional.test_connect_clients import block
from tests.transactional.test_smtpd_clients import CLIENTS, SUBJECT, run
from transactional.connect import Access

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]

THANKS = "ご注文ありがとうございます。"
# What scripts/install_clients has brought.
FETCHED = Path(os.environ.get("CLIENTS", "build/clients")).absolute()


def arrived() -> email.message.EmailMessage:
    """The one mail, as its reader sees it."""
    content = Content.objects.get()
    raw = bytes(content.raw or b"")
    assert b"secret@example.net" not in raw
    assert {message.address for message in Message.objects.all()} == {"a@example.net", "secret@example.net"}
    assert content.from_email == "shop@example.com"
    mail = email.message_from_bytes(raw, policy=default)
    assert isinstance(mail, email.message.EmailMessage)
    assert mail["Subject"] == SUBJECT and "ESMTPSA" in mail["Received"]
    body = mail.get_body()
    assert body and THANKS in body.get_content()
    return mail


def attached(mail: email.message.EmailMessage) -> list[str | None]:
    return [part.get_filename() for part in mail.iter_attachments()]


def test_wordpress_sends_with_its_own_wp_mail(access: Access, certificate: str) -> None:
    wordpress = FETCHED / "wordpress"
    script = CLIENTS / "wordpress.php"
    run("php", "-d", f"openssl.cafile={certificate}", script, wordpress, block(access, "wordpress"), needs=str(wordpress))
    mail = arrived()
    assert mail["From"].addresses[0].display_name == "WordPress" and mail["Reply-To"] == "help@blog.example"
    assert attached(mail) == ["wordpress.php"]


def test_the_newest_nodemailer(access: Access, certificate: str) -> None:
    script = f"""
        const nodemailer = require("nodemailer")
        const transport = {block(access, "nodemailer")}
        transport.sendMail({{
            from: '"緑茶堂" <shop@example.com>', to: '"佐藤 花子" <a@example.net>', bcc: "secret@example.net", subject: "{SUBJECT}",
            text: "ご注文ありがとうございます。\\n.\\n", attachments: [{{ filename: "領収書.txt", content: "領収書\\n" }}],
        }}).catch((error) => {{ console.error(error); process.exit(1) }})
    """
    modules = FETCHED / "node_modules"
    run("node", "-e", script, needs=str(modules / "nodemailer"), NODE_PATH=str(modules), NODE_EXTRA_CA_CERTS=certificate)
    assert attached(arrived()) == ["領収書.txt"]


@pytest.mark.parametrize("version", ["old", "new"])
def test_laravel(access: Access, certificate: str, version: str) -> None:
    if version == "old" and len(access.ports) == 1:
        pytest.skip("Laravel before 11 takes TLS from the first byte by the number 465, which is not to be had here")
    needs = "/usr/share/php/Symfony/Component/Mailer/autoload.php"
    run("php", "-d", f"openssl.cafile={certificate}", CLIENTS / "laravel.php", block(access, "laravel"), version, needs=needs)
    assert attached(arrived()) == ["領収書.txt"]


def test_rails(access: Access, certificate: str) -> None:
    needs = "/usr/share/rubygems-integration/all/specifications"
    run("ruby", CLIENTS / "rails.rb", block(access, "rails"), needs=needs, SSL_CERT_FILE=certificate, LANG="C.UTF-8")
    assert attached(arrived()) == ["領収書.txt"]


def test_msmtp_in_the_place_of_sendmail(access: Access, certificate: str, tmp_path: Path) -> None:
    settings = tmp_path / "msmtprc"
    settings.write_text(block(access, "msmtp"))
    settings.chmod(0o600)
    mail = tmp_path / "mail"
    head = f"To: a@example.net\nBcc: secret@example.net\nFrom: shop@example.com\nSubject: {SUBJECT}\n"
    mail.write_text(f"{head}MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n\n{THANKS}\n", "utf-8")
    given = f"msmtp --file={settings} --tls-trust-file={certificate} --read-recipients < {mail}"
    run("sh", "-c", given, needs="/usr/bin/msmtp")
    arrived()

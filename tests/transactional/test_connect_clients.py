"""What the page "Connect" gives to paste is pasted, and sends: each block as it stands there, by the program that it is for."""

from __future__ import annotations

import os
import shutil
import smtplib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.mail import send_mail
from django.test import override_settings
from pytest_django.fixtures import Settings
from pytest_django.live_server_helper import LiveServer

from mailhub.delivery.models import Content, Message
from tests.installation import free_ports, until
from tests.transactional.listener import Listener
from tests.transactional.test_smtpd_clients import run
from transactional.connect import YOU, Access
from transactional.models import Credential, Project, Submission

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]


@pytest.fixture(params=["STARTTLS", "TLS"])
def access(request: pytest.FixtureRequest, listener: Listener, credential: Credential, settings: Settings) -> Access:
    settings.MAILHUB_SMTPD_NAME = "localhost"
    settings.MAILHUB_SMTPD_PORT = listener.port if request.param == "STARTTLS" else 0
    settings.MAILHUB_SMTPD_TLS_PORT = listener.tls_port
    return Access(user=credential.prefix, password=credential.secret, sender="shop@example.com")


def block(access: Access, key: str) -> str:
    return next(program.block for program in [*access.by_smtp, *access.by_http] if program.key == key)


def shell(line: str, certificate: str, needs: str) -> str:
    """As a person types it, on a machine that trusts the certificate."""
    return run("sh", "-c", line, needs=shutil.which(needs) or needs, SSL_CERT_FILE=certificate, CURL_CA_BUNDLE=certificate)


def arrived(address: str = YOU) -> Content:
    message = Message.objects.select_related("content").get()
    assert message.address == address
    return message.content


@pytest.mark.parametrize("program", ["swaks", "curl-smtp"])
def test_lines_for_the_command_line(access: Access, certificate: str, program: str) -> None:
    shell(block(access, program), certificate, program.partition("-")[0])
    assert b"From: shop@example.com\r\n" in bytes(arrived().raw or b"")


def test_settings_of_a_django_site(access: Access, certificate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificate)
    pasted: dict[str, object] = {}
    exec(block(access, "django"), pasted)  # noqa: S102
    with override_settings(**{name: value for name, value in pasted.items() if name.isupper()}):
        assert send_mail("Order", "Thank you.", None, ["a@example.net"]) == 1
    assert arrived("a@example.net").subject == "Order"


def test_a_transport_of_nodemailer(access: Access, certificate: str) -> None:
    script = f"""
        const nodemailer = require("nodemailer")
        const transport = {block(access, "nodemailer")}
        transport.sendMail({{ from: "shop@example.com", to: "a@example.net", subject: "Order", text: "Thank you." }})
            .catch((error) => {{ console.error(error); process.exit(1) }})
    """
    run("node", "-e", script, needs="/usr/share/nodejs/nodemailer", NODE_PATH="/usr/share/nodejs", NODE_EXTRA_CA_CERTS=certificate)
    assert arrived("a@example.net").subject == "Order"


PHPMAILER = "/usr/share/php/libphp-phpmailer/autoload.php"


def php(code: str, certificate: str) -> None:
    script = f"require '{PHPMAILER}'; $mail = new PHPMailer\\PHPMailer\\PHPMailer(true);\n{code}\n$mail->addAddress('a@example.net');"
    script += "$mail->Subject = 'Order'; $mail->Body = 'Thank you.'; $mail->send();"
    run("php", "-d", f"openssl.cafile={certificate}", "-r", script, needs=PHPMAILER)


def test_lines_for_phpmailer(access: Access, certificate: str) -> None:
    php(block(access, "phpmailer"), certificate)
    assert arrived("a@example.net").subject == "Order"


def test_constants_of_wordpress(access: Access, certificate: str) -> None:
    """What WP Mail SMTP does with them: it sets up WordPress's own PHPMailer so."""
    plugin = """
        if (WPMS_ON !== true || WPMS_MAILER !== 'smtp') { exit(1); }
        $mail->isSMTP(); $mail->Host = WPMS_SMTP_HOST; $mail->Port = WPMS_SMTP_PORT; $mail->SMTPSecure = WPMS_SSL;
        $mail->SMTPAuth = WPMS_SMTP_AUTH; $mail->Username = WPMS_SMTP_USER; $mail->Password = WPMS_SMTP_PASS;
        $mail->setFrom('wordpress@blog.example', 'Blog'); if (WPMS_MAIL_FROM_FORCE) { $mail->setFrom(WPMS_MAIL_FROM, 'Blog'); }
        if (WPMS_SET_RETURN_PATH) { $mail->Sender = $mail->From; }
    """
    php(block(access, "wordpress") + plugin, certificate)
    assert arrived("a@example.net").from_name == "Blog"


# ------------------------------------------------------------------------------------------------------------------- Postfix


MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = /tmp
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.1/32
myhostname = web1.example
mydestination =
alias_maps =
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_host_lookup = native
{pasted}
"""


@pytest.fixture
def postfix(access: Access, certificate: str) -> Iterator[int]:
    """A Postfix of its own, which hands on by the lines that are pasted: the port on which it takes mail."""
    if os.geteuid() or not Path("/usr/sbin/postfix").exists() or not list(Path("/usr/lib").glob("*/sasl2/libplain.so")):
        pytest.skip("takes root, postfix and libsasl2-modules")
    # Its processes are another user's, who may not look into root's own folders.
    folder = Path(tempfile.mkdtemp(prefix="postfix-"))
    folder.chmod(0o755)
    pasted, _rest = block(access, "postfix").split("# /etc/postfix/sasl_passwd", 1)
    password = block(access, "postfix").splitlines()[-1].removeprefix("# ")
    (folder / "sasl_passwd").write_text(f"{password}\n")
    shutil.copy(certificate, folder / "authority.pem")
    pasted = pasted.replace("/etc/postfix/sasl_passwd", f"{folder}/sasl_passwd").replace(
        "/etc/ssl/certs/ca-certificates.crt", f"{folder}/authority.pem"
    )
    (port,) = free_ports(1)
    (folder / "config").mkdir()
    (folder / "config" / "main.cf").write_text(MAIN.format(folder=folder, pasted=pasted))
    (folder / "config" / "master.cf").write_text(MASTER.format(port=port))
    (folder / "queue").mkdir()
    (folder / "data").mkdir()
    shutil.chown(folder / "data", "postfix")
    command = ["/usr/sbin/postfix", "-c", str(folder / "config")]
    try:
        subprocess.run([*command, "start"], check=True, capture_output=True, timeout=60)  # noqa: S603
        yield port
    finally:
        subprocess.run([*command, "stop"], check=False, capture_output=True, timeout=60)  # noqa: S603
        shutil.rmtree(folder, ignore_errors=True)


def test_a_postfix_hands_on_all_that_its_machine_sends(postfix: int) -> None:
    with smtplib.SMTP("127.0.0.1", postfix, timeout=30) as client:
        client.sendmail("shop@example.com", ["a@example.net"], b"From: shop@example.com\r\nSubject: Order\r\n\r\nThank you.\r\n")
    until(lambda: Message.objects.exists(), 60)
    assert b"by web1.example (Postfix)" in bytes(arrived("a@example.net").raw or b"")


# ---------------------------------------------------------------------------------------------------------------------- HTTP


def test_a_line_for_the_http_api(live_server: LiveServer, project: Project, settings: Settings, certificate: str) -> None:
    settings.MAILHUB_PUBLIC_URL = live_server.url
    credential = Credential(project=project, kind=Credential.Kind.API_KEY, name="curl", scopes=["send"])
    key = credential.issue()
    credential.save()
    said = shell(block(Access(user="", password="", sender="shop@example.com", key=key), "curl"), certificate, "curl")
    assert str(Submission.objects.get().content.public_id) in said
    assert arrived().subject == "Test"

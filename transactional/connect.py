"""Settings for programs that hand mail in, ready to be pasted. docs/submission.md and docs/api.md tell where they go."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

# Where a value is to be filled in.
BLANK = "…"
# Whom the test mails below are for.
YOU = "you@example.com"
# Of the HTTP API.
SUBSCRIBE, CAMPAIGN = "lists/$LIST/subscribe", "campaigns/$CAMPAIGN"


@dataclass(frozen=True, slots=True)
class Program:
    """What one program wants."""

    #: also the page's anchor
    key: str
    name: str
    #: where it goes
    place: str
    #: to be pasted; "" where a form is filled in
    block: str = ""
    #: labels of the form as the program has them, and what to write there
    fields: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Access:
    """How one credential gets in."""

    #: "" where there is none yet
    user: str
    #: "" once it has been shown
    password: str
    #: the From address; "" where the project has none that is confirmed
    sender: str
    #: API key; "" likewise
    key: str = ""

    @property
    def host(self) -> str:
        return settings.MAILHUB_SMTPD_NAME

    @property
    def ports(self) -> list[tuple[int, str]]:
        """Each with its security, the one to prefer first."""
        found = [(settings.MAILHUB_SMTPD_PORT, "STARTTLS"), (settings.MAILHUB_SMTPD_TLS_PORT, "SSL/TLS")]
        return [(port, security) for port, security in found if port]

    @property
    def by_smtp(self) -> list[Program]:
        if not self.ports:
            return []
        port, security = self.ports[0]
        tls = security == "STARTTLS"
        user, password, sender = self.user or BLANK, self.password or BLANK, self.sender or BLANK
        host = self.host
        return [
            Program("wordpress", "WordPress", _("WP Mail SMTP, in wp-config.php"), wordpress(host, port, tls, user, password, sender)),
            Program("wp-mail-smtp", "WordPress", _("WP Mail SMTP, its form"), fields=wp_form(host, port, tls, user, password, sender)),
            Program(
                "mail-program",
                "Thunderbird, Outlook, Apple Mail",
                _("outgoing server"),
                fields=mail_program(host, port, tls, user, password),
            ),
            Program("django", "Django", "settings.py", django(host, port, tls, user, password, sender)),
            Program("laravel", "Laravel", ".env", laravel(host, port, tls, user, password, sender)),
            Program("rails", "Rails", "config/environments/production.rb", rails(host, port, tls, user, password)),
            Program("nodemailer", "Node.js", "nodemailer", nodemailer(host, port, tls, user, password)),
            Program("phpmailer", "PHP", "PHPMailer", phpmailer(host, port, tls, user, password, sender)),
            Program("postfix", "Postfix", "/etc/postfix/main.cf", postfix(host, port, tls, user, password)),
            Program("msmtp", "msmtp", "~/.msmtprc", msmtp(host, port, tls, user, password, sender)),
            Program("swaks", "swaks", _("a test from the command line"), swaks(host, port, tls, user, password, sender)),
            Program("curl-smtp", "curl, SMTP", _("a test from the command line"), curl_smtp(host, port, tls, user, password, sender)),
        ]

    @property
    def by_http(self) -> list[Program]:
        key, sender, url = self.key or BLANK, self.sender or BLANK, settings.MAILHUB_PUBLIC_URL
        return [
            Program("client", "Django, mailhub-client", "settings.py", client(url, key, sender)),
            Program("curl", "curl, HTTP", _("a test from the command line"), curl(url, key, sender)),
        ]

    @property
    def by_campaigns(self) -> list[Program]:
        """In the order in which they are done."""
        key, sender, url = self.key or BLANK, self.sender or BLANK, settings.MAILHUB_PUBLIC_URL
        campaign = {
            "name": "First newsletter",
            "from": sender,
            "lists": ["$LIST"],
            "subject": "News for {{ name }}",
            "html": "<p>Dear {{ name }}, this is our first newsletter.</p>",
        }
        consent = {"email": YOU, "basis": "opt_in", "source": "sign-up form", "text": "Yes, send me the newsletter."}
        return [
            Program("lists", _("Find the list"), _("its id goes into $LIST"), asked(url, key, "lists")),
            Program("subscribe", _("Subscribe somebody"), _("with the record of their consent"), asked(url, key, SUBSCRIBE, consent)),
            Program(
                "campaign", _("Make a campaign"), _("its id goes into $CAMPAIGN"), asked(url, key, "campaigns", campaign, "newsletter-1")
            ),
            Program("test", _("Send a test"), _("to the sender's own address"), asked(url, key, f"{CAMPAIGN}/test", {"to": [sender]})),
            Program(
                "start",
                _("Send the campaign"),
                _("to everybody on the list whose consent is on record"),
                asked(url, key, f"{CAMPAIGN}/start", {}),
            ),
        ]


def asked(url: str, key: str, path: str, body: Mapping[str, Any] | None = None, idempotency_key: str = "") -> str:
    """A line of curl for the HTTP API. $LIST and $CAMPAIGN are the shell's."""
    headers = [f"Authorization: Bearer {key}"]
    if idempotency_key:
        headers.append(f"Idempotency-Key: {idempotency_key}")
    if body is not None:
        headers.append("Content-Type: application/json")
    said = "" if body is None else f" -d {shlex.quote(json.dumps(body, ensure_ascii=False))}".replace("$LIST", "'$LIST'")
    return f"curl {url}/api/v1/{path} {' '.join(f'-H {shlex.quote(header)}' for header in headers)}{said}"


def wordpress(host: str, port: int, tls: bool, user: str, password: str, sender: str) -> str:
    values: list[tuple[str, str | int | bool]] = [
        ("WPMS_ON", True),
        ("WPMS_MAILER", "smtp"),
        ("WPMS_MAIL_FROM", sender),
        ("WPMS_MAIL_FROM_FORCE", True),
        ("WPMS_SET_RETURN_PATH", True),
        ("WPMS_SMTP_HOST", host),
        ("WPMS_SMTP_PORT", port),
        ("WPMS_SSL", "tls" if tls else "ssl"),
        ("WPMS_SMTP_AUTH", True),
        ("WPMS_SMTP_USER", user),
        ("WPMS_SMTP_PASS", password),
    ]
    return "\n".join(f"define( '{name}', {_php(value)} );" for name, value in values)


def _php(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def django(host: str, port: int, tls: bool, user: str, password: str, sender: str) -> str:
    return "\n".join([
        'EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"',
        f'EMAIL_HOST = "{host}"',
        f"EMAIL_PORT = {port}",
        f"EMAIL_USE_{'TLS' if tls else 'SSL'} = True",
        f'EMAIL_HOST_USER = "{user}"',
        f'EMAIL_HOST_PASSWORD = "{password}"',
        f'DEFAULT_FROM_EMAIL = "{sender}"',
        "EMAIL_TIMEOUT = 60",
    ])  # fmt: skip


def laravel(host: str, port: int, tls: bool, user: str, password: str, sender: str) -> str:
    return "\n".join([
        "MAIL_MAILER=smtp",
        f"MAIL_SCHEME={'smtp' if tls else 'smtps'}",
        f"MAIL_ENCRYPTION={'tls' if tls else 'ssl'}",
        f"MAIL_HOST={host}",
        f"MAIL_PORT={port}",
        f'MAIL_USERNAME="{user}"',
        f'MAIL_PASSWORD="{password}"',
        f'MAIL_FROM_ADDRESS="{sender}"',
    ])  # fmt: skip


def rails(host: str, port: int, tls: bool, user: str, password: str) -> str:
    return "\n".join([
        "config.action_mailer.delivery_method = :smtp",
        "config.action_mailer.smtp_settings = {",
        f'  address: "{host}", port: {port}, {"enable_starttls" if tls else "tls"}: true,',
        f'  user_name: "{user}", password: "{password}", authentication: :plain,',
        "}",
    ])  # fmt: skip


def nodemailer(host: str, port: int, tls: bool, user: str, password: str) -> str:
    return "\n".join([
        "nodemailer.createTransport({",
        f'  host: "{host}", port: {port}, {"secure: false, requireTLS: true" if tls else "secure: true"},',
        f'  auth: {{ user: "{user}", pass: "{password}" }},',
        "})",
    ])  # fmt: skip


def postfix(host: str, port: int, tls: bool, user: str, password: str) -> str:
    return "\n".join([
        f"relayhost = [{host}]:{port}",
        *([] if tls else ["smtp_tls_wrappermode = yes"]),
        "smtp_tls_security_level = secure",
        "smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt",
        "smtp_sasl_auth_enable = yes",
        "smtp_sasl_security_options = noanonymous",
        "smtp_sasl_password_maps = texthash:/etc/postfix/sasl_passwd",
        "# /etc/postfix/sasl_passwd, which only root may read:",
        f"# [{host}]:{port} {user}:{password}",
    ])  # fmt: skip


def msmtp(host: str, port: int, tls: bool, user: str, password: str, sender: str) -> str:
    return "\n".join([
        "account mailhub",
        f"host {host}",
        f"port {port}",
        "tls on",
        f"tls_starttls {'on' if tls else 'off'}",
        "auth on",
        f"user {user}",
        f"password {password}",
        f"from {sender}",
        "account default : mailhub",
    ])  # fmt: skip


def swaks(host: str, port: int, tls: bool, user: str, password: str, sender: str) -> str:
    return (
        f"swaks --server {host} --port {port} {'--tls' if tls else '--tlsc'} --tls-verify --auth PLAIN --auth-user {shlex.quote(user)}"
        f" --auth-password {shlex.quote(password)} --from {shlex.quote(sender)} --to {YOU}"
    )


def wp_form(host: str, port: int, tls: bool, user: str, password: str, sender: str) -> tuple[tuple[str, str], ...]:
    """Labels as the plugin has them in English; its translation has them in the same order."""
    return (
        ("From Email", sender),
        ("Force From Email", _("on")),
        ("Return Path", _("on")),
        ("Mailer", "Other SMTP"),
        ("SMTP Host", host),
        ("Encryption", "TLS" if tls else "SSL"),
        ("SMTP Port", str(port)),
        ("Auto TLS", _("on")),
        ("Authentication", _("on")),
        ("SMTP Username", user),
        ("SMTP Password", password),
    )


def mail_program(host: str, port: int, tls: bool, user: str, password: str) -> tuple[tuple[str, str], ...]:
    return (
        (_("Server name"), host),
        (_("Port"), str(port)),
        (_("Connection security"), "STARTTLS" if tls else "SSL/TLS"),
        (_("Authentication method"), _("normal password")),
        (_("User name"), user),
        (_("Password"), password),
    )


def phpmailer(host: str, port: int, tls: bool, user: str, password: str, sender: str) -> str:
    return "\n".join([
        "$mail->isSMTP();",
        f"$mail->Host = {_php(host)};",
        f"$mail->Port = {port};",
        f"$mail->SMTPSecure = '{'tls' if tls else 'ssl'}';",
        "$mail->SMTPAuth = true;",
        f"$mail->Username = {_php(user)};",
        f"$mail->Password = {_php(password)};",
        f"$mail->setFrom({_php(sender)});",
        "$mail->CharSet = 'UTF-8';",
    ])  # fmt: skip


def curl_smtp(host: str, port: int, tls: bool, user: str, password: str, sender: str) -> str:
    url, secured = (f"smtp://{host}:{port}", " --ssl-reqd") if tls else (f"smtps://{host}:{port}", "")
    mail = f"From: {sender}\\nTo: {YOU}\\nSubject: Test\\n\\nHello\\n"
    return (
        f"printf {shlex.quote(mail)} | curl{secured} --crlf --url {url} --user {shlex.quote(f'{user}:{password}')}"
        f" --mail-from {shlex.quote(sender)} --mail-rcpt {YOU} --upload-file -"
    )


def client(url: str, key: str, sender: str) -> str:
    return "\n".join([
        "# pip install mailhub-client",
        'EMAIL_BACKEND = "mailhub_client.EmailBackend"',
        f'MAILHUB_URL = "{url}"',
        f'MAILHUB_API_KEY = "{key}"',
        f'DEFAULT_FROM_EMAIL = "{sender}"',
    ])  # fmt: skip


def curl(url: str, key: str, sender: str) -> str:
    return asked(url, key, "messages", {"from": sender, "to": [YOU], "subject": "Test", "text": "Hello"})

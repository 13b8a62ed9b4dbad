"""Settings for programs that hand mail in by SMTP, ready to be pasted. docs/submission.md tells where they go."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.utils.translation import gettext as _

# Where a value is to be filled in.
BLANK = "…"


@dataclass(frozen=True, slots=True)
class Access:
    """How one credential gets in."""

    #: "" where there is none yet
    user: str
    #: "" once it has been shown
    password: str
    #: the From address; "" where the project has none that is confirmed
    sender: str

    @property
    def host(self) -> str:
        return settings.MAILHUB_SMTPD_NAME

    @property
    def ports(self) -> list[tuple[int, str]]:
        """Each with its security, the one to prefer first."""
        found = [(settings.MAILHUB_SMTPD_PORT, "STARTTLS"), (settings.MAILHUB_SMTPD_TLS_PORT, "SSL/TLS")]
        return [(port, security) for port, security in found if port]

    @property
    def blocks(self) -> list[tuple[str, str, str]]:
        """Name of the program, where it goes, and what."""
        if not self.ports:
            return []
        port, security = self.ports[0]
        tls = security == "STARTTLS"
        user, password, sender = self.user or BLANK, self.password or BLANK, self.sender or BLANK
        host = self.host
        return [
            ("WordPress", _("WP Mail SMTP, in wp-config.php"), wordpress(host, port, tls, user, password, sender)),
            ("Django", "settings.py", django(host, port, tls, user, password, sender)),
            ("Laravel", ".env", laravel(host, port, tls, user, password, sender)),
            ("Rails", "config/environments/production.rb", rails(host, port, tls, user, password)),
            ("nodemailer", "JavaScript", nodemailer(host, port, tls, user, password)),
            ("Postfix", "/etc/postfix/main.cf", postfix(host, port, tls, user, password)),
            ("swaks", _("a test from the command line"), swaks(host, port, tls, user, password, sender)),
        ]


def wordpress(host: str, port: int, tls: bool, user: str, password: str, sender: str) -> str:
    values: list[tuple[str, str | int | bool]] = [
        ("WPMS_ON", True),
        ("WPMS_MAILER", "smtp"),
        ("WPMS_MAIL_FROM", sender),
        ("WPMS_MAIL_FROM_FORCE", True),
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


def swaks(host: str, port: int, tls: bool, user: str, password: str, sender: str) -> str:
    return (
        f"swaks --server {host} --port {port} {'--tls' if tls else '--tlsc'} --tls-verify --auth PLAIN --auth-user {user}"
        f" --auth-password {password} --from {sender} --to you@example.com"
    )

"""What is misconfigured, told by `manage.py check` before a mail is lost."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from anymail.exceptions import AnymailConfigurationError
from anymail.utils import get_anymail_setting
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning

from mailhub_client import webhooks


def setting(name: str) -> Any:
    return get_anymail_setting(name, esp_name="MailHub", allow_bare=True, default=None)


def check(**_kwargs: Any) -> list[CheckMessage]:
    found = [message for options in mailers() for message in _sending(options)]
    if secrets := setting("webhook_secret"):
        found += _secrets([secrets] if isinstance(secrets, str) else secrets)
    if setting("outbox") and not apps.is_installed("mailhub_client"):
        found.append(Error("MAILHUB_OUTBOX needs a table.", hint='Add "mailhub_client" to INSTALLED_APPS and migrate.', id="mailhub.E004"))
    return found


def mailers() -> list[dict[str, Any]]:
    """The options of each use of our backend. Django 6.1 names its mailers; before there is one, without options."""
    named = getattr(settings, "MAILERS", None) or {"default": {"BACKEND": getattr(settings, "EMAIL_BACKEND", "")}}
    return [mailer.get("OPTIONS", {}) for mailer in named.values() if mailer.get("BACKEND", "").startswith("mailhub_client.")]


def _sending(options: dict[str, Any]) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    url, key = (options.get(name) or setting(name) or "" for name in ("url", "api_key"))
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        hint = "Give MailHub's address, such as https://mailhub.example.com."
        found.append(Error("MAILHUB_URL is missing, or no URL.", hint=hint, id="mailhub.E001"))
    elif parts.scheme == "http" and not settings.DEBUG:
        hint = "Anybody on the way reads the key and the mails: begin it with https://."
        found.append(Warning("MAILHUB_URL is not encrypted.", hint=hint, id="mailhub.W001"))
    if parts.path.rstrip("/").endswith("/api/v1"):
        found.append(Error("MAILHUB_URL leads too far.", hint="Leave out /api/v1.", id="mailhub.E001"))
    if not key.startswith("mh_"):
        hint = "Issue an API key on the project's page in MailHub; it begins with mh_."
        found.append(Error("MAILHUB_API_KEY is missing, or no API key.", hint=hint, id="mailhub.E002"))
    if settings.DEFAULT_FROM_EMAIL == "webmaster@localhost":
        hint = "Set it to one of the project's senders in MailHub: mail from any other is refused."
        found.append(Warning("DEFAULT_FROM_EMAIL is Django's own.", hint=hint, id="mailhub.W002"))
    return found


def _secrets(secrets: Any) -> list[CheckMessage]:
    try:
        for secret in secrets:
            webhooks.key(secret)
    except AnymailConfigurationError as error:
        return [Error(str(error), hint="Copy it once more from the webhook's page.", id="mailhub.E003")]
    return []

"""Every kind of relay, by the name that Relay.kind holds. A provider is loaded when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from mailhub.relays.base import Provider

REGISTRY = {
    "smtp": "mailhub.relays.providers.smtp.SMTP",
    "mx": "mailhub.relays.providers.mx.MX",
    "amazon_ses": "mailhub.relays.providers.esp.Amazon",
    "brevo": "mailhub.relays.providers.esp.Brevo",
    "mailersend": "mailhub.relays.providers.esp.MailerSend",
    "mailgun": "mailhub.relays.providers.esp.Mailgun",
    "mailjet": "mailhub.relays.providers.esp.Mailjet",
    "mailtrap": "mailhub.relays.providers.esp.Mailtrap",
    "mandrill": "mailhub.relays.providers.esp.Mandrill",
    "postal": "mailhub.relays.providers.esp.Postal",
    "postmark": "mailhub.relays.providers.esp.Postmark",
    "resend": "mailhub.relays.providers.esp.Resend",
    "scaleway": "mailhub.relays.providers.esp.Scaleway",
    "sendgrid": "mailhub.relays.providers.esp.SendGrid",
    "sparkpost": "mailhub.relays.providers.esp.SparkPost",
    "unisender_go": "mailhub.relays.providers.esp.UnisenderGo",
    "inbox": "mailhub.relays.providers.inbox.Inbox",
    "memory": "mailhub.relays.providers.memory.Memory",
}


def load(kind: str) -> type[Provider]:
    provider: type[Provider] = import_string(REGISTRY[kind])
    return provider


def choices() -> list[tuple[str, str]]:
    return [(kind, load(kind).label) for kind in REGISTRY]

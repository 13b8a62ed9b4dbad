"""Every kind of relay, by the name that Relay.kind holds. A provider is loaded when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from mailhub.relays.base import Provider

REGISTRY = {
    "smtp": "mailhub.relays.providers.smtp.SMTP",
    "mx": "mailhub.relays.providers.mx.MX",
    "inbox": "mailhub.relays.providers.inbox.Inbox",
    "memory": "mailhub.relays.providers.memory.Memory",
}


def load(kind: str) -> type[Provider]:
    provider: type[Provider] = import_string(REGISTRY[kind])
    return provider


def choices() -> list[tuple[str, str]]:
    return [(kind, load(kind).label) for kind in REGISTRY]

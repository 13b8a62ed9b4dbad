"""Wrong combinations of settings, told before they cost a mail."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured

HOW_TO_MAKE = {
    "SECRET_KEY": 'python -c "import secrets; print(secrets.token_urlsafe(50))"',
    "MAILHUB_ENCRYPTION_KEYS": 'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"',
}

# Worker processes a queue that SQLite's one writer at a time bears without much waiting.
CROWD = 4


@register(Tags.security)
def secrets_are_set(**kwargs: Any) -> list[CheckMessage]:
    return [
        Error(
            f"{name} is not set.",
            hint=f"Put {name}=... into the environment or into .env. This prints a good one: {HOW_TO_MAKE[name]}",
            id="mailhub.E001",
        )
        for name in settings.MISSING_SECRETS
    ]


@register(Tags.security)
def encryption_keys_are_keys(**kwargs: Any) -> Iterator[CheckMessage]:
    if "MAILHUB_ENCRYPTION_KEYS" in settings.MISSING_SECRETS:
        return
    for place, key in enumerate(settings.MAILHUB_ENCRYPTION_KEYS, 1):
        try:
            Fernet(key)
        except ValueError:
            yield Error(
                f"Key {place} of MAILHUB_ENCRYPTION_KEYS is not a Fernet key.",
                hint=f"It must be 32 bytes in base64url, as this prints: {HOW_TO_MAKE['MAILHUB_ENCRYPTION_KEYS']}",
                id="mailhub.E002",
            )


@register(Tags.security)
def secrets_differ(**kwargs: Any) -> list[CheckMessage]:
    signing = {settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS}
    if signing.isdisjoint(settings.MAILHUB_ENCRYPTION_KEYS):
        return []
    return [
        Error(
            "SECRET_KEY and MAILHUB_ENCRYPTION_KEYS hold the same key.",
            hint=f"Whoever learns one must not have both. Make another: {HOW_TO_MAKE['SECRET_KEY']}",
            id="mailhub.E003",
        )
    ]


@register()
def tasks_are_not_started_twice(**kwargs: Any) -> Iterator[CheckMessage]:
    """A task's lock runs from when the pusher takes it, and it may have to wait for all that the pusher took before it."""
    base = settings.Q_CLUSTER
    for queue, changes in {base["name"]: {}, **base["ALT_CLUSTERS"]}.items():
        cluster = {**base, **changes}
        rounds = 1 + math.ceil((cluster["queue_limit"] + cluster["bulk"]) / cluster["workers"])
        if cluster["retry"] <= cluster["timeout"] * rounds:
            yield Error(
                f"Q_CLUSTER: queue {queue} would start a task again that still waits or works.",
                hint=f"retry ({cluster['retry']}) must be over timeout x (1 + ceil((queue_limit + bulk) / workers)) "
                f"= {cluster['timeout'] * rounds}.",
                id="mailhub.E004",
            )


@register(Tags.database)
def connections_are_not_pooled(**kwargs: Any) -> list[CheckMessage]:
    return [
        Error(
            f"Database {alias} uses psycopg's pool.",
            hint="django-q2 forks, and forks that share a pool mix up each other's replies. Take `pool` out of DATABASE_URL.",
            id="mailhub.E005",
        )
        for alias, config in settings.DATABASES.items()
        if config.get("OPTIONS", {}).get("pool")
    ]


@register(Tags.security)
def credentials_belong_to_relays(**kwargs: Any) -> list[CheckMessage]:
    if not getattr(settings, "ANYMAIL", {}):
        return []
    return [
        Error(
            "ANYMAIL is set.",
            hint="A relay that lacks a credential would silently send with these. Keep credentials with their relay.",
            id="mailhub.E006",
        )
    ]


@register(Tags.security, deploy=True)
def links_are_https(**kwargs: Any) -> list[CheckMessage]:
    if settings.PUBLIC_HTTPS:
        return []
    return [
        Warning(
            f"MAILHUB_PUBLIC_URL is {settings.MAILHUB_PUBLIC_URL}: recipients' unsubscribe links are not https.",
            hint="One-click unsubscribing (RFC 8058) needs https, and so do the admin's cookies.",
            id="mailhub.W001",
        )
    ]


@register(Tags.security, deploy=True)
def hosts_are_named(**kwargs: Any) -> list[CheckMessage]:
    if "*" not in settings.ALLOWED_HOSTS:
        return []
    return [
        Warning(
            "ALLOWED_HOSTS lets any host name in.",
            hint="Name those under which the admin and the public pages answer; links in mails to staff carry the name that was asked for.",
            id="mailhub.W002",
        )
    ]


@register(Tags.database, deploy=True)
def sqlite_is_not_crowded(**kwargs: Any) -> list[CheckMessage]:
    if settings.DATABASES["default"]["ENGINE"] != "django.db.backends.sqlite3" or settings.MAILHUB_WORKERS <= CROWD:
        return []
    return [
        Warning(
            f"MAILHUB_WORKERS is {settings.MAILHUB_WORKERS} on SQLite, which lets one of them write at a time.",
            hint="Use PostgreSQL (DATABASE_URL=postgres://...), or fewer workers.",
            id="mailhub.W003",
        )
    ]


def refuse_to_serve() -> None:
    """Raises ImproperlyConfigured when a secret is missing or no key: nothing that is signed or encrypted would outlive this process."""
    errors = [*secrets_are_set(), *encryption_keys_are_keys()]
    if errors:
        raise ImproperlyConfigured("\n".join(f"{error.msg} {error.hint}" for error in errors))

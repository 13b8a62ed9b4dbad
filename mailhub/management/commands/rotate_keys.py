from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.apps import apps
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.db.models import Model, TextField, Value
from django.db.models.functions import Cast

from mailhub.lib import fields

# Rows that are locked and written in one transaction.
CHUNK = 500
# Rows that no key opens are named, so many at most.
NAMED = 20


class Command(BaseCommand):
    help = (
        "Encrypts every secret with the first of MAILHUB_ENCRYPTION_KEYS: put the new key before the old ones, restart everything, run"
        " this, then take the old ones away."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Safe to run twice and to interrupt: what is done stays done."""
        locked: list[str] = []
        for model, column in encrypted():
            count: Counter[str] = Counter()
            for pk, found in rotated(model, column):
                count[found] += 1
                if found == "locked":
                    locked.append(f"{model._meta.label} {pk}, {column}")
            self.stdout.write(
                f"{model._meta.label}.{column}: {count.total()} rows, {count['old']} encrypted anew, {count['first']} had the first key"
            )
        if locked:
            more = f" and {len(locked) - NAMED} more" if len(locked) > NAMED else ""
            raise CommandError(
                f"No key opens {len(locked)} of them, which stay as they are: {'; '.join(locked[:NAMED])}{more}. "
                "Add the key that they were saved with to MAILHUB_ENCRYPTION_KEYS, or enter these secrets again."
            )


def encrypted() -> Iterator[tuple[type[Model], str]]:
    """Every column of every table that holds ciphertext."""
    for model in apps.get_models(include_auto_created=True):
        if model._meta.managed and not model._meta.proxy:
            for field in model._meta.local_concrete_fields:
                if isinstance(field, fields.EncryptedJSONField):
                    yield model, field.name


def rotated(model: type[Model], column: str) -> Iterator[tuple[Any, str]]:
    """Each row's key, and what its secret was encrypted with: "first", "old" (and is no more), or "locked", which no key opens."""
    cipher, first = fields.cipher(), Fernet(settings.MAILHUB_ENCRYPTION_KEYS[0])
    # As it stands in the table: the field itself would open it.
    rows = model._base_manager.annotate(ciphertext=Cast(column, TextField())).filter(ciphertext__isnull=False).order_by("pk")
    last: Any = None
    while True:
        with transaction.atomic():
            found = []
            after = rows if last is None else rows.filter(pk__gt=last)
            for last, token in after.select_for_update().values_list("pk", "ciphertext")[:CHUNK]:
                state, fresh = turned(cipher, first, token)
                if state == "old":
                    model._base_manager.filter(pk=last).update(**{column: Value(fresh, TextField())})
                found.append((last, state))
        yield from found
        if len(found) < CHUNK:
            return


def turned(cipher: MultiFernet, first: Fernet, token: str) -> tuple[str, str]:
    """What `token` was encrypted with, and the token that takes its place."""
    try:
        first.decrypt(token)
        return "first", token
    except InvalidToken:
        pass
    try:
        return "old", cipher.rotate(token.encode()).decode()
    except InvalidToken:
        return "locked", token

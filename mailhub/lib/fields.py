from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models


def cipher() -> MultiFernet:
    """Encrypts with the first of MAILHUB_ENCRYPTION_KEYS, decrypts with any."""
    return MultiFernet([Fernet(key) for key in settings.MAILHUB_ENCRYPTION_KEYS])


class KeysField(models.TextField[Any, Any]):
    """A set of keys of rows, which few statements write and none looks into."""

    def get_prep_value(self, value: Collection[int]) -> str:
        return joined(value)

    def from_db_value(self, value: str, *args: Any) -> set[int]:
        return set(map(int, value.split(","))) if value else set()

    def to_python(self, value: Any) -> Any:
        return value

    def value_to_string(self, obj: models.Model) -> str:
        return joined(self.value_from_object(obj))


def joined(keys: Collection[int]) -> str:
    """As a KeysField stores them. Another thread may change a set meanwhile: sorted() copies it first, in one step."""
    return ",".join(map(str, sorted(keys)))


class EncryptedJSONField(models.TextField[Any, Any]):
    """A JSON value that the database holds only as ciphertext (Fernet: AES-128-CBC with HMAC-SHA256).

    A value that none of the keys opens raises ImproperlyConfigured; it is never passed on as if it were the secret."""

    def get_prep_value(self, value: Any) -> str | None:
        return None if value is None else cipher().encrypt(json.dumps(value).encode()).decode()

    def from_db_value(self, value: str | None, *args: Any) -> Any:
        if value is None:
            return None
        try:
            return json.loads(cipher().decrypt(value.encode()))
        except InvalidToken:
            raise ImproperlyConfigured(
                f"None of MAILHUB_ENCRYPTION_KEYS opens {self.model._meta.label}.{self.name}: add the key it was saved with."
            ) from None

    def to_python(self, value: Any) -> Any:
        return value

    def value_to_string(self, obj: models.Model) -> str:
        """Fixtures and exports hold ciphertext too."""
        return self.get_prep_value(self.value_from_object(obj)) or ""

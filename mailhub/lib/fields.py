from __future__ import annotations

import json
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models


def cipher() -> MultiFernet:
    """Encrypts with the first of MAILHUB_ENCRYPTION_KEYS, decrypts with any."""
    return MultiFernet([Fernet(key) for key in settings.MAILHUB_ENCRYPTION_KEYS])


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

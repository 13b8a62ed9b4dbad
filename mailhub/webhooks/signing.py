"""How our webhooks are signed: mailhub/lib/signing.py, by which callbacks of others are verified, too."""

from __future__ import annotations

from mailhub.lib.signing import (
    ID,
    LONGEST,
    PREFIX,
    SHORTEST,
    SIGNATURE,
    SIZE,
    TIMESTAMP,
    TOLERANCE,
    BadSecret,
    BadSignature,
    headers,
    key,
    new_secret,
    signature,
    verify,
)

__all__ = [
    "ID", "LONGEST", "PREFIX", "SHORTEST", "SIGNATURE", "SIZE", "TIMESTAMP", "TOLERANCE", "BadSecret", "BadSignature", "headers", "key",
    "new_secret", "signature", "verify",
]  # fmt: skip

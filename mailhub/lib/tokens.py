"""Public links carry what they need, signed for one purpose (HMAC-SHA256). Keys in SECRET_KEY_FALLBACKS still verify."""

from __future__ import annotations

from django.core import signing


class BadToken(Exception):
    """This link is not one of ours, or it was damaged on its way."""


def sign(purpose: str, payload: str) -> str:
    return signing.Signer(salt=f"mailhub.{purpose}", sep="~").sign(payload)


def read(purpose: str, token: str) -> str:
    """The payload of a token made for `purpose`. Raises BadToken."""
    try:
        return signing.Signer(salt=f"mailhub.{purpose}", sep="~").unsign(token)
    except signing.BadSignature as error:
        raise BadToken from error

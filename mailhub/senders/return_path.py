"""Return paths that tell whose mail came back (VERP): one address a message, which nobody else can make.

`bounces+<token>@bounce.example.com`: the message's public id and an HMAC of it, in letters and digits that survive servers which write
addresses in lower case. 52 characters, so that 11 are left for the name before it (RFC 5321 section 4.5.3.1.1).
"""

from __future__ import annotations

import re
from uuid import UUID

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from mailhub.lib import addresses, tokens

# Of the token.
LENGTH = 52
LONGEST_NAME = 64 - LENGTH - 1
# Some servers know other delimiters than the plus sign, or write it as one.
TOKEN = re.compile(rf"[+=.\-]([a-z2-7]{{{LENGTH}}})\Z")
MESSAGE = "return-path"
PROBE = "return-path-probe"
# Not a return path, but where who wants no more writes to: it comes to the same place.
UNSUBSCRIBE = "unsubscribe-by-mail"


def token(public_id: UUID, purpose: str = MESSAGE) -> str:
    return tokens.short(purpose, public_id.bytes)


def make(bounce_address: str, public_id: UUID, purpose: str = MESSAGE) -> str:
    """The return path of one message, below the address that all bounces come to."""
    name, _at, domain = bounce_address.rpartition("@")
    return f"{name}+{token(public_id, purpose)}@{domain}"


def found(address: str) -> str:
    """What stands where a token would, or ""."""
    match = TOKEN.search(address.strip().strip("<>").rpartition("@")[0].lower())
    return match[1] if match else ""


def read(text: str, purpose: str = MESSAGE) -> UUID:
    """The public id that a token was made for. Raises tokens.BadToken."""
    return UUID(bytes=tokens.read_short(purpose, text))


def check(bounce_address: str) -> str:
    """The address, normalised, if return paths can be made of it. Raises ValidationError."""
    address = addresses.normalise(bounce_address)
    name = address.rpartition("@")[0]
    if not name.isascii() or len(name) > LONGEST_NAME:
        raise ValidationError(
            _("Choose a name of at most %(most)s characters before the @: each mail's own token is added to it."),
            params={"most": LONGEST_NAME},
        )
    return address

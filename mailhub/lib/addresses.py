"""Mail addresses (RFC 5321 section 4.1.2, RFC 6531): read, normalised, compared."""

from __future__ import annotations

import re
from functools import lru_cache

from django.core.exceptions import ValidationError
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from email_validator import EmailNotValidError, ValidatedEmail, validate_email

# Japanese carriers gave out addresses with dots that RFC 5321 forbids until 2009; they still receive, quoted on the wire.
CARRIERS = frozenset({"docomo.ne.jp", "ezweb.ne.jp", "au.com", "softbank.ne.jp", "i.softbank.jp"})
# What stands before most @: nothing that is quoted, normalised or measured otherwise (RFC 5321 section 4.5.3.1).
COMMON_LOCAL = re.compile(r"(?=.{1,64}\Z)[A-Za-z0-9_+=-]+(?:\.[A-Za-z0-9_+=-]+)*")
LONGEST = 254
CARRIER_LOCAL = re.compile(r"[a-z0-9._/?+-]{1,64}", re.IGNORECASE)


@lru_cache(maxsize=10_000)
def normalise(text: str) -> str:
    """The address with its domain in lower case as A-labels, the form that goes into envelopes. The local part keeps its case,
    which some receivers' tokens need. Raises ValidationError that names what is wrong."""
    text = text.strip()
    local, _at, domain = text.rpartition("@")
    bare = local.removeprefix('"').removesuffix('"')
    if domain.lower() in CARRIERS and CARRIER_LOCAL.fullmatch(bare):
        return f"{bare}@{domain.lower()}"
    try:
        if COMMON_LOCAL.fullmatch(local) and len(found := f"{local}@{_host(domain)}") <= LONGEST:
            return found
        parsed = _parsed(text)
    except EmailNotValidError as error:
        # The library says what is wrong in English alone.
        told = get_language() in ("en", None)
        words = _("“%(address)s” is not a mail address: %(problem)s") if told else _("“%(address)s” is not a mail address.")
        raise ValidationError(words, code="invalid_address", params={"address": text[:320], "problem": error}) from None
    return f"{parsed.local_part}@{parsed.ascii_domain.lower()}"


@lru_cache(maxsize=10_000)
def _host(domain: str) -> str:
    """Many addresses share it: 1 us for an address in place of 18. Raises EmailNotValidError."""
    return _parsed(f"a@{domain}").ascii_domain.lower()


def _parsed(text: str) -> ValidatedEmail:
    # Syntax only: an organisation's own hosts may have names that the world does not know.
    return validate_email(text, check_deliverability=False, globally_deliverable=False)


def key(address: str) -> str:
    """What two spellings of one normalised address have in common: contacts and suppressions are kept under it."""
    return address.lower()


def domain(address: str) -> str:
    return address.rpartition("@")[2]


def on_the_wire(address: str) -> str:
    """The form that goes between < and > in an SMTP envelope or a header: a local part that is no dot-string is quoted."""
    local, _at, host = address.rpartition("@")
    if local.startswith(".") or local.endswith(".") or ".." in local:
        return f'"{local}"@{host}'
    return address

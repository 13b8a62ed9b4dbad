"""Replies made alike: the same text for what differs in nothing but addresses, hosts, numbers and names."""

from __future__ import annotations

import re
import unicodedata

from mailhub.lib.replies import words

LONGEST = 300
CODES = re.compile(r"(?:[245]\d\d[ -]*)?(?:#?[245]\.\d{1,3}\.\d{1,3}(?![\d.]))?")
# Queue numbers and the like: letters and digits in one word, or long hexadecimal ones.
NUMBERED = re.compile(r"(?<![\w\[])(?=[\w=+/.:~-]*\d)(?=[\w=+/.:~-]*[A-Za-z])[\w=+/.:~-]{6,}")
DIGITS = re.compile(r"\d+")
HOST = re.compile(words.HOST.pattern, re.IGNORECASE)
LINK = re.compile(words.LINK.pattern, re.IGNORECASE)
SPACE = re.compile(r"\s+")


def alike(text: str, address: str = "") -> str:
    """`address`: whom it was about; their name may stand there without a domain."""
    text = SPACE.sub(" ", unicodedata.normalize("NFKC", text[:500])).strip()
    text = without_places(text)
    name = address.rpartition("@")[0]
    if len(name) > 2:
        text = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w.])", "[name]", text, flags=re.IGNORECASE)
    codes = CODES.match(text)
    start = codes.end() if codes else 0
    rest = DIGITS.sub("#", NUMBERED.sub("[id]", text[start:]))
    return (text[:start] + rest)[:LONGEST].strip()


def without_places(text: str) -> str:
    text = LINK.sub("[link]", words.ADDRESS.sub("[address]", text))
    return HOST.sub("[host]", words.NUMBERS.sub("[IP]", text))

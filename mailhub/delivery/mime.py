"""Header fields and bodies as RFC 5322, 2045 and 2047 want them, made for speed: the mails of a campaign differ in few fields.

Text in, text out; what is joined is encoded once at the end. Nothing but an internationalised address (RFC 6532) is ever outside of
ASCII."""

from __future__ import annotations

import binascii
import re
from base64 import b64encode
from collections.abc import Sequence

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from mailhub.lib import addresses
from mailhub.lib.headers import one_line

# Columns: RFC 5322 section 2.1.1 wants 78 and demands 998, RFC 2047 section 2 demands 76 for lines with encoded-words.
WANTED, DEMANDED, ENCODED = 78, 998, 76
NAME = re.compile(r"[!-9;-~]{1,76}")
PLAIN = re.compile(r"[\x20-\x7e]*")
# RFC 5322 section 3.2.3: words that may stand before an address unquoted.
PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
ANGLED = re.compile(r"(.*?)\s*(<[^<>]*>)")
# "=?utf-8?b?" and "?="
OVERHEAD = 12


def field(name: str, value: str) -> str:
    """An unstructured field (Subject): encoded where it is not plain, folded. Raises ValidationError."""
    one_line(value)
    value = value.strip()
    if PLAIN.fullmatch(value) and "=?" not in value and "  " not in value:
        folded = _folded(f"{name}: {value}")
        if all(len(line) <= WANTED for line in folded):
            return "\r\n".join(folded) + "\r\n"
    return f"{name}: {_encoded_words(value, len(name) + 2)}\r\n"


def given(name: str, value: str) -> str:
    """A field whose syntax is the caller's business: ASCII goes as it is, folded at spaces. Raises ValidationError."""
    if not NAME.fullmatch(name):
        raise ValidationError(_("“%(name)s” is not the name of a header field.") % {"name": name[:76]})
    one_line(value)
    value = value.strip()
    if not value.isascii():
        # As in List-Id: words for people, and something for machines that must stay readable.
        angled = ANGLED.fullmatch(value)
        if not angled or not angled[2].isascii():
            return f"{name}: {_encoded_words(value, len(name) + 2)}\r\n"
        return f"{name}: {_encoded_words(angled[1], len(name) + 2)}\r\n {angled[2]}\r\n"
    folded = _folded(f"{name}: {value}")
    if any(len(line) > DEMANDED for line in folded):
        raise ValidationError(_("The header field “%(name)s” is too long.") % {"name": name})
    return "\r\n".join(folded) + "\r\n"


def mailbox(name: str, display_name: str, address: str) -> str:
    """A field with one address, such as From or To. Raises ValidationError."""
    return mailboxes(name, [(display_name, address)])


def mailboxes(name: str, people: Sequence[tuple[str, str]]) -> str:
    """A field with (display name, address) for each person, one a line. Raises ValidationError."""
    return f"{name}: " + ",\r\n ".join(_mailbox(*person, len(name) + 2) for person in people) + "\r\n"


def _mailbox(display_name: str, address: str, start: int) -> str:
    """RFC 5322 section 3.4 `mailbox`, on a line that begins at column `start`."""
    one_line(display_name)
    one_line(address)
    address = addresses.on_the_wire(address)
    words = _phrase(" ".join(display_name.split()), start)
    if not words:
        return address
    last = len(words) + start if "\n" not in words else len(words) - words.rindex("\n") - 1
    # Room for the space, the angle brackets and a comma.
    return f"{words} <{address}>" if last + len(address) + 4 <= ENCODED else f"{words}\r\n <{address}>"


def _phrase(text: str, start: int) -> str:
    """RFC 5322 section 3.2.5 `phrase`: words, a quoted string, or encoded-words (never one inside the other)."""
    if "=?" not in text and len(text) + start <= WANTED:
        if not text or PHRASE.fullmatch(text):
            return text
        if PLAIN.fullmatch(text):
            return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return _encoded_words(text, start)


def _folded(line: str) -> list[str]:
    """`line` broken before spaces, at 78 columns where it has them (RFC 5322 section 2.2.3)."""
    lines: list[str] = []
    while len(line) > WANTED:
        # Not the space after the colon: a first line without a value trips some receivers.
        at = line.rfind(" ", line.find(": ") + 2 if not lines else 1, WANTED + 1)
        if at < 1:
            at = line.find(" ", WANTED)
        if at < 1 or not line[at:].strip() or not line[:at].strip():
            break
        lines.append(line[:at])
        line = line[at:]
    return [*lines, line]


def _encoded_words(text: str, start: int) -> str:
    """RFC 2047 encoded-words, one a line, none splitting a character; the first line begins at column `start`."""
    words = []
    room = max((ENCODED - start - OVERHEAD) // 4 * 3, 6)
    chunk = b""
    for character in text:
        encoded = character.encode()
        if len(chunk) + len(encoded) > room:
            words.append(chunk)
            chunk, room = b"", (ENCODED - 1 - OVERHEAD) // 4 * 3
        chunk += encoded
    words.append(chunk)
    return "\r\n ".join(f"=?utf-8?b?{b64encode(word).decode()}?=" for word in words)


# ------------------------------------------------------------------------------------------------------------------- bodies


def transfer_encoding(sample: str) -> str:
    """What suits text like `sample`: base64 where QP would be longer, as with Japanese."""
    plain = len(sample.encode("ascii", "ignore"))
    beyond = len(sample.encode(errors="replace")) - plain
    # plain + 3 beyond > 4/3 (plain + beyond)
    return "base64" if beyond * 5 > plain else "quoted-printable"


def body(text: str, encoding: str) -> bytes:
    """`text` in lines of at most 76 ASCII characters, the last one ended by CRLF."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.endswith("\n"):
        text += "\n"
    return encoded(text.replace("\n", "\r\n").encode(), encoding)


def encoded(octets: bytes, encoding: str) -> bytes:
    """`octets` in lines of at most 76 ASCII characters, none of which begins with a dot. Quoted-printable is for text alone, with CRLF line
    ends."""
    if encoding == "quoted-printable":
        quoted = binascii.b2a_qp(octets)
        return _dotless(quoted) if quoted.startswith(b".") or b"\n." in quoted else quoted
    line = binascii.b2a_base64(octets, newline=False)
    return b"\r\n".join([line[at : at + 76] for at in range(0, len(line), 76)]) + b"\r\n"


def _dotless(quoted: bytes) -> bytes:
    """Quoted-printable in which no line begins with a dot: SMTP would double it, and some servers forget to halve it again (RFC 5321
    section 4.5.2)."""
    lines = []
    for line in quoted.split(b"\r\n"):
        while line.startswith(b"."):
            line = b"=2E" + line[1:]
            if len(line) > ENCODED:
                # Not within an escape, and with room for the mark of a soft break.
                at = ENCODED - 1 - next((by for by in (1, 2) if line[ENCODED - 1 - by :].startswith(b"=")), 0)
                lines.append(line[:at] + b"=")
                line = line[at:]
        lines.append(line)
    return b"\r\n".join(lines)

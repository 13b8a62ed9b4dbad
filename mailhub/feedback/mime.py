"""The structure of a mail as it came, however broken: read within bounds, never raising.

Not the standard library's parser: a bounce is often cut off in the midst of a part, names a boundary that never comes, or forgets the
empty line after its header, and what it says is still wanted.
"""

from __future__ import annotations

import base64
import binascii
import html
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from mailhub.feedback import charsets

# A report stands before what it returns: the rest of a large mail is not needed.
MOST_BYTES = 2_000_000
MOST_PARTS = 60
DEEPEST = 8
MOST_HEADERS = 500
LONGEST_VALUE = 8_000
MOST_TEXT = 100_000

FIELD = re.compile(rb"([!-9;-~]{1,76})[ \t]{0,8}:(?!//)")
PARAMETER = re.compile(r""";\s*([\w*.-]{1,40})\s*=\s*("(?:[^"\\]|\\.){0,300}"|[^\s;]{1,300})""")
ENCODED_WORD = re.compile(r"=\?([\w.-]{1,40})(?:\*[\w-]{0,20})?\?([bqBQ])\?([^?]{0,2000})\?=(?:\s+(?==\?))?")
# A boundary nobody announced: a line of its own, and a part's header after it.
UNANNOUNCED = re.compile(rb"^--(-{0,40}[^\s-][^\n]{0,120}?)[ \t]*\n(?=Content-[A-Za-z-]{1,40}:)", re.MULTILINE | re.IGNORECASE)
NOT_SHOWN = (("<style", "</style>"), ("<script", "</script>"), ("<title", "</title>"), ("<!--", "-->"))
BREAKS = re.compile(r"<(?:br|/?p|/?div|/?tr|/?h\d|/?li|/?table|/?ul|/?td)\b[^<>]{0,2000}>", re.IGNORECASE)
# Not an address in angle brackets.
TAG = re.compile(r"</?[a-zA-Z!](?![^\s<>]{0,200}@[^\s<>=]{0,200}>)[^<>]{0,5000}>")
# Containers whose text is not the sender's own words but another mail.
RETURNED = frozenset(
    {"message/rfc822", "text/rfc822-headers", "message/rfc822-headers", "message/global", "message/global-headers", "text/rfc822"}
)


@dataclass(slots=True)
class Part:
    """A mail, or a part of one."""

    #: in lower case -> values, unfolded, not yet decoded from RFC 2047
    headers: dict[str, list[str]] = field(default_factory=dict)
    #: after the empty line, still encoded
    body: bytes = b""
    #: of a multipart that could be taken apart
    parts: list[Part] = field(default_factory=list)

    def raw(self, name: str) -> str:
        """The first header of that name, as it came."""
        return next(iter(self.headers.get(name, ())), "")

    def header(self, name: str) -> str:
        return words(self.raw(name))

    @property
    def type(self) -> str:
        return self.raw("content-type").partition(";")[0].strip().lower()

    def parameter(self, name: str) -> str:
        for key, value in PARAMETER.findall(";" + self.raw("content-type").partition(";")[2]):
            if key.lower().rstrip("*") == name:
                return str(value.strip('"'))
        return ""

    @property
    def returned(self) -> bool:
        """Another mail, or its header: called so, or laid bare in the place of a part."""
        return self.type in RETURNED or (
            not self.type.startswith("multipart/") and {"received", "message-id", "return-path"} & self.headers.keys() != set()
        )

    @property
    def data(self) -> bytes:
        """The body without its transfer encoding."""
        encoding = self.raw("content-transfer-encoding").strip().lower()
        if encoding.startswith("quoted-printable"):
            return quopri.decodestring(self.body)
        if encoding.startswith("base64"):
            return unbase64(self.body)
        return self.body

    @property
    def text(self) -> str:
        """The body as text; HTML without its tags."""
        text = charsets.decode(self.data[: MOST_TEXT * 2], self.parameter("charset"))[:MOST_TEXT]
        text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
        return without_tags(text) if self.type == "text/html" else text

    def leaves(self) -> Iterator[Part]:
        """Its parts that hold something themselves, in order; what a returned mail holds is not looked into."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()


def read(raw: bytes) -> Part:
    """The mail. LF, CRLF and CR end lines alike; beyond the first MOST_BYTES nothing is read."""
    data = raw[: MOST_BYTES * 2].replace(b"\r\n", b"\n").replace(b"\r", b"\n")[:MOST_BYTES].lstrip(b"\n\t \xef\xbb\xbf")
    if data.startswith((b"From ", b">From ")):
        data = data.partition(b"\n")[2]
    return part(data, DEEPEST, [MOST_PARTS])


def part(data: bytes, depth: int, left: list[int]) -> Part:
    """`left`: how many parts may still be made, shared by all of them."""
    headers, body = split(data)
    made = Part(headers, body)
    if depth > 0 and (made.type.startswith("multipart/") or not made.type or looks_mixed(made)):
        made.parts = [part(piece, depth - 1, left) for piece in pieces(made, left)]
    return made


def looks_mixed(made: Part) -> bool:
    """Called plain text, and still a report in several parts."""
    return (
        made.type == "text/plain"
        and b"\nContent-Type: message/delivery-status" in made.body[:50_000]
        and bool(UNANNOUNCED.search(made.body[:50_000]))
    )


def pieces(made: Part, left: list[int]) -> Iterator[bytes]:
    boundary = made.parameter("boundary").encode("utf-8", "replace").rstrip() if made.type.startswith("multipart/") else b""
    lines = list(islice(marks(boundary, made.body), left[0] + 1)) if boundary else []
    if not lines:
        found = UNANNOUNCED.search(made.body[:200_000])
        if not found or (not made.type and made.headers.keys().isdisjoint({"from", "subject", "to"})):
            return
        boundary = found[1]
        lines = list(islice(marks(boundary, made.body), left[0] + 1))
        # It may be of a mail that is returned in the text, and what comes before is the notice.
        if made.body[: found.start()].strip():
            left[0] -= 1
            yield b"\n" + made.body[: found.start()]
    for place, line in enumerate(lines):
        if line[1] == b"--" or left[0] <= 0:
            return
        left[0] -= 1
        end = lines[place + 1].start() if place + 1 < len(lines) else len(made.body)
        yield made.body[line.end() : end].removeprefix(b"\n")


def marks(boundary: bytes, body: bytes) -> Iterator[re.Match[bytes]]:
    return re.finditer(rb"^--" + re.escape(boundary) + rb"(--)?[ \t]*$", body, re.MULTILINE)


def split(data: bytes) -> tuple[dict[str, list[str]], bytes]:
    """Header and body. A line that can be no header ends it, whether or not an empty one came before."""
    headers: dict[str, list[str]] = {}
    last: list[str] | None = None
    place = count = 0
    while place < len(data):
        end = data.find(b"\n", place)
        end = len(data) if end < 0 else end
        line = data[place:end]
        if not line.strip():
            return headers, data[end + 1 :]
        if line[:1] in b" \t" and last is not None:
            if len(last[-1]) < LONGEST_VALUE:
                last[-1] += " " + charsets.decode(line[:LONGEST_VALUE].strip())
        else:
            found = FIELD.match(line)
            if not found or count >= MOST_HEADERS:
                return headers, data[place:]
            count += 1
            last = headers.setdefault(found[1].decode("ascii").lower(), [])
            last.append(charsets.decode(line[found.end() : found.end() + LONGEST_VALUE].strip()))
        place = end + 1
    return headers, b""


def words(value: str) -> str:
    """A header's value with its encoded words (RFC 2047) decoded."""
    return ENCODED_WORD.sub(word, value) if "=?" in value else value


def word(found: re.Match[str]) -> str:
    data = found[3].encode("utf-8", "replace")
    return charsets.decode(unbase64(data) if found[2] in "bB" else quopri.decodestring(data, header=True), found[1])


def unbase64(data: bytes) -> bytes:
    """As much as can be decoded: characters that do not belong are left out, a cut end is cut off."""
    kept = re.sub(rb"[^A-Za-z0-9+/]", b"", data[:MOST_BYTES])
    try:
        return base64.b64decode(
            kept[: len(kept) // 4 * 4] + (kept[len(kept) // 4 * 4 :] + b"==")[:4] if len(kept) % 4 > 1 else kept[: len(kept) // 4 * 4]
        )
    except (binascii.Error, ValueError):
        return b""


def without_tags(text: str) -> str:
    for opening, closing in NOT_SHOWN:
        text = "".join(shown(text, opening, closing))
    return html.unescape(TAG.sub("", BREAKS.sub("\n", text))).replace("\xa0", " ")


def shown(text: str, opening: str, closing: str) -> Iterator[str]:
    """What stands outside of these tags."""
    lower = text.lower()
    place = 0
    while (start := lower.find(opening, place)) >= 0:
        yield text[place:start]
        end = lower.find(closing, start)
        if end < 0:
            return
        place = end + len(closing)
    yield text[place:]

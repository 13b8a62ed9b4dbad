"""The parts of a mail: a body in its transfer encoding, as it leaves and as DKIM signs it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jinja2

from mailhub.delivery import mime, rendering, tracking
from mailhub.delivery.rendering import Stretch
from mailhub.senders import dkim

# What stands for each token while its line is encoded: as long, and as little changed by it.
STAND_INS = {name: stand_in * tracking.LENGTH for name, stand_in in zip(tracking.TOKEN_OF.values(), "~^", strict=True)}
# One of them, perhaps broken by the end of a line.
STAND_IN = re.compile(rb"([~^])\1*(?:=\r\n\1+)?")

#: a body as it leaves, and in the form that is signed (RFC 6376 section 3.4.4), where lines that are empty may be left at its end
Body = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a part of a token goes."""

    name: str
    start: int
    end: int


class Part:
    """The plain or the HTML text of one content, for any number of recipients.

    Quoted-printable encodes each line by itself, and DKIM takes them one by one, too. So lines that are the same for everybody are worked
    out once, and for each recipient only those in which something is filled in. Where that is a token alone, which is always as long and
    has no character that changes, it is put into the encoded line. Base64 runs across lines, and is made anew."""

    def __init__(self, kind: str, template: jinja2.Template, source: str, encoding: str, *, tracked: bool = False) -> None:
        """`source`: what `template` was compiled from. `tracked`: its tokens are ours, whatever the data say."""
        self.template = template
        self.encoding = encoding
        self.header = f"Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n"
        self.plain = rendering.plain(source, escaped=kind == "html")
        self.by_lines = self.plain is not None and encoding == "quoted-printable"
        #: encoded lines, b"" standing for those that have yet to be; and the same as they are signed
        self.sent: list[bytes] = []
        self.signed: list[bytes] = []
        #: what goes where there is b""
        self.open: list[tuple[int, Slot | Stretch]] = []
        #: characters of which there are as many for everybody
        self.fixed = 0
        if self.plain and self.by_lines:
            for stretch in self.plain.stretches:
                if not stretch.names:
                    text = self.plain.fill(stretch, {})
                    self.fixed += len(text)
                    self._add(mime.body(text, encoding))
                elif tracked and (pieces := self._spliced(self.plain, stretch)):
                    self.fixed += len(stretch.text) + len(stretch.names) * tracking.LENGTH
                    for piece in pieces:
                        self._add(piece)
                else:
                    self._add(stretch)

    def _add(self, piece: bytes | Slot | Stretch) -> None:
        if not isinstance(piece, bytes):
            self.open.append((len(self.sent), piece))
            piece = b""
        self.sent.append(piece)
        self.signed.append(dkim.relaxed_lines(piece))

    @staticmethod
    def _spliced(plain: rendering.Plain, stretch: Stretch) -> list[bytes | Slot]:
        """A stretch in which nothing but tokens is filled in, encoded, in pieces between which they go; empty where it is another."""
        if not STAND_INS.keys() >= set(stretch.names):
            return []
        encoded = mime.body(plain.fill(stretch, STAND_INS), "quoted-printable")
        names = list(stretch.names)
        pieces: list[bytes | Slot] = []
        end = 0
        for found in _stand_ins(encoded):
            if not names:
                return []
            first, _broken, rest = found[0].partition(b"=\r\n")
            name = names.pop(0)
            pieces += [encoded[end : found.start()], Slot(name, 0, len(first))]
            if rest:
                pieces += [b"=\r\n", Slot(name, len(first), tracking.LENGTH)]
            end = found.end()
        return [] if names else [*pieces, encoded[end:]]

    def make(self, data: Mapping[str, Any]) -> Body:
        """Raises whatever a template's mistakes raise."""
        if not self.plain or not self.by_lines:
            text = self.plain.render(data) if self.plain else rendering.render(self.template, data)
            body = mime.body(text, self.encoding)
            return body, body if self.encoding == "base64" else dkim.relaxed_lines(body)
        sent, signed, size = self.sent.copy(), self.signed.copy(), self.fixed
        for place, piece in self.open:
            if isinstance(piece, Slot):
                sent[place] = signed[place] = data[piece.name][piece.start : piece.end].encode()
                continue
            text = self.plain.fill(piece, data)
            size += len(text)
            rendering.check_size(size)
            if text or len(sent) == 1:
                sent[place] = made = mime.body(text, self.encoding)
                signed[place] = dkim.relaxed_lines(made)
        return b"".join(sent), b"".join(signed)


def _stand_ins(encoded: bytes) -> Iterator[re.Match[bytes]]:
    for found in STAND_IN.finditer(encoded):
        if len(found[0].replace(b"=\r\n", b"")) == tracking.LENGTH:
            yield found

"""A mail that came back, made into a sample that tells nobody's name: what mail systems say stays, who it was about does not.

Addresses, names, hosts, IP addresses, numbers of mails and what they held are replaced, the same by the same. Hosts of large services
stay, since what a system says depends on which it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import getaddresses

from mailhub.feedback import addresses, bounces, charsets, marks, mime
from mailhub.feedback.receivers import sums
from mailhub.lib.replies import words

LONGEST = 200_000
# Of a header these are kept, if they are there; the rest says nothing about how a bounce is read.
KEPT = (
    "return-path", "received", "from", "to", "cc", "reply-to", "sender", "subject", "date", "message-id", "in-reply-to", "references",
    "auto-submitted", "precedence", "x-failed-recipients", "x-original-to", "delivered-to", "x-autoreply", "content-type",
    "content-description", "content-disposition", "mime-version", "list-id", "x-mlserver", "x-mailer", "x-mailhub-id", "feedback-type",
)  # fmt: skip
PEOPLE = ("from", "to", "cc", "reply-to", "sender", "x-original-to", "delivered-to", "return-path")
# Words of senders that are no names.
OFFICIAL = frozenset({
    "mail", "mailer", "daemon", "delivery", "system", "subsystem", "postmaster", "administrator", "admin", "noreply", "no-reply", "the",
    "mailer-daemon", "mailer_daemon", "mailerdaemon", "bounce", "bounces", "microsoft", "outlook", "google", "returned", "message",
    "support", "mdaemon",
    "server", "exchange", "abuse", "info", "complaints", "feedback", "fbl", "staff",
})  # fmt: skip
# Letters and digits mixed, or long: numbers of mails, tokens, boundaries.
TOKEN = re.compile(r"(?<![\w.@-])(?=[\w+/=-]*[A-Za-z])(?=[\w+/=-]*\d)[\w+/=-]{8,}|(?<![\w.@-])[0-9a-fA-F-]{20,}|(?<!\d)\d{7,}(?!\d)")
HOST = re.compile(words.HOST.pattern, re.IGNORECASE)
LINK = re.compile(words.LINK.pattern, re.IGNORECASE)
NUMBERS = re.compile(words.NUMBERS.pattern, re.IGNORECASE)
WORD = re.compile(r"[^\W\d_]{3,}")
# Of a list's own addresses.
ROLE = re.compile(r"-(?:admin|owner|request|bounces?|daemon|errors?)$", re.IGNORECASE)
LEFT_OUT = "[left out]"
# Hosts of carriers and large mail systems whose words mean something of their own.
SYSTEMS = re.compile(
    r"(?:^|[.@])(?:docomo\.ne\.jp|ezweb\.ne\.jp|au\.com|(?:i\.)?softbank\.(?:ne\.)?jp|vodafone\.ne\.jp|biglobe\.ne\.jp|nifty\.com|yahoo\.\w+(?:\.\w+)?"
    r"|aol\.com|gmx\.(?:net|de)|mail\.ru|yandex\.(?:net|ru)|qq\.com|163\.com|126\.com|comcast\.net|orange\.fr|web\.de)$",
    re.IGNORECASE,
)


class _Cast:
    """Who plays whom: the same for the same throughout."""

    def __init__(self) -> None:
        self.parts: dict[tuple[str, str], str] = {}

    def play(self, role: str, who: str, make: Callable[[int], str]) -> str:
        key = (role, who.lower())
        if key not in self.parts:
            number = sum(known == role for known, _who in self.parts) + 1
            self.parts[key] = make(number)
        return self.parts[key]

    def address(self, found: re.Match[str]) -> str:
        local, _at, domain = found[0].strip("<>").rpartition("@")
        official = local.lower() in OFFICIAL
        role = ROLE.search(local)
        name = local if official else self.play("person", local, lambda n: f"person{n}") + (role[0] if role else "")
        made = f"{name}@{self.host_name(domain)}"
        return f"<{made}>" if found[0].startswith("<") else made

    def host(self, found: re.Match[str]) -> str:
        return self.host_name(found[0])

    def host_name(self, host: str) -> str:
        host = host.rstrip(".")
        return (
            host
            if sums.service(host) or SYSTEMS.search(host) or host.lower().endswith(".example")
            else self.play("host", host, lambda n: f"host{n}.example")
        )

    def ip(self, found: re.Match[str]) -> str:
        bare = found[0].strip("[]")
        made = self.play("ip", bare, lambda n: f"192.0.2.{n % 250 + 1}")
        return found[0].replace(bare, made)

    def token(self, found: re.Match[str]) -> str:
        return self.play("token", found[0], lambda n: f"TOKEN{n}")


def anonymised(raw: bytes) -> str:
    mail = mime.read(raw)
    mail = bounces.within(mail, list(mail.leaves())) or mail
    cast = _Cast()
    hide = _hider(cast, _names(mail))
    return _written(mail, hide, "sample", own=True)[:LONGEST]


def _names(mail: mime.Part) -> re.Pattern[str] | None:
    """Words by which people are called in it: display names, and what stands before the @."""
    found: set[str] = set()
    for part in (mail, *mail.leaves(), *(mime.part(leaf.body, 0, [0]) for leaf in mail.leaves() if leaf.type in mime.RETURNED)):
        for header in PEOPLE:
            for value in part.headers.get(header, ()):
                for name, address in getaddresses([mime.words(value)[:1000]]):
                    if not marks.DAEMON.search(name):
                        found |= {word.lower() for word in WORD.findall(name)}
                    found.add(address.rpartition("@")[0].lower())
    for leaf in mail.leaves():
        found |= {address.rpartition("@")[0].lower() for address in addresses.every(leaf.text[:20_000])}
    # Some are named without their host.
    found |= {report.recipient.rpartition("@")[0].lower() for report in bounces.read_mail(mail).reports}
    found = {word for word in found if len(word) > 2} - OFFICIAL
    return (
        re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in sorted(found, key=len, reverse=True)), re.IGNORECASE)
        if found
        else None
    )


def _hider(cast: _Cast, names: re.Pattern[str] | None) -> Callable[[str], str]:
    kept: list[str] = []

    def keep(made: str) -> str:
        # What has been replaced is not looked at again.
        kept.append(made)
        return f"\x00{chr(0xE000 + len(kept) - 1)}\x00" if len(kept) < 6000 else LEFT_OUT

    def hide(text: str) -> str:
        kept.clear()
        text = text.replace("\x00", "")
        text = LINK.sub(lambda _found: keep("https://link.example/"), text)
        for pattern, make in ((addresses.ADDRESS, cast.address), (NUMBERS, cast.ip), (HOST, cast.host), (TOKEN, cast.token)):
            text = pattern.sub(lambda found, make=make: keep(make(found)), text)  # type: ignore[misc]
        if names:
            text = names.sub(lambda found: cast.play("person", found[0], lambda n: f"person{n}"), text)
        return re.sub("\x00(.)\x00", lambda found: kept[ord(found[1]) - 0xE000], text)

    return hide


def _written(part: mime.Part, hide: Callable[[str], str], boundary: str, *, own: bool = False) -> str:
    """The part and those in it, as text in UTF-8 whatever they were."""
    lines = [
        f"{name.title()}: {_value(part, name, value, hide, boundary)}"
        for name in KEPT
        for value in part.headers.get(name, ())[:20]
    ]  # fmt: skip
    head = "\n".join(lines)
    if part.parts:
        inner = "".join(f"--{boundary}\n{_written(each, hide, f'{boundary}-{n}')}\n" for n, each in enumerate(part.parts, 1))
        return f"{head}\n\n{inner}--{boundary}--\n"
    return f"{head}\n\n{_body(part, hide, own=own)}\n"


def _value(part: mime.Part, name: str, value: str, hide: Callable[[str], str], boundary: str) -> str:
    if name == "content-type":
        kind = part.type or "text/plain"
        report = part.parameter("report-type")
        said = f"; report-type={report}" if re.fullmatch(r"[\w-]{1,40}", report) else ""
        return f'{kind}{said}; boundary="{boundary}"' if part.parts else f"{kind}{said}; charset=utf-8"
    if name == "content-disposition":
        return value.partition(";")[0]
    return hide(mime.words(value)[:2000])


def _body(part: mime.Part, hide: Callable[[str], str], *, own: bool) -> str:
    if part.type in mime.RETURNED or (part.returned and not own):
        returned = mime.part(part.body, 0, [0]) if part.type in mime.RETURNED else part
        fields = ("message-id", "from", "to", "subject", "date", "x-mailhub-id")
        kept = [
            f"{name.title()}: {LEFT_OUT if name == 'subject' else hide(returned.header(name))}" for name in fields if returned.raw(name)
        ]
        return "\n".join(kept) + f"\n\n{LEFT_OUT}"
    if part.type.startswith(("text/", "message/")) or not part.type:
        text = charsets.decode(part.data[: mime.MOST_TEXT], part.parameter("charset")).replace("\r\n", "\n")
        return hide(_without_copy(text))
    return LEFT_OUT


def _without_copy(text: str) -> str:
    """Up to the copy of a mail that some systems put below their words, with its header lines alone."""
    lines = text.split("\n")
    for place, line in enumerate(lines):
        if marks.RETURNED_BELOW.match(line):
            header: list[str] = []
            for below in lines[place + 1 :]:
                if header and not below.strip():
                    break
                if marks.HEADER_LINE.match(below.strip()) and not below.strip().lower().startswith("subject"):
                    header.append(below)
            return "\n".join([*lines[: place + 1], "", *header[:30], "", LEFT_OUT])
    return text

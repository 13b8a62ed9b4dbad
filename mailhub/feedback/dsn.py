"""Delivery status notifications (RFC 3464, RFC 6533), and what mail systems make of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mailhub.feedback import addresses, mime

TYPES = frozenset({"message/delivery-status", "message/global-delivery-status"})
RECEIPT = "message/disposition-notification"
MOST_RECIPIENTS = 500
MOST_LINES = 5000

FIELD = re.compile(r"^([A-Za-z][A-Za-z-]{1,60})[ \t]*:[ \t]*(.*)$")
# Where fields begin that stand in a text instead of a part of their own.
EMBEDDED = re.compile(r"^(?:Reporting-MTA|Final-Recipient|Original-Recipient)[ \t]*:", re.MULTILINE | re.IGNORECASE)
# A part that ends without its boundary, or the mail that is returned right after the fields.
END = re.compile(r"^(?:--\S|Return-Path:|Received:|MIME-Version:|Subject:|Content-(?:Type|Description|Disposition):|From:)", re.IGNORECASE)
STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
COMMENT = re.compile(r"\((.{1,300})\)")
# An address with a domain that is none is still whom it was for.
BROKEN = re.compile(r"[^\s@<>]{1,128}@[^\s@<>]{1,253}")
TYPE = re.compile(r"^\s*[\w-]{1,30}\s*;\s*")
ESCAPED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")

# First letters of what stands in Action -> the word of RFC 3464.
ACTIONS = (
    ("fail", "failed"),
    ("expir", "failed"),
    ("bounce", "failed"),
    ("reject", "failed"),
    ("undeliver", "failed"),
    ("delay", "delayed"),
    ("defer", "delayed"),
    ("deliver", "delivered"),
    ("relay", "relayed"),
    ("expand", "expanded"),
)


@dataclass(slots=True)
class Group:
    """The fields about one recipient, as they came."""

    final: str = ""
    original: str = ""
    actual: str = ""
    action: str = ""
    status: str = ""
    comment: str = ""
    diagnostic: str = ""
    remote: str = ""
    label: str = ""

    @property
    def recipient(self) -> str:
        return self.final or self.original or self.actual


FIELDS = {
    "final-recipient": "final",
    "original-recipient": "original",
    "x-actual-recipient": "actual",
    "action": "action",
    "status": "status",
    "diagnostic-code": "diagnostic",
    "x-supplementary-info": "comment",
    "remote-mta": "remote",
    "x-powermta-bouncecategory": "label",
}


def tells(part: mime.Part, *, refused: bool = False) -> bool:
    """`refused`: the mail is a receipt by which a mailbox's own rules refuse it (RFC 5429): that has the same fields."""
    return part.type in TYPES or unnamed(part) or (refused and part.type == RECEIPT)


def unnamed(part: mime.Part) -> bool:
    """A delivery status that calls itself something else, as a text or a file."""
    if part.returned or part.type.startswith(("image/", "text/html")):
        return False
    head = part.body[:3000].lower().lstrip()
    return head.startswith((b"reporting-mta:", b"final-recipient:", b"original-recipient:")) and b"action:" in head


def embedded(text: str) -> str:
    """From where the fields of a delivery status begin in a text; "" where there are none."""
    found = EMBEDDED.search(text)
    return (
        text[found.start() :]
        if found and re.search(r"^(?:Action|Status)[ \t]*:", text[found.start() :], re.MULTILINE | re.IGNORECASE)
        else ""
    )


def read(text: str) -> list[Group]:
    """The recipients of a delivery status, in order. Empty lines part one from the next where they should; where they are missing, or
    too many, a field that comes a second time does."""
    groups: list[Group] = []
    group = Group()
    for name, value in unfolded(text):
        if name is None:
            if group.recipient:
                groups.append(group)
                group = Group()
            continue
        key = FIELDS.get(name)
        if key is None:
            continue
        if not group.recipient and groups and key in ("action", "status", "diagnostic", "remote") and not getattr(groups[-1], key):
            # An empty line in the midst of a recipient's fields.
            tidied(groups[-1], key, value)
            continue
        if key in ("final", "action") and getattr(group, key) and group.recipient:
            groups.append(group)
            group = Group()
        tidied(group, key, value)
        if len(groups) >= MOST_RECIPIENTS:
            break
    if group.recipient or (group.action and not groups):
        groups.append(group)
    return groups


def tidied(group: Group, key: str, value: str) -> None:
    if key in ("final", "original", "actual"):
        value = address(value)
    elif key == "action":
        value = next((action for start, action in ACTIONS if value.lower().startswith(start)), "")
    elif key == "status":
        found, remark = STATUS.search(value), COMMENT.search(value)
        group.comment = group.comment or (remark[1] if remark else "")
        value = found[0] if found else ""
    elif key in ("diagnostic", "remote"):
        value = TYPE.sub("", value, count=1).strip()
    if value or not getattr(group, key):
        setattr(group, key, value)


def address(value: str) -> str:
    """The address in a recipient field; "" for a pipe, a file, an X.400 name, a name without a domain."""
    value = ESCAPED.sub(lambda found: chr(min(int(found[1], 16), 0x10FFFF)), value)
    bare = TYPE.sub("", value, count=1).strip()
    if bare.startswith(("|", "/", '"|')) or addresses.ENCAPSULATED.match(bare):
        return ""
    return addresses.first(bare) or (bare if BROKEN.fullmatch(bare) else "")


def unfolded(text: str) -> Iterator[tuple[str | None, str]]:
    """Fields in order; (None, "") for each run of empty lines."""
    name: str | None = None
    value = ""
    for line in text.split("\n", MOST_LINES)[:MOST_LINES]:
        found = FIELD.match(line)
        if line[:1] in (" ", "\t") and line.strip() and name:
            value += " " + line.strip()
        elif END.match(line):
            break
        elif found:
            if name:
                yield name, value
            name, value = found[1].lower(), found[2].strip()
        elif not line.strip():
            if name:
                yield name, value
            name, value = None, ""
            yield None, ""
        elif name == "diagnostic-code" and len(value) < 4000:
            # A long reply whose further lines are not indented.
            value += " " + line.strip()
    if name:
        yield name, value

"""DMARC (RFC 9989): what a domain asks of receivers, found by walking up the tree of names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mailhub.lib import dns

# Section 4.10: no more questions than this, however long the name.
MOST_QUESTIONS = 8
POLICIES = ("none", "quarantine", "reject")


class Malformed(Exception):
    """Receivers ignore the record."""

    def __init__(self, problem: str, record: str = "") -> None:
        super().__init__(problem)
        #: a word of records.Problem
        self.problem = problem
        self.record = record


@dataclass(frozen=True, slots=True)
class Record:
    """One domain's record."""

    domain: str
    text: str
    tags: dict[str, str]

    @property
    def is_policy(self) -> bool:
        """With neither a policy nor an address for reports it says nothing (section 4.7)."""
        return self.tags.get("p", "").lower() in POLICIES or bool(self.tags.get("rua"))

    def policy(self, tag: str = "p") -> str:
        """Of the domain itself, or with "sp" of those below it."""
        for name in (tag, "p"):
            value = self.tags.get(name, "").lower()
            if value in POLICIES:
                return value
        return "none"

    def is_strict(self, tag: str) -> bool:
        """`tag`: adkim or aspf."""
        return self.tags.get(tag, "r").lower() == "s"


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for mail from a domain."""

    #: where the record stands that holds: the domain or one above it
    record: Record
    #: of what belongs together, by relaxed alignment (section 4.10.2)
    organisational: str
    #: none, quarantine or reject
    action: str


def parse(domain: str, texts: Iterable[str]) -> Record | None:
    """The record among the TXT records of _dmarc.`domain`; None where there is none. Raises Malformed."""
    found = [text for text in texts if text.split(";")[0].replace(" ", "").replace("\t", "") == "v=DMARC1"]
    if len(found) > 1:
        raise Malformed("dmarc_several", found[0])
    if not found:
        return None
    tags: dict[str, str] = {}
    for part in found[0].split(";")[1:]:
        name, equals, value = part.partition("=")
        if equals:
            tags.setdefault(name.strip().lower(), value.strip())
        elif part.strip():
            raise Malformed("dmarc_syntax", found[0])
    return Record(domain, found[0], tags)


async def record_at(domain: str) -> Record | None:
    return parse(domain, (await dns.texts(f"_dmarc.{domain}")).records)


async def policy(domain: str) -> Policy | None:
    """What holds for mail from `domain`; None where nothing does. Raises Malformed for its own record, or dns.Unanswered."""
    own = await record_at(domain)
    records = await _walk(domain, own)
    organisational = _organisational(domain, records)
    if own and own.is_policy:
        return Policy(own, organisational, own.policy())
    held = next((record for record in records if record.domain == organisational and record.is_policy), None)
    # A public suffix's record holds for what has none of its own (section 4.10.1).
    held = held or next((record for record in records if record.tags.get("psd") == "y" and record.is_policy), None)
    return Policy(held, organisational, held.policy("sp")) if held else None


async def organisational(domain: str) -> str:
    """The domain to which the name belongs; itself where no record says otherwise. Raises dns.Unanswered."""
    try:
        own = await record_at(domain)
    except Malformed:
        own = None
    return _organisational(domain, await _walk(domain, own))


async def _walk(domain: str, own: Record | None) -> list[Record]:
    """The records of the domain and of those above it, which say where an organisation's names end."""
    records = [own] if own else []
    labels = domain.split(".")
    # Of a long name only the last labels are asked about, so that all questions together are few.
    labels = labels[-(MOST_QUESTIONS - 1) :] if len(labels) >= MOST_QUESTIONS else labels[1:]
    while labels and not (records and records[-1].tags.get("psd") in ("y", "n")):
        try:
            record = await record_at(".".join(labels))
        except Malformed:
            record = None
        records += [record] if record else []
        labels = labels[1:]
    return records


def _organisational(domain: str, records: list[Record]) -> str:
    for record in records:
        if record.tags.get("psd") == "n":
            return record.domain
        if record.tags.get("psd") == "y" and record.domain != domain:
            return ".".join(domain.split(".")[-record.domain.count(".") - 2 :])
    return min((record.domain for record in records), key=lambda name: name.count("."), default=domain)

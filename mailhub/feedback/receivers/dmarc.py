"""DMARC aggregate reports (RFC 9990, and RFC 7489 before it): XML, read piece by piece and summed up while it comes.

Nothing but elements and text is read: a document type, and with it every entity, ends the reading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import NoReturn
from xml.parsers import expat

from django.utils.translation import gettext as _

from mailhub.feedback.receivers.unpack import Unreadable

DEEPEST = 16
LONGEST = 500
# Different rows of a report that are kept apart, and mails that one of them may count.
MOST_ROWS = 50_000
MOST_MAILS = 1_000_000_000
DISPOSITIONS = frozenset({"none", "pass", "quarantine", "reject"})


@dataclass(frozen=True, slots=True)
class Row:
    """Mails of a report that had all of this in common."""

    source_ip: str
    #: the domain after @ of their From
    header_from: str
    #: what the receiver did: none, quarantine or reject
    disposition: str
    #: passed, and for the domain of the From
    dkim: bool
    spf: bool
    #: the domains for which something was found out, and DKIM's result
    dkim_domain: str = ""
    dkim_result: str = ""
    spf_domain: str = ""
    spf_result: str = ""
    #: why the receiver did otherwise than the policy says: forwarded, mailing_list, local_policy, ...
    reason: str = ""


@dataclass(slots=True)
class Report:
    organisation: str = ""
    report_id: str = ""
    domain: str = ""
    policy: str = ""
    begins: datetime = datetime.min.replace(tzinfo=UTC)
    ends: datetime = datetime.min.replace(tzinfo=UTC)
    rows: Counter[Row] = field(default_factory=Counter)


def read(pieces: Iterable[bytes]) -> Report:
    """Raises Unreadable."""
    reader = _Reader()
    try:
        for piece in pieces:
            reader.parser.Parse(piece, False)
        reader.parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise Unreadable(_("It is no XML: %(error)s") % {"error": error}) from None
    report = reader.report
    if not reader.is_feedback:
        raise Unreadable(_("It is no DMARC report."))
    if not report.organisation or not report.report_id or not report.domain:
        raise Unreadable(_("It does not say of which domain, by whom or with which number."))
    if report.ends.year < 2000 or report.begins > report.ends:
        raise Unreadable(_("It does not say of which time."))
    return report


class _Reader:
    def __init__(self) -> None:
        self.report = Report()
        self.is_feedback = False
        #: names of the elements that are open
        self.path: list[str] = []
        self.text: list[str] = []
        self.length = 0
        #: of the record at hand: path below it -> text; of several DKIM signatures the one that passed, or the first
        self.record: dict[str, str] = {}
        self.signature: dict[str, str] = {}
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.EntityDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters

    def _refuse(self, *_declared: object) -> NoReturn:
        raise Unreadable(_("It is XML with a document type, which reports do not have."))

    def _start(self, tag: str, _attributes: object) -> None:
        name = tag.rpartition(":")[2].lower()
        if not self.path:
            self.is_feedback = name == "feedback"
        self.path.append(name)
        if len(self.path) > DEEPEST:
            raise Unreadable(_("It is nested too deeply."))
        self.text, self.length = [], 0
        if self.path[1:] == ["record"]:
            self.record = {}
        elif self.path[-2:] == ["auth_results", "dkim"]:
            self.signature = {}

    def _characters(self, text: str) -> None:
        if self.length < LONGEST:
            self.text.append(text)
            self.length += len(text)

    def _end(self, _tag: str) -> None:
        path, text = "/".join(self.path[1:]), "".join(self.text)[:LONGEST].replace("\0", "").strip()
        self.path.pop()
        self.text, self.length = [], 0
        if path == "record":
            self._count()
        elif path == "record/auth_results/dkim":
            self._sign()
        elif path.startswith("record/auth_results/dkim/"):
            self.signature[path.rpartition("/")[2]] = text
        elif path.startswith("record/"):
            self.record.setdefault(path.partition("/")[2], text)
        elif text:
            self._meta(path, text)

    def _meta(self, path: str, text: str) -> None:
        match path:
            case "report_metadata/org_name":
                self.report.organisation = text[:200]
            case "report_metadata/report_id":
                self.report.report_id = text[:255]
            case "report_metadata/date_range/begin":
                self.report.begins = _moment(text)
            case "report_metadata/date_range/end":
                self.report.ends = _moment(text)
            case "policy_published/domain":
                self.report.domain = _name(text)
            case "policy_published/p":
                self.report.policy = text.lower()[:20]

    def _sign(self) -> None:
        found = self.signature.get("result", "").lower()
        if "dkim" not in self.record or (found == "pass" and self.record["dkim_result"] != "pass"):
            self.record |= {"dkim": self.signature.get("domain", ""), "dkim_result": found}

    def _count(self) -> None:
        said = self.record
        try:
            source = str(ip_address(said.get("row/source_ip", "")))
            count = int(said.get("row/count", ""))
        except ValueError:
            return  # one line that says nothing is no reason to believe none
        if not 0 < count <= MOST_MAILS:
            return
        disposition = said.get("row/policy_evaluated/disposition", "").lower()
        row = Row(
            source_ip=source,
            header_from=_name(said.get("identifiers/header_from", "")) or self.report.domain,
            disposition=disposition if disposition in DISPOSITIONS - {"pass"} else "none",
            dkim=said.get("row/policy_evaluated/dkim", "").lower() == "pass",
            spf=said.get("row/policy_evaluated/spf", "").lower() == "pass",
            dkim_domain=_name(said.get("dkim", "")),
            dkim_result=said.get("dkim_result", "")[:20],
            spf_domain=_name(said.get("auth_results/spf/domain", "")),
            spf_result=said.get("auth_results/spf/result", "").lower()[:20],
            reason=said.get("row/policy_evaluated/reason/type", "").lower()[:40],
        )
        if row not in self.report.rows and len(self.report.rows) >= MOST_ROWS:
            raise Unreadable(_("It has more than %(most)s different rows.") % {"most": MOST_ROWS})
        self.report.rows[row] += count


def _moment(text: str) -> datetime:
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError):
        raise Unreadable(_("It does not say of which time.")) from None


def _name(text: str) -> str:
    return text.lower().strip(".")[:253]

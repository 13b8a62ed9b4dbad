"""SMTP TLS reports (RFC 8460): JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.utils.translation import gettext as _

from mailhub.feedback.receivers.unpack import Unreadable

MOST_BYTES = 20 * 1024 * 1024
MOST_ROWS = 10_000
MOST_SESSIONS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Failure:
    domain: str
    #: section 4.3: certificate-expired, validation-failure, ...
    result: str
    #: the receiving server, and who tried
    mx: str
    sending_ip: str
    reason: str


@dataclass(slots=True)
class Report:
    organisation: str
    report_id: str
    begins: datetime
    ends: datetime
    #: domain -> sessions that had TLS as wanted, and that had not
    good: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    #: domain -> sts, tlsa or no-policy-found
    policies: dict[str, str] = field(default_factory=dict)
    failures: Counter[Failure] = field(default_factory=Counter)


def read(pieces: Iterable[bytes]) -> Report:
    """Raises Unreadable."""
    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) > MOST_BYTES:
            raise Unreadable(_("It is larger than %(size)s MB.") % {"size": MOST_BYTES // 1024 // 1024})
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise Unreadable(_("It is no JSON.")) from None
    if not isinstance(found, dict) or not isinstance(found.get("policies"), list):
        raise Unreadable(_("It is no TLS report."))
    span = _object(found.get("date-range"))
    report = Report(
        organisation=_text(found.get("organization-name"), 200),
        report_id=_text(found.get("report-id"), 255),
        begins=_moment(span.get("start-datetime")),
        ends=_moment(span.get("end-datetime")),
    )
    if not report.organisation or not report.report_id:
        raise Unreadable(_("It does not say by whom or with which number."))
    for policy in map(_object, found["policies"][:MOST_ROWS]):
        _add(report, policy)
    return report


def _add(report: Report, policy: Mapping[str, Any]) -> None:
    about, summary = _object(policy.get("policy")), _object(policy.get("summary"))
    domain = _text(about.get("policy-domain"), 253).lower().strip(".")
    if not domain:
        return
    report.policies.setdefault(domain, _text(about.get("policy-type"), 20))
    report.good[domain] += _count(summary.get("total-successful-session-count"))
    report.bad[domain] += _count(summary.get("total-failure-session-count"))
    details = policy.get("failure-details")
    for detail in map(_object, details if isinstance(details, list) else []):
        failure = Failure(
            domain=domain,
            result=_text(detail.get("result-type"), 40).lower(),
            mx=_text(detail.get("receiving-mx-hostname"), 253).lower(),
            sending_ip=_text(detail.get("sending-mta-ip"), 45),
            reason=_text(detail.get("failure-reason-code"), 200),
        )
        if failure in report.failures or len(report.failures) < MOST_ROWS:
            report.failures[failure] += _count(detail.get("failed-session-count"))


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object, length: int) -> str:
    return value.replace("\0", "").encode(errors="replace").decode().strip()[:length] if isinstance(value, str) else ""


def _count(value: object) -> int:
    try:
        number = int(value) if isinstance(value, int | str) else 0
    except ValueError:
        return 0
    return number if 0 < number <= MOST_SESSIONS else 0


def _moment(value: object) -> datetime:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None:
        raise Unreadable(_("It does not say of which time."))
    return found if found.tzinfo else found.replace(tzinfo=UTC)

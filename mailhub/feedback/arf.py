"""Complaints by feedback loop: ARF (RFC 5965, RFC 6650), and those that only look like it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mailhub.feedback import addresses, mime
from mailhub.feedback.reports import MailKind, Reading, Report
from mailhub.lib.replies.verdicts import Category, Kind, Verdict

TYPE = "message/feedback-report"
MOST_RECIPIENTS = 100

COMPLAINT = Verdict(Category.COMPLAINT, Kind.COMPLAINT, "feedback report", 3)
# What is no complaint. The first is the opposite of one; the others are about us, not from a reader (RFC 6591, RFC 9991).
NO_COMPLAINT = {
    "not-spam": Verdict(Category.OTHER, Kind.OTHER, "feedback report", 3),
    "auth-failure": Verdict(Category.AUTH_FAILURE, Kind.OTHER, "feedback report", 3),
    "dmarc": Verdict(Category.AUTH_FAILURE, Kind.OTHER, "feedback report", 3),
}

# Where the report part is missing: Hotmail writes the recipient into the mail it returns.
HOTMAIL = re.compile(r"^\s*complaint about message from", re.IGNORECASE)
ORIGINAL = ("x-hmxmroriginalrecipient", "x-original-to", "x-rcpt-to", "x-original-rcpt-to")

# What loops write in the place of a name (RFC 6590): a word that says so, or a digest in base64 or hexadecimal.
REDACTED = re.compile(r"\A(?:.{0,20}redacted.{0,20}|[x*_.-]{3,}|[0-9a-f]{16,}|[A-Za-z0-9+/=_-]{22,})@", re.IGNORECASE)


def read(mail: mime.Part, leaves: list[mime.Part], returned: Mapping[str, str]) -> Reading | None:
    """The complaint that the mail is; None where it is none."""
    part = next((leaf for leaf in leaves if leaf.type == TYPE or unnamed(leaf)), None)
    if part is None and mail.parameter("report-type").lower() == "feedback-report":
        part = next((leaf for leaf in leaves if re.search(r"^Feedback-Type\s*:", leaf.text, re.MULTILINE | re.IGNORECASE)), None)
    if part is not None:
        report = fields(part)
        # Where the mail itself was cut down: RFC 5965 section 3.2.
        mail_from = next(iter(report.get("original-mail-from", ())), "")
        return reported(report, {"return-path": mail_from, **returned} if mail_from else returned)
    if HOTMAIL.search(mail.header("subject")) or "x-hmxmroriginalrecipient" in returned:
        return Reading(MailKind.COMPLAINT, tuple(claims(whom({}, returned), "abuse", COMPLAINT)), returned)
    if mail.parameter("report-type").lower() == "feedback-report":
        return Reading(MailKind.COMPLAINT, tuple(claims(whom({}, returned), "abuse", COMPLAINT)), returned)
    return None


def unnamed(part: mime.Part) -> bool:
    """A report that calls itself plain text."""
    head = part.body[:1000].lower().lstrip()
    return (
        part.type == "text/plain"
        and not part.returned
        and head.startswith((b"feedback-type:", b"user-agent:"))
        and b"feedback-type:" in head
    )


def fields(part: mime.Part) -> dict[str, list[str]]:
    """The report's fields; empty lines that do not belong there are passed over."""
    found: dict[str, list[str]] = {}
    for line in re.sub(r"\n[ \t]+", " ", part.text).split("\n")[:500]:
        name, colon, value = line.partition(":")
        if colon and re.fullmatch(r"[A-Za-z][\w-]{1,60}\s*", name):
            found.setdefault(name.strip().lower(), []).append(value.strip())
    return found


def reported(report: dict[str, list[str]], returned: Mapping[str, str]) -> Reading:
    kind = next(iter(report.get("feedback-type", ())), "abuse").lower() or "abuse"
    verdict = NO_COMPLAINT.get(kind, COMPLAINT)
    mail_kind = (
        MailKind.COMPLAINT
        if verdict is COMPLAINT
        else MailKind.RECEIVER_REPORT
        if verdict.category == Category.AUTH_FAILURE
        else MailKind.OTHER
    )
    return Reading(mail_kind, tuple(claims(whom(report, returned), kind, verdict)), returned)


def whom(report: Mapping[str, list[str]], returned: Mapping[str, str]) -> list[str]:
    """Who complained. Many loops leave the address out, or cut it down to its host: then nobody is named, and only our own mark in the
    returned mail tells."""
    named = [
        addresses.first(value)
        for name in ("original-rcpt-to", "removal-recipient", "original-recipient", "redacted-address")
        for value in report.get(name, ())
    ]
    named = list(dict.fromkeys(filter(None, named)))
    if not named:
        named = [found for name in ORIGINAL if (found := addresses.first(returned.get(name, "")))][:1]
    if not named:
        named = addresses.every(returned.get("to", ""))
    return named[:MOST_RECIPIENTS] or [""]


def claims(recipients: list[str], feedback_type: str, verdict: Verdict) -> list[Report]:
    return [Report(recipient, "", "", None, "", verdict, feedback_type=feedback_type) for recipient in recipients]

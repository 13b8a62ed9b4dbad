"""Notices of Amazon SES that SNS sends by mail: JSON in the text."""

from __future__ import annotations

import json
import re
from typing import Any

from mailhub.feedback.reports import MailKind, Reading, Report
from mailhub.lib.replies import classify, words
from mailhub.lib.replies.verdicts import Category, Kind, Verdict

MOST_TEXT = 200_000
MOST_RECIPIENTS = 100
BEGINS = re.compile(r'\{\s*"(?:notificationType|eventType|Type)"')
# A long line that a mail server broke in two.
BROKEN = re.compile(r"!?\n[ \t]?")

DELIVERED = Verdict(Category.DELIVERED, Kind.OTHER, "notice", 3)
COMPLAINT = Verdict(Category.COMPLAINT, Kind.COMPLAINT, "notice", 3)
NO_COMPLAINT = Verdict(Category.OTHER, Kind.OTHER, "notice", 3)


def read(text: str) -> Reading | None:
    """The notice in the text; None where there is none."""
    found = BEGINS.search(text[:MOST_TEXT])
    if not found:
        return None
    notice = loaded(BROKEN.sub("", text[found.start() : MOST_TEXT]))
    if isinstance(notice.get("Message"), str):
        notice = loaded(notice["Message"])
    kind = str(notice.get("notificationType") or notice.get("eventType") or "").lower()
    reading = READERS.get(kind)
    return reading(notice) if reading else None


def loaded(text: str) -> dict[str, Any]:
    try:
        value, _end = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def member(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def listed(value: dict[str, Any], name: str) -> list[Any]:
    found = value.get(name)
    return found[:MOST_RECIPIENTS] if isinstance(found, list) else []


def returned(notice: dict[str, Any]) -> dict[str, str]:
    mail = member(notice, "mail")
    names = {"message-id": mail.get("messageId"), "from": mail.get("source")}
    headers = {str(each.get("name", "")).lower(): each.get("value") for each in listed(mail, "headers") if isinstance(each, dict)}
    return {name: str(value)[:2000] for name, value in {**names, **headers}.items() if name and value}


def bounce(notice: dict[str, Any]) -> Reading:
    bounced = member(notice, "bounce")
    label = f"{bounced.get('bounceType', '')}/{bounced.get('bounceSubType', '')}"
    reports = []
    for each in listed(bounced, "bouncedRecipients"):
        if not isinstance(each, dict):
            continue
        said = str(each.get("diagnosticCode") or "").partition(";")
        text = (said[2] or said[0]).strip()
        status = str(each.get("status") or words.enhanced(text))[:20]
        reports.append(
            Report(
                recipient=str(each.get("emailAddress") or "")[:320],
                action="failed",
                status=status,
                code=words.code(text),
                diagnostic=text[:500],
                verdict=classify.labelled_or_said(label, text, status),
                remote=str(bounced.get("reportingMTA") or "")[:200],
            )
        )
    return Reading(MailKind.BOUNCE, tuple(reports), returned(notice))


def complaint(notice: dict[str, Any]) -> Reading:
    complained = member(notice, "complaint")
    kind = str(complained.get("complaintFeedbackType") or "abuse")[:40]
    verdict = NO_COMPLAINT if kind == "not-spam" else COMPLAINT
    named = [str(each.get("emailAddress") or "")[:320] for each in listed(complained, "complainedRecipients") if isinstance(each, dict)]
    reports = tuple(Report(recipient, "", "", None, "", verdict, feedback_type=kind) for recipient in named)
    return Reading(MailKind.COMPLAINT if verdict is COMPLAINT else MailKind.OTHER, reports, returned(notice))


def delivery(notice: dict[str, Any]) -> Reading:
    delivered = member(notice, "delivery")
    text = str(delivered.get("smtpResponse") or "")
    status = re.search(r"\b2\.\d+\.\d+\b", text)
    found = re.match(r"\s*(2\d\d)\b", text)
    reports = tuple(
        Report(str(each)[:320], "delivered", status[0] if status else "", int(found[1]) if found else None, text[:500], DELIVERED)
        for each in listed(delivered, "recipients")
    )
    return Reading(MailKind.DELIVERED, reports, returned(notice))


READERS = {"bounce": bounce, "complaint": complaint, "delivery": delivery}

"""A template as its readers will see it, for staff: shown in a frame that can do nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse
from django.utils.html import format_html

from mailhub.delivery import prepare
from mailhub.delivery.models import Message
from mailhub.delivery.rendering import Rendered
from mailhub.relays.base import Refused
from mailhub.relays.models import Stream

# The frame has an origin of its own, runs nothing, sends no forms and loads pictures alone: what is shown may come from anybody
# (listmonk CVE-2026-21483: from a campaign's preview to super-admin).
POLICY = "sandbox allow-popups; default-src 'none'; img-src https: data:; style-src 'unsafe-inline'; frame-ancestors 'self'"


def render(subject: str, html: str, text: str, data: Mapping[str, Any]) -> Rendered:
    """The mail with `data` filled in. Raises Refused, whose text says what is wrong with the template."""
    try:
        return prepare.Words(subject, html, text).render({"email": "taro@example.com", "unsubscribe_url": "#", **data})
    except Exception as error:
        raise prepare.refusal(error) from error


NAME = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def subject(message: Message) -> str:
    """As the recipient reads it where that is simple, which it is for lists: of campaigns, with the data that mail was made with. What
    others hand in may hold a code that only its recipient is to see."""
    written: str = message.content.subject
    if message.stream != Stream.CAMPAIGN or "{{" not in written:
        return written
    return NAME.sub(lambda found: str(message.data.get(found[1], found[0])), written)


def frame(subject: str, html: str, text: str, data: Mapping[str, Any], *, dark: bool | None = None) -> HttpResponse:
    """What stands in an <iframe sandbox>: the HTML, or the reason why there is none. `dark`: as shaded() has it."""
    try:
        page = render(subject, html, text, data).html
    except Refused as refusal:
        page = format_html("<p>{}</p>", refusal.reply.text)
    return framed(page if dark is None else shaded(page, dark=dark), POLICY)


SCHEME = re.compile(r"\(\s*prefers-color-scheme\s*:\s*(dark|light)\s*\)", re.IGNORECASE)


def shaded(page: str, *, dark: bool) -> str:
    """The page as a mail program in that colour scheme shows it, whatever this browser's own is."""
    scheme = "dark" if dark else "light"
    made = SCHEME.sub(lambda found: "(min-width: 0)" if found[1].lower() == scheme else "(max-width: 0)", page)
    return made.replace("</head>", f"<style>:root {{ color-scheme: {scheme}; }}</style></head>", 1)


def framed(page: str, policy: str) -> HttpResponse:
    response = HttpResponse(page)
    response["Content-Security-Policy"] = policy
    response["X-Frame-Options"] = "SAMEORIGIN"
    response["Referrer-Policy"] = "no-referrer"
    return response

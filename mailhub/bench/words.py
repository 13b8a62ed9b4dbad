"""What everybody in a benchmark sends: the same two-part mail, once as MailHub's templates and once for str.format()."""

from __future__ import annotations

SUBJECT = "News for {{ name }}"
TEXT = "Dear {{ name }} in {{ city }},\n\n" + "first flush, second flush, and what to pour\n" * 14 + "\nLeave: {{ unsubscribe_url }}\n"
HTML = (
    "<!DOCTYPE html>\n<html><body><p>Dear {{ name }} in {{ city }},</p>\n"
    + "<p>first flush, second flush, and what to pour over</p>\n" * 54
    + '<p><a href="https://shop.example/teas?from={{ city }}">Read on</a>, <a href="{{ unsubscribe_url }}">leave</a>'
    '<img src="https://shop.example/leaf.gif" alt="" width="1" height="1"></p>\n</body></html>\n'
)


def plain(template: str) -> str:
    """For str.format()."""
    return template.replace("{{ ", "{").replace(" }}", "}")

"""Sentences after one another, as the language of the page has them: Japanese leaves no space between."""

from __future__ import annotations

from django.utils.translation import pgettext


def gap() -> str:
    """What stands between two sentences."""
    return pgettext("two sentences", "%(first)s %(then)s") % {"first": "", "then": ""}


def joined(*said: object) -> str:
    return gap().join(filter(None, map(str, said)))

"""The numbers of the admin's side bar and first page. All of them stay cheap at ten million messages: they come from small tables, from
counters that are kept anyway, or from the newest rows of an index, and what is counted is counted up to a limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest


@dataclass(frozen=True, slots=True)
class Count:
    """What waits behind an item of the side bar."""

    number: str
    #: what the number counts
    words: str
    #: "", or how grave it is: good, warn, bad
    tone: str = ""


def counts(request: HttpRequest) -> dict[str, Count]:
    """Model label -> what is worth knowing before one looks."""
    return {}


def overview(request: HttpRequest) -> dict[str, Any]:
    return {}

"""The bounce page: what came back, why, where, of what, in which words, and what to do; and the mails behind each number."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext
from django.views.decorators.http import require_safe

from mailhub.delivery import throughput
from mailhub.delivery.models import Batch
from mailhub.feedback import attention
from mailhub.feedback.returns import advice, sums
from mailhub.feedback.returns.models import Count, Wording
from mailhub.lib import charts
from mailhub.lib.charts import grouped, percent
from mailhub.lib.sheets import sheet
from mailhub.relays.models import Destination, Relay
from mailhub.relays.pages import demand

SPANS = {"week": 7, "month": 30, "quarter": 90}
# Kinds in the order of the picture: class of the colour.
TONES = {"hard": "bounced", "soft": "deferred", "complaint": "failed"}
# Lines of a file.
MOST_LINES = 20_000

Link = Callable[..., str]


def kinds() -> dict[str, str]:
    return {"hard": _("address is dead"), "soft": _("not delivered"), "complaint": _("called spam")}


class Asked:
    """What the address of a page asks for."""

    def __init__(self, request: HttpRequest) -> None:
        span = request.GET.get("span", "")
        self.span = span if span in SPANS else "month"
        self.last = timezone.localdate()
        self.first = self.last - timedelta(days=SPANS[self.span] - 1)
        self.only: dict[str, Any] = {}
        for name, kind in sums.COLUMNS.items():
            given = request.GET.get(name, "")
            if kind is int and (not given.isascii() or not given.isdigit() or len(given) > 18):
                continue
            if given:
                self.only[name] = kind(given[:20].replace("\0", ""))

    @property
    def counts(self) -> QuerySet[Count]:
        return sums.counts(self.first, self.last, **self.only)

    def link(self, **changes: object) -> str:
        return "?" + urlencode(
            {key: value for key, value in {"span": self.span, **self.only, **changes}.items() if value not in ("", None)}
        )


@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    demand(request, "returns.view_count")
    asked = Asked(request)
    found = asked.counts
    by_day = dict(sums.by(found, "day"))
    total = sum(sum(numbers.values()) for numbers in by_day.values())
    whole = {kind: sum(numbers.get(kind, 0) for numbers in by_day.values()) for kind in TONES}
    context = {
        **admin.site.each_context(request),
        "title": _("Bounces"),
        "subtitle": "",
        "opts": Count._meta,
        "spans": [(words, asked.link(span=key), key == asked.span) for key, words in span_words().items()],
        "about": chosen(asked),
        "total": total,
        "any": bool(total) or Count.objects.exists(),
        "needs": list(attention.needs(request)),
        "mails_url": _mails_url(asked) if total and request.user.has_perm("delivery.view_message") else "",
        "export_url": reverse("admin:returns_count_export") + asked.link() if total else "",
    }
    if total:
        context |= {
            "stats": _stats(asked, whole, total),
            "chart": charts.stacked(
                _("Mails that came back, by day"),
                [(tone, kinds()[kind]) for kind, tone in TONES.items()],
                [
                    (f"{day.month}/{day.day}", date_format(day, "MONTH_DAY_FORMAT"), [by_day.get(day, {}).get(kind, 0) for kind in TONES])
                    for day in _days(asked.first, asked.last)
                ],
            ),
            "wordings": [_wording(words, asked) for words in sums.wordings(found)],
            "tables": _tables(asked, found),
        }
    return TemplateResponse(request, "admin/returns/overview.html", context)


def span_words() -> dict[str, str]:
    return {"week": _("7 days"), "month": _("30 days"), "quarter": _("90 days")}


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _mails_url(asked: Asked, **only: object) -> str:
    return reverse("admin:returns_count_mails") + asked.link(**only)


def _stats(asked: Asked, whole: dict[str, int], total: int) -> list[dict[str, Any]]:
    """With the share of what relays accepted or refused for good in the same days, where all of it is looked at."""
    narrow = {key: value for key, value in asked.only.items() if key in ("relay_key", "destination_key")}
    answered = 0
    if len(narrow) == len(asked.only):
        hours = _hours(asked)
        counts = throughput.between(*hours, **narrow)[()]
        answered = counts.accepted + counts.bounced + counts.refused
    labels = {
        "hard": (_("Dead addresses"), "bounce", ""),
        "soft": (_("Not delivered"), "fault", ""),
        "complaint": (_("Complaints"), "alert", "bad"),
    }
    return [
        {
            "label": label,
            "icon": icon,
            "value": grouped(whole[kind]),
            "words": _("%(percent)s of the mails that were answered") % {"percent": percent(whole[kind], answered)}
            if answered >= whole[kind] > 0
            else "",
            "tone": tone if whole[kind] else "",
            "url": asked.link(kind=kind),
        }
        for kind, (label, icon, tone) in labels.items()
    ] + [{"label": _("All together"), "icon": "message", "value": grouped(total), "words": "", "tone": "", "url": ""}]


def _hours(asked: Asked) -> tuple[Any, Any]:
    start = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    return start - timedelta(days=SPANS[asked.span] - 1), start + timedelta(days=1)


def _wording(words: sums.Words, asked: Asked) -> dict[str, Any]:
    return {
        "text": words.text,
        "category": advice.name(words.category),
        "kind": words.kind,
        "kind_words": kinds().get(words.kind, words.kind),
        "number": grouped(words.number),
        "advice": advice.of(words.category, words.kind),
        "first": words.first,
        "last": words.last,
        "url": _mails_url(asked, wording=words.key),
    }


def _tables(asked: Asked, found: QuerySet[Count]) -> list[dict[str, Any]]:
    names: dict[str, tuple[str, Callable[[Any], str]]] = {
        "category": (_("Why"), advice.name),
        "relay_key": (pgettext("mail", "Relays"), _relays()),
        "destination_key": (_("Destinations"), _destinations()),
        "batch_key": (_("Campaigns"), lambda key: str(key)),
    }
    tables = []
    for column, (title, name) in names.items():
        rows = [] if column in asked.only else sums.by(found, column)[: sums.MOST]
        if column == "batch_key":
            name = _batches([key for key, _numbers in rows])
        if rows:
            tables.append({"title": title, "rows": [_row(asked, column, key, numbers, name(key)) for key, numbers in rows]})
    return tables


def _row(asked: Asked, column: str, key: object, numbers: dict[str, int], name: str) -> dict[str, Any]:
    total = sum(numbers.values())
    return {
        "name": name,
        "url": asked.link(**{column: key}),
        "parts": charts.shares([(tone, numbers.get(kind, 0)) for kind, tone in TONES.items()]),
        "share": percent(numbers.get("hard", 0), total),
        "hard": grouped(numbers.get("hard", 0)),
        "soft": grouped(numbers.get("soft", 0)),
        "complaint": grouped(numbers.get("complaint", 0)),
        "total": grouped(total),
    }


def _relays() -> Callable[[int], str]:
    known = {relay.pk: relay.name for relay in Relay.objects.only("name")}
    return lambda key: known.get(key) or (_("relay %(number)s, which is gone") % {"number": key} if key else _("none: before it was sent"))


def _destinations() -> Callable[[str], str]:
    known = {row.pk: str(row) for row in Destination.objects.all()}
    return lambda key: known.get(key, key)


def _batches(keys: list[int]) -> Callable[[int], str]:
    known = {batch.pk: batch.name for batch in Batch.objects.only("name").filter(pk__in=keys)}
    return lambda key: known.get(key) or (_("batch %(number)s, which is gone") % {"number": key} if key else _("Transactional mail"))


def chosen(asked: Asked) -> list[dict[str, str]]:
    found = []
    names: dict[str, tuple[str, Callable[[Any], str]]] = {
        "category": (_("why"), advice.name),
        "kind": (_("kind"), lambda kind: kinds().get(kind, kind)),
        "relay_key": (str(Relay._meta.verbose_name), _relays()),
        "destination_key": (str(Destination._meta.verbose_name), _destinations()),
        "batch_key": (_("campaign"), _batches([asked.only.get("batch_key", 0)])),
        "wording": (_("reply"), lambda key: str(Wording.objects.filter(pk=key).first() or key)),
    }
    for column, (kind, name) in names.items():
        if column in asked.only:
            found.append({"kind": kind, "name": name(asked.only[column]), "off": asked.link(**{column: ""})})
    return found


@require_safe
def mails(request: HttpRequest) -> HttpResponse:
    """The mails behind a number, the newest first."""
    demand(request, "returns.view_count", "delivery.view_message")
    asked = Asked(request)
    before = request.GET.get("before", "")
    shown, after = sums.mails(asked.counts, int(before) if before.isascii() and before.isdigit() and len(before) < 19 else 0)
    context = {
        **admin.site.each_context(request),
        "title": _("Mails that came back"),
        "subtitle": "",
        "opts": Count._meta,
        "about": chosen(asked),
        "mails": shown,
        "back": reverse("admin:returns_count_changelist") + asked.link(wording=""),
        "older": asked.link(before=after) if after else "",
    }
    return TemplateResponse(request, "admin/returns/mails.html", context)


@require_safe
def export(request: HttpRequest) -> HttpResponseBase:
    """What the page counts, line by line, for a spreadsheet."""
    demand(request, "returns.view_count")
    asked = Asked(request)
    relay, destination = _relays(), _destinations()
    found = asked.counts.select_related("wording").order_by("day", "pk")[:MOST_LINES]
    batch = _batches(list(set(asked.counts.values_list("batch_key", flat=True).distinct()[:MOST_LINES])))
    heading = [
        _("date"), _("why"), _("kind"), _("relay"), _("destination"), _("campaign"), _("mails"), _("reply"), _("what to do"),
    ]  # fmt: skip
    rows = (
        [
            row.day, advice.name(row.category), kinds().get(row.kind, row.kind), relay(row.relay_key), destination(row.destination_key),
            batch(row.batch_key), row.number, row.wording.text, advice.of(row.category, row.kind),
        ]
        for row in found.iterator(chunk_size=2000)
    )  # fmt: skip
    return sheet(_("Bounces") + f" {asked.first} {asked.last}", heading, rows)

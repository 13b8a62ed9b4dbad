"""What receivers report, as pictures; and files of reports that staff bring."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext
from django.views.decorators.http import require_POST, require_safe

from mailhub.feedback.receivers import intake, sums, unpack
from mailhub.feedback.receivers.models import Report
from mailhub.lib import charts, clock
from mailhub.lib.charts import grouped, percent
from mailhub.senders.models import Domain, Finding, Kind, Verdict

SPANS = {"week": 7, "month": 30, "quarter": 90}
# Files of one upload.
MOST_FILES = 50

Link = Callable[..., str]


@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    if not request.user.has_perm("receivers.view_report"):
        raise PermissionDenied
    span = request.GET.get("span", "")
    span = span if span in SPANS else "month"
    domain = Domain.objects.filter(name=request.GET.get("domain", "")).first()
    now = clock.now()
    until = now + timedelta(days=1)
    since = (now - timedelta(days=SPANS[span] - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    name = domain.name if domain else ""

    def link(**changes: str) -> str:
        return "?" + urlencode({key: value for key, value in {"span": span, "domain": name, **changes}.items() if value})

    found = sums.senders(since, until, name)
    context = {
        **admin.site.each_context(request),
        "title": _("Reports from receivers"),
        "subtitle": "",
        "opts": Report._meta,
        "spans": [(words, link(span=key), key == span) for key, words in span_words().items()],
        "domains": [(each, link(domain=each), each == name) for each in Domain.objects.values_list("name", flat=True)],
        "domain": domain,
        "all_domains": link(domain=""),
        "may_add": request.user.has_perm("receivers.add_report"),
        "any": Report.objects.exists(),
        "unwanted": unwanted(domain),
        **_dmarc(found, sums.days(Report.Kind.DMARC, since, until, name), since, now),
        **_tls(sums.failures(since, until, name), sums.days(Report.Kind.TLS, since, until, name), since, now),
        "newest": [_line(row) for row in sums.reports(Report.Kind.DMARC, since, until, name).order_by("-begins_at")[:10]],
    }
    return TemplateResponse(request, "admin/receivers/overview.html", context)


def span_words() -> dict[str, str]:
    return {"week": _("7 days"), "month": _("30 days"), "quarter": _("90 days")}


def unwanted(domain: Domain | None) -> list[Domain]:
    """Domains that ask for no reports, as far as their records were looked at."""
    lacking = Finding.objects.filter(kind=Kind.DMARC, verdict__in=[Verdict.MISSING, Verdict.WRONG])
    return list(Domain.objects.filter(findings__in=lacking, **({"pk": domain.pk} if domain else {})).distinct())


def _dmarc(found: list[sums.Sender], days: dict[object, tuple[int, int]], since: datetime, now: datetime) -> dict[str, Any]:
    total, failed = sum(one.total for one in found), sum(one.failed for one in found)
    places = sums.places(found[: 2 * sums.MOST])
    strangers = [one for one in found if one.failed][: sums.MOST]
    passing = sorted((one for one in found if not one.failed), key=lambda one: -one.total)[: sums.MOST]
    if not total:
        return {"dmarc": None}
    return {
        "dmarc": {
            "stats": [
                {
                    "label": _("Mails reported"),
                    "icon": "message",
                    "value": grouped(total),
                    "words": _("that had one of your domains in From"),
                },
                {
                    "label": _("Passed DMARC"),
                    "icon": "check",
                    "value": percent(total - failed, total),
                    "words": _("%(dkim)s by DKIM, %(spf)s by SPF")
                    % {
                        "dkim": percent(sum(one.dkim for one in found), total),
                        "spf": percent(sum(one.spf for one in found), total),
                    },
                },
                {
                    "label": _("Without passing"),
                    "icon": "alert",
                    "value": grouped(failed),
                    "words": ngettext("from %(n)s address", "from %(n)s addresses", len(strangers)) % {"n": grouped(len(strangers))},
                    "tone": "bad" if failed else "",
                },
                {
                    "label": _("Kept out"),
                    "icon": "suppression",
                    "value": grouped(sum(one.quarantined + one.rejected for one in found)),
                    "words": _("%(rejected)s rejected, %(junk)s put into junk")
                    % {
                        "rejected": grouped(sum(one.rejected for one in found)),
                        "junk": grouped(sum(one.quarantined for one in found)),
                    },
                },
            ],
            "chart": charts.stacked(
                _("Mails by day"), [("sent", _("passed")), ("failed", _("did not pass"))], _columns(days, since.date(), now.date())
            ),
            "strangers": [_row(one, places) for one in strangers],
            "passing": [_row(one, places) for one in passing],
        }
    }


def _row(one: sums.Sender, places: dict[str, sums.Place]) -> dict[str, Any]:
    place = places.get(one.address) or sums.Place("", "strange")
    name, advice = {
        "own": (
            _("Your own address: %(name)s") % {"name": place.name},
            _("Mail of yours leaves unsigned, or its domain's SPF lacks this address: look at the domain's page."),
        ),
        "known": (
            place.name,
            _("If you use this service, have it sign with your domain; if you do not, somebody else sends in your name with it."),
        ),
        "strange": (place.host or _("no name"), _("Nobody you told MailHub of: a server of yours that was forgotten, or a forger.")),
    }[place.whose]
    if 2 * one.forwarded > one.total:
        advice = _("Mostly forwarded mail or mailing lists, whose changes break signatures: nothing to do.")
    return {
        "address": one.address,
        "host": place.host if place.whose != "strange" else "",
        "name": name,
        "whose": place.whose,
        "advice": advice,
        "total": grouped(one.total),
        "failed": grouped(one.failed),
        "share": percent(one.passed, one.total),
        "parts": charts.shares([("sent", one.passed), ("failed", one.failed)]),
        "spf": percent(one.spf, one.total),
        "dkim": percent(one.dkim, one.total),
        "kept_out": grouped(one.quarantined + one.rejected),
        "domains": pgettext("between things", ", ").join(sorted(one.domains)[:3]),
    }


def _tls(found: list[tuple[str, str, int]], days: dict[object, tuple[int, int]], since: datetime, now: datetime) -> dict[str, Any]:
    if not days:
        return {"tls": None}
    good, bad = sum(pair[0] for pair in days.values()), sum(pair[1] for pair in days.values())
    return {
        "tls": {
            "words": _("%(share)s of %(all)s sessions had TLS as your domain wants it.")
            % {"share": percent(good, good + bad), "all": grouped(good + bad)},
            "chart": charts.stacked(
                _("Sessions by day"), [("sent", _("with TLS")), ("failed", _("failed"))], _columns(days, since.date(), now.date())
            ),
            "failures": [
                {"result": result, "mx": mx, "count": grouped(count), "remedy": sums.remedy(result)} for result, mx, count in found
            ],
        }
    }


def _columns(days: dict[object, tuple[int, int]], first: date, last: date) -> list[tuple[str, str, tuple[int, int]]]:
    every = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [(f"{day.month}/{day.day}", date_format(day, "MONTH_DAY_FORMAT"), days.get(day, (0, 0))) for day in every]


def _line(report: Report) -> dict[str, Any]:
    return {"report": report, "good": grouped(report.good), "bad": grouped(report.bad)}


@require_POST
def upload(request: HttpRequest) -> HttpResponse:
    if not request.user.has_perm("receivers.add_report"):
        raise PermissionDenied
    back = redirect(reverse("admin:receivers_report_changelist"))
    files = request.FILES.getlist("files")
    if not files:
        messages.error(request, _("Choose the files of the reports first: .xml, .json, .gz or .zip."))
        return back
    taken = intake.Taken()
    for file in files[:MOST_FILES]:
        if (file.size or 0) > unpack.MOST_PACKED:
            taken.problems.append(f"{file.name}: > {unpack.MOST_PACKED // 1024 // 1024} MB")
            continue
        intake.take(file.read(), taken, file.name or "")
    if taken.new:
        messages.success(request, ngettext("%(n)s report was read.", "%(n)s reports were read.", taken.new) % {"n": taken.new})
    if taken.known:
        messages.info(
            request,
            ngettext("%(n)s report was here already, and counts once.", "%(n)s reports were here already, and count once.", taken.known)
            % {"n": taken.known},
        )
    for problem in taken.problems[:10]:
        messages.error(request, _("Not read: %(problem)s") % {"problem": problem})
    return back

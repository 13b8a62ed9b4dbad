"""Pages for staff that are no change forms."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext
from django.views.decorators.http import require_POST, require_safe

from mailhub.delivery import throughput, workers
from mailhub.delivery.pages import SERVES
from mailhub.delivery.throughput import Counts
from mailhub.lib import clock
from mailhub.lib.charts import grouped, percent, shares
from mailhub.lib.counts import MANY, in_words
from mailhub.relays import limits
from mailhub.relays.models import DedicatedIP, Destination, Quota, Relay
from mailhub.relays.pages import demand
from mailhub.senders import verdicts
from mailhub.senders.models import Finding
from mailhub.watching import alerts, charts, sources, troubles, weekly, words
from mailhub.watching.models import Channel, Deliverability, Rule, Step, Trouble

# Of fewer tries, it is not said who does better.
ENOUGH = 100


# ----------------------------------------------------------------------------------------------------------------- deliverability


@require_safe
def deliverability(request: HttpRequest) -> HttpResponse:
    """What became of mail: by relay, destination and own address, over hours and days."""
    demand(request, "watching.view_deliverability")
    now = clock.now()
    span = charts.SPANS.get(request.GET.get("span", ""), charts.SPANS["day"])
    chosen = {name: request.GET.get(name, "").replace("\0", "") for name in ("relay", "destination", "source")}
    chosen["relay"] = chosen["relay"] if chosen["relay"].isascii() and chosen["relay"].isdigit() and len(chosen["relay"]) < 19 else ""
    keys = {"relay_key": int(chosen["relay"] or 0), "destination_key": chosen["destination"], "source": chosen["source"]}
    only: dict[str, Any] = {name: value for name, value in keys.items() if value}
    points = charts.series(span, now, **only)
    whole = charts.total(points)
    start = points[0][0]

    def link(**changes: str) -> str:
        asked = {name: value for name, value in {"span": span.key, **chosen, **changes}.items() if value}
        return f"?{urlencode(asked)}"

    tables = [
        {"title": title, "lead": lead, "rows": rows}
        for name, title, lead, rows in (
            ("relay", pgettext("mail", "Relays"), _best_words(), _relays(start, now, only, link)),
            ("destination", _("Destinations"), "", _destinations(start, now, only, link)),
            ("source", _("Own addresses"), "", _addresses(start, now, only, link)),
        )
        if not chosen[name] and rows
    ]
    context = {
        **admin.site.each_context(request),
        "title": _("Deliverability"),
        "subtitle": "",
        "opts": Deliverability._meta,
        "spans": [(each.label, link(span=each.key), each is span) for each in charts.SPANS.values()],
        "about": _chosen(chosen, link),
        "whole": whole,
        "stats": _stats(whole),
        "charts": [make(span, points) for make in (charts.outcomes, charts.complaints, charts.waits)] if whole.tries else [],
        "tables": tables,
    }
    return TemplateResponse(request, "admin/watching/deliverability.html", context)


Link = Callable[..., str]


def _chosen(chosen: dict[str, str], link: Link) -> list[dict[str, str]]:
    found = []
    if chosen["relay"]:
        relay = Relay.objects.only("name").filter(pk=chosen["relay"]).first()
        url = page("relays_relay_change", relay.pk) if relay else ""
        found.append(
            {"kind": str(Relay._meta.verbose_name), "name": words.relay_name(relay, chosen["relay"]), "url": url, "off": link(relay="")}
        )
    if chosen["destination"]:
        row = Destination.objects.filter(pk=chosen["destination"]).first()
        url = page("relays_destination_change", row.pk) if row else ""
        name = str(row or chosen["destination"])
        found.append({"kind": str(Destination._meta.verbose_name), "name": name, "url": url, "off": link(destination="")})
    if chosen["source"]:
        ip = next((ip for ip in DedicatedIP.objects.only("address") if ip.address == chosen["source"]), None)
        url = page("relays_dedicatedip_change", ip.pk) if ip else ""
        found.append({"kind": str(DedicatedIP._meta.verbose_name), "name": chosen["source"], "url": url, "off": link(source="")})
    return found


def page(name: str, *args: object) -> str:
    try:
        return reverse(f"admin:{name}", args=args)
    except NoReverseMatch:
        return ""


def _best_words() -> str:
    return _(
        "The best first: by the share of tries that were accepted, dead addresses left out; with more than 0.3 percent complaints it comes"
        " last."
    )


def _relays(start: datetime, now: datetime, only: dict[str, Any], link: Link) -> list[dict[str, Any]]:
    found = throughput.between(start, now + timedelta(hours=1), "relay_key", **only)
    known = {relay.pk: relay for relay in Relay.objects.only("name", "kind", "do_not_send")}
    rows = [{**_row(words.relay_name(known.get(key), key), link(relay=str(key)), counts), "key": key} for (key,), counts in found.items()]
    rows.sort(key=lambda row: row["rank"])
    # Which to send through: of those that do send.
    real = [row for row in rows if (relay := known.get(row["key"])) and not relay.do_not_send and relay.kind not in ("inbox", "memory")]
    if len(real) > 1 and real[1]["counts"].tries >= ENOUGH:
        real[0]["best"] = True
    return rows


def _destinations(start: datetime, now: datetime, only: dict[str, Any], link: Link) -> list[dict[str, Any]]:
    found = throughput.between(start, now + timedelta(hours=1), "destination_key", **only)
    known = {row.pk: str(row) for row in Destination.objects.all()}
    rows = [_row(known.get(key, key), link(destination=key), counts) for (key,), counts in found.items()]
    return sorted(rows, key=lambda row: (-row["counts"].tries, row["name"]))


def _addresses(start: datetime, now: datetime, only: dict[str, Any], link: Link) -> list[dict[str, Any]]:
    found = throughput.between(start, now + timedelta(hours=1), "source", **only)
    rows = [_row(key, link(source=key), counts) for (key,), counts in found.items() if key]
    return sorted(rows, key=lambda row: row["rank"])


def rank(counts: Counts) -> tuple[bool, bool, float, int]:
    """The lower the better."""
    asked = counts.tries - counts.bounced
    spam = bool(counts.complained) and counts.complained * 100 > charts.BORNE * counts.accepted
    return counts.tries < ENOUGH, spam, -(counts.accepted / asked if asked else 0), counts.within(0.95) or 10**9


def _row(name: str, url: str, counts: Counts) -> dict[str, Any]:
    share = 100 * counts.complained / counts.accepted if counts.accepted else 0
    return {
        "name": name,
        "url": url,
        "counts": counts,
        "rank": rank(counts),
        "parts": shares(charts.by_tone(counts)),
        "accepted": grouped(counts.accepted),
        "share": percent(counts.accepted, counts.tries),
        "deferred": percent(counts.deferred, counts.tries),
        "bounced": percent(counts.bounced + counts.returned, counts.accepted + counts.bounced + counts.refused),
        "complained": percent(counts.complained, counts.accepted),
        "complained_tone": "bad" if share > charts.BORNE else "warn" if share > charts.LIKED else "",
        "half": charts.lasts(counts.within(0.5), counts),
        "most": charts.lasts(counts.within(0.95), counts),
    }


def _stats(counts: Counts) -> list[dict[str, Any]]:
    row = _row("", "", counts)
    of_tries = ngettext("of %(tries)s try", "of %(tries)s tries", counts.tries) % {"tries": grouped(counts.tries)}
    return [
        {"label": _("Accepted by relays"), "icon": "check", "value": row["accepted"], "words": of_tries},
        {"label": _("Deferred"), "icon": "clock", "value": row["deferred"], "words": _("of the tries")},
        {"label": _("Hard bounces"), "icon": "bounce", "value": row["bounced"], "words": _("of what was answered for good")},
        {
            "label": _("Complaints"),
            "icon": "alert",
            "value": row["complained"],
            "words": _("of the accepted; no more than 0.1 percent is good"),
            "tone": row["complained_tone"],
        },
        {
            "label": _("Time until accepted"),
            "icon": "history",
            "value": row["half"],
            "words": _("for half of the mail; %(most)s for 95 %%") % {"most": row["most"]},
        },
    ]


# ----------------------------------------------------------------------------------------------------------------------- troubles


def line(trouble: Trouble) -> dict[str, Any]:
    """A trouble on pages that show several."""
    return {
        "trouble": trouble,
        "title": words.title(trouble),
        "cause": words.cause(trouble),
        "step": words.step(trouble),
        "held": words.held(trouble),
        "resume_url": reverse("admin:watching_trouble_resume", args=[trouble.pk]) if trouble.holds else "",
        "url": reverse("admin:watching_trouble_change", args=[trouble.pk]),
        "tone": trouble.tone,
    }


def open_now(limit: int = 20) -> list[dict[str, Any]]:
    """The gravest first. Index watching_trouble_open."""
    rows = Trouble.objects.filter(closed_at__isnull=True).select_related("rule").order_by("tone", "-pk")
    return [line(row) for row in rows[:limit]]


def overview(request: HttpRequest, trouble: Trouble) -> dict[str, Any]:
    """What a trouble's own page shows."""
    until = trouble.closed_at or clock.now()
    earlier = Trouble.objects.filter(kind=trouble.kind, subject=trouble.subject, pk__lt=trouble.pk).order_by("-pk")[:20]
    return {
        "line": line(trouble),
        "lasted": timesince(trouble.opened_at, until),
        "mend_url": words.url(trouble),
        "entries": [_entry(step) for step in trouble.steps.select_related("user")],
        "earlier": [{"row": row, "lasted": timesince(row.opened_at, row.closed_at or until)} for row in earlier],
        "may_resume": bool(trouble.holds) and trouble.closed_at is None and request.user.has_perm("watching.change_trouble"),
        "pending": trouble.alerts.filter(sent_at__isnull=True, gave_up=False).select_related("channel"),
    }


TONES = {
    Step.Deed.OPENED: "failed",
    Step.Deed.PAUSED: "deferred",
    Step.Deed.ALERTED: "",
    Step.Deed.RESUMED: "sent",
    Step.Deed.CLOSED: "sent",
}


def _entry(step: Step) -> dict[str, Any]:
    said = {
        Step.Deed.OPENED: "",
        Step.Deed.PAUSED: _("A rule stopped it."),
        Step.Deed.ALERTED: _("Through the alert channel “%(channel)s”.") % {"channel": step.detail},
        Step.Deed.RESUMED: _("By %(user)s.") % {"user": step.user} if step.user else _("On the page of what was stopped."),
        Step.Deed.CLOSED: "",
    }
    deed = Step.Deed(step.deed)
    return {"state": TONES[deed], "title": capfirst(deed.label), "at": timezone.localtime(step.at), "words": said[deed]}


@require_POST
def resume(request: HttpRequest, pk: int) -> HttpResponse:
    demand(request, "watching.change_trouble")
    trouble = get_object_or_404(Trouble.objects.select_related("rule"), pk=pk)
    assert isinstance(request.user, User)  # noqa: S101  admin_view() lets nobody else in
    if trouble.holds and troubles.resume(trouble, request.user):
        said = _("It goes on. From now on it is counted anew.")
        admin.site.get_model_admin(Trouble).log_change(request, trouble, said)
        if trouble.relay:
            admin.site.get_model_admin(Relay).log_change(request, trouble.relay, said)
        messages.success(request, said)
    else:
        messages.warning(request, _("Nothing was done: it was over already."))
    return redirect("admin:watching_trouble_change", pk)


# ------------------------------------------------------------------------------------------------------------------------- health


def health(now: datetime) -> list[dict[str, Any]]:
    """The installation at a glance: each a stat.html. From small tables and partial indexes alone."""
    campaign, single = sources.waiting_mails()
    oldest = sources.oldest(Rule())
    served = workers.served(now)
    missing = [str(SERVES[queue]) for queue in workers.QUEUES if queue not in served]
    stopped = Relay.objects.exclude(status=Relay.Status.ACTIVE).count()
    resting = Relay.objects.filter(status=Relay.Status.ACTIVE, resting_until__gt=now).count()
    used_up = sum(bool(standing.opens_at) for standing in limits.standing(Quota.objects.all(), now))
    records = Finding.objects.filter(verdict__in=verdicts.TROUBLE).values("domain").distinct().count()
    listed = Trouble.objects.filter(closed_at__isnull=True, kind=Trouble.Kind.LISTING).count()
    waited = timesince(oldest, now) if oldest and oldest < now else ""
    nobody = _("nobody for: %(kinds)s") % {"kinds": pgettext("between things", ", ").join(missing)}
    return [
        {
            "label": _("Waiting"),
            "icon": "clock",
            "value": in_words(campaign + single, campaign + MANY),
            "words": _("transactional: due for %(time)s at most") % {"time": waited} if waited else _("no transactional mail is late"),
            "url": f"{page('delivery_message_changelist')}?state=waiting",
        },
        {
            "label": _("Workers"),
            "icon": "worker",
            "value": f"{len(workers.QUEUES) - len(missing)} / {len(workers.QUEUES)}",
            "words": nobody if missing else _("all at work"),
            "url": page("delivery_worker_changelist"),
            "tone": "bad" if missing else "good",
        },
        {
            "label": _("Relays that take no mail"),
            "icon": "relay",
            "value": grouped(resting + stopped),
            "words": _("%(resting)s resting, %(paused)s paused") % {"resting": resting, "paused": stopped},
            "url": page("relays_relay_changelist"),
            "tone": "warn" if resting else "",
        },
        {
            "label": _("Quotas used up"),
            "icon": "batch",
            "value": grouped(used_up),
            "words": _("right now"),
            "url": page("relays_relay_changelist"),
            "tone": "warn" if used_up else "",
        },
        {
            "label": _("Domains with DNS to mend"),
            "icon": "domain",
            "value": grouped(records),
            "words": _("at the last look"),
            "url": page("senders_domain_changelist"),
            "tone": "warn" if records else "",
        },
        {
            "label": _("Blocklists"),
            "icon": "ip",
            "value": grouped(listed),
            "words": _("listings of own addresses"),
            "url": page("relays_dedicatedip_changelist"),
            "tone": "bad" if listed else "",
        },
    ]


# ----------------------------------------------------------------------------------------------------------------------- channels


@require_POST
def test_channel(request: HttpRequest, pk: int) -> HttpResponse:
    demand(request, "watching.change_channel")
    channel = get_object_or_404(Channel.objects.select_related("sender__transactional_route"), pk=pk)
    if problem := alerts.test(channel):
        messages.error(request, _("The test alert did not get through: %(problem)s") % {"problem": problem})
    else:
        said = _("A test alert was sent.")
        admin.site.get_model_admin(Channel).log_change(request, channel, said)
        messages.success(request, said)
    return redirect("admin:watching_channel_change", pk)


def told(channel: Channel) -> Iterable[dict[str, Any]]:
    """The last alerts of a channel."""
    for alert in channel.alerts.select_related("trouble__rule").order_by("-pk")[:15]:
        if alert.sent_at:
            state, label = "sent", _("told in a summary") if alert.within_id else _("told")
        elif alert.gave_up:
            state, label = "failed", _("given up")
        else:
            state, label = "waiting", _("waiting")
        title = words.title(alert.trouble) if alert.trouble else weekly.title(alert.week) if alert.week else _("Test alert")
        yield {"alert": alert, "state": state, "label": label, "title": title, "url": _trouble_url(alert.trouble), "tries": alert.tries}


def _trouble_url(trouble: Trouble | None) -> str:
    return reverse("admin:watching_trouble_change", args=[trouble.pk]) if trouble else ""

"""Pages for staff that are no change forms: deeds on relays, and the mail that an inbox relay kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Model, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext
from django.views.decorators.http import require_POST, require_safe

from mailhub.admin import badge, meter, two_lines
from mailhub.lib import clock
from mailhub.lib.charts import grouped
from mailhub.lib.states import WrongState
from mailhub.relays import failures, limits, parking, providers, reading, services
from mailhub.relays.limits import Standing
from mailhub.relays.models import (
    InboxMail,
    IPPool,
    Quota,
    Relay,
    ResponseRule,
    Route,
    RouteMember,
    Service,
    Slowdown,
    Stream,
    shipped_words,
)
from mailhub.relays.providers.esp import ESP
from mailhub.relays.reading import Mail

# A permission of the package above, hence by its name.
READ_BODIES = "delivery.view_body"
# Nothing but the mail's own styles and what it carries itself: no script, no request, no form, no window.
FRAME = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
# Characters of a mail's source on a page; the file has all.
SHOWN = 200_000
# Percent of a quota from which on its meter warns.
NEARLY = 80


def demand(request: HttpRequest, *permissions: str) -> None:
    if not request.user.has_perms(permissions):
        raise PermissionDenied


def page(request: HttpRequest, template: str, title: str, model: type[Model], **context: Any) -> TemplateResponse:
    return TemplateResponse(request, template, {**admin.site.each_context(request), "title": title, "opts": model._meta, **context})


# -------------------------------------------------------------------------------------------------------------------- relays


def state(relay: Relay, at: datetime) -> str:
    """Active, paused or resting."""
    if relay.status == Relay.Status.ACTIVE and not relay.is_available(at):
        return "resting"
    return relay.status


def state_badge(relay: Relay, at: datetime) -> SafeString:
    found = state(relay, at)
    return badge(found, _("resting") if found == "resting" else relay.get_status_display())


def state_line(relay: Relay, at: datetime) -> SafeString:
    """The badge, and behind it why the relay rests, and until when; or which rule paused it."""
    label = state_badge(relay, at)
    if relay.status == Relay.Status.PAUSED and relay.pause_reason:
        return two_lines(label, shipped_words(relay.pause_reason))
    if state(relay, at) != "resting" or relay.resting_until is None:
        return label
    until = date_format(timezone.localtime(relay.resting_until), "TIME_FORMAT")
    words = _("until %(until)s: %(reason)s") % {"until": until, "reason": relay.rest_words or "—"}
    return two_lines(label, words)


def state_words(relay: Relay, at: datetime) -> str:
    match state(relay, at):
        case "paused" if relay.pause_reason:
            words = _("A rule stopped it: %(reason)s. Its mail waits, or takes the next relay of its route.")
            return words % {"reason": shipped_words(relay.pause_reason)}
        case "paused":
            return _("Staff stopped it. Its mail waits, or takes the next relay of its route.")
        case "resting":
            assert relay.resting_until  # noqa: S101
            until = date_format(timezone.localtime(relay.resting_until), "DATETIME_FORMAT")
            return _("It rests until %(until)s, and is tried again then. Its mail waits, or takes the next relay of its route.") % {
                "until": until
            }
        case _:
            return _("It takes mail.")


def overview(relay: Relay) -> dict[str, Any]:
    """What a relay's own page shows beside its fields."""
    now = clock.now()
    routes_exist = Route.objects.exists()
    return {
        "relay": relay,
        "routes_exist": routes_exist,
        "route_url": reverse("admin:relays_route_changelist" if routes_exist else "admin:relays_route_add"),
        "state": state(relay, now),
        "state_badge": state_badge(relay, now),
        "state_words": state_words(relay, now),
        "rest_failure": failures.explain_text(relay.rest_reason),
        "connections": relay.leases.filter(expires_at__gt=now).aggregate(used=Sum("connections"))["used"] or 0,
        "memberships": relay.memberships.select_related("route").order_by("route__name"),
        "options": provided(relay),
        "quotas": [quota_line(standing) for standing in limits.left(relay, now)],
    }


def quota_title(quota: Quota) -> str:
    words = {"limit": grouped(quota.limit), "period": quota.get_period_display()}
    if quota.kind == Quota.Kind.CALENDAR:
        return _("%(limit)s a calendar %(period)s (%(zone)s)") % {**words, "zone": quota.time_zone}
    return _("%(limit)s in any %(period)s") % words


def quota_line(standing: Standing) -> dict[str, Any]:
    words = _("%(used)s used, %(left)s left") % {"used": grouped(standing.used), "left": grouped(standing.left)}
    if standing.opens_at:
        until = date_format(timezone.localtime(standing.opens_at), "DATETIME_FORMAT")
        words = _("used up; it has room again on %(until)s") % {"until": until}
    return {"title": quota_title(standing.quota), "meter": quota_meter(standing), "words": words}


def quota_meter(standing: Standing, words: object | None = None) -> SafeString:
    percent = 100 * standing.used / standing.quota.limit
    return meter(percent, words, "bad" if standing.opens_at else "warn" if percent >= NEARLY else "done")


def provided(relay: Relay) -> list[tuple[str, Any]]:
    """What the kind's own form was given, in words, its secrets only as being there."""
    provider = providers.load(relay.kind)
    found: list[tuple[str, Any]] = []
    for name, field in provider.options_form().fields.items():
        label = str(field.label or name.replace("_", " "))
        if name in provider.secret_options:
            found.append((label, _("stored, not shown") if relay.secrets.get(name) else ""))
        else:
            value = relay.options.get(name)
            found.append((label, dict(getattr(field, "choices", [])).get(value, value)))
    return found


def kinds(request: HttpRequest) -> HttpResponse:
    """The first step of adding a relay."""
    demand(request, "relays.add_relay")
    # What a pop-up needs to know stays in the address.
    rest = request.GET.copy()
    offered: list[tuple[str, str]] = []
    interfaces: list[tuple[str, str]] = []
    for kind, label in providers.choices():
        rest["kind"] = kind
        (interfaces if issubclass(providers.load(kind), ESP) else offered).append((f"?{rest.urlencode()}", label))
    rest["kind"] = "smtp"
    groups: dict[bool, list[dict[str, str]]] = {True: [], False: []}
    for service in Service.objects.all():
        rest["service"] = service.pk
        words = services.limits_in_words(service)
        groups[service.bulk].append({"url": f"?{rest.urlencode()}", "name": service.name, "words": words})
    context = {"kinds": offered, "interfaces": interfaces, "bulk": groups[True], "ordinary": groups[False], "is_popup": "_popup" in rest}
    return page(request, "admin/relays/relay/kinds.html", _("What kind of relay?"), Relay, **context)


@require_POST
def act(request: HttpRequest, pk: int, deed: str) -> HttpResponse:
    """Pause, resume, or end a rest."""
    demand(request, "relays.change_relay")
    relay = get_object_or_404(Relay.objects.defer("secrets"), pk=pk)
    try:
        words = perform(relay, deed)
    except WrongState:
        relay.refresh_from_db(fields=["status"])
        messages.warning(
            request, _("Nothing was done: “%(relay)s” is %(state)s by now.") % {"relay": relay, "state": relay.get_status_display()}
        )
    else:
        admin.site.get_model_admin(Relay).log_change(request, relay, words)
        messages.success(request, words)
    return redirect("admin:relays_relay_change", pk)


@transaction.atomic
def perform(relay: Relay, deed: str) -> str:
    """What was done, in words. Raises WrongState."""
    match deed:
        case "pause":
            relay.pause()
            words = _("“%(relay)s” is paused. Its mail waits, or takes the next relay of its route.")
        case "resume":
            relay.resume()
            words = _("“%(relay)s” takes mail again.")
        case _other:
            # To end a rest is to pause and resume.
            relay.pause()
            relay.resume()
            words = _("“%(relay)s” rests no more: it is tried at once.")
    return words % {"relay": relay}


# -------------------------------------------------------------------------------------------------------------------- routes


@dataclass(frozen=True, slots=True)
class Part:
    """A relay in the picture of a route."""

    relay: Relay
    state: str
    #: percent of the mail: now, where its step serves; else once it does
    share: int


@dataclass(frozen=True, slots=True)
class Step:
    """Relays of one position: they share the mail while any of them takes it."""

    serves: bool
    parts: Sequence[Part]


def picture(members: Iterable[RouteMember], at: datetime) -> list[Step]:
    """`members`: a route's, in order of position, with their relays."""
    steps: list[Step] = []
    served = False
    for _position, group in groupby(members, key=lambda member: member.position):
        step = list(group)
        available = [member for member in step if member.relay.is_available(at)]
        serves = bool(available) and not served
        sharing = available if serves else step
        total = sum(member.weight for member in sharing)
        parts = [
            Part(member.relay, state(member.relay, at), round(100 * member.weight / total) if member in sharing else 0) for member in step
        ]
        steps.append(Step(serves, parts))
        served = served or serves
    return steps


@dataclass(frozen=True, slots=True)
class Way:
    """Some of a route's mail, and how it leaves."""

    #: whose mail, to whom
    mail: str
    steps: Sequence[Step]
    #: what happens to it, in sentences
    sentences: Sequence[str]


def ways(members: Sequence[RouteMember], at: datetime) -> list[Way]:
    """`members`: as for picture(). First what relays name, then the rest."""
    named: dict[str, list[RouteMember]] = {}
    rest: list[RouteMember] = []
    for member in members:
        mail = named_mail(member)
        (named.setdefault(mail, []) if mail else rest).append(member)
    waits = _("While none of these takes mail, it waits.")
    otherwise = _("While none of these takes mail, it leaves as all other mail does.") if rest else waits
    found = [_way(mail, some, at, otherwise) for mail, some in named.items()]
    if rest:
        found.append(_way(_("All other mail") if named else _("All mail"), rest, at, waits))
    elif named:
        found.append(Way(_("All other mail"), [], [_("All other mail waits: no relay is for it.")]))
    return found


def named_mail(member: RouteMember) -> str:
    """What a relay of a route is for, in words; "" where it takes everything."""
    senders = ", ".join(sorted(member.sender_names))
    destinations = ", ".join(str(destination) for destination in member.destinations.all())
    if not (member.stream or senders or destinations):
        return ""
    streams = {"": _("Mail"), Stream.CAMPAIGN: _("Campaign mail"), Stream.TRANSACTIONAL: _("Transactional mail")}
    mail = streams[member.stream]
    words = {"mail": mail, "senders": senders, "destinations": destinations}
    if senders and destinations:
        return _("%(mail)s from %(senders)s to %(destinations)s") % words
    if senders:
        return _("%(mail)s from %(senders)s") % words
    return _("%(mail)s to %(destinations)s") % words if destinations else mail


def _way(mail: str, members: Sequence[RouteMember], at: datetime, otherwise: str) -> Way:
    sentences: list[str] = []
    for _position, group in groupby(members, key=lambda member: member.position):
        step = list(group)
        total = sum(member.weight for member in step)
        shares = [
            _("%(relay)s (%(percent)s %%)") % {"relay": member.relay, "percent": round(100 * member.weight / total)}
            if len(step) > 1
            else str(member.relay)
            for member in step
        ]
        words = _("While none of these takes mail, through %(relays)s.") if sentences else _("%(mail)s leaves through %(relays)s.")
        sentences.append(words % {"mail": mail, "relays": pgettext("between names", ", ").join(shares)})
    sentences.append(otherwise)
    for member in members:
        if member.relay.status == Relay.Status.PAUSED and member.relay.pause_reason:
            words = _("“%(relay)s” is paused by a rule: %(reason)s.")
            sentences.append(words % {"relay": member.relay, "reason": shipped_words(member.relay.pause_reason)})
        if member.relay.is_direct and member.relay.pool and member.relay.pool.kind == IPPool.Kind.DEDICATED:
            words = _("“%(relay)s” carries only the mail of senders that name the pool “%(pool)s”.")
            sentences.append(words % {"relay": member.relay, "pool": member.relay.pool})
    return Way(mail, picture(members, at), sentences)


# -------------------------------------------------------------------------------------------------------------- destinations


def rate(number: int | None, unit: str) -> str:
    return _("%(rate)s a %(unit)s") % {"rate": grouped(number), "unit": unit} if number else ""


def minutes(seconds: int) -> str:
    return _("%(minutes)s min") % {"minutes": grouped(max(round(seconds / 60), 1))}


def slowed_to(row: ResponseRule | Slowdown) -> str:
    """A rate, a number of connections, or both."""
    most = ngettext("%(count)s connection", "%(count)s connections", row.connections) if row.connections else ""
    return ", ".join(filter(None, [rate(row.rate, row.get_per_display()), most % {"count": row.connections} if most else ""]))


def let_go(request: HttpRequest, chosen: QuerySet[Any]) -> HttpResponse | None:
    """An action on what is held back: asks first, and names it. None when it is done."""
    held = list(chosen)
    if "confirmed" in request.POST:
        done = parking.release(chosen.model._default_manager.filter(pk__in=[row.pk for row in held]))
        assert request.user.pk  # noqa: S101  the page is for staff
        LogEntry.objects.log_actions(request.user.pk, held, CHANGE, _("It goes on at once."))
        words = ngettext("%(count)s destination gets its mail again.", "%(count)s destinations get their mail again.", done)
        messages.success(request, words % {"count": done})
        return None
    title = ngettext("Let %(count)s destination go on now?", "Let %(count)s destinations go on now?", len(held))
    return page(request, "admin/relays/let_go.html", title % {"count": len(held)}, chosen.model, held=held)


# --------------------------------------------------------------------------------------------------------------------- inbox


def kept(mail: InboxMail, request: HttpRequest) -> dict[str, Any]:
    """What a kept mail's page shows: without the permission, only what an envelope tells."""
    if not request.user.has_perm(READ_BODIES):
        return {"redacted": True}
    return {"redacted": False, "said": Mail(bytes(mail.data)), "octets": len(mail.data)}


def _mail(request: HttpRequest, pk: int) -> InboxMail:
    demand(request, "relays.view_inboxmail")
    demand(request, READ_BODIES)
    return get_object_or_404(InboxMail, pk=pk)


@require_safe
def inbox_frame(request: HttpRequest, pk: int) -> HttpResponse:
    """The HTML of a kept mail, for a frame that can do nothing."""
    response = HttpResponse(reading.Mail(bytes(_mail(request, pk).data)).html)
    response["Content-Security-Policy"] = FRAME
    response["X-Frame-Options"] = "SAMEORIGIN"
    response["Referrer-Policy"] = "no-referrer"
    return response


@require_safe
def inbox_source(request: HttpRequest, pk: int) -> HttpResponse:
    """The mail as it came, byte for byte as far as bytes are characters."""
    mail = _mail(request, pk)
    source = bytes(mail.data).decode(errors="backslashreplace").replace("\r\n", "\n")
    return page(
        request,
        "admin/relays/inboxmail/source.html",
        _("Source of “%(mail)s”") % {"mail": mail},
        InboxMail,
        mail=mail,
        source=source[:SHOWN],
        cut=len(source) > SHOWN,
    )


@require_safe
def inbox_download(request: HttpRequest, pk: int) -> HttpResponse:
    mail = _mail(request, pk)
    response = HttpResponse(bytes(mail.data), content_type="message/rfc822")
    response["Content-Disposition"] = f'attachment; filename="mail-{mail.pk}.eml"'
    return response

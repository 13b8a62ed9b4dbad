"""Pages for staff that are no change forms: to confirm and disable senders, and to try a relay with one of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from mailhub.admin import badge
from mailhub.lib import clock
from mailhub.lib.states import WrongState
from mailhub.relays.models import Relay, Route, Stream
from mailhub.relays.pages import demand, page, picture
from mailhub.senders import trial
from mailhub.senders.forms import TrialForm
from mailhub.senders.models import Domain, Sender

# What a campaign must show of its sender (campaigns/launch.py refuses without).
LEGAL = ("organisation", "postal_address", "contact_point")


def overview(sender: Sender) -> dict[str, Any]:
    """What a sender's own page shows beside its fields."""
    return {
        "sender": sender,
        "state_words": state_words(sender),
        "routes": [(stream, Stream(stream).label, sender.route(stream)) for stream in Stream.values],
        "lacking": [
            field.verbose_name for field in sender._meta.fields if field.name in LEGAL and not field.value_from_object(sender).strip()
        ],
    }


def state_words(sender: Sender) -> str:
    match sender.status:
        case Sender.Status.UNCONFIRMED:
            return _("It may not send yet: nobody has confirmed that the address is yours.")
        case Sender.Status.DISABLED:
            return _("Staff took it out of use: nothing is accepted from it.")
        case _other:
            return _("It may send.")


# ------------------------------------------------------------------------------------------------------- confirm and disable


@require_POST
def confirm(request: HttpRequest, pk: int) -> HttpResponse:
    demand(request, "senders.change_sender")
    sender = get_object_or_404(Sender, pk=pk)
    confirm_all(request, [sender])
    return redirect("admin:senders_sender_change", pk)


def confirm_all(request: HttpRequest, senders: Iterable[Sender]) -> None:
    """The history tells who vouched for each."""
    done = 0
    for sender in senders:
        try:
            sender.confirm()
        except WrongState:
            _too_late(request, sender)
        else:
            _log(request, sender, _("Confirmed by %(user)s: the address is ours.") % {"user": request.user})
            done += 1
    if done:
        messages.success(request, ngettext("%(n)s sender may send now.", "%(n)s senders may send now.", done) % {"n": done})


def disable(request: HttpRequest, pk: int) -> HttpResponse:
    """Asks first."""
    demand(request, "senders.change_sender")
    sender = get_object_or_404(Sender, pk=pk)
    if request.method == "POST":
        disable_all(request, [sender])
        return redirect("admin:senders_sender_change", pk)
    return _ask_to_disable(request, [sender], title=_("Disable %(sender)s?") % {"sender": sender.email}, back=_to(sender))


def disable_several(request: HttpRequest, senders: Sequence[Sender]) -> HttpResponse | None:
    """The action of the list: asks first, and says how many."""
    if "sure" in request.POST:
        disable_all(request, senders)
        return None
    title = ngettext("Disable %(n)s sender?", "Disable %(n)s senders?", len(senders)) % {"n": len(senders)}
    return _ask_to_disable(request, senders, title=title, back=reverse("admin:senders_sender_changelist"), several=True)


def _ask_to_disable(request: HttpRequest, senders: Sequence[Sender], **context: Any) -> HttpResponse:
    return page(request, "admin/senders/disable.html", model=Sender, senders=senders, button=_("Disable"), danger=True, **context)


def _to(sender: Sender) -> str:
    return reverse("admin:senders_sender_change", args=[sender.pk])


def disable_all(request: HttpRequest, senders: Iterable[Sender]) -> None:
    done = 0
    for sender in senders:
        try:
            sender.disable()
        except WrongState:
            _too_late(request, sender)
        else:
            _log(request, sender, _("Disabled."))
            done += 1
    if done:
        messages.success(request, ngettext("%(n)s sender is disabled.", "%(n)s senders are disabled.", done) % {"n": done})


def _log(request: HttpRequest, sender: Sender, words: str) -> None:
    admin.site.get_model_admin(Sender).log_change(request, sender, words)


def _too_late(request: HttpRequest, sender: Sender) -> None:
    sender.refresh_from_db(fields=["status"])
    messages.warning(
        request, _("Nothing was done: %(sender)s is %(state)s already.") % {"sender": sender.email, "state": sender.get_status_display()}
    )


# -------------------------------------------------------------------------------------------------------- trying a relay out


def try_relay(request: HttpRequest, relay_pk: int) -> HttpResponse:
    demand(request, "relays.change_relay")
    relay = get_object_or_404(Relay, pk=relay_pk)
    initial = {"to": getattr(request.user, "email", ""), "sender": TrialForm.usable().first()}
    form = TrialForm(request.POST or None, initial=initial)
    result = None
    if form.is_valid():
        result = trial.send(relay, form.cleaned_data["sender"], form.cleaned_data["to"])
        words = _("Test mail to %(address)s: %(words)s") % {"address": form.cleaned_data["to"], "words": result.words}
        admin.site.get_model_admin(Relay).log_change(request, relay, words)
    title = _("Send a test mail by way of “%(relay)s”") % {"relay": relay}
    return page(request, "admin/senders/trial.html", title, Relay, relay=relay, form=form, result=result)


# -------------------------------------------------------------------------------------------------------------------- routes


def default_badge(route: Route) -> SafeString | str:
    match route.default_for:
        case Stream.CAMPAIGN:
            return badge("move", _("default for campaigns"))
        case Stream.TRANSACTIONAL:
            return badge("move", _("default for transactional mail"))
        case _other:
            return ""


def users_of(routes: Iterable[Route]) -> dict[int, list[Sender]]:
    """The senders that name each route, in one query."""
    found: dict[int, list[Sender]] = {route.pk: [] for route in routes}
    either = Q(transactional_route__in=found) | Q(campaign_route__in=found)
    for sender in Sender.objects.filter(either).order_by("email"):
        for pk, named in found.items():
            if pk in (sender.transactional_route_id, sender.campaign_route_id):
                named.append(sender)
    return found


def route_overview(route: Route) -> dict[str, Any]:
    """What a route's own page shows beside its fields."""
    return {
        "route": route,
        "default_badge": default_badge(route),
        "steps": picture(route.members.all(), clock.now()),
        "users": users_of([route])[route.pk],
    }


def domains_senders(domain: Domain) -> dict[str, Any]:
    return {"domain": domain, "senders": domain.senders.order_by("email")}

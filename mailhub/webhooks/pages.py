"""Pages for staff that are no change forms: what an endpoint is told, its secret, and deeds."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from mailhub.admin import badge
from mailhub.lib import clock
from mailhub.lib.states import WrongState
from mailhub.relays.pages import demand, page
from mailhub.webhooks import outbox, posting
from mailhub.webhooks.models import Delivery, Endpoint, last_event

# Posts on an endpoint's own page.
LISTED = 10


def overview(endpoint: Endpoint) -> dict[str, Any]:
    """What an endpoint's own page shows beside its fields."""
    deliveries = [(delivery, delivery_badge(delivery)) for delivery in endpoint.deliveries.order_by("-pk")[:LISTED]]
    return {
        "endpoint": endpoint,
        "badge": endpoint_badge(endpoint),
        "behind": behind(endpoint),
        "pending": pending(endpoint),
        "deliveries": deliveries,
        "overlap": endpoint.old_secret_until if endpoint.old_secret_until and clock.now() < endpoint.old_secret_until else None,
    }


def behind(endpoint: Endpoint) -> int:
    """How many events there have been, others' and unwanted ones too, since the last that was looked at."""
    return max(last_event() - endpoint.cursor, 0)


def pending(endpoint: Endpoint) -> int:
    """Events of posts that were made and not taken. Index webhooks_delivery_pending."""
    waiting = endpoint.deliveries.filter(status=Delivery.Status.PENDING, kind=Delivery.Kind.EVENTS)
    return waiting.aggregate(events=Sum("count"))["events"] or 0


def whose(endpoint: Endpoint, projects: dict[int, str]) -> str:
    if endpoint.project_ref is None:
        return _("All mail")
    return projects.get(endpoint.project_ref, _("a project that is deleted"))


def projects() -> dict[int, str]:
    return dict(outbox.projects())


def endpoint_badge(endpoint: Endpoint) -> SafeString:
    if endpoint.status == Endpoint.Status.DISABLED:
        return badge("failed", endpoint.get_status_display())
    if endpoint.status == Endpoint.Status.ACTIVE and endpoint.tries:
        return badge("deferred", _("is tried again"))
    return badge(endpoint.status, endpoint.get_status_display())


def delivery_badge(delivery: Delivery) -> SafeString:
    state = "waiting" if delivery.status == Delivery.Status.PENDING else delivery.status
    return badge(state, delivery.get_status_display())


# --------------------------------------------------------------------------------------------------------------------------- deeds


@require_POST
def act(request: HttpRequest, pk: int, deed: str) -> HttpResponse:
    """Pause or resume."""
    demand(request, "webhooks.change_endpoint")
    endpoint = get_object_or_404(Endpoint, pk=pk)
    try:
        if deed == "pause":
            endpoint.pause()
            words = _("“%(endpoint)s” is paused. What happens waits until it is resumed.")
        else:
            endpoint.resume()
            words = _("“%(endpoint)s” is told of events again, of those that waited first.")
    except WrongState:
        endpoint.refresh_from_db(fields=["status"])
        about = {"endpoint": endpoint, "state": endpoint.get_status_display()}
        messages.warning(request, _("Nothing was done: “%(endpoint)s” is %(state)s by now.") % about)
    else:
        _log(request, endpoint, words % {"endpoint": endpoint})
        messages.success(request, words % {"endpoint": endpoint})
    return redirect("admin:webhooks_endpoint_change", pk)


def skip(request: HttpRequest, pk: int) -> HttpResponse:
    """Asks first, and says how much."""
    demand(request, "webhooks.change_endpoint")
    endpoint = get_object_or_404(Endpoint, pk=pk)
    if request.method == "POST":
        posting.skip(endpoint)
        words = _("“%(endpoint)s” is told of nothing that happened before now.") % {"endpoint": endpoint}
        _log(request, endpoint, words)
        messages.success(request, words)
        return redirect("admin:webhooks_endpoint_change", pk)
    context = {
        "endpoint": endpoint,
        "pending": pending(endpoint),
        "behind": behind(endpoint),
        "button": _("Pass over what waits"),
        "danger": True,
        "back": reverse("admin:webhooks_endpoint_change", args=[pk]),
    }
    title = _("Pass over what waits for “%(endpoint)s”?") % {"endpoint": endpoint}
    return page(request, "admin/webhooks/skip.html", title, Endpoint, **context)


@require_POST
def test(request: HttpRequest, pk: int) -> HttpResponse:
    demand(request, "webhooks.change_endpoint")
    _tell(request, posting.test(get_object_or_404(Endpoint, pk=pk)))
    return redirect("admin:webhooks_endpoint_change", pk)


@require_POST
def post_again(request: HttpRequest, pk: int) -> HttpResponse:
    demand(request, "webhooks.change_endpoint")
    delivery = get_object_or_404(Delivery.objects.select_related("endpoint"), pk=pk)
    _tell(request, posting.post_now(delivery))
    return redirect("admin:webhooks_delivery_change", pk)


def _tell(request: HttpRequest, answer: posting.Answer) -> None:
    if answer.taken:
        words = _("The other side took it: it answered %(status)s within %(seconds).1f s.")
        messages.success(request, words % {"status": answer.status, "seconds": answer.seconds})
    else:
        messages.error(request, _("It was not taken. %(problem)s") % {"problem": answer.problem})


@require_POST
def show_secret(request: HttpRequest, pk: int) -> HttpResponse:
    """A look at it is recorded."""
    demand(request, "webhooks.change_endpoint")
    endpoint = get_object_or_404(Endpoint, pk=pk)
    _log(request, endpoint, _("The secret was shown."))
    return _secret(request, endpoint)


def rotate(request: HttpRequest, pk: int) -> HttpResponse:
    """Asks first."""
    demand(request, "webhooks.change_endpoint")
    endpoint = get_object_or_404(Endpoint, pk=pk)
    if request.method == "POST":
        endpoint.rotate()
        _log(request, endpoint, _("The secret was changed."))
        return _secret(request, endpoint)
    title = _("Change the secret of “%(endpoint)s”?") % {"endpoint": endpoint}
    back = reverse("admin:webhooks_endpoint_change", args=[pk])
    words = _(
        "What is posted is signed by a new secret, and for a day by the old one too: whoever checks the signature has so long to take"
        " over the new one."
    )
    return page(request, "admin/mailhub/confirm.html", title, Endpoint, words=words, button=_("Change the secret"), back=back)


def _secret(request: HttpRequest, endpoint: Endpoint) -> HttpResponse:
    title = _("The secret of “%(name)s”") % {"name": endpoint}
    return page(request, "admin/webhooks/secret.html", title, Endpoint, endpoint=endpoint)


def _log(request: HttpRequest, endpoint: Endpoint, words: str) -> None:
    admin.site.get_model_admin(Endpoint).log_change(request, endpoint, words)

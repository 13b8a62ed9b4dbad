"""Pages for recipients: no log-in, no session, no cookie."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import translation
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from campaigns.models import Subscription
from campaigns.subscriptions import Link
from mailhub.lib import addresses, clients
from mailhub.lib.tokens import BadToken

Status = Subscription.Status
NOBODY = Link(None, None)


@never_cache
@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """Whoever has the link may leave. To look changes nothing, because programs look at links too; a POST does (RFC 8058), whatever its
    body says, however often it comes, and answers without sending anybody elsewhere."""
    try:
        link = Link.read(token)
    except BadToken:
        return _page(request, token, "bad", status=404)
    if request.method == "POST":
        link.unsubscribe(clients.of(request) or None)
        return _page(request, token, "left", link)
    return _page(request, token, "ask" if link.lists(Status.SUBSCRIBED) else "left", link)


@never_cache
@csrf_exempt
@require_POST
def subscribe(request: HttpRequest, token: str) -> HttpResponse:
    """Back again: the button of who left by mistake."""
    try:
        link = Link.read(token)
    except BadToken:
        return _page(request, token, "bad", status=404)
    link.subscribe(clients.of(request) or None)
    return _page(request, token, "back" if link.lists(Status.SUBSCRIBED) else "left", link)


def _page(request: HttpRequest, token: str, state: str, link: Link = NOBODY, status: int = 200) -> HttpResponse:
    if state == "left" and link.is_test:
        state = "test"
    context = {
        "state": state,
        "token": token,
        "sender": link.campaign and (link.campaign.sender.organisation or link.campaign.sender.name),
        "address": link.contact and _masked(link.contact.email),
        "lists": link.lists(Status.UNSUBSCRIBED if state == "left" else Status.SUBSCRIBED),
    }
    # The reader's language where it is known, or else that of the mail that led here; without a mail, the browser's.
    language = (link.contact and link.contact.language) or (link.campaign and link.campaign.language) or translation.get_language()
    with translation.override(language):
        response = render(request, "campaigns/unsubscribe.html", context, status=status)
        response["Content-Language"] = translation.get_language()
    return response


def _masked(address: str) -> str:
    """Enough for its owner to know it by: mails are forwarded, and their links with them."""
    local, _at, _host = address.rpartition("@")
    return f"{local[:1]}…@{addresses.domain(address)}"
